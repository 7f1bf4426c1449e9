"""The chat model: loading it, and answering for several arms from one batch.

An *arm* is the base model with one LoRA or with none. All arms of an answer share one copy of
the base weights: each row of the batch is one arm, and that row's LoRA is applied to it alone
(mixed-adapter batch, `_MixedBatch`). So two or three arms cost one model in memory, and less than
two or three models in time.
"""

from __future__ import annotations

import copy
import math
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jinja2 import TemplateError
from torch import Tensor

from pipelines.device import compute_dtype, device
from pipelines.fetch import MissingWeights, llm_folder
from pipelines.loading import check_loaded, loading
from pipelines.profiles import Profile
from pipelines.prompts import check_text, check_whole

if TYPE_CHECKING:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer
    from torch.nn import Module
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.utils import ModelOutput

_ROLES = ("system", "user", "assistant")
_ARM = re.compile(r"[A-Za-z0-9_-]{1,96}")
_TOP_P = 0.9

Forward = Callable[..., "ModelOutput"]
"""A causal language model, or anything that is called like one."""

Pick = Callable[[Tensor], Tensor]
"""Chooses the next tokens: float32 logits [rows, vocabulary] → token ids [rows]."""


class PromptTooLong(ValueError):
    """The conversation has more tokens than the profile's limit."""


