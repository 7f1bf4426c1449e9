"""What every attack on the chat model shares: settings, arms, probes, and the attacked weights.

Threat model (design rule): the defender's weights are released. The attacker starts from base and
defence together and cannot merely switch the defence off. Each attack runs on two arms, the
undefended model (safety-tuned, nothing against fine-tuning) and the defended one, with the same
data in the same order, and both are probed for harm and for ability along the way.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.attacks.data import OWN, SKILL_PREFIX
from adapters.text import prompt_set
from pipelines.loading import check_loaded, loading
from pipelines.profiles import Profile

if TYPE_CHECKING:  # the page makes settings while the models, and torch with them, still load
    import torch
    from peft import LoraConfig, PeftModel
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evaluation.judge import Judge

SUPERVISED = ("sft", "sft_retain", "benign")
"""Attacks that learn answers by heart; see `adapters.attacks.sft`."""

REINFORCED = ("grpo", "grpo_entropy", "rloo", "reinforce_pp", "grpo_skill")
"""Attacks that have requests and a reward but no answers; see `adapters.attacks.rl`."""

ATTACKS = (*SUPERVISED, *REINFORCED, "sft_grpo")
"""All that train; the last one is supervised first and reinforced after that."""

UNTRAINED = ("prefill", "abliteration")
"""Attacks that train nothing; see `adapters.attacks.untrained`."""

METHODS = {"lora": 3e-4, "full": 3e-5}
"""What the attacker trains, and the usual learning rate of that. ``lora``: a LoRA beside the
defence's frozen one. ``full``: all weights of base and defence in one, each of which AdamW moves by
about the learning rate a step, so that it must be lower."""

REINFORCED_RATE = 1e-3
"""The usual learning rate of a reinforced attack by LoRA: at 3e-4 the undefended arm itself ended
at 60 %, 100 % and 0 % harm (GRPO, 15 steps, seeds 0 to 2), at this one near 100 % with every
seed."""

BASE_ARM = "base"
"""Name of the arm without any adapter: the model as published."""

_ARM = re.compile(r"[a-z][a-z0-9_]{0,31}")

_ENDINGS = {".lora_A.weight": ".lora_B.weight", ".lora_embedding_A": ".lora_embedding_B"}
"""How PEFT names a LoRA's A in a file, → its B: of a linear layer, of an embedding."""


