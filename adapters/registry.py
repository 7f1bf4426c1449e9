"""Which defences there are, what is known about each, and where its shipped adapter lies.

A defence module calls `register` once, at import; `adapters/__init__.py` imports them all. The
facts of a `Card` are stated in one place, beside the code they describe: the UI's "How it works"
tab reads them from here.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.fetch import MissingWeights
from pipelines.paths import ASSETS

if TYPE_CHECKING:
    from pipelines.profiles import Profile

PIPELINES = ("llm", "animation", "pictures")


@dataclass(frozen=True)
class Card:
    r"""What a visitor should know of a defence.

    Attributes:
        name: identifier, also of the adapter's folder.
        title: name for people.
        paper: title of the paper.
        venue: where it appeared, with the year.
        arxiv: arXiv identifier, "" if there is none.
        licence: of this implementation.
        idea: two or three plain sentences.
        equation: the objective in LaTeX, without delimiters; it may be broken at each ``\qquad``.
        limits: what it does not do, in plain sentences.
        aimed_at: the attack it is meant to withstand.
        pipeline: "llm", "animation" or "pictures".
    """

    name: str
    title: str
    paper: str
    venue: str
    arxiv: str
    licence: str
    idea: str
    equation: str
    limits: str
    aimed_at: str
    pipeline: str

    def __post_init__(self) -> None:
        """Check the fields that other code branches on."""
        if not self.name.isidentifier():
            raise ValueError(f"name is {self.name!r}; it must be an identifier such as 'sdd'")
        if self.pipeline not in PIPELINES:
            raise ValueError(f"pipeline is {self.pipeline!r}; choose one of {PIPELINES}")


@dataclass(frozen=True)
class TrainOptions:
    """How a training is run, as opposed to what is trained (that is the defence's config).

    Attributes:
        out: folder that gets the adapter in PEFT format.
        checkpoints: folder that checkpoints are written to, each named after the settings and
            parents that it was begun with.
        max_minutes: stop and save after this time, above 0; None: run all steps.
        resume: go on from the last checkpoint if there is one. Where there is none but one of
            other settings or another parent than today's, that is refused.
    """

    out: Path
    checkpoints: Path
    max_minutes: float | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse a time limit that would stop before the first step, or never."""
        # Written so that NaN, which compares false, is refused too.
        if self.max_minutes is not None and not 0 < self.max_minutes < math.inf:
            raise ValueError(f"max_minutes is {self.max_minutes}; it must be positive")


@dataclass(frozen=True)
class Trained:
    """What a trainer tells of its training, besides the adapter that it has written.

    Attributes:
        steps: optimiser steps that the adapter has had.
        figures: measured on what no training shows; must be JSON.
        seconds_before: what earlier sessions spent on those of the steps that they made, above 0
            only where the training was resumed.
        starts_from: name → SHA-256 of weights that it went on from, besides the adapter of
            `Defence.starts_from`.
    """

    steps: int
    figures: dict[str, Any]
    seconds_before: float = 0.0
    starts_from: dict[str, str] = field(default_factory=dict)


TrainFn = Callable[[Any, "Profile", TrainOptions], Trained]
"""(config, profile, options) → what is told of it. Writes the adapter to `options.out`."""


@dataclass(frozen=True)
class Defence:
    """A registered defence: its facts, its settings and its trainer.

    Attributes:
        card: what a visitor should know.
        config_cls: dataclass of its settings.
        train: the trainer.
        starts_from: the defence whose adapter the training goes on from, "" if it starts anew.
        profiles: names of the profiles that it can be trained for; none: for all.
    """

    card: Card
    config_cls: type
    train: TrainFn
    starts_from: str = ""
    profiles: tuple[str, ...] = ()

    def fits(self, profile: Profile) -> bool:
        """Whether the defence can be trained for a profile."""
        name = profile.name if self.card.pipeline == "llm" else profile.drawing
        return not self.profiles or name in self.profiles

    def check_profile(self, profile: Profile) -> None:
        """Check that the defence can be trained for a profile.

        Raises:
            ValueError: it cannot.
        """
        if not self.fits(profile):
            raise ValueError(
                f"There is no {self.card.title} for the profile {profile.drawing!r}; it can be "
                f"had for: {', '.join(self.profiles)}"
            )


_DEFENCES: dict[str, Defence] = {}


def register(
    card: Card,
    config_cls: type,
    train: TrainFn,
    starts_from: str = "",
    profiles: tuple[str, ...] = (),
) -> None:
    """Make a defence known; called once at the end of its module.

    Args: as of `Defence`.

    Raises:
        ValueError: the name is taken by another module.
        TypeError: config_cls is not a dataclass with defaults and a `seed`.
    """
    known = _DEFENCES.get(card.name)
    if known is not None and known.train.__module__ != train.__module__:
        raise ValueError(f"name {card.name!r} is taken by {known.train.__module__}")
    if not is_dataclass(config_cls) or "seed" not in {f.name for f in fields(config_cls)}:
        raise TypeError(f"config_cls of {card.name!r} must be a dataclass with a field 'seed'")
    # `adapters.train` makes options of them.
    bare = [f.name for f in fields(config_cls) if f.default is f.default_factory is MISSING]
    if bare:
        raise TypeError(f"config_cls of {card.name!r} must give defaults to: {', '.join(bare)}")
    _DEFENCES[card.name] = Defence(card, config_cls, train, starts_from, profiles)


def defences() -> dict[str, Defence]:
    """Return all registered defences by name, in the order of registration."""
    return dict(_DEFENCES)


def get(name: str) -> Defence:
    """Return one defence.

    Raises:
        ValueError: there is none of that name; the message lists those there are.
    """
    if name not in _DEFENCES:
        raise ValueError(f"defence is {name!r}; choose one of {sorted(_DEFENCES)}")
    return _DEFENCES[name]


def names(pipeline: str) -> list[str]:
    """Return the names of a pipeline's defences, in the order of registration."""
    return [name for name, known in _DEFENCES.items() if known.card.pipeline == pipeline]


def offered(pipeline: str, profile: Profile) -> list[str]:
    """Return the names of a pipeline's defences that a visitor can use.

    Those with a trained adapter; where none is trained, all that can be trained for the profile, so
    that the page can say how to make them.
    """
    known = names(pipeline)
    trained = [name for name in known if _is_trained(adapter_target(name, profile))]
    return trained or [name for name in known if get(name).fits(profile)]


def rivals(name: str, others: Iterable[str]) -> list[str]:
    """Return those of some defences that are another form of a given one.

    Two are if one goes on from the other and both guard the animation model: there adapters are
    added up, and the two together would be the same guard twice.
    """
    known = get(name)
    return [
        other
        for other in others
        if known.card.pipeline == "animation"
        and (get(other).starts_from == name or known.starts_from == other)
    ]


def check_together(names: Sequence[str]) -> None:
    """Check that no two of some defences are forms of one.

    Raises:
        ValueError: two are.
    """
    for number, name in enumerate(names):
        for other in rivals(name, names[number + 1 :]):
            titles = " and ".join(get(n).card.title for n in (name, other))
            raise ValueError(f"{titles} are two forms of one guard; choose one of them")


def adapter_target(name: str, profile: Profile) -> Path:
    """Return the folder of a defence's adapter, whether or not it exists.

    The embedded profile's adapters ship in assets/adapters/<name>/; those of another profile, whose
    base model is another, lie in assets/adapters/<profile>/<name>/, and those of a chat model that
    the command line named where the profile says.
    """
    if _has_own(name, profile):
        return profile.adapters / name
    root = ASSETS / "adapters"
    return root / name if profile.drawing == "embedded" else root / profile.drawing / name


def adapter_folder(name: str, profile: Profile | None = None) -> Path:
    """Return the folder of a defence's trained adapter.

    Args:
        name: of a registered defence.
        profile: whose adapter; by default the embedded one.

    Raises:
        ValueError: there is no such defence.
        MissingWeights: it has not been trained; the message holds the command that does it.
    """
    get(name)
    command = f"python -m adapters.train {name}"
    folder = ASSETS / "adapters" / name
    if profile is not None:
        folder = adapter_target(name, profile)
        if _has_own(name, profile):
            command += f" --llm {shlex.quote(profile.llm.repo)}"
        else:
            command += f" --profile {profile.drawing}"
    if not _is_trained(folder):
        raise MissingWeights(f"The adapter {name}", folder, command)
    return folder


def _has_own(name: str, profile: Profile) -> bool:
    """Whether a defence's adapter is of the chat model that the command line named."""
    known = _DEFENCES.get(name)
    llm = known is None or known.card.pipeline == "llm"
    return llm and profile.adapters is not None


def _is_trained(folder: Path) -> bool:
    return (folder / "adapter_model.safetensors").is_file()
