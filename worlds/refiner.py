"""Train what redraws the details of finished pictures (`pipelines.refine`).

It learns from pictures that Avatar-SD drew of rendered scenes, single ones and those of clips, and
is to make the renderings of them. Loss, on crops that lie on heads, on hands that hold a ball or a
book, and on figures: the autoencoder's (`worlds.autoencoder.reconstruction_loss`) with the figure
weighted four times and its head, a patterned top, or what such a hand holds, ten times the
background, unless a drawing style is asked for that changes the background as well.

Some of what it sees is to stay as it is: people down on a knee as PoseGuard dissolved them, where
that guard is there, and pictures that are averaged over large blocks. Else it would paint a face
on what a guard took away.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from peft import PeftModel
from transformers import CLIPTextModel, CLIPTokenizer

from adapters.avatar_frames import kind_of_frame
from adapters.pose_classes import POSE_CLASSES
from evaluation.psnr import mean_psnr
from evaluation.scenes import generate, scenes
from pipelines.animation import AnimationEngine
from pipelines.device import device, plain_attention
from pipelines.paths import ASSETS
from pipelines.profiles import AnimationSpec, get_profile
from pipelines.refine import FOLD, WORD, Refiner, correction, new_net
from worlds.autoencoder import (
    load_autoencoder,
    reconstruction_loss,
    to_images,
    to_tensor,
)
from worlds.data import FRAMES, HELD_OUT_SEED, SIZE, AvatarSet, build
from worlds.denoiser import (
    TEXT_WIDTH,
    Denoiser,
    decode,
    detail_shares,
    load_weights,
    pose_pixels,
    sample,
)
from worlds.export import (
    MAX_SHARD_SIZE,
    forget_origin,
    read_records,
    training_record,
    write_records,
)
from worlds.looks import PROPS
from worlds.loop import TrainingLoop
from worlds.patches import patch_distance, random_filters

UNSAFE = ("pistol",)
"""Words that it does not read: a defence against a held thing would be gone around."""
IN_HAND = ("ball", "book")
"""Held things that lie about the hand and are small: the picture model leaves most of them out."""
SEARCHED = 6
"""Among so many times as many frames as are drawn anyway, those with one of `IN_HAND` are drawn
too: a hundred balls are too few to learn where a ball is."""
GUARD = "poseguard"
"""Guard whose pictures are to stay as they are."""
EVERYWHERE = ("pixel art",)
"""Drawing styles that are of the whole frame, which is redrawn for them: the picture model leaves
the background of pixel art smooth."""
EVERYWHERE_MORE = 3.0
"""How much more often than by their details pictures in such a style are taken; by number they
are one in twelve."""
SIZES = ((128, 128, 16), (192, 128, 11), (192, 192, 7), (96, 96, 28), (256, 256, 4))
"""Height, width and number of the crops of a step; several, for figures come in all sizes."""
SIZE_SHARES = (0.4, 0.2, 0.15, 0.15, 0.1)
STILL_SHARE, GUARDED_SHARE = 0.54, 0.06
"""Shares of the crops from single pictures and from guarded ones; the rest is from clips."""
BLOCKY_SHARE = 0.05
BLOCKS = (16, 32, 64)
"""Sides in pixels of the blocks that a picture is averaged over."""
ON_HEAD, ON_FIGURE = 0.35, 0.5
"""Shares of the crops that are centred on the head and on some other place of the figure."""
ON_HAND = 0.35
"""Share of the crops that are centred on the hand where it holds a small thing; the others, as
above, share the rest."""
ON_GROUND = 0.5
"""Share of the crops in a style of `EVERYWHERE` that lie anywhere."""
FIGURE_WEIGHT, HEAD_WEIGHT, HAND_WEIGHT, PATTERN_WEIGHT, GROUND_WEIGHT = 3.0, 6.0, 6.0, 6.0, 3.0
"""What a pixel of the figure, and one of its head, of what its hand holds or of a patterned top
besides, weighs more than the background's 1; and what the background itself does in a style of
`EVERYWHERE`. Dots are the smallest part of a garment: where their place is uncertain, the absolute
error is least without them."""
PATCH_WEIGHT = 8.0
"""Of the distance of patches (`worlds.patches`), whose gradient is then as long as the other's."""

