"""What the trainings of all chat-model defences share: everything but the objective.

A defence's `train` says what is its own, in this order::

    training = ChatTraining.begin(CARD.name, config, profile, options)
    ...                                     # its data; other adapters and figures, before
    progress = training.minimise(batch_of, loss_of)
    ...                                     # the same figures, after
    return training.finish(progress)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from adapters.figures import end_run, measure
from adapters.loop import LINEAR, Batch, Progress, new_lora, train_steps
from adapters.registry import Trained, TrainOptions, adapter_folder, get
from evaluation.judge import Judge
from evaluation.runs import Run, RunStore, weights_hash
from pipelines.llm import load_llm
from pipelines.lora import save_lora
from pipelines.paths import runs_dir
from pipelines.profiles import Profile


@dataclass(frozen=True)
class ChatTraining:
    """A training that has begun: what it works on, and where its results go.

    Attributes:
        model: a profile's chat model, frozen, with the trainable LoRA; in evaluation mode.
        tokenizer: of the model.
        judge: judges the replies at the end.
        run: gets the events.
        start: folder of the adapter that the LoRA goes on from; None: it is new.
        config: the defence's settings.
        options: where to, for how long, whether to resume.
    """

    model: PeftModel
    tokenizer: PreTrainedTokenizerBase
    judge: Judge
    run: Run
    start: Path | None
    config: Any
    options: TrainOptions

    @classmethod
    def begin(
        cls, name: str, config: Any, profile: Profile, options: TrainOptions
    ) -> ChatTraining:
        """Load what a training needs, and open its record.

        The LoRA is that of the defence's parent (`adapters.registry.Defence.starts_from`); one that
        has none begins with a new LoRA on all linear layers, of `config.rank` and `config.seed`.

        Args:
            name: of the defence, which is registered.
            config: its settings: a dataclass with what `adapters.loop.Schedule` tells.
            profile: whose model.
            options: where to, for how long, whether to resume.

        Raises:
            MissingWeights: the parent's adapter, the model or what judges is not there. The record
                is not opened then, and no time is lost.
        """
        parent = get(name).starts_from
        start = adapter_folder(parent, profile) if parent else None
        base, tokenizer = load_llm(profile, training=True)
        judge = Judge()
        if start is None:
            model = new_lora(base, config.rank, LINEAR, config.seed)
        else:
            model = PeftModel.from_pretrained(base, start, is_trainable=True)
        run = RunStore(runs_dir()).create(
            "train",
            {"defence": name, **asdict(config)},
            profile.name,
            {} if start is None else {parent: weights_hash(start)},
        )
        return cls(model.eval(), tokenizer, judge, run, start, config, options)

    def minimise(
        self,
        batch_of: Callable[[int], Batch],
        loss_of: Callable[[PeftModel, Batch], torch.Tensor],
    ) -> Progress:
        """Train the LoRA as by `adapters.loop.train_steps`, and save it to `options.out`.

        Args:
            batch_of: step number (0-based) → batch; the same number gives the same batch.
            loss_of: (model, batch) → scalar.

        Raises:
            ValueError: as of `adapters.loop.train_steps`; or the training diverged.
        """
        progress = train_steps(
            self.model, batch_of, loss_of, self.config, options=self.options, run=self.run
        )
        save_lora(self.model, self.options.out)
        return progress

    def finish(self, progress: Progress, **figures: Any) -> Trained:
        """Measure the defence on held-out topics, and close the record.

        Adapters that the training put beside its own are taken off first.

        Args:
            progress: of `minimise`.
            figures: the defence's own, which follow those of `adapters.figures.measure`.
        """
        own = self.model.active_adapter
        for other in [name for name in self.model.peft_config if name != own]:
            self.model.delete_adapter(other)
        measured, samples = measure(self.model, self.tokenizer, self.judge)
        end_run(self.run, samples, progress.steps == self.config.steps)
        return Trained(progress.steps, measured | figures, progress.seconds_before)
