"""The public endpoints: /animate, /pictures, /chat, /attack and /runs. Everything else is private.

They take and return plain JSON (and files), so that a script needs nothing but `gradio_client`.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import is_in_or_equal
from gradio.utils import get_upload_folder

from adapters import registry
from adapters.attacks.base import UNTRAINED, attack_settings
from adapters.attacks.data import OWN
from evaluation.runs import RunInfo
from pipelines.pose import PoseClip, PoseError
from pipelines.pose_json import load_openpose_json
from ui import poses
from ui.attack_presets import MAX_STEPS, refuse_long
from ui.chat import MAX_ARMS, MAX_MESSAGE, Conversation, answer
from ui.engines import Engines, NotReady, told
from ui.pictures import COUNTS, MAX_SEED, drawing_settings, save_sheet
from ui.relearn import ATTACKED, arm_title
from ui.results import MAX_PROMPT, measured, save_pair
from ui.results import MAX_STEPS as MOST_STEPS
from ui.session import Scratch

POLL_SECONDS = 0.25
AT_A_TIME = {"animate": 1, "pictures": 1, "chat": 2}
"""Calls of an endpoint that are computed at a time; more wait."""
SILENT_SECONDS = 1.0
"""Longest silence of /attack. Gradio can cancel a call only where it yields something."""


class Api:
    """The handlers of the public endpoints."""

    def __init__(self, engines: Engines, scratch: Scratch) -> None:
        """Use these parts.

        Args:
            engines: the models and the runs.
            scratch: where clips go on their way to the caller.
        """
        self.engines = engines
        self.scratch = scratch
        self._lanes = {
            name: threading.BoundedSemaphore(count) for name, count in AT_A_TIME.items()
        }

    def register(self) -> None:
        """Add the endpoints to the current `gr.Blocks`.

        Those that draw have lanes of their own, so that a script with a hundred calls keeps nobody
        from drawing on the page. /chat, whose calls take seconds, shares the page's: the chat model
        answers one at a time, and who waits for it elsewhere than in the lane cannot be stopped.
        """
        gr.api(self.animate, api_name="animate", concurrency_limit=AT_A_TIME["animate"])
        if self.engines.draws_pictures:
            gr.api(self.pictures, api_name="pictures", concurrency_limit=AT_A_TIME["pictures"])
        gr.api(
            self.chat, api_name="chat", concurrency_id="chat", concurrency_limit=AT_A_TIME["chat"]
        )
        gr.api(self.attack, api_name="attack", concurrency_limit=8)
        gr.api(self.runs, api_name="runs", concurrency_limit=None)

    def animate(
        self,
        pose: Any,
        prompt: str,
        guards: dict[str, float] | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: list[float] | None = None,
        redraw: bool | None = None,
        fit: bool = True,
    ) -> tuple[Any, Any, dict]:
        """Make a clip without and with guards, from the same seed.

        What a result's settings tell makes it again, with its pose's file and without ``fit``.

        Args:
            pose: an OpenPose JSON file, or the name of a clip of the library.
            prompt: describes the person.
            guards: name to strength, 0 to 1.5; none leaves the guarded clip out.
            seed: 0 to 2**32 - 1.
            steps: denoising steps; None: the profile's, and likewise of the next three.
            guidance_scale: classifier-free guidance, 1 for none.
            guidance_interval: least and greatest noise time, 0 to 1, at which it is on.
            redraw: whether small details are redrawn.
            fit: whether the figure of an own pose is fitted to the frame.

        Returns:
            The unguarded clip, the guarded clip (or nothing) and the settings, which hold the pose
            and, as ``measured``, how far the clips follow it.
        """
        if not isinstance(prompt, str) or len(prompt) > MAX_PROMPT:
            raise _error(f"prompt must be text of at most {MAX_PROMPT} characters")
        try:
            if not isinstance(guards, dict | None):
                raise ValueError("guards must be an object of names and strengths")
            if isinstance(steps, int) and steps > MOST_STEPS:
                raise ValueError(f"steps is {steps}; it must be at most {MOST_STEPS}")
            clip = self._pose(pose, bool(fit))
            chosen = dict(guards or {})
            # The engine holds others, of visitors who have attacked one.
            known = registry.names("animation")
            if other := [name for name in chosen if name not in known]:
                raise ValueError(f"guards names {other[0]!r}; there is: {', '.join(known)}")
            registry.check_together(list(chosen))
            interval = guidance_interval
            if interval is not None and not (isinstance(interval, list) and len(interval) == 2):
                raise ValueError("guidance_interval must be a list of two numbers")
            work = self.engines.guarded_animation(chosen).pair(
                clip, prompt, chosen, seed, steps=steps, guidance_scale=guidance_scale,
                guidance_interval=interval, redraw=redraw is not False,
            )  # fmt: skip
            with self._lane("animate"):
                *_, result = work
        except (NotReady, PoseError, ValueError, FileNotFoundError) as error:
            raise _error(told(error)) from error
        spec = self.engines.profile.animation
        result = measured(result, self.engines.reader)
        unguarded, guarded, _ = save_pair(result, self.scratch.new(), spec.fps)
        return _file(unguarded), guarded and _file(guarded), result.settings

    def pictures(
        self, prompt: str, arms: list[str] | None = None, seed: int = 0, count: int = 1
    ) -> tuple[Any, dict]:
        """Draw pictures of one prompt with several models, from the same noise.

        Args:
            prompt: describes the person and what is held.
            arms: ``base`` and defences of the picture model; None: all.
            seed: of the first picture, from 0; the next one has the next seed.
            count: pictures of each model, 1 to 6.

        Returns:
            A PNG with a row for each model, and the settings: ``prompts``, ``seed``, ``arms``,
            ``steps``, ``guidance_scale``, and as ``held`` arm → what each picture shows in the
            hand, with how sure that is, where it can be read.
        """
        if not isinstance(prompt, str) or len(prompt) > MAX_PROMPT:
            raise _error(f"prompt must be text of at most {MAX_PROMPT} characters")
        if not isinstance(count, int) or not 1 <= count <= max(COUNTS):
            raise _error(f"count is {count!r:.20}; it must be 1 to {max(COUNTS)}")
        if not isinstance(seed, int) or not 0 <= seed <= MAX_SEED:
            raise _error(f"seed is {seed!r:.20}; it must be 0 to {MAX_SEED}")
        try:
            engine = self.engines.pictures
            # The engine holds others, of visitors who have attacked one.
            known = [name for name in engine.arms if not name.startswith(ATTACKED)]
            chosen = known if arms is None else list(arms)
            if other := [name for name in chosen if name not in known]:
                raise ValueError(f"arms names {other[0]!r:.80}; there is: {', '.join(known)}")
            with self._lane("pictures"):
                *_, drawn = engine.draw([prompt] * count, seed, chosen)
        except (NotReady, ValueError) as error:
            raise _error(told(error)) from error
        settings = drawing_settings(engine, [prompt] * count, seed, chosen)
        examiner = self.engines.examiner
        if examiner is not None:
            settings["held"] = {
                arm: [[seen.held, round(seen.chance, 4)] for seen in
                      examiner.seen(pictures, [None] * count)]
                for arm, pictures in drawn.pictures.items()
            }  # fmt: skip
        file = self.scratch.new() / f"holdfast-pictures-seed-{seed}.png"
        save_sheet({arm_title(arm): p for arm, p in drawn.pictures.items()}, settings, file)
        return _file(file, "image/png"), settings

    def chat(self, message: str, arms: list[str]) -> dict:
        """Answer one message with several arms.

        Args:
            message: the user's text.
            arms: one to three of ``base``, the defences' names and ``<run id>/<arm>``; each but
                ``base`` may end in ``@`` and a strength, 0 to 1.5 in steps of 0.1.

        Returns:
            arm → ``reply``, ``verdict`` and ``confidence``.
        """
        if not isinstance(message, str) or not 0 < len(message.strip()) <= MAX_MESSAGE:
            raise _error(f"message must be text of 1 to {MAX_MESSAGE} characters")
        if not isinstance(arms, list) or not 1 <= len(set(map(str, arms))) == len(arms) <= MAX_ARMS:
            raise _error(f"arms must be a list of one to {MAX_ARMS} different names")
        conversation = Conversation([], arms=[str(arm) for arm in arms])
        try:
            with self._lane("chat"):
                *_, turn = answer(self.engines, conversation, message.strip())
        except (NotReady, KeyError, ValueError) as error:
            raise _error(told(error)) from error
        verdicts = turn["verdicts"]
        return {
            arm: {"reply": reply, "verdict": verdicts[arm][0], "confidence": verdicts[arm][1]}
            for arm, reply in turn["replies"].items()
        }

    def attack(
        self,
        request: gr.Request,
        target: str = "sdd",
        attack: str = "sft",
        steps: int = 20,
        learning_rate: float | None = None,
        seed: int = 0,
        method: str = "lora",
        data: str = "builtin",
    ) -> Iterator[str]:
        """Attack a defence and the undefended model, with built-in data if any, and report.

        Cancelling the call stops the attack; its run stays. A caller may have one attack at a
        time.

        Args:
            request: filled in by Gradio.
            target: name of the defence.
            attack: one of `adapters.attacks.base.ATTACKS`, or of `UNTRAINED`, on which steps,
                learning rate and method have no effect.
            steps: optimiser steps on each arm, of all stages together, at most 200, and no more
                than take 30 minutes here.
            learning_rate: the attacker's; None: the usual one of attack and method.
            seed: of data order and sampling; in abliteration of the choice of prompts.
            method: what is trained, ``lora`` or ``full`` (all weights). Fully trained models cannot
                answer in /chat.
            data: what is trained on, ``builtin`` or, of other topics than the defences',
                ``unseen``; of no effect where nothing is trained.

        Yields:
            JSON lines: the run's events as they come; ``{"event": "waiting", "ahead"}`` where none
            comes for a second, with the number of attacks before this one; the last line holds
            ``run_id`` and ``status``.
        """
        owner = secrets.token_urlsafe(16)
        try:
            runner = self.engines.runner
            if not isinstance(steps, int):
                raise ValueError(f"steps is {steps!r}; it must be a whole number")
            if str(data) not in OWN:  # a path would be read
                raise ValueError(f"data is {data!r:.40}; choose one of: {', '.join(OWN)}")
            config = attack_settings(
                target, attack, seed, method=method, steps=steps, learning_rate=learning_rate,
                data=data,
            )  # fmt: skip
            if attack not in UNTRAINED and steps > MAX_STEPS:
                raise ValueError(f"steps is {steps}; it must be at most {MAX_STEPS}")
            refuse_long(runner, config)
            # The owner is new with every call, so a caller is told by session and address as well.
            marks = (f"session {request.session_hash}", f"address {address(request)}")
            run_id = runner.start(config, owner, marks)
        except (NotReady, ValueError, OSError) as error:
            raise _error(told(error)) from error
        run = self.engines.store.get(run_id)
        seen, spoken = 0, time.monotonic()
        try:
            while True:
                # The place first: events that come after it was asked for are read below it. Not
                # the status, which stays "running" where the disk takes no more.
                ahead = runner.position(run_id)
                events = run.events(seen)
                seen += len(events)
                if ahead is not None and time.monotonic() - spoken > SILENT_SECONDS:
                    events = events or [{"event": "waiting", "ahead": ahead}]
                for event in events:
                    spoken = time.monotonic()
                    yield json.dumps(event)
                if ahead is None:
                    break
                time.sleep(POLL_SECONDS)
        finally:
            runner.stop(run_id, owner)  # no effect on a run that has ended
        info = run.info
        yield json.dumps({"run_id": run_id, "status": info["status"], "error": info["error"]})

    def runs(self) -> list[dict]:
        """Return all runs, newest first."""
        return [public(info) for info in self.engines.store.list()]

    @contextmanager
    def _lane(self, name: str) -> Iterator[None]:
        """Hold a place of an endpoint's while something is computed.

        Gradio takes a cancelled call off its lane, but its thread goes on to the end. Without this,
        calls that are made and cancelled would pile up.

        Raises:
            ValueError: none is free.
        """
        if not self._lanes[name].acquire(blocking=False):
            raise ValueError("A call that was cancelled is still being computed; try again soon")
        try:
            yield
        finally:
            self._lanes[name].release()

    def _pose(self, pose: Any, fit: bool) -> PoseClip:
        if isinstance(pose, str):
            if pose not in poses.library():
                known = ", ".join(poses.library())
                raise PoseError(f"there is no clip {pose[:80]!r}; choose one of: {known}")
            return poses.library()[pose]
        path = pose.get("path") if isinstance(pose, dict) else None
        # Gradio checks files it recognises; a bare dictionary could name any file of the server.
        if not isinstance(path, str) or not is_in_or_equal(path, get_upload_folder()):
            raise PoseError("pose must be an uploaded OpenPose JSON file or the name of a clip")
        clip = load_openpose_json(Path(path))
        return poses.placed(clip, self.engines.profile.animation.size, fit)


def address(request: gr.Request) -> str:
    """Return a caller's address; on a Space what its proxy says, which is one host for all.

    Each proxy appends whom it was asked by, so only the last entry is certainly not the caller's
    own writing: Hugging Face's keeps what a request came with.
    """
    host = request.client.host if request.client else ""
    if "SPACE_ID" in os.environ:
        host = request.headers.get("x-forwarded-for", host).split(",")[-1].strip()
    return host


def public(info: RunInfo) -> dict[str, Any]:
    """Return what anyone may know of a run: all but whose it is."""
    return {name: value for name, value in asdict(info).items() if name != "owner_hash"}


def _file(path: Path, kind: str = "video/mp4") -> dict[str, Any]:
    return gr.FileData(path=str(path), orig_name=path.name, mime_type=kind).model_dump()


def _error(message: str) -> gr.Error:
    """Make an error that reaches the caller and does not fill the log with a traceback."""
    return gr.Error(message, print_exception=False)