@loading()
def load_llm(
    profile: Profile,
    dtype: torch.dtype | None = None,
    *,
    training: bool = False,
    weights: Path | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the profile's chat model, in evaluation mode, and its tokenizer.

    Args:
        profile: which model.
        dtype: number format of the weights; by default what is fast here.
        weights: folder of a model that was made from it, as `Run.save_model` leaves it, to be
            loaded in its place; the tokenizer is the profile's all the same.
        training: whether gradients will be taken. On a CPU the model then attends by plain matrix
            products, since the backward of torch's fused attention is slow there
            (`pipelines.device.plain_attention` has the figures).

    Raises:
        MissingWeights: the model has not been fetched.
    """
    from transformers import AutoModelForCausalLM

    tokenizer = load_tokenizer(profile)
    model = AutoModelForCausalLM.from_pretrained(
        weights or llm_folder(profile), dtype=dtype or compute_dtype(), use_safetensors=True
    )
    if training and device().type == "cpu":
        model.set_attn_implementation("eager")
    return model.to(device()).eval(), tokenizer


def twin(model: PreTrainedModel) -> PreTrainedModel:
    """Return a second model with the same weights, which are not copied.

    Its modules are its own, so that adapters can be put into one of the two. Whoever trains or
    changes weights of the model itself changes those of both.

    Args:
        model: without adapters.
    """
    return copy.deepcopy(model, {id(weights): weights for weights in model.parameters()})


def load_tokenizer(profile: Profile) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the profile's chat model, set up for answers in batches.

    Raises:
        MissingWeights: the model has not been fetched.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llm_folder(profile), padding_side="left")
    if end := turn_end(tokenizer):
        tokenizer.eos_token = end
    if tokenizer.pad_token_id is None:  # what is padded is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token
    if "enable_thinking" in (tokenizer.chat_template or ""):
        # Of a reply of some 24 tokens nothing but thoughts would be seen. In the template, so that
        # trainers that apply it by themselves do likewise.
        tokenizer.chat_template = "{% set enable_thinking = false %}" + tokenizer.chat_template
    return tokenizer


def turn_end(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return the token that the chat template puts behind a reply; None if there is none.

    With some models it is not the tokenizer's end token, which ends a document: replies would run
    on into a turn of the user's that the model makes up.
    """
    said = "Ready"
    turns = [{"role": "user", "content": said}, {"role": "assistant", "content": said}]
    rest = tokenizer.apply_chat_template(turns, tokenize=False).rsplit(said, 1)[-1]
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    found = [token for token in tokenizer.tokenize(rest) if token in added]
    return found[0] if found else None


@loading()
def load_arm(
    profile: Profile,
    weights: Path | None,
    dtype: torch.dtype | None = None,
    *,
    training: bool = False,
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Load one arm alone, for work that the mixed batch of `ChatEngine` does not do.

    Args:
        profile: which base model.
        weights: folder of the arm's LoRA, which is kept in the base model's number format, or of a
            whole model that stands in for the base model; None: the base model.
        dtype: number format of the weights; by default what is fast here.
        training: see `load_llm`.

    Returns:
        The model, in evaluation mode and with the LoRA switched on, and its tokenizer.

    Raises:
        MissingWeights: the model has not been fetched.
    """
    if weights is None or not (weights / "adapter_config.json").is_file():
        return load_llm(profile, dtype, training=training, weights=weights)
    from peft import PeftModel

    model, tokenizer = load_llm(profile, dtype, training=training)
    # It would else first be filled with numbers drawn from the process's generator.
    model = PeftModel.from_pretrained(
        model, weights, autocast_adapter_dtype=False, low_cpu_mem_usage=True
    )
    check_loaded(model)
    return model.eval(), tokenizer


@loading()
def load_merged(
    profile: Profile, weights: Path | None, *, training: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load one arm as a single dense model in float32, its LoRA folded into the weights.

    In bf16 a fifth of a shipped defence's change would be lost to rounding.

    Args:
        profile: which base model.
        weights: see `load_arm`.
        training: see `load_llm`.

    Returns:
        The model, in evaluation mode, and its tokenizer.

    Raises:
        MissingWeights: the model has not been fetched.
    """
    from peft import PeftModel

    model, tokenizer = load_arm(profile, weights, torch.float32, training=training)
    if isinstance(model, PeftModel):
        if any(embeds for _, embeds in _lora_layers(model)):
            untie_(model)
        model = model.merge_and_unload()
    return model.eval(), tokenizer


@loading()  # the new matrix is registered
def untie_(model: PreTrainedModel | PeftModel) -> None:
    """Give the output layer a matrix of its own, in place, if it shares that of the embedding.

    A change of the embedding would otherwise be one of the output layer too.

    Args:
        model: causal language model.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is not None and head.weight is embedding.weight:
        head.weight = torch.nn.Parameter(embedding.weight.clone())
        model.config.tie_word_embeddings = False


def conversation_ids(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, str]],
    prefill: str = "",
    limit: int | None = None,
) -> list[int]:
    """Return the tokens of a conversation, up to where the assistant's reply begins.

    Special tokens typed by a visitor are removed, so that no text can forge a turn.

    Args:
        tokenizer: carries the chat template.
        messages: dicts with ``role`` (system, user or assistant) and ``content``; the last one
            is the user's.
        prefill: text that the reply is made to begin with.
        limit: largest number of tokens that is accepted.

    Raises:
        ValueError: a message is malformed; the text names it.
        PromptTooLong: there are more tokens than the limit.
    """
    if not messages or messages[-1].get("role") != "user":
        raise ValueError("messages must end with one whose role is 'user'")
    clean = []
    for number, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES:
            raise ValueError(f"messages[{number}].role is {role!r}; use one of {_ROLES}")
        check_text(f"messages[{number}].content", content, "it must be text")
        clean.append({"role": role, "content": _plain(tokenizer, content)})
    check_whole("prefill", prefill)
    try:
        text = tokenizer.apply_chat_template(clean, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        raise ValueError(f"the model's chat template refuses the conversation: {error}") from error
    text += _plain(tokenizer, prefill)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if limit is not None and len(ids) > limit:
        raise PromptTooLong(
            f"the conversation is {len(ids)} tokens long and the limit is {limit}; "
            "shorten the message, or clear the conversation"
        )
    return ids


@torch.inference_mode()
def decode(
    model: Forward,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    adapters: Sequence[str] | None = None,
    pick: Pick | None = None,
    should_stop: Callable[[], bool] | None = None,
    lock: threading.Lock | None = None,
) -> Iterator[list[list[int]]]:
    """Decode a batch token by token with a key-value cache.

    Rows that reach the end-of-turn token leave the batch, so a short refusal does not go on
    costing as much as the long reply beside it. A prompt that stands in several rows of one
    adapter is read once.

    Args:
        model: a causal language model in evaluation mode, on `pipelines.device.device`.
        tokenizer: gives the padding and the end-of-turn token.
        prompts: one list of token ids a row; shorter ones are padded on the left.
        max_new_tokens: replies are cut after this many tokens.
        adapters: name of each row's adapter, for models that take ``adapter_names``; None: the
            model as it is.
        pick: chooses the next tokens; None: the most likely one.
        should_stop: asked before every token.
        lock: held while the model computes, and not while the caller holds the result.

    Yields:
        After every token, the new tokens of each row so far, without the end-of-turn token.
    """
    lock = lock or threading.Lock()
    width = max(len(ids) for ids in prompts)
    pad, ends = tokenizer.pad_token_id, _ends(model, tokenizer)
    where = device()
    # Rows that are the same are read once; `rows` says which prompt each row of the batch is of.
    keys = [(adapters and adapters[row], tuple(ids)) for row, ids in enumerate(prompts)]
    distinct = list(dict.fromkeys(keys))
    rows = [keys.index(key) for key in distinct]
    owner = torch.tensor([distinct.index(key) for key in keys], device=where)
    read = [list(prompts[row]) for row in rows]
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in read], device=where)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in read], device=where)
    replies: list[list[int]] = [[] for _ in prompts]
    cache = None
    for _ in range(max_new_tokens):
        if should_stop is not None and should_stop():
            return
        extra = {} if adapters is None else {"adapter_names": [adapters[row] for row in rows]}
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        with lock:
            output = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
                **extra,
            )
        logits = output.logits[:, -1].float()
        if cache is None and len(rows) < len(prompts):
            output.past_key_values.batch_select_indices(owner)
            logits, mask = logits[owner], mask[owner]
            rows = list(range(len(prompts)))
        cache = output.past_key_values
        chosen = logits.argmax(-1) if pick is None else pick(logits)
        going = [at for at, token in enumerate(chosen.tolist()) if token not in ends]
        for at in going:
            replies[rows[at]].append(int(chosen[at]))
        yield [list(reply) for reply in replies]
        if not going:
            return
        if len(going) < len(rows):
            index = torch.tensor(going, device=where)
            cache.batch_select_indices(index)
            chosen, mask = chosen[index], mask[index]
            rows = [rows[at] for at in going]
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)


def generate_replies(
    model: Forward,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    adapters: Sequence[str] | None = None,
    lock: threading.Lock | None = None,
    limit: int | None = None,
    *,
    prefill: str = "",
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """Answer single-turn prompts in one batch.

    Args:
        model: see `decode`, as for `adapters` and `lock`.
        tokenizer: of the model.
        prompts: the user's messages.
        max_new_tokens: replies are cut after this many tokens, prefill not counted.
        adapters: name of each row's adapter.
        lock: held while the model computes.
        limit: largest number of tokens of a prompt that is accepted.
        prefill: text that every reply is made to begin with; it is part of what is returned.
        temperature: 0: greedily; above: top-p sampling, as in `ChatEngine.stream`.
        seed: of the sampling. Which other prompts share the batch makes no difference.

    Raises:
        ValueError: a prompt is empty, or the temperature is negative.
        PromptTooLong: a prompt has more tokens than the limit.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; it must be 0 or more")
    rows = [
        conversation_ids(tokenizer, [{"role": "user", "content": prompt}], prefill, limit)
        for prompt in prompts
    ]
    if not rows:
        return []
    states = decode(
        model, tokenizer, rows, max_new_tokens=max_new_tokens, adapters=adapters, lock=lock,
        pick=_sampler(temperature, seed) if temperature > 0 else None,
    )  # fmt: skip
    (tokens,) = deque(states, maxlen=1)
    return [prefill + _text(tokenizer, reply) for reply in tokens]


class _MixedBatch:
    """Runs a PEFT model with one LoRA a row, all rows of a layer in two batched products.

    PEFT's own mixed batch (``adapter_names``) takes the adapters one after another. With two of
    them a token took 143 ms, against 59 without any and 82 with this (SmolLM2-135M, one core).
    """

    def __init__(self, model: PeftModel) -> None:
        """Take over a model with at least one LoRA, until `close`."""
        self._model = model
        self._index = {name: row for row, name in enumerate(model.peft_config, 1)}  # 0: no LoRA
        self._rows: list[int] = []  # of the last call, and what they took of each layer's factors
        self._taken: dict[Module, tuple[Tensor, Tensor]] = {}
        model.base_model.disable_adapter_layers()
        self._layers = [layer for layer, _ in _lora_layers(model)]
        for layer in self._layers:
            # What PEFT's own forward comes to without its LoRAs, less the checks on the way there:
            # of two arms' token 60 ms in place of 65 (two cores, six runs in turn).
            layer.forward = layer.get_base_layer().forward
        self._hooks = [
            layer.register_forward_hook(
                (self._embedding_adder if embeds else self._adder)(
                    *_stacked(layer, list(self._index))
                )
            )
            for layer, embeds in _lora_layers(model)
        ]

    def __call__(self, adapters: Sequence[str | None], **inputs: Any) -> ModelOutput:
        """Run the model.

        Args:
            adapters: name of each row's LoRA, None for none.
            inputs: of the model.
        """
        rows = [self._index.get(name, 0) for name in adapters]
        if rows != self._rows:
            self._rows, self._taken = rows, {}
        return self._model(**inputs)

    def close(self) -> None:
        """Give the model back, with its LoRAs switched off."""
        for hook in self._hooks:
            hook.remove()
        for layer in self._layers:
            del layer.forward

    def _adder(self, down: Tensor, up: Tensor) -> Callable[..., Tensor]:
        def add(layer: Module, given: tuple[Tensor], result: Tensor) -> Tensor:
            if layer not in self._taken:
                self._taken[layer] = down[self._rows], up[self._rows]
            first, second = self._taken[layer]
            return torch.baddbmm(result, torch.bmm(given[0], first), second)

        return add

    def _embedding_adder(self, down: Tensor, up: Tensor) -> Callable[..., Tensor]:
        def add(layer: Module, given: tuple[Tensor], result: Tensor) -> Tensor:
            rows = torch.tensor(self._rows, device=result.device)
            # Each token's row of A is looked up, as its row of the embedding is.
            return torch.baddbmm(result, down[rows[:, None], given[0]], up[rows])

        return add


def _lora_layers(model: PeftModel) -> Iterator[tuple[LoraLayer, bool]]:
    """Yield the layers of a model that carry a LoRA, and whether they are embeddings."""
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        # A deleted LoRA leaves its layer.
        if isinstance(layer, LoraLayer) and (layer.lora_A or layer.lora_embedding_A):
            yield layer, bool(layer.lora_embedding_A)


def _factors(layer: LoraLayer) -> dict[str, tuple[Tensor, Tensor]]:
    """Return a layer's LoRAs: name → A [rank, in], B [out, rank]."""
    if layer.lora_embedding_A:  # `in` is the vocabulary
        ups = layer.lora_embedding_B
        return {name: (down, ups[name]) for name, down in layer.lora_embedding_A.items()}
    return {name: (down.weight, layer.lora_B[name].weight) for name, down in layer.lora_A.items()}


def _stacked(layer: LoraLayer, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the factors of a layer's LoRAs, behind a LoRA of nothing.

    Args:
        layer: any of the names may be without a LoRA here.
        names: of the LoRAs.

    Returns:
        [1 + names, in, rank] and, times the scaling, [1 + names, rank, out], in the format of the
        layer's weight; smaller ranks are filled up with zeros.
    """
    factors = _factors(layer)
    rank = max(len(down) for down, _ in factors.values())
    base = layer.get_base_layer()
    weight = base.weight
    # Some families multiply what their embedding gives (Gemma).
    scale = float(getattr(base, "embed_scale", 1.0))
    downs = weight.new_zeros(1 + len(names), layer.in_features, rank)
    ups = weight.new_zeros(1 + len(names), rank, layer.out_features)
    for row, name in enumerate(names, 1):
        if name in factors:
            down, up = factors[name]
            downs[row, :, : len(down)] = down.detach().T
            ups[row, : len(down)] = (up.detach().float() * layer.scaling[name] * scale).T
    return downs, ups


class ChatEngine:
    """Answers for several arms at once from one base model.

    Safe to use from several threads: the model is locked for one token at a time, so two
    visitors' replies interleave instead of waiting for each other.
    """

    def __init__(self, profile: Profile) -> None:
        """Load the base model.

        Args:
            profile: which model, and the limits of prompts and replies.

        Raises:
            MissingWeights: the model has not been fetched.
        """
        model, tokenizer = load_llm(profile)
        self._profile = profile
        self._tokenizer = tokenizer
        self._model: PreTrainedModel | PeftModel = model
        self._mixed: _MixedBatch | None = None  # while an arm has a LoRA
        self._arms: dict[str, tuple[Path, float] | None] = {}  # folder and strength of its LoRA
        self._lock = threading.Lock()

    @property
    def arms(self) -> list[str]:
        """Names of the arms, in the order they were added."""
        return list(self._arms)

    @property
    def max_prompt_tokens(self) -> int:
        """Longest conversation that is accepted, in tokens."""
        return self._profile.llm.max_prompt_tokens

    def add_arm(self, name: str, adapter_folder: Path | None, strength: float = 1.0) -> None:
        """Add an arm, or do nothing if it is there with the same adapter and strength.

        Args:
            name: 1..96 letters, digits, ``-`` or ``_``.
            adapter_folder: a LoRA in PEFT format (safetensors); None: the base model as it is.
            strength: what the LoRA's change of the weights is multiplied by, 0 or more.

        Raises:
            ValueError: the name is not valid, or taken by another adapter; the strength is
                negative; the adapter cannot be read or does not fit, and all else is as before.
            MissingWeights: the folder holds no adapter.
        """
        if not _ARM.fullmatch(name):
            raise ValueError(f"arm is {name!r}; use 1 to 96 letters, digits, - or _")
        if not strength >= 0:
            raise ValueError(f"strength is {strength!r}; it must be 0 or more")
        wanted = None if adapter_folder is None else (Path(adapter_folder), strength)
        with self._lock:
            if self._has(name, wanted):
                return
        with loading(), self._lock:
            if self._has(name, wanted):  # another thread was faster
                return
            if wanted is not None:
                self._load(name, *wanted)
            self._arms[name] = wanted

    def _has(self, name: str, wanted: tuple[Path, float] | None) -> bool:
        """Whether an arm is there; called with the lock held.

        Raises:
            ValueError: it is, but with another adapter or strength.
        """
        if name not in self._arms:
            return False
        if self._arms[name] != wanted:
            raise ValueError(f"arm {name!r} exists with another adapter; remove it first")
        return True

    def remove_arm(self, name: str) -> None:
        """Remove an arm and free its adapter.

        Raises:
            KeyError: there is no such arm.
        """
        with self._lock:
            self._check([name])
            if self._arms.pop(name) is None:
                return
            self._release()
            others = [arm for arm, lora in self._arms.items() if lora is not None]
            if others:
                # PEFT would go on taking the deleted adapter for the active one.
                self._model.set_adapter(others[0], inference_mode=True)
                self._model.delete_adapter(name)
                self._mixed = _MixedBatch(self._model)
            else:
                # PEFT cannot run without any adapter; without arms that need it, it goes.
                self._model = self._model.unload()

    def plain(self, text: str) -> str:
        """Return a text without the model's special tokens, as `stream` takes it."""
        return _plain(self._tokenizer, text)

    def stream(
        self,
        messages: list[dict[str, str]],
        arms: list[str],
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        should_stop: Callable[[], bool] | None = None,
        prefill: str = "",
        ended: set[str] | None = None,
    ) -> Iterator[dict[str, str]]:
        """Answer one conversation for several arms at once, token by token.

        Args:
            messages: dicts with ``role`` and ``content``; the last one is the user's.
            arms: which arms answer.
            max_new_tokens: replies are cut after this many tokens.
            temperature: 0: always the most likely token; above: top-p sampling (p = 0.9).
            seed: of the sampling. All arms use the same random number for the same position, so
                arms that agree stay in step.
            should_stop: asked before every token.
            prefill: text that every reply is made to begin with; it is part of what is yielded.
            ended: takes up each arm whose reply the model itself has ended; the others go on, were
                cut or were stopped.

        Yields:
            arm → its reply so far, after every token.

        Raises:
            KeyError: there is no such arm.
            ValueError: no arms, a malformed message, or a negative temperature.
            PromptTooLong: the conversation is longer than `max_prompt_tokens`.
        """
        if not arms or len(set(arms)) != len(arms):
            raise ValueError(f"arms is {arms!r}; name at least one, and each once")
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature is {temperature}; it must be 0 or more")
        self._check(arms)
        prefill = _plain(self._tokenizer, prefill)
        ids = conversation_ids(self._tokenizer, messages, prefill, self.max_prompt_tokens)
        steps = decode(
            self._forward,
            self._tokenizer,
            [ids] * len(arms),
            max_new_tokens=max_new_tokens,
            adapters=arms,
            pick=_sampler(temperature, seed) if temperature > 0 else None,
            should_stop=should_stop,
            lock=self._lock,
        )
        return self._told(steps, arms, prefill, set() if ended is None else ended)

    def _told(
        self, steps: Iterator[list[list[int]]], arms: list[str], prefill: str, ended: set[str]
    ) -> Iterator[dict[str, str]]:
        """Turn what `decode` yields into what `stream` yields; `ended` as there."""
        for count, replies in enumerate(steps, 1):
            told = dict(zip(arms, replies, strict=True))
            # A token came of every reply that goes on.
            ended.update(arm for arm, reply in told.items() if len(reply) < count)
            yield {arm: prefill + _text(self._tokenizer, reply) for arm, reply in told.items()}

    def generate(self, prompts: list[str], arm: str, *, max_new_tokens: int = 64) -> list[str]:
        """Answer single-turn prompts greedily with one arm, in one batch.

        Args:
            prompts: the user's messages.
            arm: which arm answers.
            max_new_tokens: replies are cut after this many tokens.

        Returns:
            One reply a prompt.

        Raises:
            KeyError: there is no such arm.
            ValueError: a prompt is empty.
            PromptTooLong: a prompt is longer than `max_prompt_tokens`.
        """
        self._check([arm])
        return generate_replies(
            self._forward,
            self._tokenizer,
            prompts,
            max_new_tokens,
            [arm] * len(prompts),
            self._lock,
            self.max_prompt_tokens,
        )

    def _check(self, arms: Sequence[str]) -> None:
        for arm in arms:
            if arm not in self._arms:
                raise KeyError(f"there is no arm {arm!r}; there are: {', '.join(self._arms)}")

    def _forward(self, *, adapter_names: list[str], **inputs: Any) -> ModelOutput:
        """Run the model with one arm a row; called with the lock held.

        Arms come and go between two tokens of a reply, so which adapters there are is looked up
        here and not when the reply begins.
        """
        self._check(adapter_names)
        if self._mixed is None:
            return self._model(**inputs)
        return self._mixed([None if self._arms[arm] is None else arm for arm in adapter_names],
                           **inputs)  # fmt: skip

    def _release(self) -> None:
        if self._mixed is not None:
            self._mixed.close()
            self._mixed = None

    def _load(self, name: str, folder: Path, strength: float) -> None:
        from peft import PeftModel
        from peft.tuners.lora import LoraLayer

        if not (folder / "adapter_model.safetensors").is_file():
            raise MissingWeights(
                f"The adapter of arm {name}", folder, f"python -m adapters.train {folder.name}"
            )
        # Without autocast_adapter_dtype=False PEFT would keep the LoRA in fp32, whatever the base
        # model is in. And it would first fill it from torch's generator, which an attack that runs
        # at the same time draws its replies from.
        how = {"autocast_adapter_dtype": False, "low_cpu_mem_usage": True}
        try:
            if isinstance(self._model, PeftModel):
                mounted = self._model
                mounted.load_adapter(folder, adapter_name=name, **how)
            else:
                mounted = PeftModel.from_pretrained(self._model, folder, adapter_name=name, **how)
            check_loaded(mounted)
            self._model = mounted
        except Exception as error:  # whatever safetensors, json and torch raise
            self._take_back(name)
            raise ValueError(
                f"the adapter of arm {name!r} in {folder.name!r} cannot be used "
                f"({type(error).__name__}); make it anew"
            ) from error
        for module in self._model.modules():
            if not isinstance(module, LoraLayer) or name not in module.scaling:
                continue
            if name in module.lora_A:  # an embedding's factors are parameters and no layers
                kind = module.get_base_layer().weight.dtype
                module.lora_A[name].to(kind)
                module.lora_B[name].to(kind)
            if strength != 1.0:
                # A mixed batch has no scale a row, but each adapter has its own.
                module.set_scale(name, strength)
        self._model.eval()
        self._release()
        self._mixed = _MixedBatch(self._model)

    def _take_back(self, name: str) -> None:
        """Remove what PEFT has put on the layers of an adapter before it failed to load it."""
        from peft import PeftModel
        from peft.tuners.lora import LoraLayer

        if isinstance(self._model, PeftModel):
            if name in self._model.peft_config:
                self._model.delete_adapter(name)
            return
        # The first one: there is no PEFT model yet that could be asked to unload itself.
        for place, module in list(self._model.named_modules()):
            if isinstance(module, LoraLayer):
                self._model.set_submodule(place, module.get_base_layer())
        vars(self._model).pop("peft_config", None)


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    # Of some families most control tokens are special without having a name, as Llama 3's headers.
    added = tokenizer.added_tokens_decoder.values()
    named = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
    special = sorted(named, key=len, reverse=True)
    # Removing one token can join the pieces of another, hence the loop.
    before = ""
    while before != text:
        before = text
        for token in special:
            text = text.replace(token, "")
    return text


def _ends(model: Forward, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Return the tokens that end a reply: the turn's end, and what else the model ends with."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    others = found if isinstance(found, list) else [found]
    return {tokenizer.eos_token_id, *others} - {None}


def _text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    # A character of several bytes can be half there; its replacement mark would flicker.
    return tokenizer.decode(tokens, skip_special_tokens=True).rstrip("\ufffd")


def _sampler(temperature: float, seed: int) -> Pick:
    """Return a top-p sampler whose rows share one random number a step.

    Nucleus sampling: Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020,
    section 3.1. Drawing by the inverse of the cumulative distribution makes the choice depend on
    the step's number and the row's own probabilities only, not on which other rows there are.
    """
    generator = torch.Generator().manual_seed(seed)

    def pick(logits: Tensor) -> Tensor:
        number = torch.rand(1, generator=generator).to(logits.device)
        ordered, tokens = (logits / temperature).softmax(-1).sort(-1, descending=True)
        upto = ordered.cumsum(-1)
        kept = torch.where(upto - ordered < _TOP_P, ordered, 0.0).cumsum(-1)
        place = torch.searchsorted(kept, number * kept[:, -1:], right=True)
        return tokens.gather(-1, place.clamp(max=kept.shape[-1] - 1))[:, 0]

    return pick
