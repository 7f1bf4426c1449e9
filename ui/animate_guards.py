"""The panel of the guards: their switches and strengths, and the attack on them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from adapters import registry
from ui import results
from ui.blocks import QUIET, heading, markup
from ui.engines import Engines
from ui.guard_attack import ATTACKED, GuardAttack
from ui.markup import note
from ui.session import Scratch, Session, Sessions


class GuardPanel:
    """Builds the panel inside the current layout, and tells what its fields say.

    Attributes:
        names: of all guards for animation.
        switches: a checkbox for each.
        strengths: a slider for each.
        lacking: of each guard that was not trained when the page was made: how to.
        refused: of each other guard: why it cannot be used, should the model refuse it.
        attack: the panel that fine-tunes guards away; None where there is none to attack.
        inputs: the components whose values `read` takes.
        fields: the components that `restored` fills.
    """

    def __init__(self, engines: Engines, sessions: Sessions, scratch: Scratch) -> None:
        """Lay out the panel; `wire` makes it work.

        Args:
            engines: the models.
            sessions: what each visitor has open.
            scratch: where attackers' LoRAs are written.
        """
        self.engines = engines
        self.names = registry.names("animation")
        self.switches: list[gr.Checkbox] = []
        self.strengths: list[gr.Slider] = []
        self.lacking: dict[str, gr.HTML] = {}
        self.refused: dict[str, gr.HTML] = {}
        self.attack: GuardAttack | None = None
        heading("3 · Guards")
        for name in self.names:
            self._guard(name)
        if not self.names:
            markup(note("No guard for animation is installed."))
        if self.refused:
            self.attack = GuardAttack(engines, sessions, scratch, list(self.refused))
        use = [self.attack.use] if self.attack else []
        self.inputs = [*self.switches, *self.strengths, *use]
        self.fields = [*self.switches, *self.strengths, *self.lacking.values(), *use]

    def _guard(self, name: str) -> None:
        card = registry.get(name).card
        missing = self.engines.missing_adapter(name)
        # One of each kind at first.
        rivals = registry.rivals(name, [*self.lacking, *self.refused])
        with gr.Column(elem_classes="hf-guard"):
            self.switches.append(
                gr.Checkbox(
                    not missing and not rivals,
                    label=card.title,
                    info=f"Aimed at: {card.aimed_at}",
                    interactive=not missing,
                    elem_id=f"hf-guard-{name}",
                )
            )
            self.strengths.append(
                gr.Slider(
                    0,
                    results.MAX_STRENGTH,
                    1.0,
                    step=0.05,
                    label="Strength",
                    interactive=not missing,
                )
            )
            if missing:
                self.lacking[name] = markup(_why_not(missing))
            else:
                self.refused[name] = markup()

    def wire(self) -> None:
        """Let a switch put out its rivals, and have guards left out that the model refuses."""
        for name, switch in zip(self.names, self.switches, strict=True):
            rivals = registry.rivals(name, self.names)
            off = [self.switches[self.names.index(rival)] for rival in rivals]
            if off:
                switch.input(partial(_instead, len(off)), switch, off, queue=False, **QUIET)
        if self.refused:
            some = [self.names.index(name) for name in self.refused]
            fields = [field[at] for field in (self.switches, self.strengths) for at in some]
            # At each opening of the page: only the loaded model tells which guards fit.
            noted = [*fields, *self.refused.values()]
            gr.on(None, self.leave_out, None, noted, queue=False, **QUIET)

    def leave_out(self) -> list[Any]:
        """Switch guards off that the model refused, and say why.

        Returns:
            Switches, then strengths, then notes of the guards that were there when the page was
            made.
        """
        reasons = [self.engines.missing_adapter(name) for name in self.refused]
        return [
            *[gr.Checkbox(False, interactive=False) if why else gr.skip() for why in reasons],
            *[gr.Slider(interactive=False) if why else gr.skip() for why in reasons],
            *map(_why_not, reasons),
        ]

    def usable(self, wanted: dict[str, float]) -> dict[str, float]:
        """Return those of the guards that can be used now, with their strengths."""
        here = self._here()
        return {name: strength for name, strength in wanted.items() if name in here}

    def restored(self, wanted: dict[str, float]) -> tuple:
        """Return values of `fields` where the guards of a result are switched on again.

        Args:
            wanted: the result's, with their strengths; those that cannot be used stay off.
        """
        here = self._here()
        usable = {name: strength for name, strength in wanted.items() if name in here}
        return (
            *[gr.Checkbox(name in usable, interactive=name in here) for name in self.names],
            *[
                gr.Slider(value=usable[name], interactive=True) if name in usable
                else gr.Slider(interactive=name in here)
                for name in self.names
            ],
            *["" if name in here else gr.skip() for name in self.lacking],
            *([gr.Checkbox(False)] if self.attack else []),
        )  # fmt: skip

    def read(self, values: Sequence[Any]) -> tuple[dict[str, float], bool]:
        """Return the guards that are on, and whether the attacked one is to be drawn with.

        Args:
            values: of `inputs`.
        """
        count = len(self.names)
        switches, strengths = values[:count], values[count : 2 * count]
        chosen = {
            guard: float(strength)
            for guard, on, strength in zip(self.names, switches, strengths, strict=True)
            if on
        }
        return chosen, any(values[2 * count :])

    def checked(
        self, session: Session, chosen: dict[str, float], attacked: bool
    ) -> dict[str, float]:
        """Return the guards that a pair is made with.

        Args:
            session: the visitor's.
            chosen: those that are on.
            attacked: whether the attacked one is to be drawn with.

        Raises:
            ValueError: they do not go together, or there is no attacked one any more.
        """
        registry.check_together(list(chosen))
        if self.attack is None:
            return chosen
        return self.attack.with_attack(session, chosen, attacked)

    def _here(self) -> list[str]:
        """Name the guards that can be used; since the page was made some may have been trained."""
        return [name for name in self.names if not self.engines.missing_adapter(name)]


def guard_note(guards: dict[str, float]) -> str:
    """Return guards and strengths as shown beside a clip."""
    titles = {name: defence.card.title for name, defence in registry.defences().items()}
    return ", ".join(
        "attacked" if name.startswith(ATTACKED) else f"{titles.get(name, name)} × {value:g}"
        for name, value in guards.items()
    )


def _instead(count: int, on: bool) -> Any:
    """Switch the other forms of a guard off where it was switched on."""
    others = [gr.Checkbox(False) if on else gr.skip() for _ in range(count)]
    return others if count > 1 else others[0]


def _why_not(reason: str) -> str:
    """Return the note beside a guard that cannot be used; nothing without a reason."""
    return note(reason, "warn")
