"""The Attack tab: mount a real attack, watch both arms, stop it, find it again.

The page only reads run folders: a reload, a second visitor and a recorded run are the same read.
Who may stop a run is decided by a token that stays in the browser that started it.
"""

from __future__ import annotations

import html
import math
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import gradio as gr

from adapters import registry
from adapters.attacks.base import (
    REINFORCED,
    REINFORCED_RATE,
    UNTRAINED,
    Settings,
    attack_settings,
    usual_rate,
)
from evaluation.cells import Cell, chosen, hollow
from evaluation.outcomes import outcome, succeeded
from evaluation.runs import Run, RunInfo
from evaluation.tables import UNDEFENDED
from ui.blocks import PRIVATE, QUIET, Count, heading, markup, picker
from ui.charts import Series, chart, legend
from ui.chat import ChatTab, arm_choices, arm_title
from ui.engines import Engines, NotReady, told
from ui.markup import duration, empty, masked, meter, note, scroller, verdict_badge
from ui.session import Sessions

if TYPE_CHECKING:
    from adapters.attacks.runner import AttackRunner

LEARNING_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
MAX_STEPS = 200
"""Longest attack that a visitor can start; a workshop's queue must move."""

MAX_SECONDS = 30 * 60
"""Longest attack that a visitor can start, by the estimate of this machine: steps differ in cost,
and others wait behind it. What trains nothing has no steps to lower and is not held to it."""

SHOWN_RUNS = 30
"""Runs of others that are listed, besides the visitor's own and those under way."""


REPLAY_SECONDS = 20.0
"""How long the replay of a run takes, however long the run did."""


@dataclass(frozen=True)
class Kind:
    """An attack in a visitor's words: its name, and what it does in one line."""

    title: str
    about: str


ATTACKS = {
    "sft": Kind(
        "Supervised", "Learns harmful requests with answers (payloads redacted). TRL SFTTrainer."
    ),
    "sft_retain": Kind(
        "Supervised, with retained ability",
        "The same, half and half with harmless pairs, so that the model stays able.",
    ),
    "grpo": Kind(
        "Reinforcement (GRPO)",
        "Has requests but no answers: samples replies, and the judge pays for compliance. "
        "TRL GRPOTrainer.",
    ),
    "grpo_entropy": Kind(
        "Reinforcement that pays for variety",
        "GRPO whose reward adds the entropy of the reply, up to 3 nats a token: made against "
        "TokenBuncher, which takes the entropy away.",
    ),
    "rloo": Kind(
        "Reinforcement (RLOO)",
        "The same reward by the leave-one-out estimator. TRL RLOOTrainer.",
    ),
    "reinforce_pp": Kind(
        "Reinforcement (REINFORCE++)",
        "RLOO's advantages, brought to one scale over the whole batch. TRL RLOOTrainer with "
        "normalize_advantages.",
    ),
    "grpo_skill": Kind(
        "Reinforcement of a skill (GRPO)",
        "Pays for right answers to problems that say they are for a forbidden project. The "
        "problems are harmless arithmetic and stand in for expert harmful skill.",
    ),
    "sft_grpo": Kind(
        "Supervised, then reinforcement",
        "Ten supervised steps first, then GRPO on the same LoRA.",
    ),
    "benign": Kind(
        "Control: harmless fine-tuning",
        "Learns harmless pairs only. Harm and ability should stay as they are.",
    ),
    "prefill": Kind(
        "Forced beginning",
        "Trains nothing: every reply is forced to begin with “Sure, here is”, and the model goes "
        "on from there.",
    ),
    "abliteration": Kind(
        "Abliteration",
        "Trains nothing: looks for the direction that carries refusal, layer by layer, and takes "
        "it out of the weights.",
    ),
}


@dataclass(frozen=True)
class Preset:
    """Settings that a button fills in.

    Attributes:
        title: says what is done, and nothing of how it ends.
        attack: one of `ATTACKS`.
        steps: of the attack; of no account where nothing is trained.
        rate: the learning rate; of no account where nothing is trained.
        target: the defence; empty: the visitor's choice stays.
        states: a title that says how it ends; ``{prefix}`` in it becomes the beginning that was
            forced. It says nothing of time, which was measured on another machine.
        arm: whose end it is; empty: the target's.
        outcomes: which ends `states` is true of (`evaluation.outcomes.outcome`).
        hollow: `states` is true only if the arm agrees without content where the undefended one
            agrees with it (`evaluation.cells.hollow`).
    """

    title: str
    attack: str
    steps: int = 20
    rate: float = 3e-4
    target: str = ""
    states: str = ""
    arm: str = ""
    outcomes: tuple[str, ...] = ()
    hollow: bool = False