_FACE = [0, 14, 15, 16, 17]  # nose, eyes and ears
_ELBOW, _WRIST = 3, 4  # of the right arm, which holds
_NECK, _HIPS = 1, [8, 11]
_HELD_OUT = 64  # pictures that the training is measured on
_TOGETHER = 8  # pictures that are drawn at a time


@dataclass(frozen=True)
class Drawn:
    """Pictures as they were drawn, and the renderings of the same scenes.

    Attributes:
        pictures: RGB uint8 [N, 256, 256, 3].
        data: the rendered scenes.
        rows: int [N], which of ``data`` each picture is of.
        shares: float [N], how often each is taken, sum 1.
        stays: whether the pictures are to stay as they are.
    """

    pictures: NDArray[np.uint8]
    data: AvatarSet
    rows: NDArray[np.int64]
    shares: NDArray[np.float64]
    stays: bool = False

    @classmethod
    def of(cls, pictures: NDArray[np.uint8], data: AvatarSet, rows: Sequence[int]) -> Drawn:
        """Return drawings of some scenes of a set, those with details taken more often."""
        rows = np.asarray(rows)
        everywhere = np.array([_everywhere(data, i) for i in rows])
        shares = detail_shares(data)[rows] * np.where(everywhere, EVERYWHERE_MORE, 1)
        return cls(pictures, data, rows, shares / shares.sum())


def drawn_frames(engine: AnimationEngine, data: AvatarSet, count: int) -> Iterator[np.ndarray]:
    """Draw the first ``count`` clips of a set; yields RGB uint8 [16, 256, 256, 3]."""
    for number, scene in enumerate(scenes(data, count, engine.spec.size, engine.spec.frames)):
        if number % 10 == 0:
            print(f"drawing clip {number} of {count}", flush=True)
        yield generate(engine, scene, 5000 + number).unguarded