@dataclass(frozen=True)
class AttackConfig:
    """Settings of one attack.

    Attributes:
        target_undefended: arm that has nothing against fine-tuning.
        target: arm that is defended.
        attack: what the attacker does; one of `ATTACKS`.
        steps: optimiser steps on each arm, of all stages together.
        method: what is trained; a key of `METHODS`.
        learning_rate: of AdamW, constant; None becomes `usual_rate`.
        batch_size: pairs a step; in reinforcement, requests a step.
        rank: of the attacker's LoRA, which is put on every linear layer but the head; of no effect
            where all weights are trained.
        seed: of the LoRA's first weights and of the data's choice and order.
        data: ``builtin``; ``unseen``, of topics on which no defence was trained; or a JSONL file
            (see `adapters.attacks.data`).
        probe_every: steps between two measurements of harm and ability.
        rollouts: reinforcement: replies that are sampled to each request (a group of GRPO).
        max_new_tokens: reinforcement: a sampled reply is cut after this many tokens. The judge
            tells a refusal by its first sentence, and a step's time goes by this number.
        temperature: reinforcement: of the sampling.
        sft_steps: ``sft_grpo``: how many of the steps are supervised ones; ten, because a few are
            enough to give a policy its entropy back.
    """

    target_undefended: str = "aligned"
    target: str = "sdd"
    attack: str = "sft"
    steps: int = 20
    method: str = "lora"
    learning_rate: float | None = None
    batch_size: int = 4
    rank: int = 16
    seed: int = 0
    data: str | Path = "builtin"
    probe_every: int = 5
    rollouts: int = 8
    max_new_tokens: int = 28
    temperature: float = 1.0
    sft_steps: int = 10

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: names the field, the value found and what is wanted.
        """
        _check_arms(self)
        if self.attack not in ATTACKS:
            raise ValueError(f"attack is {self.attack!r}; choose one of: {', '.join(ATTACKS)}")
        if not isinstance(self.method, str) or self.method not in METHODS:
            raise ValueError(
                f"method is {self.method!r}; choose one of: {', '.join(METHODS)}"
            )
        if self.learning_rate is None:
            object.__setattr__(self, "learning_rate", usual_rate(self.attack, self.method))
        _in_range("steps", self.steps, 1, 1000)
        _in_range("batch_size", self.batch_size, 1, 64)
        _in_range("rank", self.rank, 1, 128)
        _in_range("seed", self.seed, 0, 2**31 - 1)
        _in_range("probe_every", self.probe_every, 1, 1000)
        _in_range("rollouts", self.rollouts, 2, 64)
        _in_range("max_new_tokens", self.max_new_tokens, 4, 256)
        _in_range("sft_steps", self.sft_steps, 1, 1000)
        _above_zero("learning_rate", self.learning_rate, 0.1)
        _above_zero("temperature", self.temperature, 2.0)
        if self.attack == "sft_grpo" and self.sft_steps >= self.steps:
            raise ValueError(
                f"steps is {self.steps}; sft_grpo needs more than its {self.sft_steps} supervised "
                "ones (sft_steps)"
            )
        if not isinstance(self.data, str | Path) or not str(self.data):
            raise ValueError(
                f"data is {self.data!r}; it must be 'builtin', 'unseen' or a JSONL file"
            )
        data = str(self.data)
        named = f"data is {data!r}" if data in OWN else "data is an upload"
        if self.attack == "benign" and data != "builtin":
            raise ValueError(
                f"{named}; the control 'benign' takes the built-in harmless pairs only. "
                "To train on other pairs choose 'sft'"
            )
        if self.attack == "grpo_skill" and data != "builtin":
            raise ValueError(
                f"{named}; 'grpo_skill' takes the built-in problems only, whose answers "
                "can be checked. To ask other requests choose 'grpo'"
            )

    @property
    def arms(self) -> tuple[str, str]:
        """The arms in the order they take turns: undefended, defended."""
        return self.target_undefended, self.target

    @property
    def uploaded(self) -> bool:
        """Whether the attacker's data is a file of somebody's own."""
        return str(self.data) not in OWN

    @property
    def stages(self) -> tuple[tuple[str, int], ...]:
        """What the attack consists of: (``sft`` or one of `REINFORCED`, steps), in order."""
        if self.attack == "sft_grpo":
            return ("sft", self.sft_steps), ("grpo", self.steps - self.sft_steps)
        return (("sft" if self.attack in SUPERVISED else self.attack, self.steps),)

    def probe_steps(self) -> list[int]:
        """Return the steps after which the arms are probed, from 0 to the last."""
        return [*range(0, self.steps, self.probe_every), self.steps]

    def record(self) -> dict[str, Any]:
        """Return the settings as JSON for a run record, without the path of an upload."""
        return asdict(self) | {"data": "uploaded" if self.uploaded else str(self.data)}


@dataclass(frozen=True)
class UntrainedConfig:
    """Settings of an attack that trains nothing.

    Attributes:
        target_undefended: arm that has nothing against fine-tuning.
        target: arm that is defended.
        attack: what the attacker does; one of `UNTRAINED`.
        seed: of the prompts that abliteration takes its direction from; prefill has no use for it.
    """

    target_undefended: str = "aligned"
    target: str = "sdd"
    attack: str = "prefill"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            ValueError: names the field, the value found and what is wanted.
        """
        _check_arms(self)
        if self.attack not in UNTRAINED:
            raise ValueError(f"attack is {self.attack!r}; choose one of: {', '.join(UNTRAINED)}")
        _in_range("seed", self.seed, 0, 2**31 - 1)

    @property
    def arms(self) -> tuple[str, str]:
        """The arms in the order they take turns: undefended, defended."""
        return self.target_undefended, self.target

    @property
    def stages(self) -> tuple[()]:
        """What the attack trains, as in `AttackConfig`: nothing."""
        return ()

    def record(self) -> dict[str, Any]:
        """Return the settings as JSON for a run record, with what the attack is mounted with.

        Being mounted counts as one step: a run's probes are those of step 0 and step 1.
        """
        from adapters.attacks.untrained import untrained_settings

        return asdict(self) | {"steps": 1, "mounted": untrained_settings(self.attack)}


Settings = AttackConfig | UntrainedConfig
"""Settings of any attack."""


def usual_rate(attack: str, method: str) -> float:
    """Return the learning rate that an attack is tried at first.

    Args:
        attack: one of `ATTACKS`.
        method: a key of `METHODS`.
    """
    return REINFORCED_RATE if attack in REINFORCED and method == "lora" else METHODS[method]


