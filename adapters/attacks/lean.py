"""Less work for TRL's stock trainers on a CPU, by what the model does that they train.

The trainers stay as they are, and what they get is the same up to rounding. Three things cost most
of a step on a CPU:

* The log-probabilities. TRL asks the model for them with ``fused_lm_head=True`` (see its
  ``add_fused_lm_head``). Without a GPU its kernel scores the prompts as well, throws that away,
  and multiplies in float32 on the way back.
* The LoRAs. Defence and attack add some ten small operations to a layer, there and back
  (`loras_at_once`): a fifth of the gradient's time.
* The prompts. The replies to one request share it, and each of them reads it anew, both to be
  sampled and to be learnt from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners import lora
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipelines.device import autocast, device
from pipelines.llm import Pick, decode

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100
"""Label of a token that is not scored."""

_SCORED = 128  # tokens in one go: the allocator hands their logits, some 25 MB, on to the next


def score_answers_only(model: PreTrainedModel | PeftModel, temperature: float = 1.0) -> None:
    """Have a model score the labels and nothing else, as TRL's fused head does on a GPU.

    Where rows share all that comes before the first label, as the replies to one request do, that
    is read once, and its keys and values, through which the gradient goes, are shared. On a GPU
    nothing is changed.

    Args:
        model: what a trainer of TRL trains, once the trainer is made.
        temperature: of the trainer; the logits are divided by it.
    """
    if device().type != "cpu":
        return
    from trl.trainer.utils import FusedCausalLMOutput

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    stock = base.forward

    @wraps(type(base).forward)  # `generate` checks its arguments against the signature
    def forward(
        *args: Any, labels: Tensor | None = None, fused_lm_head: bool = False, **inputs: Any
    ) -> Any:
        if not fused_lm_head:
            return stock(*args, labels=labels, **inputs)
        targets = labels[:, 1:]
        scored = targets != IGNORED
        with _own_casts():
            with loras_at_once(base):
                start, cache = _read_shared(
                    stock, inputs["input_ids"], inputs["attention_mask"], scored
                )
            later = scored[:, start:]
            # A hook, because what a model does to its logits is its own affair (scale, soft cap).
            hook = base.get_output_embeddings().register_forward_pre_hook(
                lambda head, given: (given[0][later],)
            )
            try:
                with loras_at_once(base):
                    logits = stock(
                        input_ids=inputs["input_ids"][:, start:-1],
                        attention_mask=inputs["attention_mask"][:, :-1],
                        past_key_values=cache,
                        use_cache=cache is not None,
                    ).logits
            finally:
                hook.remove()
        if temperature != 1.0:
            logits = logits / temperature
        found = _Scores.apply(logits, targets[scored])
        log_probs, entropy, is_top1 = (_placed(values, scored) for values in found)
        return FusedCausalLMOutput(
            loss=-log_probs.sum() / scored.sum().clamp(min=1),
            log_probs=log_probs,
            entropy=entropy,
            is_top1=is_top1,
            label_mask=scored,
        )

    base.forward = forward


@contextmanager
def _own_casts() -> Iterator[None]:
    """Cast weights anew at each use, as far as this thread goes.

    Autocast's cache of weights in bf16 is one for all threads, and any that leaves autocast empties
    it. So it would be chance whether two uses of a weight share a cast, whose gradients are then
    summed in bf16.
    """
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(cached)


def _read_shared(
    stock: Callable[..., Any], ids: Tensor, mask: Tensor, scored: Tensor
) -> tuple[int, Any]:
    """Read what comes before the first scored token once for all rows that share it.

    Args:
        stock: the model.
        ids: tokens [rows, length].
        mask: 1 for tokens, 0 for padding [rows, length].
        scored: whether the token after a position is scored, bool [rows, length - 1].

    Returns:
        How many positions were read, and their keys and values, one row for each of ids; 0 and
        None where fewer than half of the rows could be spared.
    """
    columns = scored.any(0).nonzero()
    start = int(columns[0]) if len(columns) else 0
    if not start:
        return 0, None
    heads, owner = torch.cat([ids[:, :start], mask[:, :start]], 1).unique(
        dim=0, return_inverse=True
    )
    if 2 * len(heads) > len(ids):
        return 0, None
    cache = stock(
        input_ids=heads[:, :start],
        attention_mask=heads[:, start:],
        use_cache=True,
        logits_to_keep=1,
    ).past_key_values
    cache.batch_select_indices(owner)
    return start, cache


class _Scores(torch.autograd.Function):
    """What TRL wants to know of each row of logits [n, vocabulary].

    Log-probability of the wanted token [n], entropy in nats [n], which takes no gradient, and
    whether the wanted token is the likeliest, bool [n]. By itself torch would keep the logits in
    float32 for the gradient: all of a step's, twice as large as they came.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = zip(logits.split(_SCORED), wanted.split(_SCORED), strict=True)
        found = zip(*(_scores(part.float(), tokens) for part, tokens in parts), strict=True)
        total, log_probs, entropy, is_top1 = map(torch.cat, found)
        ctx.save_for_backward(logits, wanted, total)
        ctx.mark_non_differentiable(entropy, is_top1)
        return log_probs, entropy, is_top1

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, *_: Tensor) -> tuple[Tensor, None]:
        logits, wanted, total = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        of_all = (logits, wanted, total, upstream, gradient)
        for row, token, sum_, weight, out in zip(*(t.split(_SCORED) for t in of_all), strict=True):
            # d log p(wanted) / d logits = [wanted] - p
            change = (row.float() - sum_[:, None]).exp_().neg_()
            change.scatter_add_(1, token[:, None], torch.ones_like(sum_)[:, None])
            out.copy_(change.mul_(weight[:, None]))
        return gradient, None


