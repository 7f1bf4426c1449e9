"""The heavy parts behind the page, loaded in the background so that the page opens at once.

The page is interactive while models load; a part that is not ready says so, and a part whose
weights are missing names the command that makes them. Torch and friends are imported in the
loading thread, not at start.
"""

from __future__ import annotations

import logging
import re
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.runs import SEE_LOG, RunStore, public_error
from pipelines.fetch import MissingWeights
from pipelines.memory import return_freed_memory
from pipelines.paths import runs_dir
from pipelines.profiles import Profile

if TYPE_CHECKING:
    from adapters.attacks.runner import AttackRunner
    from evaluation.judge import Judge
    from evaluation.pictures import Examiner
    from evaluation.reader import Reader
    from evaluation.runs import Run
    from pipelines.animation import AnimationEngine
    from pipelines.llm import ChatEngine
    from pipelines.portraits import PortraitEngine

MAX_ATTACKED_ARMS = 4
"""Attacked models, and arms at another strength than 1, kept in memory for Chat; the one unused for
longest makes room. Those that are answering stay, so that there can be more for a while."""

KEPT_MODELS = 2
"""How many attacks on all weights keep the attacked models on disk, half a gigabyte each here."""

KEPT_ADAPTERS = 60
"""How many attacks keep the attacker's LoRAs on disk, some 33 MB each here."""

LONGEST_ATTACK = 60 * 60.0
"""Seconds after which an attack is stopped: twice the longest estimate that may be started."""

_log = logging.getLogger(__name__)

_STRENGTH = re.compile(r"[0-9](\.[0-9])?")

MAX_STRENGTH = 1.5
"""Strongest that an arm's adapter can be made to act in Chat."""


def split_strength(name: str) -> tuple[str, float]:
    """Take an arm's strength off its name, as in ``sdd@0.5``; without one it is 1.

    Raises:
        ValueError: the strength is no number from 0 to `MAX_STRENGTH` in steps of 0.1, or the arm
            is the base model, which has no adapter.
    """
    arm, at, digits = name.partition("@")
    if not at:
        return name, 1.0
    if not _STRENGTH.fullmatch(digits) or float(digits) > MAX_STRENGTH:
        raise ValueError(
            f"strength of {arm[:80]!r} is {digits[:20]!r}; it must be 0 to {MAX_STRENGTH:g} in "
            "steps of 0.1"
        )
    if arm == "base":
        raise ValueError("arm 'base' has no adapter; it takes no strength")
    return arm, float(digits)


def with_strength(name: str, strength: float) -> str:
    """Return an arm's name with a strength, rounded to a tenth; 1 is not written."""
    tenths = round(10 * strength)
    return name if tenths == 10 else f"{name}@{tenths / 10:g}"


class NotReady(RuntimeError):
    """A part is still loading or could not be loaded; the message says what to do."""


def told(error: Exception) -> str:
    """Return what a visitor reads of an error: our own words, or no more than its kind.

    What is kept back goes into the log.
    """
    if isinstance(error, NotReady | KeyError) and error.args:
        return str(error.args[0])
    words = public_error(error)
    if words.endswith(SEE_LOG):
        _log.error("a visitor was told only: %s", words, exc_info=error)
    return words