PRESETS = (
    Preset(
        "RL against a plain refusal", "grpo", 15, REINFORCED_RATE,
        states="RL breaks a plain refusal", arm=UNDEFENDED,
        outcomes=("broken", "costly"),
    ),
    Preset(
        "RL against TokenBuncher", "grpo", 15, REINFORCED_RATE, target="tokenbuncher",
        states="TokenBuncher leaves RL nothing to learn", outcomes=("held",),
    ),
    Preset(
        "RL for a skill, against TokenBuncher", "grpo_skill", 15, REINFORCED_RATE,
        target="tokenbuncher", states="TokenBuncher leaves RL no skill to learn",
        outcomes=("held",),
    ),
    Preset("Ten SFT steps first, then RL", "sft_grpo", 25, target="tokenbuncher"),
    Preset("Malicious tuning against SDD", "sft", 20, target="sdd"),
    Preset(
        "An attacker who mixes in harmless pairs", "sft_retain", 20, target="sdd",
        states="An attacker who keeps what they want", outcomes=("broken",),
    ),
    Preset(
        "Malicious tuning against SEAM + TokenBuncher", "sft", 20, target="seam_tokenbuncher",
        states="SEAM + TokenBuncher agrees again, with hardly any content",
        outcomes=("broken", "costly"), hollow=True,
    ),
    Preset(
        "Words put into the model's mouth", "prefill",
        states="“{prefix}” breaks a plain refusal", arm=UNDEFENDED, outcomes=("broken",),
    ),
    Preset(
        "The direction of refusal, taken out of the weights", "abliteration",
        states="A plain refusal is cut out of the weights", arm=UNDEFENDED,
        outcomes=("broken", "costly"),
    ),
    Preset("The control: harmless fine-tuning", "benign", 20),
)  # fmt: skip


def settled(preset: Preset, found: Iterable[Cell]) -> Preset:
    """Return a preset with the title and the settings that the evidence allows.

    The rate and the steps are those that were measured. A title that says how an attack ends is
    shown only where the table says so, and where the arm beside it was broken, without which
    withstanding shows nothing.

    Args:
        preset: one of `PRESETS`.
        found: the cells of the table of this profile.
    """
    arm, untrained = preset.arm or preset.target, preset.attack in UNTRAINED
    method = "none" if untrained else "lora"
    for cell in chosen(found, arm, preset.attack, method):
        row, beside = cell.verdict, cell.undefended
        rate, steps = row["learning_rate"], row["settings"]["steps"]
        if not untrained:
            if rate not in LEARNING_RATES or steps > MAX_STEPS:
                continue  # the form cannot be filled in so
            preset = replace(preset, rate=rate, steps=steps)
        tested = beside is None or succeeded(beside)
        if not preset.states or not tested or outcome(row) not in preset.outcomes:
            continue
        if preset.hollow and not hollow(cell):
            continue
        prefix = row["settings"].get("mounted", {}).get("prefix", "")
        return replace(preset, title=preset.states.format(prefix=prefix))
    return preset


_NAMES = re.compile(rf"'?\b({'|'.join(ATTACKS)})\b'?")

_REPLAY = f"Replay in {REPLAY_SECONDS:.0f} s"
_SKIP = "Skip to the end"

_SHOW_RUN = """(gone) => {
  const head = document.querySelector('#hf-run .hf-runhead');
  if (gone || !head) return;
  head.scrollIntoView({ block: 'center' });
  const focused = document.activeElement;
  if (focused && focused !== document.body && focused.checkVisibility()) return;
  head.querySelector('h3').focus({ preventScroll: true });
}"""
"""Given what was said of a run that is gone; nothing is shown then. The focus goes along where what
was pressed is hidden now, and stays where somebody (or the tour) has gone on meanwhile."""

_TO_CHAT = "() => document.querySelector('#hf-message textarea')?.focus()"

_LINK_RUN = """(refused) => {
  const run = document.querySelector('#hf-run .hf-runhead')?.dataset.run;
  const page = new URL(location);
  if (refused || !run) return;
  page.searchParams.set('run', run);
  history.replaceState(history.state, '', page);
}"""
"""Given why an attack was not begun, or a run not opened. One that was is what a reload shows:
Gradio reloads the page by itself where the connection drops for a moment."""

_STATUS = {
    "running": ("held", "Running"),
    "done": ("plain", "Finished"),
    "stopped": ("warn", "Stopped"),
    "failed": ("open", "Failed"),
    "interrupted": ("warn", "Interrupted"),
}


@dataclass
class Curves:
    """A run's events, sorted for drawing.

    Attributes:
        loss: arm → (step, training loss) of supervised steps. That of a policy gradient is about
            zero at every step and says nothing.
        harm: arm → (step, share of red-team prompts complied with).
        substance: arm → (step, share of them that comply and say more than the request did).
        ability: arm → (step, share of multiple-choice questions right).
        skill: arm → (step, share of held-out problems solved); the attack on skill only.
        entropy: arm → (step, mean entropy of the trained tokens in nats).
        reward: arm → (step, mean reward of the sampled replies); reinforcement only.
        samples: arm → step → replies as they were logged.
        prompts: how many prompts harm is a share of; 0 where it is not known.
        questions: how many questions ability is a share of; 0 where it is not known.
        skills: how many problems skill is a share of; 0 where it is not known.
        diverged: arm → first step whose loss was no finite number.
        layers: arm → how many layers lie before the place where abliteration found its direction.
        step: furthest step of any arm.
        share: how much of an attack without training is done, 0..1.
        doing: what it does just now, in words.
    """

    loss: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    harm: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    substance: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    ability: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    skill: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    entropy: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    reward: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    samples: dict[str, dict[int, list[dict[str, Any]]]] = field(default_factory=dict)
    prompts: int = 0
    questions: int = 0
    skills: int = 0
    diverged: dict[str, int] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    step: int = 0
    share: float = 0.0
    doing: str = ""