def _scores(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return of float32 logits [n, vocabulary] their logsumexp [n] and what `_Scores` tells."""
    total = logits.logsumexp(-1)
    log_probs = logits.gather(-1, wanted[:, None])[:, 0] - total
    mean = torch.linalg.vecdot((logits - total[:, None]).exp_(), logits)
    return total, log_probs, total - mean, logits.argmax(-1) == wanted


def _placed(values: Tensor, where: Tensor) -> Tensor:
    return values.new_zeros(where.shape).masked_scatter(where, values)


@contextmanager
def loras_at_once(model: torch.nn.Module) -> Iterator[None]:
    """Within, what a model's LoRAs add to a layer is two products.

    PEFT's own way takes six small operations a layer and LoRA, among them a cast of both factors.
    Where a pass reads one token of each reply that took as long as the layer itself. Gradients
    reach the factors as they do there. Layers whose LoRA is no plain one, or drops out, keep
    PEFT's way.

    Args:
        model: its adapters that are switched on count. Its LoRAs must not change meanwhile.
    """
    changed = []
    try:
        for layer in model.modules():
            if not isinstance(layer, lora.Linear) or layer.merged or layer.disable_adapters:
                continue
            names = [name for name in layer.active_adapters if name in layer.lora_A]
            if not names or not all(_is_plain(layer, name) for name in names):
                continue
            kind = layer.get_base_layer().weight.dtype
            downs = [layer.lora_A[name].weight for name in names]
            ups = [layer.lora_B[name].weight * layer.scaling[name] for name in names]
            factors = (torch.cat(downs).T, torch.cat(ups, 1).T)
            down, up = (factor.to(kind).contiguous() for factor in factors)
            layer.forward = partial(_with_lora, layer.base_layer, down, up)
            changed.append(layer)
        yield
    finally:
        for layer in changed:
            del layer.forward  # the class's own again


def _is_plain(layer: lora.Linear, name: str) -> bool:
    drops = layer.training and not isinstance(layer.lora_dropout[name], torch.nn.Identity)
    return not (drops or layer.lora_bias[name] or name in layer.lora_variant)


def _with_lora(base: torch.nn.Module, down: Tensor, up: Tensor, x: Tensor) -> Tensor:
    result = base(x)
    low = x.flatten(0, -2).to(down.dtype) @ down
    return torch.addmm(result.flatten(0, -2), low, up).view_as(result)


def sample_lean(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Have a model's ``generate`` sample as `pipelines.llm.decode` does.

    A prompt is read once for all its replies, replies that have ended leave the batch, a token
    costs one number of the random generator instead of one for each token of the vocabulary, and
    LoRAs are added by `loras_at_once`. It samples under the autocast that accelerate puts around
    training's forward. TRL generates outside of it: what is trained would compute in float32 there,
    which is slower, and the replies would come from a slightly different policy than the one whose
    gradient is taken.

    Args:
        model: what a trainer of TRL trains; it is only asked for plain sampling, which is TRL's
            default.
        tokenizer: of the model.
    """

    def generate(
        input_ids: Tensor, attention_mask: Tensor, generation_config: GenerationConfig
    ) -> Tensor:
        prompts = [row[kept].tolist() for row, kept in zip(input_ids, attention_mask.bool(),
                                                           strict=True)]  # fmt: skip
        longest = generation_config.max_new_tokens
        states = decode(
            model, tokenizer, prompts, max_new_tokens=longest,
            pick=_sampler(generation_config.temperature),
        )  # fmt: skip
        with autocast(), loras_at_once(model):
            (replies,) = deque(states, maxlen=1)
        # A reply that is shorter has ended by the token that also fills up the row.
        end = tokenizer.eos_token_id
        rows = [[*reply, *[end] * (longest - len(reply))] for reply in replies]
        return torch.cat([input_ids, input_ids.new_tensor(rows)], dim=1)

    model.generate = generate


def _sampler(temperature: float) -> Pick:
    """Return a sampler of the whole distribution, by the inverse of its cumulative one."""

    def pick(logits: Tensor) -> Tensor:
        upto = (logits / temperature).softmax(-1).cumsum(-1)
        number = torch.rand(len(logits), 1, device=logits.device) * upto[:, -1:]
        return torch.searchsorted(upto, number, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)

    return pick