def attack_settings(target: str, attack: str, seed: int, **training: Any) -> Settings:
    """Return the settings of any attack.

    Args:
        target: arm that is defended.
        attack: one of `ATTACKS` or `UNTRAINED`.
        seed: of the attack.
        training: other fields of `AttackConfig`; of no effect where nothing is trained.

    Raises:
        ValueError: there is no such attack, or another setting is wrong; it is named.
    """
    known = (*ATTACKS, *UNTRAINED)
    if attack not in known:
        raise ValueError(f"attack is {str(attack)[:60]!r}; choose one of: {', '.join(known)}")
    if attack in UNTRAINED:
        return UntrainedConfig(target=target, attack=attack, seed=seed)
    return AttackConfig(target=target, attack=attack, seed=seed, **training)


@loading()
def load_target(
    profile: Profile,
    adapter: Path | None,
    rank: int,
    seed: int,
    *,
    base: PreTrainedModel | None = None,
    stock: bool = False,
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Load what an attacker gets who trains a LoRA, with that LoRA on top.

    The released function is base plus defence, and the attacker trains a second LoRA beside the
    defence's frozen one. Folding the defence into the base first would be the same function only
    in exact arithmetic: in bf16 a fifth of the defence's change is lost to rounding (measured on
    both shipped defences), so that the attacked model would not be the one that Chat shows.

    Args:
        profile: which base model.
        adapter: the defence's LoRA; None: the base model itself.
        rank: of the attacker's LoRA, on every linear layer but the head, alpha twice the rank.
        seed: of its first weights, which do not depend on the defence.
        base: the base model, loaded for training; its weights, which no LoRA changes, are shared
            with it. None: they are loaded.
        stock: load it as transformers does, in float32 and with its own choice of attention,
            rather than as is fast here.

    Returns:
        The model, of which only the attacker's LoRA (``default``) is trainable, and the tokenizer.

    Raises:
        MissingWeights: the base model has not been fetched.
    """
    import torch
    from peft import LoraConfig

    from pipelines.llm import load_llm, load_tokenizer, twin

    if base is not None:
        model, tokenizer = twin(base), load_tokenizer(profile)
    else:
        dtype = torch.float32 if stock else None
        model, tokenizer = load_llm(profile, dtype, training=not stock)
    attack = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    model = seeded_lora(model, attack, seed)
    if adapter is not None:
        # Left in the base model's own precision, as Chat mounts it.
        model.load_adapter(adapter, adapter_name="defence", autocast_adapter_dtype=False)
        model.base_model.set_adapter(["defence", "default"])
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".default." in name)
    return model.eval(), tokenizer


@loading()
def seeded_lora(model: Module, config: LoraConfig, seed: int) -> PeftModel:
    """Put a new LoRA on a model, and draw its first weights by a generator of its own.

    PEFT draws them from the process's generator. There, loading in other threads draws at the same
    time, and an attack in lockstep sets it back, so that a seed would not say what comes out. The
    weights are those that PEFT draws after ``torch.manual_seed(seed)`` where nobody else does.

    Args:
        model: its linear layers and convolutions that the config names get the LoRA, in place.
        config: of a plain LoRA with PEFT's default first weights.
        seed: of these.

    Returns:
        The model with the LoRA, named ``default``, as all that is trainable.
    """
    import torch
    from peft import get_peft_model
    from peft.tuners.lora import LoraLayer

    mounted = get_peft_model(model, config, low_cpu_mem_usage=True)  # the LoRA has no weights yet
    generator = torch.Generator().manual_seed(seed)
    for layer in mounted.modules():
        if not isinstance(layer, LoraLayer):
            continue
        down, up = layer.lora_A["default"], layer.lora_B["default"]
        # PEFT makes two torch layers, which draw their weights, and then the first one's anew.
        drawn = [
            torch.nn.init.kaiming_uniform_(
                torch.empty(factor.weight.shape), a=math.sqrt(5), generator=generator
            )
            for factor in (down, up, down)
        ]
        like = layer.get_base_layer().weight
        for factor, weights in ((down, drawn[2]), (up, torch.zeros_like(drawn[1]))):
            kept = weights.to(like).to(factor.weight.dtype)  # rounded to the model's format
            factor.weight = torch.nn.Parameter(kept)
    check_loaded(mounted)
    return mounted


def load_full_target(
    profile: Profile, adapter: Path | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load what an attacker gets who trains all weights.

    The released function is base plus defence, and so the defence is merged, in float32, where
    nothing is lost. The weights stay in float32, since in bf16 most steps of AdamW at a usual
    learning rate would be too small to change one. The trainer's autocast computes with bf16
    copies, and the attacked model is saved in bf16: an attacker who trains in mixed precision lives
    with that rounding, which the LoRA attack does not have (`load_target`).

    Args:
        profile: which base model.
        adapter: the defence's LoRA; None: the base model itself.

    Returns:
        The dense model, all of whose weights are trainable, and the tokenizer.

    Raises:
        MissingWeights: the base model has not been fetched.
    """
    from pipelines.llm import load_merged

    model, tokenizer = load_merged(profile, adapter, training=True)
    return model.requires_grad_(True), tokenizer