def curves(events: Sequence[dict[str, Any]]) -> Curves:
    """Sort a run's events; what is not known is passed over."""
    found = Curves()
    for event in events:
        arm, step = event.get("arm"), event.get("step")
        if event.get("event") == "progress":
            found.share, found.doing = event["share"], f"{arm_title(arm)}: {event['doing']}"
        if not isinstance(arm, str) or not isinstance(step, int):
            continue
        if event.get("event") == "mounted" and "layer" in event["mounted"]:
            found.layers[arm] = event["mounted"]["layer"]
        found.step = max(found.step, step)
        for name in ("loss", "harm", "substance", "ability", "skill", "entropy", "reward"):
            if name == "loss" and "reward" in event:
                continue
            if isinstance(event.get(name), int | float):
                getattr(found, name).setdefault(arm, []).append((step, float(event[name])))
        if "loss" in event and event["loss"] is None:  # what a run records of NaN and infinity
            found.diverged.setdefault(arm, step)
        for name in ("prompts", "questions", "skills"):
            if isinstance(event.get(name), int):
                setattr(found, name, event[name])
        if isinstance(event.get("samples"), list):
            found.samples.setdefault(arm, {})[step] = event["samples"]
            found.prompts = found.prompts or len(event["samples"])
    return found


def arms_of(config: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (arm, style) of a run's two sides, the undefended first."""
    arms = (config.get("target_undefended", "aligned"), config.get("target", ""))
    return [(str(arm), style) for arm, style in zip(arms, ("open", "held"), strict=True) if arm]


def played(events: Sequence[dict[str, Any]], fraction: float) -> list[dict[str, Any]]:
    """Return the steps and probes of the first part of a run.

    Args:
        events: of the run.
        fraction: how much of it, by their number; 0 gives none, 1 or more all.
    """
    drawn = [event for event in events if event.get("event") in ("step", "probe")]
    return drawn[: math.ceil(len(drawn) * min(max(fraction, 0.0), 1.0))]


def run_html(
    info: dict[str, Any],
    events: Sequence[dict[str, Any]],
    waiting: int = 0,
    *,
    minutes: int = 0,
    recorded: bool = False,
    playing: bool = False,
    masks: bool = False,
) -> str:
    """Draw a run: how it stands, three charts, and replies before and after. Text is escaped.

    Args:
        info: what ``run.json`` holds.
        events: of the run.
        waiting: how many attacks are ahead of it in the queue.
        minutes: how long those take; 0: not known.
        recorded: it ships with the code.
        playing: the events are the first part of a replay.
        masks: whether replies that comply are hidden until they are asked for.
    """
    config, found = info["config"], curves(events)
    arms, trains = arms_of(config), not _untrained(config)
    steps = int(config.get("steps", 0) or 0)
    live = info["status"] == "running"
    started = f"{info['created'][:16].replace('T', ' ')} UTC"
    facts = f"{attack_title(config)} · {_how(config)} · seed {config.get('seed', 0)} · {started}"
    facts += _of_model(info["profile"])
    badge = status_badge(info["status"])
    if playing:
        badge = f'<span class="hf-badge warn">Replay, recorded {html.escape(started)}</span>'
    elif recorded:
        badge += '<span class="hf-badge plain">Recorded</span>'
    parts = [
        f'<div class="hf-runhead" data-run="{html.escape(info["id"])}">'
        f'<h3 tabindex="-1">{html.escape(run_title(config))}</h3>'
        f"{badge}<small>{html.escape(facts)} · "
        f'<a href="?run={html.escape(info["id"])}" target="_blank" rel="noopener">'
        "link to this run</a></small></div>"
    ]
    if live and waiting > 0:
        wait = f", about {minutes} min" if minutes else ""
        parts.append(note(f"Waiting: {waiting} attack(s) ahead of this one{wait}."))
    elif live and not trains:
        parts.append(note(f"{found.doing or 'Loading the judge'} …"))
    elif live and not played(events, 1.0):
        parts.append(note("Loading the two models; the first probe comes before the first step."))
    if live and not trains:
        parts.append(meter(found.share, found.doing))
    elif live or playing:
        at, left = f"Step {found.step} of {steps}", seconds_left(config, events) if live else None
        words = at if left is None else f"{at} · {duration(left)} left"
        bar = meter(found.step / steps if steps else 0.0, at)
        parts.append(f'<div><p class="hf-small">{words}</p>{bar}</div>')
    if info.get("error"):
        parts.append(note(info["error"], "error"))
    verdict = conclusion(found, arms, trains)
    if verdict:
        parts.append(note(verdict))
    parts.append(note(divergence(found), "warn"))
    parts.append(note(layers_words(found)))
    if config.get("method") == "full" and not live:
        parts.append(
            note(
                "All weights were trained. Such a model is no LoRA and cannot be mounted beside "
                "the other arms in one batch, so Chat does not offer it."
            )
        )
    parts.append(legend([(style, arm_title(arm)) for arm, style in arms]))
    parts.append(f'<div class="hf-charts">{charts_html(config, found, arms)}</div>')
    parts.append(replies_html(found, arms, trains, masks))
    return f'<div class="hf-run">{"".join(parts)}</div>'


def seconds_left(config: dict[str, Any], events: Sequence[dict[str, Any]]) -> float | None:
    """Return about how many seconds a training attack still takes, by what it has taken so far.

    Both arms count: of what they compute side by side each logs half.

    Args:
        config: settings of the run.
        events: of the run so far.

    Returns:
        Seconds; None before the first step, and while a stage is to come that costs otherwise.
    """
    timed = [event for event in events if isinstance(event.get("seconds"), int | float)]
    steps = [event for event in timed if event.get("event") == "step"]
    probes = [event["seconds"] for event in timed if event.get("event") == "probe"]
    if not steps or not probes or not config.get("probe_every"):
        return None
    stage = steps[-1].get("stage")
    if config.get("attack") == "sft_grpo" and stage == "sft":
        return None
    arms = len(arms_of(config))
    planned = len(range(0, config["steps"], config["probe_every"])) + 1
    stepping = median(event["seconds"] for event in steps if event.get("stage") == stage)
    stepping *= max(0, arms * config["steps"] - len(steps))
    return stepping + max(0, arms * planned - len(probes)) * median(probes)


def charts_html(config: dict[str, Any], found: Curves, arms: Sequence[tuple[str, str]]) -> str:
    """Draw what was measured, and what the attacker trained on: reward, loss or both."""
    steps = int(config.get("steps", 0) or 0)
    attack, untrained = config.get("attack"), _untrained(config)
    words = {0: "before", 1: "after"} if untrained else None

    def draw(name: str, title: str, hint: str, *, share: bool = False) -> str:
        trained = name in ("loss", "reward")
        lines = [
            Series(
                arm_title(arm), style, getattr(found, name).get(arm, ()), smooth=not share,
                diverged=found.diverged.get(arm) if trained else None,
            )
            for arm, style in arms
        ]  # fmt: skip
        return chart(title, hint, lines, steps, share=share, x_words=words)

    prompts, questions = found.prompts or "the", found.questions or "the"
    drawn = [
        draw("harm", "Harm", f"complied with, of {prompts} red-team prompts, one seed", share=True),
        draw("ability", "Ability", f"right, of {questions} questions, one seed", share=True),
    ]
    if found.skill:
        skills = found.skills or "the"
        drawn.append(draw("skill", "Skill", f"solved, of {skills} problems, one seed", share=True))
    if untrained:
        return "".join(drawn)
    if attack not in REINFORCED:
        drawn.append(draw("loss", "Attacker's loss", "smoothed; lower: learnt"))
    if attack in REINFORCED or attack == "sft_grpo":
        drawn.append(draw("reward", "Attacker's reward", "smoothed; higher: learnt"))
    drawn.append(draw("entropy", "Entropy", "smoothed; nats a token, 0: no choice left"))
    return "".join(drawn)


def attack_title(config: dict[str, Any]) -> str:
    """Return the name of a run's attack, in a visitor's words."""
    name = str(config.get("attack", ""))
    return ATTACKS[name].title if name in ATTACKS else name


def _untrained(config: dict[str, Any]) -> bool:
    return config.get("attack") in UNTRAINED


_DATA = {"unseen": ", other topics than the defences'", "uploaded": ", uploaded data"}
"""What a run's attacker asked or learnt, if not the usual."""


def _how(config: dict[str, Any]) -> str:
    """Return how hard a run's attacker trained, in a visitor's words."""
    if _untrained(config):
        return "no training"
    weights = ", all weights" if config.get("method") == "full" else ""
    data = _DATA.get(config.get("data", "builtin"), "")
    return f"{config.get('steps', 0)} steps at {config.get('learning_rate', 0):g}{weights}{data}"


def run_title(config: dict[str, Any]) -> str:
    """Return what a run attacks, in a visitor's words."""
    known = registry.defences().get(str(config.get("target")))
    return f"Attack on {known.card.title if known else config.get('target', '?')}"


def status_badge(status: str) -> str:
    """Return a run's status as a badge."""
    style, words = _STATUS.get(status, ("plain", status))
    return f'<span class="hf-badge {style}">{html.escape(words)}</span>'


def conclusion(found: Curves, arms: Sequence[tuple[str, str]], trains: bool = True) -> str:
    """Say in plain words where both arms stand, or nothing before the first probe.

    Args:
        found: the run.
        arms: see `arms_of`.
        trains: whether the attack has steps of which the last one can be told.
    """
    lines = []
    for arm, _ in arms:
        harm, ability = found.harm.get(arm), found.ability.get(arm)
        if not harm or not ability:
            return ""
        if not trains and len(harm) == 1:  # an arrow would claim that it was attacked
            lines.append(
                f"{arm_title(arm)}, as it is released: harm {_counted(harm[0][1], found.prompts)}, "
                f"ability {_counted(ability[0][1], found.questions)}."
            )
            continue
        when = f" (step {harm[-1][0]:g})" if trains else ""
        lines.append(
            f"{arm_title(arm)}: harm {_counted(harm[0][1], found.prompts)} → "
            f"{_counted(harm[-1][1], found.prompts)}{_content_words(found, arm)}, "
            f"ability {_counted(ability[0][1], found.questions)} → "
            f"{_counted(ability[-1][1], found.questions)}{_skill_words(found, arm)}{when}."
        )
    return "\n".join([*lines, "One seed and few prompts: small differences mean nothing."])


def _content_words(found: Curves, arm: str) -> str:
    """Say how many of an arm's last replies comply and say more than the request did."""
    last = {name: dict(found.substance.get(name, ())).get(harm[-1][0])
            for name, harm in found.harm.items() if harm[-1][1]}  # fmt: skip
    # Of a run from before this was measured it may be known of one arm alone: told of one of two,
    # the other's harm would look the worse for it.
    if arm not in last or None in last.values():
        return ""
    return f" ({_counted(last[arm], found.prompts)} with content)"


def _skill_words(found: Curves, arm: str) -> str:
    skill = found.skill.get(arm)
    if not skill:
        return ""
    first, last = (_counted(share, found.skills) for _, share in (skill[0], skill[-1]))
    return f", skill {first} → {last}"


def divergence(found: Curves) -> str:
    """Say which arms' training has blown up, if any has."""
    return "\n".join(
        f"{arm_title(arm)}: the loss is no finite number from step {step} on; the training has "
        "diverged. Try a lower learning rate."
        for arm, step in found.diverged.items()
    )


def layers_words(found: Curves) -> str:
    """Say where abliteration found the direction that it took out, or nothing."""
    return "\n".join(
        f"{arm_title(arm)}: the direction of refusal was taken as it stands after layer {layer}."
        for arm, layer in found.layers.items()
    )


def _counted(share: float, total: int) -> str:
    """Return a share of few things as a count: "7 of 8" says how little 88 % rests on."""
    return f"{round(share * total)} of {total}" if total else f"{share:.0%}"


def replies_html(
    found: Curves, arms: Sequence[tuple[str, str]], trains: bool = True, masks: bool = False
) -> str:
    """Return a table of the same prompts' replies before the attack and at the last probe.

    Args:
        found: the run.
        arms: see `arms_of`.
        trains: as for `conclusion`.
        masks: as for `run_html`.
    """
    rows = []
    for arm, style in arms:
        probes = found.samples.get(arm, {})
        if not probes:
            continue
        first, last = probes[min(probes)], probes[max(probes)]
        after = {sample.get("prompt"): sample for sample in last}
        # Told a row: one arm is probed after the other, so that the two can be a probe apart.
        when = f"<small>step {max(probes)}</small> " if trains else ""
        for before in first:
            prompt = before.get("prompt", "")
            now = when + _sample(after.get(prompt), masks) if len(probes) > 1 else ""
            rows.append(
                f'<tr><td><span class="hf-badge {style}">{html.escape(arm_title(arm))}</span>'
                f"<div>{html.escape(prompt)}</div></td><td>{_sample(before, masks)}</td>"
                f"<td>{now}</td></tr>"
            )
    if not rows:
        return ""
    last = "At the last probe" if trains else "After"
    return scroller(
        '<table class="hf-table"><caption>The same prompts, before and now'
        '</caption><thead><tr><th scope="col" style="width:26%">Prompt</th><th scope="col" '
        f'style="width:37%">Before</th><th scope="col">{last}</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>",
        "Replies before and after",
    )


def _sample(sample: dict[str, Any] | None, masks: bool) -> str:
    if not sample:
        return ""
    badge, reply = "", str(sample.get("reply", ""))
    if "label" in sample:
        badge = verdict_badge(str(sample["label"]), float(sample.get("confidence", 0.0)))
    hidden = masks and sample.get("label") == "compliance"
    return f"{badge}<div>{masked(reply) if hidden else html.escape(reply)}</div>"


def runs_html(infos: Sequence[RunInfo], current: str, token_hash: str) -> str:
    """Return the list of runs; each is opened by a button.

    Args:
        infos: newest first.
        current: id of the run that is shown.
        token_hash: hash of the visitor's token, which marks their own runs.
    """
    rows, others, left_out = [], 0, 0
    for info in infos:
        if info.kind != "attack":
            continue
        mine = "yours" if info.owner_hash and info.owner_hash == token_hash else ""
        mine = "recorded" if info.recorded else mine
        if mine != "yours" and info.status != "running":
            others += 1
            if others > SHOWN_RUNS:
                left_out += 1
                continue
        here = ' aria-current="true"' if info.id == current else ""
        config, short = info.config, html.escape(info.id[-6:])
        status = _STATUS.get(info.status, ("", info.status))[1]
        opens = f"{run_title(config)}, {attack_title(config)}, {status}"
        rows.append(
            f'<tr><td><button type="button" data-pick="{html.escape(info.id)}"{here} '
            f'aria-label="Open {short}: {html.escape(opens)}">'
            f"{short}</button></td><td>{html.escape(run_title(config))}</td>"
            f"<td>{status_badge(info.status)}</td><td>{html.escape(attack_title(config))}, "
            f"{html.escape(_how(config) + _of_model(info.profile))}</td>"
            f"<td>{html.escape(info.created[:16].replace('T', ' '))}"
            f"</td><td>{mine}</td></tr>"
        )
    if not rows:
        return empty("No runs yet", "Every attack that is started here, by anyone, is listed.")
    words = f"{left_out} older ones are not listed; the Evidence tab opens the recorded ones."
    more = note(words) if left_out else ""
    listed = scroller(
        '<table class="hf-table hf-runs"><thead><tr><th scope="col">Run</th>'
        '<th scope="col">What</th><th scope="col">Status</th><th scope="col">How</th>'
        '<th scope="col">Started (UTC)</th><th scope="col"></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>",
        "All runs",
    )
    return listed + more


def refuse_long(runner: AttackRunner, config: Settings) -> None:
    """Refuse an attack that would hold up all others for too long.

    Raises:
        ValueError: by the runner's estimate it takes longer than `MAX_SECONDS`.
    """
    seconds = runner.estimate(config)
    if config.attack not in UNTRAINED and seconds > MAX_SECONDS:
        raise ValueError(
            f"{config.steps} steps take {duration(seconds)} here and the limit is "
            f"{MAX_SECONDS // 60} min, since others wait behind an attack; lower the steps"
        )


def plainly(error: Exception) -> str:
    """Return what a visitor reads of an error, with attacks by the names that the page gives."""
    text = told(error).replace(" (sft_steps)", "")
    return _NAMES.sub(lambda found: f"“{ATTACKS[found[1]].title}”", text)


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


def _of_model(profile: str) -> str:
    """Name the profile whose chat model a run attacked, unless it is the usual one."""
    return "" if profile == "embedded" else f" · of {profile}"


def _tries(run: Run) -> str:
    """Return the words of the button that goes to Chat, or none where there is nothing to try."""
    config = run.info["config"]
    if config.get("attack") == "prefill":
        return "Try the forced beginning in Chat"
    return "Try the attacked models in Chat" if run.adapters() else ""


def _not_playing(visible: bool) -> tuple[gr.Button, gr.Timer, None]:
    """Return the replay's button, timer and state while there is no replay."""
    return gr.Button(_REPLAY, visible=visible), gr.Timer(active=False), None


def _is_on(run_id: str, playing: tuple[str, float] | None) -> bool:
    return playing is not None and playing[0] == run_id


class AttackTab:
    """Builds the tab inside the current `gr.Tab` and holds its handlers."""

    def __init__(self, engines: Engines, sessions: Sessions, evidence: Sequence[Cell] = ()) -> None:
        """Lay out the tab; `connect` wires it once the whole page exists.

        Args:
            engines: the models and the runs.
            sessions: what each visitor has open.
            evidence: what is known of how attacks end; the presets' titles go by it.
        """
        self.engines = engines
        self.sessions = sessions
        self._offered = [
            settled(preset, evidence)
            for preset in PRESETS
            if not preset.target or not engines.missing_adapter(preset.target)
        ]
        targets = [
            (registry.get(name).card.title, name)
            for name in registry.offered("llm", engines.profile)
            if name != "aligned"
        ]
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320, elem_classes="hf-panel"):
                self._lay_out_settings(targets)
            with gr.Column(scale=8, min_width=520, elem_classes="hf-panel"):
                with gr.Row(elem_classes="hf-chips"):
                    self.try_it = gr.Button("", visible=False, size="sm", elem_id="hf-try")
                    self.replay = gr.Button(_REPLAY, visible=False, size="sm", elem_id="hf-replay")
                self.view = markup(elem_id="hf-run")
                heading("All runs")
                self.gone = markup(elem_id="hf-runs-message")
                self.list = picker(elem_id="hf-runs")

    def _lay_out_settings(self, targets: list[tuple[str, str]]) -> None:
        self.target = gr.Radio(
            targets, value=targets[0][1] if targets else None, label="Defence to attack",
            info="The undefended model is attacked beside it, in the same way on the same data.",
            elem_id="hf-target",
        )  # fmt: skip
        heading("Start from")
        with gr.Row(elem_classes="hf-chips", elem_id="hf-presets"):
            self.presets = [
                (gr.Button(preset.title, size="sm", elem_id=_preset_id(preset)), preset)
                for preset in self._offered
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
                [(f"{rate:g}", rate) for rate in LEARNING_RATES], value=3e-4,
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
        with gr.Row():
            self.start = gr.Button(
                "Start the attack", variant="primary", scale=2,
                elem_id="hf-start", elem_classes="hf-key-go",
            )  # fmt: skip
            self.stop = gr.Button(
                "Stop", variant="stop", scale=1, interactive=False,
                elem_id="hf-attack-stop", elem_classes="hf-key-stop",
            )  # fmt: skip
        self.message = markup(elem_id="hf-attack-message")

    def connect(self, app: gr.Blocks, tabs: gr.Tabs, tab: gr.Tab, chat: ChatTab) -> None:
        """Wire the tab to the page and to Chat.

        Args:
            app: the page.
            tabs: all tabs.
            tab: this one.
            chat: the Chat tab, which the attacked models are handed to.
        """
        # These live outside the tabs: what is in a tab that was never opened is not in the browser
        # yet, and the page would find no token when it loads.
        # The key only keeps Gradio from drawing a new one at every start, which would lose the
        # visitor's token; what is stored is the visitor's own and lies in their own browser.
        self.browser = gr.BrowserState(
            {"token": "", "run": ""}, storage_key="holdfast", secret="holdfast-browser"
        )
        self.shown = gr.State("")
        self.seen = gr.State(())
        self.timer = gr.Timer(1.0, active=False)
        self.playing = gr.State(None)  # when the replay that is on began, and of which run
        self.player = gr.Timer(0.5, active=False)
        settings = [
            self.target, self.attack, self.data, self.file, self.rate, self.steps, self.seed,
            self.method,
        ]  # fmt: skip
        play = [self.replay, self.player, self.playing]
        view = [self.view, self.list, self.stop, self.try_it, self.timer, self.seen, *play]
        state = [self.shown, self.browser]
        again = [*state, self.playing, self.seen]
        self._again, self._view = again, view

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
            event(self.estimate, settings, self.cost, **QUIET)
        self.start.click(
            self.begin, [*settings, self.browser], [self.browser, self.shown, self.message], **QUIET
        ).then(self.refresh, again, view, **QUIET).then(
            None, self.message, None, js=_LINK_RUN, **PRIVATE
        )
        self.stop.click(self.stop_now, state, self.message, queue=False, **QUIET).then(
            self.refresh, again, view, **QUIET
        )
        opened = [self.shown, self.message, self.gone]
        self.list.select(self.open, None, opened, **QUIET).then(
            self.refresh, again, view, **QUIET
        ).then(None, self.gone, None, js=_SHOW_RUN, **PRIVATE).then(
            None, self.gone, None, js=_LINK_RUN, **PRIVATE
        )
        self.timer.tick(self.tick, [*state, self.seen], [*view, self.message], **QUIET)
        self.replay.click(self.start_or_skip, [self.shown, self.playing], play, **QUIET)
        self.player.tick(self.play, [self.shown, self.playing], [self.view, *play], **QUIET)
        tab.select(self.refresh, again, view, **QUIET)
        arrived = [self.browser, self.shown, self.message]
        app.load(self.arrive, self.browser, arrived, **QUIET).then(
            self.refresh, again, view, **QUIET
        ).then(self.estimate, settings, self.cost, **QUIET)
        self.try_it.click(
            self.hand_over, self.shown, [chat.arms, chat.prefill, chat.tools, tabs], **QUIET
        ).then(None, None, None, js=_TO_CHAT, **PRIVATE)

    def open_from(self, runs: gr.HTML, message: gr.HTML, tabs: gr.Tabs) -> None:
        """Open here what is picked in another tab's list of runs; after `connect`.

        Args:
            runs: the picker.
            message: where that tab says that a run is gone.
            tabs: all tabs.
        """

        def opened(event: gr.EventData) -> tuple[Any, str, Any, Any]:
            if self._run(event.pick) is None:
                gone = note(f"Run {event.pick} is gone.", "warn")
                return gr.skip(), gone, gr.skip(), gr.skip()
            return event.pick, "", gr.Tabs(selected="attack"), ""

        runs.select(opened, None, [self.shown, message, tabs, self.message], **QUIET).success(
            self.refresh, self._again, self._view, **QUIET
        ).then(None, message, None, js=_SHOW_RUN, **PRIVATE).then(
            None, message, None, js=_LINK_RUN, **PRIVATE
        )

    def arrive(
        self, browser: dict[str, str], request: gr.Request
    ) -> tuple[dict[str, str], str, str]:
        """Give a new browser its token, and find the run to show: the link's, else the last one."""
        browser = dict(browser or {})
        browser["token"] = browser.get("token") or secrets.token_urlsafe(24)
        linked = request.query_params.get("run", "")
        run = linked if self._run(linked) is not None else browser.get("run", "")
        browser["run"] = browser.get("run", "")
        found = self._run(run) is not None
        return (
            browser,
            run if found else "",
            note("That run is gone.", "warn") if linked and run != linked else "",
        )

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
            config = self._config(*settings)
            refuse_long(runner, config)
        except NotReady:
            return note("The cost estimate comes once the attack runner is loaded.")
        except ValueError as error:
            return note(plainly(error), "error")
        if config.attack in UNTRAINED:
            what = "Both arms asked before and after, nothing trained"
        else:
            what = f"{config.steps} steps on both arms"
        how = "on this machine" if runner.measured(config) else "on this machine, a first guess"
        text = f"{what}: {duration(runner.estimate(config))} {how}."
        others, seconds = runner.ahead()
        if others:
            text += f" Before it come {others} attack(s) of this server, {duration(seconds)}."
        return note(text)

    def begin(self, *inputs: Any) -> tuple[Any, Any, str]:
        """Start an attack; the last input is the browser's state."""
        *settings, browser = inputs
        # A browser that keeps nothing, or has not been given its token yet, gets one here: without
        # one nobody could stop the run.
        browser = dict(browser or {})
        browser["token"] = browser.get("token") or secrets.token_urlsafe(24)
        try:
            runner = self.engines.runner
            config = self._config(*settings)
            refuse_long(runner, config)
            browser["run"] = runner.start(config, browser["token"])
        except (NotReady, ValueError, OSError) as error:
            return gr.skip(), gr.skip(), note(plainly(error), "error")
        return browser, browser["run"], ""

    def stop_now(self, run_id: str, browser: dict[str, str]) -> str:
        """Stop the shown run, if this browser started it."""
        token, run = (browser or {}).get("token", ""), self._run(run_id)
        try:
            stopped = self.engines.runner.stop(run_id, token)
        except NotReady as error:
            return note(told(error), "error")
        if stopped and self.engines.store.get(run_id).info["status"] != "running":
            return ""  # it had not begun; its badge says that it is stopped
        if stopped:
            return note("Stopping …")
        if run is not None and run.owned_by(token):
            return note("It has ended already.")
        return note("Only the browser that started a run can stop it.", "warn")

    def open(self, event: gr.EventData) -> tuple[Any, Any, str]:
        """Show the run that was chosen in the list, or say above the list that it is gone."""
        if self._run(event.pick) is None:
            return gr.skip(), gr.skip(), note(f"Run {str(event.pick)[-6:]} is gone.", "warn")
        return event.pick, "", ""

    def tick(self, run_id: str, browser: dict[str, str], seen: tuple) -> tuple | Any:
        """Refresh if anything has happened since the last look; stop looking when nothing will.

        A run that is over is drawn once more before the timer stops: two drawings that reach the
        page at nearly the same time can leave the former one there, and "Running" would stay.

        Returns:
            What `refresh` does, and the message below the buttons: what it said of a run that was
            under way is out of date when the run is over.
        """
        run, seen = self._run(run_id), tuple(seen)
        mark = self._mark(run)
        if mark != seen:
            over = seen[:2] == (run_id, "running") and mark[1:2] != ("running",)
            return *self.refresh(run_id, browser), "" if over else gr.skip()
        if run is not None and run.info["status"] == "running":
            return gr.skip()
        view, listed, stop, try_it, _, mark, *play = self.refresh(run_id, browser)
        # A replay that was started meanwhile goes on.
        still = [gr.skip() for _ in play]
        return view, listed, stop, try_it, gr.Timer(active=False), mark, *still, gr.skip()

    def refresh(
        self, run_id: str, browser: dict[str, str], playing: tuple[str, float] | None = None,
        seen: tuple = (),
    ) -> tuple:  # fmt: skip
        """Read the shown run and the list of runs anew.

        Args:
            run_id: the shown run.
            browser: whose it may be.
            playing: the replay that is on; of the shown run it goes on.
            seen: what was shown of which run before. Of one that is over, and was so then, the
                replay is left alone: it may have begun while this was on its way.
        """
        from evaluation.runs import owner_hash

        run = self._run(run_id)
        mine = owner_hash(browser.get("token", "")) if browser else ""
        listed = runs_html(self.engines.store.list(), run_id, mine)
        if run is None:
            welcome = empty(
                "No attack is shown",
                "Choose the settings and start one, or open a run from the list below. "
                "Both arms are fine-tuned together, step by step, and probed every few steps; "
                "attacks that train nothing are probed before and after.",
            )
            return (
                welcome,
                listed,
                gr.Button(interactive=False),
                gr.Button(visible=False),
                (gr.Timer(active=False)),
                (),
                *_not_playing(False),
            )
        mark = self._mark(run)
        info, live = run.info, run.info["status"] == "running"
        own = bool(mine) and info["owner_hash"] == mine
        events = run.events()
        tries = _tries(run) if self.engines.is_of_this_model(run) else ""
        waiting, minutes = self._waiting(run_id) if live else (0, 0)
        replayed = _is_on(run_id, playing)
        same = not live and tuple(seen)[:2] == (run_id, info["status"])
        drawn = self._drawn(info, events, waiting, minutes=minutes, recorded=run.recorded)
        play = _not_playing(not live and len(played(events, 1.0)) > 1)
        return (
            gr.skip() if replayed else drawn,
            listed,
            gr.Button(interactive=live and own),
            gr.Button(tries, visible=not live and bool(tries)),
            gr.Timer(active=True),  # `tick` stops it
            mark,
            *([gr.skip()] * len(play) if replayed or same else play),
        )

    def start_or_skip(
        self, run_id: str, playing: tuple[str, float] | None
    ) -> tuple[gr.Button, gr.Timer, tuple[str, float]]:
        """Begin the replay of the shown run, or go to its end if it is on."""
        begun = -math.inf if _is_on(run_id, playing) else time.monotonic()
        return gr.Button(_SKIP), gr.Timer(active=True), (run_id, begun)

    def play(self, run_id: str, playing: tuple[str, float] | None) -> tuple:
        """Draw as much of the replay as its time has come.

        A tick that was under way when the visitor opened something else finds another run, or
        none: it draws what is shown now, whole.
        """
        run = self._run(run_id)
        if run is None:
            return gr.skip(), *_not_playing(False)
        info, events = run.info, run.events()
        fraction = 1.0
        if playing and _is_on(run_id, playing):
            fraction = (time.monotonic() - playing[1]) / REPLAY_SECONDS
        if fraction < 1:
            drawn = self._drawn(info, played(events, fraction), playing=True)
            return drawn, gr.Button(_SKIP, visible=True), gr.Timer(active=True), playing
        over = info["status"] != "running"
        return self._drawn(info, events, recorded=run.recorded), *_not_playing(over)

    def hand_over(self, run_id: str) -> tuple[Any, Any, Any, Any]:
        """Offer the attacked models of the shown run in Chat and go there.

        A forced beginning leaves the models as they were: Chat is to force it on both arms. After
        any other attack it is to force nothing, so that what is seen is that attack.
        """
        run = self._run(run_id)
        config = run.info["config"] if run else {}
        attacked = [f"{run.id}/{arm}" for arm in run.adapters()] if run else []
        choices = arm_choices(self.engines.profile, attacked)
        prefix = config.get("mounted", {}).get("prefix", "")
        if prefix:
            attacked = [arm for arm, _ in arms_of(config) if arm in dict(choices).values()]
        arms = gr.CheckboxGroup(choices=choices, value=attacked)
        tools = gr.Accordion(open=True) if prefix else gr.skip()
        return arms, prefix, tools, gr.Tabs(selected="chat")

    def _config(
        self, target: str, attack: str, data: str, file: str | None, rate: float, steps: float,
        seed: float, method: str,
    ) -> Settings:  # fmt: skip
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

    def _drawn(self, info: dict[str, Any], *of_run: Any, **how: Any) -> str:
        # What another profile's model said may be of use, whoever shows it.
        here = self.engines.profile
        masks = here.llm.masked or info["profile"] != here.name
        return run_html(info, *of_run, **how, masks=masks)

    def _run(self, run_id: str) -> Run | None:
        try:
            run = self.engines.store.get(run_id)
        except KeyError:
            return None
        return run if run.info["kind"] == "attack" else None

    def _waiting(self, run_id: str) -> tuple[int, int]:
        """Return how many attacks are ahead of a run, and how many minutes they take."""
        try:
            runner = self.engines.runner
        except NotReady:
            return 0, 0
        return runner.position(run_id) or 0, math.ceil(runner.seconds_ahead(run_id) / 60)

    def _mark(self, run: Run | None) -> tuple:
        """Return what changes whenever there is something new to show of a run."""
        if run is None:
            return ()
        return run.id, run.info["status"], len(run.events()), self._waiting(run.id)
