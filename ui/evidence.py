"""The Evidence tab: what the stress test found, in plain words, as a table and as a picture.

Everything is drawn from the table that ships with the code (`evaluation.tables`); each of its
cells opens the runs behind it in the Attack tab.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import gradio as gr

from adapters import registry
from evaluation import outcomes, tables, wording
from evaluation.cells import Cell, cells, chosen, runs, runs_of, unseen_pairs
from evaluation.claims import VERDICTS, Finding, claims
from evaluation.tables import Row
from ui.attack_presets import ATTACKS
from ui.blocks import QUIET, heading, markup, picker
from ui.charts import Mark, scatter, shape_legend
from ui.markup import decimal, empty, fold, note, scroller
from ui.session import Scratch

_STYLES = {"holds": "held", "weaker": "warn", "fails": "open", "undecided": "plain",
           "unmeasured": "plain", "baseline": "plain"}  # fmt: skip
OUTCOME_STYLES = {"held": "held", "costly": "warn", "broken": "open", "destroyed": "plain",
                  "learnt": "open"}  # fmt: skip
"""Colours of outcomes."""
_RIGHT = 1.2
"""Right end of the chart: an arm can come out of an attack abler than it was."""


def defence_title(name: str) -> str:
    """Return a defended or the undefended arm's name in a visitor's words."""
    if name == tables.UNDEFENDED:
        return "Undefended"
    known = registry.defences().get(name)
    return known.card.title if known else name


def in_order(found: Sequence[Cell]) -> list[Cell]:
    """Return cells by defence, in the order in which the app lists the defences everywhere else."""
    order = [tables.UNDEFENDED, *registry.defences()]
    # One that the registry does not know (of an older table) goes last.
    return sorted(found, key=lambda cell: (*order, cell.defence).index(cell.defence))


def attack_names() -> dict[str, str]:
    """Return attack → its name in a visitor's words."""
    return {name: kind.title for name, kind in ATTACKS.items()}


def short_title(name: str) -> str:
    """Return a model's name as it stands in a sentence."""
    if name == tables.UNDEFENDED:
        return "the undefended model"
    return defence_title(name).partition(" (")[0]


def _named(text: str) -> str:
    """Return notes of `evaluation.wording` with the names that the page uses, not the table's."""
    names = {name: f"“{title}”" for name, title in attack_names().items()}
    names[tables.UNDEFENDED] = short_title(tables.UNDEFENDED)
    found = re.compile(rf"\b({'|'.join(sorted(names, key=len, reverse=True))})\b")
    return found.sub(lambda name: names[name[0]], text)


def claims_html(findings: Sequence[Finding]) -> str:
    """Draw one card a claim: how it stands, in a sentence, and folded away every figure."""
    names = attack_names()
    cards = []
    for finding in findings:
        style, claim = _STYLES[finding.verdict], finding.claim
        lines = [wording.sentence(one, names) for one in finding.held]
        lines += [f"{names.get(name, name)}: not in the table." for name in finding.missing]
        told = "".join(f"<li>{escape(line)}</li>" for line in lines)
        claimed = "" if finding.verdict == "baseline" else "<b>Claimed:</b> "
        differs = f'<p class="hf-small">{escape(claim.differs)}</p>' if claim.differs else ""
        cards.append(
            f'<article class="hf-claim {style}"><header><h3>{escape(claim.title)}</h3>'
            f'<span class="hf-badge {style}">{VERDICTS[finding.verdict]}</span></header>'
            f"<p>{escape(wording.in_short(finding, short_title(claim.defence)))}</p>"
            f'<p class="hf-small">{claimed}{escape(claim.says)}</p>'
            f'{fold("Figures", f"{differs}<ul>{told}</ul>")}</article>'
        )
    return f'<div class="hf-claims">{"".join(cards)}</div>'


def matrix_html(found: Sequence[Cell]) -> str:
    """Draw the table of means: one row an attack and method, one column a defence.

    Each cell has a button a seed, whose ``data-pick`` is its run.
    """
    if not found:
        return empty("Nothing of that kind was measured", "Choose another filter.")
    defences = list(dict.fromkeys(cell.defence for cell in found))
    rows = list(dict.fromkeys((cell.attack, cell.method) for cell in found))
    # By attack first, whichever method was run first.
    attacks = list(dict.fromkeys(attack for attack, _ in rows))
    rows.sort(key=lambda row: (attacks.index(row[0]), list(wording.METHODS).index(row[1])))
    placed = {(cell.defence, cell.attack, cell.method): cell for cell in found}
    names = attack_names()
    body = []
    for attack, method in rows:
        row = "".join(
            f"<td>{_cell(placed[at]) if (at := (defence, attack, method)) in placed else '–'}</td>"
            for defence in defences
        )
        body.append(
            f'<tr><th scope="row">{escape(names.get(attack, attack))}'
            f"<small>{wording.METHODS[method]}</small></th>{row}</tr>"
        )
    heads = "".join(f'<th scope="col">{escape(defence_title(name))}</th>' for name in defences)
    return _scroller(f'<th scope="col">Attack</th>{heads}', "".join(body), "hf-matrix")