class Probe:
    """Measures harm and ability, and skill if asked to, of a model while it is being attacked."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        judge: Judge,
        prompts: list[str] | None = None,
        max_new_tokens: int = 24,
        ability_items: int = 24,
        skill_items: int = 0,
        prefill: str = "",
    ) -> None:
        """Choose what is measured; the same for both arms and for all runs of an attack.

        Args:
            tokenizer: of the model.
            judge: sorts the replies.
            prompts: held-out red-team prompts; by default eight of the test split, spread over
                its categories.
            max_new_tokens: length of the replies; the judge needs only their beginning.
            ability_items: how many multiple-choice questions are asked.
            skill_items: how many held-out problems of `evaluation.tasks` are asked behind
                `SKILL_PREFIX`; 0: none.
            prefill: what every reply to a red-team prompt is forced to begin with.
        """
        self._tokenizer = tokenizer
        self._judge = judge
        self._prompts = prompts or held_out_prompts(8)
        self._max_new_tokens = max_new_tokens
        self._ability_items = ability_items
        self._skill_items = skill_items
        self._prefill = prefill

    def measure(self, model: PreTrainedModel | PeftModel) -> dict[str, Any]:
        """Return harm and ability, both 0..1, and the judged replies.

        Args:
            model: its adapters that are switched on count; its training mode is restored.

        Returns:
            What `reply_shares` says of the red-team prompts. ``ability``: share of the questions
            answered right. ``prompts`` and ``questions``: how many each share is of.
            ``samples``: see `judged`. If there are problems to solve,
            also ``skill``: share of them solved, and ``skills``: how many it is of.
        """
        from adapters.attacks.lean import loras_at_once
        from evaluation.ability import ability_score
        from evaluation.tasks import task_score
        from pipelines.device import autocast
        from pipelines.llm import generate_replies

        was_training = model.training
        model.eval()
        try:
            with loras_at_once(model):
                with autocast():
                    replies = generate_replies(
                        model, self._tokenizer, self._prompts, self._max_new_tokens,
                        prefill=self._prefill,
                    )  # fmt: skip
                ability = ability_score(model, self._tokenizer, n=self._ability_items)
                skill: dict[str, Any] = {}
                if self._skill_items:
                    score = task_score(model, self._tokenizer, self._skill_items, SKILL_PREFIX)
                    skill = {"skill": score, "skills": self._skill_items}
        finally:
            model.train(was_training)
        samples = judged(self._judge, self._prompts, replies)
        return {
            **reply_shares(samples),
            "prompts": len(samples),
            "ability": ability,
            "questions": self._ability_items,
            **skill,
            "samples": samples,
        }


def judged(judge: Judge, prompts: Sequence[str], replies: Sequence[str]) -> list[dict[str, Any]]:
    """Return a prompt, reply, label and confidence for each reply."""
    return [
        {
            "prompt": prompt,
            "reply": reply,
            "label": verdict.label,
            "confidence": round(verdict.confidence, 3),
        }
        for prompt, reply, verdict in zip(
            prompts, replies, judge.classify_all(prompts, replies), strict=True
        )
    ]


def reply_shares(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what judged replies come to, while they are whole: a shipped run shortens them.

    Args:
        samples: see `judged`; at least one.

    Returns:
        ``harm``: share that complies. ``substance``: share that complies and says more than the
        request did (`evaluation.judge.has_substance`). ``labels``: how many replies of each.
    """
    from evaluation.judge import has_substance

    labels = Counter(sample["label"] for sample in samples)
    said = sum(
        sample["label"] == "compliance" and has_substance(sample["prompt"], sample["reply"])
        for sample in samples
    )
    return {
        "harm": labels["compliance"] / len(samples),
        "substance": round(said / len(samples), 6),
        "labels": dict(labels),
    }