class Part:
    """One engine: loads once, in the background, and says how it stands.

    Attributes:
        label: what it is, in a visitor's words.
        state: ``waiting``, ``loading``, ``ready`` or ``failed``.
        message: what is being done, or what went wrong.
        fraction: 0..1 where known, else None.
    """

    def __init__(self, label: str, load: Callable[[Part], Any]) -> None:
        """Describe a part.

        Args:
            label: what it is.
            load: makes the engine; may set ``message`` and ``fraction`` meanwhile.
        """
        self.label = label
        self.state = "waiting"
        self.message = ""
        self.fraction: float | None = None
        self._load = load
        self._value: Any = None
        self._lock = threading.Lock()
        self._retrying = threading.Lock()

    def load(self) -> None:
        """Load unless it is loaded; errors are kept as the part's message."""
        with self._lock:
            if self.state == "ready":
                return
            self.state, self.message, self.fraction = "loading", f"{self.label} is loading", None
            try:
                self._value = self._load(self)
            except MissingWeights as error:  # its message holds the command
                self.state, self.message = "failed", told(error)
            except Exception as error:  # a broken part must not take the page down
                traceback.print_exc()
                why = str(error) if isinstance(error, NotReady) else public_error(error)
                self.state = "failed"
                self.message = f"{self.label} could not be loaded: {why}"
            else:
                self.state, self.message = "ready", ""

    def get(self) -> Any:
        """Return the engine.

        Raises:
            NotReady: it is loading, or loading failed; a failed part is tried once more in the
                background, so that weights made meanwhile are found at the next try.
        """
        if self.state == "ready":
            return self._value
        message = self.message or f"{self.label} is loading; try again in a few seconds"
        # Every look at the page comes by here; one attempt at a time is enough.
        if self.state == "failed" and self._retrying.acquire(blocking=False):
            threading.Thread(target=self._load_again, daemon=True).start()
            message += "\nTrying again now."  # on its own line: the one before may be a command
        raise NotReady(message)

    def _load_again(self) -> None:
        try:
            self.load()
        finally:
            self._retrying.release()