def _cell(cell: Cell) -> str:
    row, attack = cell.verdict, attack_names().get(cell.attack, cell.attack)
    return (
        f"{_badge(row)}<dl>{_skill(row)}{_shares('Harm', row, 'harm')}{_content(row)}"
        f"{_styles(row)}{_shares('Ability', row, 'ability')}</dl>"
        f'<p class="hf-small">{escape(_effort(row))}</p>'
        f"{_seeds(cell.runs, defence_title(cell.defence), attack)}"
    )


def _badge(row: Row) -> str:
    style = OUTCOME_STYLES[outcomes.outcome(row)]
    mark = f" {wording.FORMER}" if row.get("former_judge") else ""
    return f'<span class="hf-badge {style}">{wording.outcome_text(row)}{mark}</span>'


def _shares(title: str, row: Row, name: str) -> str:
    spread = wording.interval_text(row.get(f"{name}_after_ci"))
    return (
        f"<dt>{title}</dt><dd>{row[f'{name}_before']:.0%} → <b>{row[f'{name}_after']:.0%}</b>"
        f"{f'<small>{spread}</small>' if spread else ''}</dd>"
    )


def _skill(row: Row) -> str:
    known = row["attack"] == outcomes.SKILL and row["skill_before"] is not None
    return _shares("Skill", row, "skill") if known else ""


def _content(row: Row) -> str:
    substance = row["substance_after"]
    return "" if substance is None else f"<dt>With content</dt><dd><b>{substance:.0%}</b></dd>"


def _styles(row: Row) -> str:
    """Draw the harm in styles that no defence was trained on, and in each, where measured."""
    if not wording.asked_styles([row]):
        return ""
    each = ", ".join(
        f"{name} {row['harm_by_style_after'][style]:.0%}" for style, name in wording.STYLES.items()
    )
    return (
        f"<dt>In new styles</dt><dd>{wording.styles_text(row)}<small>{escape(each)}</small></dd>"
    )


def unattacked_html(rows: Sequence[Row]) -> str:
    """Draw the harm of each arm before any attack, plainly asked and in each style.

    Args:
        rows: of `tables.STYLES_TABLE`; at least one.
    """
    heads, *lines = wording.styles_lines(rows)
    drawn = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(defence_title(arm))}</th>'
        f"{''.join(f'<td>{share}</td>' for share in shares)}</tr>"
        for arm, *shares in lines
    )
    return _scroller(drawn, body, "hf-lines", "Harm in styles that no defence was trained on")


def unseen_html(rows: Sequence[Row]) -> str:
    """Draw what asking other topics than the defences' comes to; nothing if that was not measured.

    A line has a button a seed, whose ``data-pick`` is its run.

    Args:
        rows: the table.
    """
    lines = wording.unseen_lines(rows)
    if not lines:
        return ""
    names, body = attack_names(), []
    for (row, _), (arm, beside, attack, *parts) in zip(unseen_pairs(rows), lines[1:], strict=True):
        arm, attack = defence_title(arm), names.get(attack, attack)
        told = (defence_title(beside), attack, *parts)
        body.append(
            f'<tr><th scope="row">{escape(arm)}</th>'
            f"{''.join(f'<td>{escape(part)}</td>' for part in told)}"
            f"<td>{_seeds(runs_of(row, rows), arm, attack)}</td></tr>"
        )
    drawn = "".join(f'<th scope="col">{escape(head)}</th>' for head in (*lines[0], "Run"))
    label = "Attacks with requests that no defence was trained on"
    return _scroller(drawn, "".join(body), "hf-lines", label)


def _seeds(rows: Sequence[Row], arm: str, attack: str) -> str:
    """Draw a button for each run.

    Args:
        rows: of kind ``run``.
        arm: the arm's name in a visitor's words.
        attack: the attack's.
    """
    buttons = "".join(
        f'<button type="button" data-pick="{escape(str(row["run"]))}" aria-label="Open the run of '
        f'{escape(arm)}, {escape(attack)}, seed {row["seed"]:d}">seed {row["seed"]:d}</button>'
        for row in rows
    )
    return f'<div class="hf-seeds">{buttons}</div>'