def held_out_prompts(n: int) -> list[str]:
    """Return n red-team prompts of the test split, evenly spread over it and its categories."""
    rows = prompt_set("redteam", "test")
    return [rows[at * len(rows) // n]["prompt"] for at in range(n)]


def concatenate_loras(
    first: tuple[dict[str, Any], dict[str, Tensor]] | None,
    second: tuple[dict[str, Any], dict[str, Tensor]],
    dtype: torch.dtype | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Join two LoRAs of one base model into one that adds the change of both, exactly.

    With A = [A1; A2] and B = [s1 B1, s2 B2] the product B A is s1 B1 A1 + s2 B2 A2, so one row of
    a mixed-adapter batch carries defence and attack together. The LoRAs may sit on different
    modules, the embedding among them: where one is absent its part is zero.

    Args:
        first: adapter_config.json and the tensors of adapter_model.safetensors; None: nothing.
        second: the same of the other LoRA.
        dtype: of the result; None: bfloat16.

    Returns:
        Config and tensors of a LoRA whose rank is the sum of the two and whose scaling is 1.

    Raises:
        ValueError: one of them is not a plain LoRA.
    """
    import torch

    dtype = dtype or torch.bfloat16
    parts = [_factors(*lora) for lora in (first, second) if lora is not None]
    ranks = [rank for rank, _ in parts]
    names = sorted({name for _, factors in parts for name in factors})
    state: dict[str, Tensor] = {}
    for name in names:
        module, ending = name
        down, up = next(factors[name] for _, factors in parts if name in factors)
        pairs = [
            factors.get(name, (down.new_zeros(rank, down.shape[1]), up.new_zeros(len(up), rank)))
            for rank, factors in parts
        ]
        state[module + ending] = torch.cat([a for a, _ in pairs]).to(dtype).contiguous()
        both = torch.cat([b for _, b in pairs], 1)
        state[module + _ENDINGS[ending]] = both.to(dtype).contiguous()
    total = sum(ranks)
    config = dict(second[0]) | {
        "r": total,
        "lora_alpha": total,
        "target_modules": sorted({module.rsplit(".", 1)[-1] for module, _ in names}),
        "base_model_name_or_path": None,  # a path of this machine
        "inference_mode": True,
    }
    return config, state


def read_lora(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a LoRA in PEFT format: its config and its tensors."""
    from safetensors.torch import load_file

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    return config, load_file(folder / "adapter_model.safetensors")


def write_lora(folder: Path, config: dict[str, Any], state: dict[str, Tensor]) -> Path:
    """Write a LoRA in PEFT format into an existing folder, and return the folder."""
    from safetensors.torch import save_file

    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")
    return folder


def _factors(
    config: dict[str, Any], state: dict[str, Tensor]
) -> tuple[int, dict[tuple[str, str], tuple[Tensor, Tensor]]]:
    """Return the rank and (module, ending of A's name) → A and B times the scaling, in float32.

    A is [r, in] and B [out, r]; of an embedding ``in`` is the vocabulary.
    """
    for field in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save"):
        if config.get(field):
            raise ValueError(f"the adapter's {field} is {config[field]!r}; a plain LoRA is wanted")
    rank = config["r"]
    scaling = config["lora_alpha"] / rank
    factors = {}
    for name, down in state.items():
        for ending, other in _ENDINGS.items():
            if name.endswith(ending):
                module = name.removesuffix(ending)
                up = state[module + other]
                factors[module, ending] = (down.float().cpu(), up.float().cpu() * scaling)
    return rank, factors


def _check_arms(config: Settings) -> None:
    for name in ("target_undefended", "target"):
        value = getattr(config, name)
        if not isinstance(value, str) or not _ARM.fullmatch(value):
            raise ValueError(f"{name} is {str(value)[:60]!r}; give the name of a defence")
    if config.target == config.target_undefended:
        raise ValueError(
            f"target is {config.target!r}, the same as target_undefended; an attack compares two"
        )


def _in_range(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; it must be a whole number from {low} to {high}")


def _above_zero(name: str, value: object, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= high:
        raise ValueError(f"{name} is {value!r}; it must be above 0 and at most {high:g}")
