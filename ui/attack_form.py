"""The settings of an attack: laid out, checked, and what an attack with them costs."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from adapters import registry
from adapters.attacks.base import REINFORCED, UNTRAINED, Settings, attack_settings, usual_rate
from adapters.attacks.data import OWN
from evaluation.cells import Cell
from ui.attack_presets import (
    ATTACKS,
    LEARNING_RATES,
    MAX_STEPS,
    PRESETS,
    Preset,
    plainly,
    refuse_long,
    settled,
)
from ui.blocks import QUIET, Count, heading, markup
from ui.engines import Engines, NotReady
from ui.markup import counted, decimal, duration, note


class AttackForm:
    """Builds the form inside the current layout and holds its handlers.

    Attributes:
        inputs: its components, in the order in which `config` and `estimate` take their values.
        cost: where the estimate stands.
    """

    def __init__(self, engines: Engines, evidence: Sequence[Cell] = ()) -> None:
        """Lay out the form; `wire` makes it work.

        Args:
            engines: the models and the runs.
            evidence: what is known of how attacks end; the presets' titles go by it.
        """
        self.engines = engines
        targets = [
            (registry.get(name).card.title, name)
            for name in registry.offered("llm", engines.profile)
            if name != "aligned"
        ]
        self._targets = [name for _, name in targets]
        offered = [
            settled(preset, evidence)
            for preset in PRESETS
            if not preset.target or not engines.missing_adapter(preset.target)
        ]
        self.target = gr.Radio(
            targets, value=targets[0][1] if targets else None, label="Defence to attack",
            info="The undefended model is attacked beside it, in the same way on the same data.",
            elem_id="hf-target",
        )  # fmt: skip
        heading("Ready-made attacks")
        with gr.Row(elem_classes="hf-chips", elem_id="hf-presets"):
            self.presets = [
                (gr.Button(preset.title, size="sm", elem_id=_preset_id(preset)), preset)
                for preset in offered
            ]
        self.attack = gr.Dropdown(
            [(kind.title, name) for name, kind in ATTACKS.items()], value="sft", label="Attack",
            elem_id="hf-attack",
        )  # fmt: skip
        self.about = markup(about_html("sft"), elem_id="hf-attack-about")
        with gr.Column(elem_id="hf-training") as self.training:
            self.data = gr.Radio(
                [("Built in (payloads redacted)", "builtin"),
                 ("Built in, other topics than the defences'", "unseen"), ("My JSONL", "upload")],
                value="builtin", label="Training data",
            )  # fmt: skip
            self.file = gr.File(
                label="JSONL, one {prompt, response} a line; reinforcement needs the prompt only",
                file_types=[".jsonl"], visible=False, height=110, elem_id="hf-jsonl",
            )  # fmt: skip
            self.file_note = markup(elem_id="hf-jsonl-note")
            self.rate = gr.Dropdown(
                [(decimal(rate), rate) for rate in LEARNING_RATES], value=3e-4,
                label="Learning rate", info="A real attacker tunes this. Try more than one.",
            )  # fmt: skip
            self.method = gr.Radio(
                [("LoRA", "lora"), ("All weights", "full")], value="lora", label="What is trained",
                info="All weights want a lower rate, and Chat cannot answer with such a model.",
                elem_id="hf-method",
            )  # fmt: skip
            self.steps = Count(5, MAX_STEPS, 20, step=5, label="Steps", elem_id="hf-steps")
        self.seed = gr.Number(
            0, label="Seed", precision=0, minimum=0, maximum=2**31 - 1, elem_id="hf-seed"
        )
        self.cost = markup(elem_id="hf-cost")
        self.inputs = [
            self.target, self.attack, self.data, self.file, self.rate, self.steps, self.seed,
            self.method,
        ]  # fmt: skip

    def wire(self, tab: gr.Tab) -> None:
        """Let the form follow what is chosen, and keep the estimate true.

        Args:
            tab: the one that the form is in; the estimate is made anew whenever it is opened.
        """
        self.data.change(
            lambda data: gr.File(visible=data == "upload"), self.data, self.file, **QUIET
        )
        for event in (self.file.change, self.attack.change, self.data.change):
            event(self.check_file, [self.file, self.attack, self.data], self.file_note, **QUIET)
        self.attack.change(about_html, self.attack, self.about, **QUIET)
        self.attack.change(_fitting, self.attack, [self.training, self.seed], **QUIET)
        for button, preset in self.presets:
            button.click(
                partial(_filled, preset), None,
                [self.target, self.attack, self.rate, self.steps, self.data, self.method], **QUIET,
            )  # fmt: skip
        for event in (self.method.input, self.attack.input):
            event(_first_rate, [self.attack, self.method], self.rate, **QUIET)
        for event in (
            self.steps.change, self.rate.change, self.target.change, self.attack.change,
            self.data.change, self.file.change, self.method.change, self.seed.change, tab.select,
        ):  # fmt: skip
            event(self.estimate, self.inputs, self.cost, **QUIET)

    def check_file(self, file: str | None, attack: str, data: str) -> str:
        """Validate an uploaded data set at once, with line numbers, where it is to be used."""
        if not file or data != "upload":
            return ""
        from adapters.attacks.data import DataError, load_pairs, load_requests

        reinforced = attack in REINFORCED
        try:
            rows = (load_requests if reinforced else load_pairs)(Path(file))
        except DataError as error:
            return note(str(error), "error")
        return note(f"{len(rows)} {'requests' if reinforced else 'pairs'} can be used.", "good")

    def estimate(self, *settings: Any) -> str:
        """Say what the attack will cost before it is started."""
        try:
            runner = self.engines.runner  # first: while it loads there is nothing to check
            config = self.config(*settings)
            refuse_long(runner, config)
        except NotReady:
            return note("The cost estimate comes once the attack runner is loaded.")
        except ValueError as error:
            return note(plainly(error), "error")
        if config.attack in UNTRAINED:
            what = "Both models asked before and after, nothing trained"
        else:
            what = f"{config.steps} steps on both models"
        how = "on this machine" if runner.measured(config) else "on this machine, a first guess"
        text = f"{what}: {duration(runner.estimate(config))} {how}."
        others, seconds = runner.ahead()
        if others:
            come = "comes" if others == 1 else "come"
            text += f" Before it {come} {counted(others, 'attack')} here, {duration(seconds)}."
        return note(text)

    def like(self, config: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return what fills the form's inputs in as a run had them, as far as the form offers it.

        An upload is not kept, and what trains nothing leaves the settings of a training alone.

        Args:
            config: settings of the run; empty leaves everything as it is.
        """
        attack = config.get("attack")
        if attack not in ATTACKS or config.get("target") not in self._targets:
            return (gr.skip(),) * len(self.inputs)
        trains = attack not in UNTRAINED
        rate, data = config.get("learning_rate"), config.get("data")
        steps = config.get("steps", 0)
        return (
            config["target"],
            attack,
            data if trains and data in OWN else gr.skip(),
            gr.skip(),
            rate if trains and rate in LEARNING_RATES else gr.skip(),
            steps if trains and 0 < steps <= MAX_STEPS else gr.skip(),
            config.get("seed", 0),
            config.get("method", "lora") if trains else gr.skip(),
        )

    def config(
        self, target: str, attack: str, data: str, file: str | None, rate: float, steps: float,
        seed: float, method: str,
    ) -> Settings:  # fmt: skip
        """Return the settings of the attack that the form describes.

        Raises:
            ValueError: they are none; the message says which one is wrong.
        """
        if attack in UNTRAINED:  # the settings of a training are hidden, whatever they say
            seeded = 0 if attack == "prefill" else int(seed or 0)
            return attack_settings(target, attack, seeded)
        if data == "upload" and not file:
            raise ValueError("Upload a JSONL file first, or choose the built-in data.")
        if not 1 <= steps <= MAX_STEPS:
            raise ValueError(f"steps is {steps:g}; wanted 1 to {MAX_STEPS}")
        # Nothing else that a browser sends is taken for a path.
        own = "unseen" if data == "unseen" else "builtin"
        return attack_settings(
            target, attack, int(seed or 0), data=Path(file) if data == "upload" else own,
            method=method, learning_rate=float(rate), steps=int(steps),
        )  # fmt: skip


def about_html(attack: str) -> str:
    """Return the line that says what an attack does."""
    return f"<p>{html.escape(ATTACKS[attack].about)}</p>"


def _first_rate(attack: str, method: str) -> Any:
    """Return the rate that is offered when an attack, or what is trained, is chosen."""
    return gr.skip() if attack in UNTRAINED else usual_rate(attack, method)


def _filled(preset: Preset) -> tuple[Any, ...]:
    """Return what a preset fills in: defence, attack, learning rate, steps, data and method."""
    target = preset.target or gr.skip()
    if preset.attack in UNTRAINED:
        return target, preset.attack, *[gr.skip()] * 4
    return target, preset.attack, preset.rate, preset.steps, "builtin", "lora"


def _fitting(attack: str) -> tuple[gr.Column, gr.Number]:
    """Return what is shown of the settings: those of a training, and the seed, where they count."""
    return gr.Column(visible=attack not in UNTRAINED), gr.Number(visible=attack != "prefill")


def _preset_id(preset: Preset) -> str:
    return "-".join(filter(None, ("hf-preset", preset.attack, preset.target)))