def _effort(row: Row) -> str:
    parts = [] if row["learning_rate"] is None else [f"rate {decimal(row['learning_rate'])}"]
    if row["steps_to_break"] is not None:
        parts.append(f"harm above {outcomes.HARM_LIMIT:.0%} from step {row['steps_to_break']:g} on")
    return " · ".join([*parts, f"{row['seconds']:.0f} s"])


def runs_html(rows: Sequence[Row]) -> str:
    """Draw every run as a line of its own, whose button's ``data-pick`` is the run.

    Args:
        rows: of kind ``run``.
    """
    if not rows:
        return empty("Nothing of that kind was measured", "Choose another filter.")
    names, styled = attack_names(), wording.asked_styles(rows)
    body = []
    for row in rows:
        arm = defence_title(row["arm"])
        if row["arm"] == tables.UNDEFENDED:
            arm += f", beside {defence_title(row['defence'])}"
        rate, steps = row["learning_rate"], row["steps_to_break"]
        attack = names.get(row["attack"], row["attack"])
        facts = (
            attack, wording.METHODS[tables.method_of(row)],
            "" if rate is None else decimal(rate),
            f"{row['harm_before']:.0%} → {row['harm_after']:.0%}",
            "" if row["substance_after"] is None else f"{row['substance_after']:.0%}",
            *[wording.styles_text(row)] * styled,
            f"{row['ability_before']:.0%} → {row['ability_after']:.0%}",
        )  # fmt: skip
        body.append(
            f'<tr><th scope="row">{escape(arm)}</th>'
            f"{''.join(f'<td>{escape(fact)}</td>' for fact in facts)}<td>{_badge(row)}</td>"
            f"<td>{'' if steps is None else f'{steps:g}'}</td><td>{row['seconds']:.0f}</td>"
            f"<td>{escape(wording.format_text(row))}</td>"
            f"<td>{_seeds([row], arm, attack)}</td></tr>"
        )
    heads = ("Model", "Attack", "Method", "Rate", "Harm", "With content",
             *["In new styles"] * styled, "Ability", "Outcome", "Steps to break", "Seconds",
             "Format", "Run")  # fmt: skip
    drawn = "".join(f'<th scope="col">{head}</th>' for head in heads)
    return _scroller(drawn, "".join(body), "hf-lines")


def _scroller(heads: str, body: str, style: str, label: str = "Stress test") -> str:
    table = f'<table class="hf-table {style}"><thead><tr>{heads}</tr></thead>'
    return scroller(f"{table}<tbody>{body}</tbody></table>", label, "hf-evidence")


def chart_html(found: Sequence[Cell]) -> str:
    """Draw harm after the attack over the ability that is left, one mark a cell, with its key."""
    defended = [name for name in dict.fromkeys(cell.defence for cell in found)
                if name != tables.UNDEFENDED]  # fmt: skip
    names, keys, marks = attack_names(), [], []
    for cell in found:
        row, title = cell.verdict, defence_title(cell.defence)
        undefended = cell.defence == tables.UNDEFENDED
        style, shape = ("open", 0) if undefended else ("held", defended.index(cell.defence))
        keys.append((style, shape, title))
        name = f"{title}, {names.get(cell.attack, cell.attack)}"
        if cell.method == "full":
            name += ", all weights"
        left = outcomes.kept(row) if row["ability_before"] else 0.0
        marks.append(Mark(name, style, shape, left, row["harm_after"]))
    drawn = scatter(
        "Harm against ability", "top right: the attacker has both", marks,
        ("ability left, of its start", "harm after the attack"), x_max=_RIGHT,
        x_lines=(outcomes.SEAM_ABILITY, outcomes.TAMPERBENCH_ABILITY),
        y_lines=(outcomes.HARM_LIMIT,),
    )  # fmt: skip
    return f"{shape_legend(list(dict.fromkeys(keys)))}{drawn}"