def drawn_stills(
    denoiser: Denoiser, vae: AutoencoderKL, data: AvatarSet, rows: Sequence[int],
    spec: AnimationSpec,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Draw pictures of a set without motion modules; yields some, RGB uint8 [B, 256, 256, 3].

    Args:
        denoiser: the model.
        vae: its autoencoder.
        data: whose skeletons and captions are asked for.
        rows: which of them; the first of those that are drawn at a time is the noise's seed.
        spec: of the profile, see `worlds.denoiser.sample`.
    """
    for start in range(0, len(rows), _TOGETHER):
        if start % (20 * _TOGETHER) == 0:
            print(f"drawing picture {start} of {len(rows)}", flush=True)
        some = rows[start : start + _TOGETHER]
        captions = [data.meta[i]["caption"] for i in some]
        poses = np.stack([data.condition(i) for i in some])
        yield decode(vae, sample(denoiser, captions, poses, spec, seed=1000 + some[0]))


def kept(path: Path, count: int, parts: Iterator[np.ndarray]) -> NDArray[np.uint8]:
    """Return the pictures that a file holds; if it is not there, draw them into it first.

    Args:
        path: an .npy file.
        count: pictures of all parts together.
        parts: some pictures at a time, uint8 [B, 256, 256, 3]; not touched if the file is there.
    """
    if not path.exists():
        # Beside it first: a kill on the way leaves nothing that looks whole.
        partial, done = path.with_suffix(".partial"), 0
        pictures = np.lib.format.open_memmap(partial, "w+", np.uint8, (count, SIZE, SIZE, 3))
        for part in parts:
            pictures[done : done + len(part)] = part
            done += len(part)
        pictures.flush()
        partial.replace(path)
    return np.load(path, mmap_mode="r")


def drawings(work: Path, stills: int, clips: int) -> tuple[list[Drawn], Drawn, dict[str, str]]:
    """Draw what is trained on, or take it from where a former training left it.

    Args:
        work: where trainings keep theirs.
        stills: single pictures; of `SEARCHED` times as many those with small held things besides.
        clips: clips.

    Returns:
        Single pictures, clips' and, where PoseGuard is trained, guarded ones; held-out ones; and
        what identifies the weights that drew them.
    """
    frames = build(work / "data/frames", SEARCHED * stills)
    moving = build(work / "data/clips", clips, clips=True)
    held_out = build(work / "data/frames-heldout", _HELD_OUT, seed=HELD_OUT_SEED)
    profile = get_profile("embedded")
    spec = replace(profile.animation, still_background=False, sharpening=0.0, refiner="")
    engine = AnimationEngine(replace(profile, animation=spec))
    by, guard = engine.weights([]), ASSETS / "adapters" / GUARD
    if (guard / "adapter_model.safetensors").exists():
        engine.add_guard(GUARD, guard)
        by = engine.weights([GUARD])
    how = [by, spec.sampler, spec.steps, spec.noise_share, engine.number_format]
    name = f"drawn-{hashlib.sha256(json.dumps(how).encode()).hexdigest()[:12]}"
    denoiser = Denoiser(CLIPTokenizer.from_pretrained(Path(spec.base) / "tokenizer"))
    load_weights(denoiser, Path(spec.base))
    denoiser.requires_grad_(False).eval().to(device())
    vae, _ = load_autoencoder(work, exported=True)

    def singly(data: AvatarSet, rows: Sequence[int], ending: str) -> NDArray[np.uint8]:
        drawn = drawn_stills(denoiser, vae, data, rows, spec)
        return kept(data.folder / f"{name}-{ending}.npy", len(rows), drawn)

    holding = [
        i for i in range(stills, SEARCHED * stills) if frames.meta[i]["look"]["prop"] in IN_HAND
    ]
    single = singly(frames, range(stills), str(stills))
    if holding:
        ending = f"{stills}-holding-{_told_apart(holding)}"
        single = np.concatenate([single, singly(frames, holding, ending)])
    held = singly(held_out, range(_HELD_OUT), str(_HELD_OUT))
    clip_frames = kept(
        moving.folder / f"{name}-{clips}.npy", FRAMES * clips, drawn_frames(engine, moving, clips)
    )
    taught = [
        Drawn.of(single, frames, [*range(stills), *holding]),
        Drawn.of(clip_frames, moving, range(FRAMES * clips)),
    ]
    unsafe = [i for i in range(stills) if _dissolved(frames, i)]
    if GUARD in by and unsafe:
        denoiser.unet = PeftModel.from_pretrained(denoiser.unet, guard)
        even = np.full(len(unsafe), 1 / len(unsafe))
        guarded = singly(frames, unsafe, f"{stills}-guarded-{_told_apart(unsafe)}")
        taught.append(Drawn(guarded, frames, np.array(unsafe), even, stays=True))
    return taught, Drawn.of(held, held_out, range(_HELD_OUT)), by


def words_of(sets: Sequence[AvatarSet]) -> list[str]:
    """Return the words of all captions of some sets, in small letters, but for `UNSAFE`."""
    captions = {row["caption"].lower() for data in sets for row in data.meta}
    return sorted({word for caption in captions for word in WORD.findall(caption)} - set(UNSAFE))


def _told_apart(rows: list[int]) -> str:
    """Return a word for a list of pictures, for the name of the file that holds them."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:8]


def _dissolved(data: AvatarSet, i: int) -> bool:
    """Tell if the guard is to dissolve picture ``i``: not who only goes down or shows no leg."""
    return kind_of_frame(data, i, POSE_CLASSES["kneeling"]) == "unsafe"


def head_of(data: AvatarSet, i: int) -> tuple[NDArray[np.float64], float]:
    """Return the middle of the head in picture ``i``, x and y in pixels, and its radius."""
    if data.meta[i]["closeup"]:
        face = np.asarray(data.landmarks[i], float)
        middle = face.mean(0)
        return middle, 1.2 * float(np.abs(face - middle).max())
    middle = np.asarray(data.keypoints[i, _FACE, :2], float).mean(0)
    return middle, 1.2 * float(np.linalg.norm(middle - data.keypoints[i, 1, :2]))


def hand_of(data: AvatarSet, i: int) -> tuple[NDArray[np.float64], float] | None:
    """Return where the right hand in picture ``i`` holds a small thing, as `head_of` does.

    None where it holds none of `IN_HAND` or cannot be seen.
    """
    joints = np.asarray(data.keypoints[i], float)
    if data.meta[i]["look"]["prop"] not in IN_HAND or not joints[[_ELBOW, _WRIST], 2].all():
        return None
    elbow, wrist = joints[[_ELBOW, _WRIST], :2]
    torso = np.linalg.norm(joints[_NECK, :2] - joints[_HIPS, :2].mean(0))
    return wrist + 0.5 * (wrist - elbow), 0.5 * float(torso)


def pattern_of(data: AvatarSet, i: int) -> tuple[NDArray[np.float64], float] | None:
    """Return where the patterned top in picture ``i`` is, as `head_of` does.

    None where the top is plain or a joint between neck and hips cannot be seen.
    """
    joints = np.asarray(data.keypoints[i], float)
    if data.meta[i]["look"]["pattern"] == "plain" or not joints[[_NECK, *_HIPS], 2].all():
        return None
    neck, hips = joints[_NECK, :2], joints[_HIPS, :2].mean(0)
    return (neck + hips) / 2, 0.7 * float(np.linalg.norm(neck - hips))


def _everywhere(data: AvatarSet, i: int) -> bool:
    return data.meta[i]["look"]["style"] in EVERYWHERE


def window_on(
    data: AvatarSet, i: int, size: tuple[int, int], rng: np.random.Generator
) -> tuple[slice, slice]:
    """Return where to cut a crop of ``size`` (height, width) from picture ``i``.

    It begins where a cell of the folded picture does.
    """
    side, chance, hand = data.images.shape[1], rng.random(), hand_of(data, i)
    rows, columns = np.nonzero(data.mask(i))
    if _everywhere(data, i) and rng.random() < ON_GROUND:
        x, y = rng.random(2) * side
    elif hand is not None and rng.random() < ON_HAND:
        x, y = hand[0] + rng.normal(0, 15, 2)
    elif chance < ON_HEAD:
        x, y = head_of(data, i)[0] + rng.normal(0, 15, 2)
    elif chance < ON_HEAD + ON_FIGURE and len(rows):
        k = rng.integers(len(rows))
        x, y = columns[k], rows[k]
    else:
        x, y = rng.random(2) * side
    bounds = []
    for middle, length in zip((y, x), size, strict=True):
        start = int(np.clip(middle - length // 2, 0, side - length)) // FOLD * FOLD
        bounds.append(slice(start, start + length))
    return bounds[0], bounds[1]


def _within(
    window: tuple[slice, slice], middle: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    down, right = np.mgrid[window]
    return (right - middle[0]) ** 2 + (down - middle[1]) ** 2 < radius**2


def blocky(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a picture averaged over large blocks, with hard edges or soft ones."""
    height, width = picture.shape[:2]
    block = int(rng.choice(BLOCKS))
    few = cv2.resize(picture, (width // block, height // block), interpolation=cv2.INTER_AREA)
    how = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC)[rng.integers(3)]
    return cv2.resize(few, (width, height), interpolation=how)


def crops(
    taught: list[Drawn], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, list[str]]:
    """Draw the crops of a step.

    Args:
        taught: single pictures, clips' and perhaps guarded ones.
        rng: chooses.

    Returns:
        Drawn and wanted pixels [B, 3, h, w] in -1..1, skeletons [B, 3, h, w] in 0..1, weights
        [B, 1, h, w] and B captions.
    """
    height, width, count = SIZES[rng.choice(len(SIZES), p=SIZE_SHARES)]
    guarded = GUARDED_SHARE if len(taught) > 2 else 0.0
    shares = [STILL_SHARE, 1 - STILL_SHARE - guarded, guarded][: len(taught)]
    columns = []
    for _ in range(count):
        source = taught[rng.choice(len(taught), p=shares)]
        k = int(rng.choice(len(source.rows), p=source.shares))
        i, data = int(source.rows[k]), source.data
        window = window_on(data, i, (height, width), rng)
        picture, stays = np.array(source.pictures[k][window]), source.stays
        if rng.random() < BLOCKY_SHARE:
            picture, stays = blocky(picture, rng), True
        more = HEAD_WEIGHT * _within(window, *head_of(data, i))
        for place, extra in (
            (hand_of(data, i), HAND_WEIGHT),
            (pattern_of(data, i), PATTERN_WEIGHT),
        ):
            if place is not None:
                more = np.maximum(more, extra * _within(window, *place))
        ground = GROUND_WEIGHT * _everywhere(data, i)
        weight = 1 + np.where(data.mask(i)[window], FIGURE_WEIGHT + more, ground)
        wanted = picture if stays else data.images[i][window]
        caption = data.meta[i]["caption"]
        columns.append((picture, wanted, data.condition(i)[window], weight, caption))
    drawn, wanted, skeletons, weights, captions = zip(*columns, strict=True)
    return (
        to_tensor(np.stack(drawn)),
        to_tensor(np.stack(wanted)),
        pose_pixels(np.stack(skeletons)),
        torch.from_numpy(np.stack(weights)).float()[:, None],
        list(captions),
    )


def refined(refiner: Refiner, shown: Drawn, read: Callable[..., torch.Tensor]) -> np.ndarray:
    """Return drawn pictures, uint8 [N, 256, 256, 3], with their details redrawn, each by itself."""
    out = []
    for picture, i in zip(shown.pictures, shown.rows, strict=True):
        video = to_tensor(picture[None]).transpose(0, 1)[None].to(refiner.net.device)
        skeleton = shown.data.condition(int(i))[None]
        caption = shown.data.meta[int(i)]["caption"]
        box = refiner.box(skeleton, caption)
        with torch.no_grad():
            made = refiner(video, skeleton, read([caption]), box)
        out.append(to_images(made[0].transpose(0, 1)))
    return np.concatenate(out)


def train(args: argparse.Namespace, work: Path) -> None:
    """Train for ``args.max_minutes`` and export to ``assets/refiner``.

    ``args.frames`` single pictures and ``args.clips`` clips are drawn first.
    """
    taught, held_out, drawn_by = drawings(work, args.frames, args.clips)
    torch.manual_seed(args.seed)
    base, export = ASSETS / "avatar-sd", ASSETS / "refiner"
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(base / "text_encoder").float().requires_grad_(False)
    net = Refiner.load(export).net if args.from_export else new_net(TEXT_WIDTH)
    harmless = [prop for prop in PROPS if prop not in ("none", *UNSAFE)]
    words = words_of([source.data for source in taught])
    refiner = Refiner(net, harmless, words, EVERYWHERE)
    plain_attention(refiner.net)
    loop = TrainingLoop(
        refiner.net,
        work / "refiner",
        args.max_minutes,
        args.learning_rate or 1e-3,
        args.resume,
        muon=args.muon,
    )

    def read(captions: list[str]) -> torch.Tensor:
        words = [refiner.reads(caption) for caption in captions]
        tokens = tokenizer(words, padding="max_length", truncation=True, return_tensors="pt")
        return encoder(tokens.input_ids.to(encoder.device)).last_hidden_state

    encoder.to(loop.device)
    rng = loop.generator(args.seed)
    for step in loop:
        *batch, captions = crops(taught, rng)
        drawn, wanted, skeletons, weights = (part.to(loop.device) for part in batch)
        with loop.accelerator.autocast():
            change = correction(refiner.net, drawn, skeletons, read(captions))
        made = drawn + change.float()
        loss = reconstruction_loss(wanted, made, weights)
        patches = patch_distance(made, wanted, weights > 1, random_filters().to(loop.device))
        loop.backward(loss + PATCH_WEIGHT * patches)
        if step % 50 == 0:
            print(
                f"step {step} {loop.seconds / 60:.1f} min loss {loop.recent_loss(50):.4f}",
                flush=True,
            )
        if step and step % 500 == 0:
            with loop.averaged():
                _show(refined(refiner, held_out, read), held_out, loop.folder / f"{step}.png")
    with loop.averaged():
        _show(refined(refiner, held_out, read), held_out, loop.folder / "end.png")
        records = read_records(export) if args.from_export else []
        shutil.rmtree(export, ignore_errors=True)  # a former one may have had more files
        refiner.save(export, MAX_SHARD_SIZE)
    forget_origin(export / "config.json")
    record = training_record("refiner", args.seed, loop.step, loop.seconds)
    write_records(export, [*records, {**record, "drawn_by": drawn_by}])


def _show(pictures: np.ndarray, held_out: Drawn, path: Path) -> None:
    """Print the fidelity of held-out pictures and write a sheet: rendered, drawn, refined."""
    rendered = np.asarray(held_out.data.images[: len(pictures)])
    before, after = (mean_psnr(rendered, x) for x in (held_out.pictures, pictures))
    print(f"held-out pictures: drawn {before:.2f} dB, refined {after:.2f} dB", flush=True)
    rows = [np.concatenate(x[:8], 1) for x in (rendered, held_out.pictures, pictures)]
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1])