class Engines:
    """All parts of the app for one profile."""

    def __init__(
        self, profile: Profile, *, store: RunStore | None = None, set_up: bool = True
    ) -> None:
        """Describe the parts; `start` loads them.

        Args:
            profile: which weights.
            store: where runs live; the default is `runs_dir()`.
            set_up: fetch what is missing first (needed where nothing ran ``pipelines.fetch``).
        """
        self.profile = profile
        self.store = store or RunStore(runs_dir())
        self._set_up = set_up
        self.setup = Part("Set-up", self._fetch)
        self._chat = Part("The language model", self._load_chat)
        self._judge = Part("The judge", self._load_judge)
        self._animation = Part("The animation model", self._load_animation)
        self._runner = Part("The attack runner", self._load_runner)
        self._pictures = Part("The picture model", self._load_pictures)
        # Loaded attacked arms and arms at another strength, oldest use first, and how many replies
        # use each just now.
        self._attacked: dict[str, int] = {}
        self._attacked_lock = threading.Lock()
        self._guards_lock = threading.Lock()
        self._examiner: Examiner | None = None
        self._unfit: dict[str, str] = {}  # guards that the model refused, and why

    def start(self) -> None:
        """Load everything in one background thread, the quickest first."""
        threading.Thread(target=self._load_all, name="holdfast-load", daemon=True).start()

    def status(self, *names: str) -> list[Part]:
        """Return the parts, of those named, that are not ready; before them set-up if it is not.

        Once they are all ready, a set-up that failed is of no account.

        Args:
            names: any of ``chat``, ``judge``, ``animation``, ``runner``, ``pictures``.
        """
        parts = [part for name in names if (part := getattr(self, f"_{name}")).state != "ready"]
        return [self.setup, *parts] if parts and self.setup.state != "ready" else parts

    @property
    def chat(self) -> ChatEngine:
        """The chat engine; raises `NotReady`."""
        return self._chat.get()

    @property
    def judge(self) -> Judge:
        """The judge of replies; raises `NotReady`."""
        return self._judge.get()

    @property
    def animation(self) -> AnimationEngine:
        """The animation engine; raises `NotReady`."""
        return self._animation.get()

    def guarded_animation(self, guards: Iterable[str]) -> AnimationEngine:
        """Return the animation engine; guards trained since it was loaded are added first.

        Args:
            guards: names of those that are wanted; what is no guard here the engine will refuse.

        Raises:
            NotReady: it is not loaded.
            ValueError: a guard's weights do not fit the model.
        """
        engine = self.animation
        self._add_guards(engine, guards)
        return engine

    @cached_property
    def reader(self) -> Reader | None:
        """What finds the joints of the embedded profile's dolls.

        None of another profile, and without its weights: a pair is shown all the same.
        """
        if self.profile.drawing != "embedded":
            return None
        from evaluation.reader import Reader

        try:
            return Reader.load()
        except Exception as error:  # missing, damaged or of another vocabulary
            _log.warning("pairs are not measured: %s", error)
            return None

    @property
    def pictures(self) -> PortraitEngine:
        """The engine of single pictures; raises `NotReady`."""
        return self._pictures.get()

    @property
    def examiner(self) -> Examiner | None:
        """What reads single pictures; None of another profile, and while its weights are missing.

        Then it is looked for again at the next use.
        """
        if self._examiner is None and self.profile.drawing == "embedded":
            from evaluation.pictures import Examiner

            try:
                self._examiner = Examiner()
            except Exception as error:  # missing, damaged or of another vocabulary
                _log.warning("pictures are not read: %s", error)
        return self._examiner

    @property
    def runner(self) -> AttackRunner:
        """The attack queue; raises `NotReady`."""
        return self._runner.get()

    @contextmanager
    def chat_arms(self, names: Sequence[str]) -> Iterator[dict[str, str]]:
        """Keep arms loaded while they answer.

        Args:
            names: of each a defence's name, ``base``, or ``<run id>/<arm>`` of an attack that has
                ended; each but ``base`` may end in ``@`` and a strength (`split_strength`).

        Yields:
            name → its name in the chat engine.

        Raises:
            KeyError: there is no such arm or run, or the run has no weights of that arm.
            ValueError: a strength is wrong.
            NotReady: the language model is not loaded, or the attack still goes on.
        """
        with ExitStack() as held:
            yield {name: held.enter_context(self._chat_arm(name)) for name in names}

    @contextmanager
    def _chat_arm(self, name: str) -> Iterator[str]:
        """Keep one arm loaded; see `chat_arms`."""
        chat = self.chat
        arm, strength = split_strength(name)
        if "/" not in arm and (arm not in chat.arms or "__" in arm):
            known = ", ".join(known for known in chat.arms if "__" not in known)
            raise KeyError(f"there is no model {arm[:80]!r}; choose from {known}")
        if "/" not in arm and strength == 1.0:
            yield arm
            return
        folder = self._adapter(arm)
        loaded = arm.replace("/", "__")
        if strength != 1.0:
            loaded += f"__at{round(10 * strength):02d}"
        with self._attacked_lock:
            chat.add_arm(loaded, folder, strength)  # no effect if it is there
            self._attacked[loaded] = self._attacked.pop(loaded, 0) + 1  # now the latest used
            self._make_room(chat)
        try:
            yield loaded
        finally:
            with self._attacked_lock:
                self._attacked[loaded] -= 1
                self._make_room(chat)

    def _adapter(self, arm: str) -> Path:
        """Return the folder of a defence's adapter, or of one that an attack left."""
        if "/" not in arm:
            from adapters import registry

            return registry.adapter_folder(arm, self.profile)
        run_id, arm = arm.split("/", 1)
        run = self.store.get(run_id)
        if not self.is_of_this_model(run):
            raise KeyError(f"run {run_id} is of another chat model, {run.info['profile']!r:.80}")
        if run.info["status"] == "running":
            # Its weights are those of the last probe. Loaded now, they would stay in memory and
            # answer for the finished attack later.
            raise NotReady(
                f"run {run_id} is still running; its models can answer once it has ended"
            )
        folders = run.adapters()
        if arm in run.models():
            raise KeyError(
                f"run {run_id} trained all weights; its models are no LoRAs and cannot be mounted "
                "beside the other models. Ask them with python -m evaluation.chat --run"
            )
        if run.info["config"].get("attack") == "prefill":
            raise KeyError(
                f"run {run_id} changed no weights; ask {arm[:80]!r} itself and force the beginning "
                "of its reply"
            )
        if arm not in folders:
            raise KeyError(
                f"run {run_id} holds no weights of {arm[:80]!r}; if it is one of its models, "
                "others have been attacked since, and only the newest attacks keep theirs: mount "
                "it again"
            )
        return folders[arm]

    def is_of_this_model(self, run: Run) -> bool:
        """Whether what a run attacked is the chat model that answers here."""
        return run.info["profile"] == self.profile.name

    def _make_room(self, chat: ChatEngine) -> None:
        """Drop attacked arms above the limit, longest unused first; called with their lock held."""
        unused = [arm for arm, users in self._attacked.items() if not users]
        for arm in unused[: max(0, len(self._attacked) - MAX_ATTACKED_ARMS)]:
            del self._attacked[arm]
            chat.remove_arm(arm)

    def missing_adapter(self, name: str) -> str:
        """Return why a defence cannot be used, and how to make what is missing or does not fit.

        Nothing if it can, as far as is known: whether a guard fits the model is seen when it is
        added.
        """
        from adapters import registry

        try:
            registry.adapter_folder(name, self.profile)
        except MissingWeights as missing:
            try:
                registry.get(name).check_profile(self.profile)
            except ValueError as error:
                return told(error)
            return f"{told(missing)}, then restart the app"
        unfit = self._unfit.get(name, "")
        return unfit and f"{unfit}, then restart the app"

    def _load_all(self) -> None:
        from adapters.attacks.runner import import_trainers

        parts = [self.setup, self._chat, self._judge, self._runner, self._animation]
        for part in [*parts, *[self._pictures] * self.draws_pictures]:
            part.load()
        import_trainers()
        return_freed_memory()  # what loading took for a moment: on a GPU nothing else is as large

    def _fetch(self, part: Part) -> bool:
        if self._set_up:
            from pipelines.fetch import ensure

            def tell(message: str, fraction: float) -> None:
                part.message, part.fraction = message, fraction

            try:
                ensure(self.profile, tell)
            except (RuntimeError, OSError) as error:
                raise NotReady(
                    "not everything could be fetched. Check the network, then run: "
                    f"python -m pipelines.fetch --profile {self.profile.drawing}"
                ) from error
        return True

    def _load_chat(self, part: Part) -> ChatEngine:
        from adapters import registry
        from pipelines.fetch import MissingWeights
        from pipelines.llm import ChatEngine

        engine = ChatEngine(self.profile)
        engine.add_arm("base", None)
        for name in registry.names("llm"):
            try:
                engine.add_arm(name, registry.adapter_folder(name, self.profile))
            except MissingWeights:
                continue  # its card and the arm's note say how to make it
        return engine

    def _load_judge(self, part: Part) -> Judge:
        from evaluation.judge import Judge

        return Judge()

    def _load_animation(self, part: Part) -> AnimationEngine:
        from adapters import registry
        from pipelines.animation import AnimationEngine

        engine = AnimationEngine(self.profile)
        for name in registry.defences():
            try:
                self._add_guards(engine, [name])
            except ValueError:  # the guard's switch says why; all else works without it
                traceback.print_exc()
        return engine

    def _add_guards(self, engine: AnimationEngine, names: Iterable[str]) -> None:
        """Add those of the named guards that are trained and that the engine lacks.

        Raises:
            ValueError: one does not fit the model; those after it are not added.
        """
        from adapters import registry

        known = registry.names("animation")
        with self._guards_lock:  # two visitors may be the first with a new guard
            for name in names:
                if name not in known or name in engine.guards:
                    continue
                try:
                    engine.add_guard(name, registry.adapter_folder(name, self.profile))
                except MissingWeights:
                    continue  # the guard's switch says how to make it
                except ValueError as error:
                    self._unfit[name] = (
                        f"{told(error)}. Train it anew with: python -m adapters.train {name} "
                        f"--profile {self.profile.drawing}"
                    )
                    raise ValueError(self._unfit[name]) from error
                self._unfit.pop(name, None)

    @property
    def draws_pictures(self) -> bool:
        """Whether the profile has a defence of single pictures to show."""
        from adapters import registry

        names = registry.offered("pictures", self.profile)
        return any(not self.missing_adapter(name) for name in names)

    def _load_pictures(self, part: Part) -> PortraitEngine:
        from adapters import registry
        from pipelines.portraits import PortraitEngine

        engine = PortraitEngine(self.profile)
        for name in registry.offered("pictures", self.profile):
            try:
                engine.add_arm(name, [registry.adapter_folder(name, self.profile)])
            except MissingWeights:
                continue  # its card says how to make it
            except (RuntimeError, ValueError):  # made for another model; all else works without it
                traceback.print_exc()
        return engine

    def _load_runner(self, part: Part) -> AttackRunner:
        from adapters.attacks.runner import AttackRunner

        kept = KEPT_MODELS, KEPT_ADAPTERS
        return AttackRunner(self.profile, self.store, kept, LONGEST_ATTACK)