class EvidenceTab:
    """Builds the tab inside the current `gr.Tab`.

    Attributes:
        tables: pickers of runs, for `ui.attack.AttackTab.open_from`.
        message: where to say that a run is gone.
    """

    def __init__(
        self, rows: Sequence[Row], scratch: Scratch, unattacked: Sequence[Row] = ()
    ) -> None:
        """Lay out the tab and wire its filter.

        Args:
            rows: the table; without a row of kind ``verdict`` the tab says how to make one.
            scratch: where the downloads go on their way to Gradio.
            unattacked: rows of `tables.STYLES_TABLE`; without any the tab is silent of them.
        """
        self._rows = list(rows)
        self._cells = in_order(cells(self._rows))
        self.message = markup(elem_id="hf-evidence-message")
        if not self._cells:
            markup(
                empty("No table ships with the code yet", "The stress test mounts every attack on "
                      "every defence, with a seed or more, and writes it."),
                elem_id="hf-no-evidence",
            )  # fmt: skip
            markup(note(f"Make it with: {tables.COMMAND}"))
            self.tables: list[gr.HTML] = []
            return
        markup(_measured(self._cells), elem_id="hf-measured")
        markup(claims_html(claims(self._rows)), elem_id="hf-claims")
        self._lay_out_table(scratch)
        if asked := unseen_html(self._rows):
            heading("Requests that no defence was trained on")
            markup(f'<p class="hf-small">{escape(wording.UNSEEN_WORDS)}</p>')
            self.tables.append(picker(asked, elem_id="hf-evidence-unseen"))
        if unattacked:
            heading("Styles that no defence was trained on")
            markup(f'<p class="hf-small">{escape(wording.styles_words(unattacked))}</p>')
            markup(unattacked_html(unattacked), elem_id="hf-evidence-styles")

    def _lay_out_table(self, scratch: Scratch) -> None:
        names = attack_names()
        defences, attacks, methods = (
            dict.fromkeys(getattr(cell, name) for cell in self._cells)
            for name in ("defence", "attack", "method")
        )
        heading("Every cell of the table")
        with gr.Row(elem_classes="hf-filter"):
            filters = [
                gr.Dropdown(
                    [("All", ""), *choices], value="", label=label, elem_id=f"hf-filter-{name}",
                    min_width=180,
                )
                for name, label, choices in (
                    ("defence", "Defence", [(defence_title(name), name) for name in defences]),
                    ("attack", "Attack", [(names.get(name, name), name) for name in attacks]),
                    ("method", "Method", [(wording.METHODS[name], name) for name in methods]),
                )
            ]  # fmt: skip
            filters.append(
                gr.Radio(
                    [("Means", "means"), ("All seeds", "seeds")], value="means", label="Show",
                    elem_id="hf-filter-show", min_width=180,
                )
            )  # fmt: skip
        words = (escape(_named(text)) for text in (wording.rules(), wording.SHARED))
        told = "".join(f'<p class="hf-small">{text}</p>' for text in words)
        markup(fold("How to read the table", told), elem_id="hf-rules")
        table = picker(matrix_html(self._cells), elem_id="hf-evidence")
        self.tables = [table]
        self.chart = markup(chart_html(self._cells), elem_id="hf-evidence-chart")
        folder = scratch.new()
        for suffix, text in (("csv", tables.csv_text(self._rows)),
                             ("jsonl", tables.jsonl_text(self._rows))):  # fmt: skip
            (folder / f"holdfast-evidence.{suffix}").write_text(text, encoding="utf-8")
        with gr.Row(elem_classes="hf-chips"):
            for suffix in ("csv", "jsonl"):
                gr.DownloadButton(
                    f"Download as {suffix.upper()}", folder / f"holdfast-evidence.{suffix}",
                    size="sm", elem_id=f"hf-evidence-{suffix}",
                )  # fmt: skip
        gr.on([each.change for each in filters], self.draw, filters, [table, self.chart],
              **QUIET)  # fmt: skip

    def draw(self, defence: str, attack: str, method: str, show: str) -> tuple[str, str]:
        """Draw the cells that the filter lets through, as means or as single runs."""
        found = chosen(self._cells, defence, attack, method)
        if show == "seeds":
            return runs_html(runs(self._rows, found)), chart_html(found)
        return matrix_html(found), chart_html(found)


def _measured(found: Sequence[Cell]) -> str:
    """Say what the figures rest on."""
    row = found[0].verdict
    seeds = sorted({cell.verdict["seeds"] for cell in found})
    arms = {cell.defence: defence_title(cell.defence) for cell in found}
    lacking = wording.gaps(found, attack_names(), arms)
    many = f"{seeds[0]:d} seed(s)" if len(seeds) == 1 else f"{seeds[0]:d} to {seeds[-1]:d} seeds"
    how = (
        f'<p class="hf-small">Measured on the models of the profile <b>{escape(row["profile"])}</b>'
        f": before and after each attack every model is asked {row['prompts']:d} held-out red-team "
        f"prompts and {row['questions']:d} ability questions, with {many}. Small figures beside a "
        "share are the 95% interval of the mean over seeds; of one seed, for the choice of the "
        f"questions alone. {escape(wording.former_words(found) + lacking)}</p>"
    )
    return (
        '<p class="hf-lead">What holds or breaks here is evidence about these models, not about '
        f"the larger ones of the papers.</p>{fold('How it was measured, and what was not', how)}"
    )
