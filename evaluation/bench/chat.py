"""Two arms streamed from one batch against two sequential stock ``generate`` calls.

The stock side is transformers and PEFT as they come: one base model with both LoRAs on it, and for
each arm ``set_adapter`` and a greedy ``generate``, which is asked for exactly as many tokens as the
engine's arm gave. It runs twice: with the weights in the engine's number format, the LoRAs too, and
in float32. All sides get the same prompts, one at a time in turn, and are warmed up by one reply
that is not timed.

================================ ===================================================================
ours, stock, stock_fp32          seconds of all replies of both arms
ratio, ratio_fp32                stock / ours, stock_fp32 / ours
tokens                           that each side generated, both arms together
same_replies                     share of replies that are the stock's own to the letter; rounding
                                 in a batch of two decides near ties differently
prompts, max_new_tokens, arms,   what was run
dtype, threads
================================ ===================================================================
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from adapters import registry
from adapters.text import prompt_set
from pipelines.device import compute_dtype
from pipelines.llm import ChatEngine, conversation_ids, load_llm
from pipelines.profiles import Profile, get_profile

ARMS = ("aligned", "sdd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command line."""
    parser.add_argument("--prompts", type=int, default=6, choices=range(1, 25), metavar="K",
                        help="prompts to answer, half harmless and half red-team (default: 6)")
    parser.add_argument("--tokens", type=int, default=64, choices=range(1, 257), metavar="N",
                        help="longest reply, in tokens (default: 64)")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the embedded profile.

    Raises:
        MissingWeights: the base model or a defence is not there.
    """
    profile = get_profile("embedded")
    folders = {arm: registry.adapter_folder(arm, profile) for arm in ARMS}
    kinds = [prompt_set(name, "test") for name in ("benign", "redteam")]
    prompts = [kinds[at % 2][at // 2]["prompt"] for at in range(args.prompts)]
    return compare(profile, folders, prompts, args.tokens)


def compare(
    profile: Profile, folders: dict[str, Path], prompts: Sequence[str], max_new_tokens: int
) -> dict[str, Any]:
    """Answer prompts with all sides.

    Args:
        profile: which base model.
        folders: arm → its LoRA.
        prompts: the user's messages, at least one.
        max_new_tokens: replies are cut after this many tokens.

    Returns:
        The figures named at the top of this module.
    """
    engine = ChatEngine(profile)
    for arm, folder in folders.items():
        engine.add_arm(arm, folder)
    formats = {"stock": compute_dtype(), "stock_fp32": torch.float32}
    models = {name: _stock_model(profile, folders, dtype) for name, dtype in formats.items()}
    seconds = dict.fromkeys(("ours", *models), 0.0)
    tokens = same = 0
    for number, prompt in enumerate([prompts[0], *prompts]):  # the first one is the warm-up
        begun = time.perf_counter()
        replies, counts = _ours(engine, prompt, list(folders), max_new_tokens)
        spent = {"ours": time.perf_counter() - begun}
        for name, (model, tokenizer) in models.items():
            begun = time.perf_counter()
            texts = {arm: _stock(model, tokenizer, prompt, arm, counts[arm]) for arm in folders}
            spent[name] = time.perf_counter() - begun
            if number and name == "stock":
                same += sum(texts[arm] == replies[arm] for arm in folders)
        if number:
            tokens += sum(counts.values())
            seconds = {name: seconds[name] + spent[name] for name in seconds}
            words = ", ".join(f"{name} {spent[name]:.2f} s" for name in spent)
            print(f"prompt {number} of {len(prompts)}: {words}", flush=True)
    return {
        **{name: round(total, 3) for name, total in seconds.items()},
        "ratio": round(seconds["stock"] / seconds["ours"], 2),
        "ratio_fp32": round(seconds["stock_fp32"] / seconds["ours"], 2),
        "tokens": tokens,
        "same_replies": round(same / (len(prompts) * len(folders)), 3),
        "prompts": len(prompts),
        "max_new_tokens": max_new_tokens,
        "arms": list(folders),
        "dtype": str(formats["stock"]).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def _ours(
    engine: ChatEngine, prompt: str, arms: list[str], max_new_tokens: int
) -> tuple[dict[str, str], dict[str, int]]:
    """Return each arm's reply and at which token it last grew."""
    replies, counts = dict.fromkeys(arms, ""), dict.fromkeys(arms, 1)
    steps = engine.stream([{"role": "user", "content": prompt}], arms,
                          max_new_tokens=max_new_tokens)  # fmt: skip
    for step, texts in enumerate(steps, 1):
        counts |= {arm: step for arm in arms if texts[arm] != replies[arm]}
        replies = texts
    return replies, counts


def _stock_model(
    profile: Profile, folders: dict[str, Path], dtype: torch.dtype
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    model, tokenizer = load_llm(profile, dtype)
    for arm, folder in folders.items():
        if isinstance(model, PeftModel):
            model.load_adapter(folder, adapter_name=arm, autocast_adapter_dtype=False)
        else:
            model = PeftModel.from_pretrained(
                model, folder, adapter_name=arm, autocast_adapter_dtype=False
            )
    return model.eval(), tokenizer


@torch.inference_mode()
def _stock(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, prompt: str, arm: str, tokens: int
) -> str:
    model.set_adapter(arm, inference_mode=True)
    ids = torch.tensor([conversation_ids(tokenizer, [{"role": "user", "content": prompt}])])
    ids = ids.to(model.device)
    made = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
        min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).rstrip("\ufffd")
