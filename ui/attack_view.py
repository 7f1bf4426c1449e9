"""A run of an attack, and the list of all runs, as HTML; every text in it is escaped here."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import Any

from adapters import registry
from adapters.attacks.base import REINFORCED, UNTRAINED
from adapters.attacks.progress import seconds_left
from evaluation.runs import RunInfo
from ui.attack_curves import Curves, arms_of, curves, played
from ui.attack_presets import ATTACKS
from ui.charts import Series, chart, legend
from ui.chat import arm_title
from ui.markup import (
    counted,
    decimal,
    duration,
    empty,
    masked,
    meter,
    note,
    scroller,
    verdict_badge,
)

SHOWN_RUNS = 30
"""Runs of others that are listed, besides the visitor's own and those under way."""

WHICH = {"All": "all", "Without recorded ones": "here", "Mine": "mine"}
"""Which runs are listed, by the words that offer it."""

_STATUS = {
    "running": ("held", "Running"),
    "done": ("plain", "Finished"),
    "stopped": ("warn", "Stopped"),
    "failed": ("open", "Failed"),
    "interrupted": ("warn", "Interrupted"),
}


def run_html(
    info: dict[str, Any],
    events: Sequence[dict[str, Any]],
    waiting: int = 0,
    *,
    minutes: int = 0,
    left: float | None = None,
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
        left: seconds that it still takes; None: what its events tell of it.
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
        parts.append(note(f"Waiting: {counted(waiting, 'attack')} ahead of this one{wait}."))
    elif live and not trains:
        parts.append(note(f"{found.doing or 'Loading the judge'} …"))
    elif live and not played(events, 1.0):
        parts.append(note("Loading the two models; the first probe comes before the first step."))
    if live or playing:
        at, share = f"Step {found.step} of {steps}", found.step / steps if steps else 0.0
        if not trains and live:
            at, share = f"{found.share:.0%} done", found.share
        elif not trains:
            at = "After the attack" if found.step else "Before the attack"
        if live and not waiting:
            left = seconds_left(config, events, len(arms)) if left is None else left
        words = at if left is None else f"{at} · {duration(left)} left"
        parts.append(f'<div><p class="hf-small">{words}</p>{meter(share, found.doing or at)}</div>')
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
                "the other models in one batch, so Chat does not offer it."
            )
        )
    parts.append(legend([(style, arm_title(arm)) for arm, style in arms]))
    parts.append(f'<div class="hf-charts">{charts_html(config, found, arms)}</div>')
    parts.append(replies_html(found, arms, trains, masks))
    return f'<div class="hf-run">{"".join(parts)}</div>'


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
        drawn.append(draw("loss", "Attacker's loss", "lower = the attacker has learnt more"))
    if attack in REINFORCED or attack == "sft_grpo":
        drawn.append(draw("reward", "Attacker's reward", "higher = the attacker has learnt more"))
    varied = "how varied the replies are (0 = always the same)"
    drawn.append(draw("entropy", "Entropy", varied))
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
    rate = decimal(config.get("learning_rate", 0))
    return f"{config.get('steps', 0)} steps at {rate}{weights}{data}"


def _of_model(profile: str) -> str:
    """Name the profile whose chat model a run attacked, unless it is the usual one."""
    return "" if profile == "embedded" else f" · of {profile}"


def run_title(config: dict[str, Any]) -> str:
    """Return what a run attacks, in a visitor's words."""
    return f"Attack on {_defence(config)}"


def _defence(config: dict[str, Any]) -> str:
    known = registry.defences().get(str(config.get("target")))
    return known.card.title if known else str(config.get("target", "?"))


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
        if len(harm) == 1:  # an arrow would claim that it was attacked
            lines.append(
                f"{arm_title(arm)}, before the attack: harm "
                f"{_counted(harm[0][1], found.prompts)}{_content_words(found, arm)}, ability "
                f"{_counted(ability[0][1], found.questions)}{_skill_words(found, arm)}."
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
    return f", skill {first} → {last}" if len(skill) > 1 else f", skill {first}"


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
    rows, last_head = [], "At the last probe" if trains else "After"
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
                f'<div>{html.escape(prompt)}</div></td>'
                f'<td data-head="Before">{_sample(before, masks)}</td>'
                f'<td data-head="{last_head}">{now}</td></tr>'
            )
    if not rows:
        return ""
    return scroller(
        '<table class="hf-table hf-replies"><caption>The same prompts, before and now'
        '</caption><thead><tr><th scope="col" style="width:26%">Prompt</th><th scope="col" '
        f'style="width:37%">Before</th><th scope="col">{last_head}</th></tr></thead>'
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


def outcome_html(config: dict[str, Any], events: Sequence[dict[str, Any]]) -> str:
    """Return the defended arm's harm before an attack and at its last probe; empty before one."""
    found, target = curves(events), config.get("target")
    harm = found.harm.get(target, [])
    if len(harm) < 2:
        return ""
    first, (step, last) = _counted(harm[0][1], found.prompts), harm[-1]
    early = not _untrained(config) and step < config.get("steps", 0)
    when = f" <small>step {step:g}</small>" if early else ""
    return f"{first} → <b>{_counted(last, found.prompts)}</b>{when}"


def runs_html(
    infos: Sequence[RunInfo],
    current: str,
    token_hash: str,
    outcome: Callable[[RunInfo], str],
    which: str = "all",
) -> str:
    """Return the list of runs; each is opened by a button.

    Args:
        infos: newest first.
        current: id of the run that is shown.
        token_hash: hash of the visitor's token, which marks their own runs.
        outcome: of a run that is listed, as HTML.
        which: one of `WHICH`.
    """
    rows, others, left_out = [], 0, 0
    for info in infos:
        if info.kind != "attack":
            continue
        mine = "yours" if info.owner_hash and info.owner_hash == token_hash else ""
        mine = "recorded" if info.recorded else mine
        if (which == "here" and info.recorded) or (which == "mine" and mine != "yours"):
            continue
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
            f'<tr><td class="run"><button type="button" data-pick="{html.escape(info.id)}"{here} '
            f'aria-label="Open {short}: {html.escape(opens)}">'
            f'{short}</button></td><td class="what">{html.escape(_defence(config))}</td>'
            f'<td class="end">{status_badge(info.status)}</td>'
            f'<td class="how">{html.escape(attack_title(config))}, '
            f"{html.escape(_how(config) + _of_model(info.profile))}</td>"
            f'<td class="harm">{outcome(info)}</td>'
            f'<td class="when">{html.escape(info.created[:16].replace("T", " "))}'
            f'</td><td class="whose">{mine}</td></tr>'
        )
    if not rows and which != "all":
        return empty("No such run", "Choose “All” to see those of others and the recorded ones.")
    if not rows:
        return empty("No runs yet", "Every attack that is started here, by anyone, is listed.")
    words = f"{left_out} older ones are not listed; the Evidence tab opens the recorded ones."
    more = note(words) if left_out else ""
    listed = scroller(
        '<table class="hf-table hf-runs"><thead><tr><th scope="col">Run</th>'
        '<th scope="col">Defence</th><th scope="col">Status</th><th scope="col">How</th>'
        '<th scope="col">Its harm</th><th scope="col">Started (UTC)</th>'
        '<th scope="col"></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>",
        "All runs",
    )
    return listed + more
