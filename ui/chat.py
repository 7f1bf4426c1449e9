"""The Chat tab: one message, up to three arms answering side by side, each judged."""

from __future__ import annotations

import html
import json
import traceback
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from adapters import registry
from pipelines.paths import ASSETS
from ui.blocks import PRIVATE, QUIET, heading, markup
from ui.engines import Engines, NotReady, told
from ui.markup import empty, note, verdict_badge
from ui.session import Sessions

MAX_ARMS = 3
MAX_MESSAGE = 2000
"""Longest message accepted, in characters."""

Turn = dict[str, Any]
"""One exchange as plain JSON: ``prompt``, ``replies`` (arm → text), ``verdicts`` (arm → [label,
confidence])."""


@lru_cache(maxsize=1)
def prompt_examples() -> dict[str, list[str]]:
    """Return a few prompts of each kind, from splits that no training has seen."""
    wanted = {
        "Red team": ("redteam", 3),
        "Harmless": ("benign", 2),
        "Sounds bad": ("borderline", 2),
    }
    examples = {}
    for title, (name, count) in wanted.items():
        path: Path = ASSETS / "prompts" / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if row["split"] == "validation"]
        rows = sorted(rows, key=lambda row: len(row["prompt"]))
        # One a topic, spread over the file, short enough to read on a button.
        by_topic = {row.get("category", row["id"]): row["prompt"] for row in reversed(rows)}
        prompts = list(by_topic.values())
        examples[title] = prompts[:: max(1, len(prompts) // count)][:count]
    return examples


def arm_title(name: str) -> str:
    """Return an arm's name in a visitor's words."""
    if "/" in name:
        run_id, arm = name.split("/", 1)
        return f"{arm_title(arm)}, after attack {run_id[-6:]}"
    if name == "base":
        return "Base, as published"
    if name == "aligned":
        return "Aligned, undefended"
    known = registry.defences().get(name)
    return f"Defended: {known.card.title}" if known else name


def arm_style(name: str) -> str:
    """Return the colour an arm has on every tab: ``open``, ``held`` or plain."""
    arm = name.rsplit("/", 1)[-1]
    return {"base": "", "aligned": "open"}.get(arm, "held")


def arm_choices(attacked: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return (title, name) of the arms that can be chosen, attacked ones last."""
    names = ["base", *(n for n, d in registry.defences().items() if d.card.pipeline == "llm")]
    return [(arm_title(name), name) for name in (*names, *attacked)]


@dataclass
class Conversation:
    """One running exchange: which arms share a history and can be answered in one batch."""

    turns: list[Turn]
    system: str = ""
    arms: list[str] = field(default_factory=list)

    def groups(self, message: str) -> list[tuple[list[str], list[dict[str, str]]]]:
        """Group the arms by their history.

        Arms that have said the same so far (always so at the first message) are one group, and
        are answered in one mixed-adapter batch; the others have their own histories.

        Returns:
            (arms, messages) of each group.
        """
        found: dict[str, tuple[list[str], list[dict[str, str]]]] = {}
        for arm in self.arms:
            messages = [{"role": "system", "content": self.system}] if self.system else []
            for turn in self.turns:
                if turn["replies"].get(arm, "").strip():
                    messages.append({"role": "user", "content": turn["prompt"]})
                    messages.append({"role": "assistant", "content": turn["replies"][arm]})
            messages.append({"role": "user", "content": message})
            found.setdefault(json.dumps(messages), ([], messages))[0].append(arm)
        return list(found.values())


def answer(
    engines: Engines,
    conversation: Conversation,
    message: str,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    should_stop: Any = None,
) -> Iterator[Turn]:
    """Answer a message with all arms at once.

    Args:
        engines: the models.
        conversation: arms and history.
        message: the user's text.
        temperature: 0 is greedy.
        seed: of the sampling.
        should_stop: asked before every token.

    Yields:
        The turn so far; the last one carries the judge's verdicts.

    Raises:
        NotReady: a model is not loaded, or is still under attack.
        KeyError: there is no such arm.
        ValueError: the message is empty or too long.
    """
    judge = engines.judge
    turn: Turn = {"prompt": message, "replies": dict.fromkeys(conversation.arms, "")}
    with engines.chat_arms(conversation.arms) as loaded:
        streams = [
            (arms, engines.chat.stream(
                messages, [loaded[arm] for arm in arms],
                max_new_tokens=engines.profile.llm.max_new_tokens,
                temperature=temperature, seed=seed, should_stop=should_stop,
            ))
            for arms, messages in conversation.groups(message)
        ]  # fmt: skip
        while streams:
            for entry in list(streams):
                arms, stream = entry
                replies = next(stream, None)
                if replies is None:
                    streams.remove(entry)
                    continue
                turn["replies"] |= {arm: replies[loaded[arm]] for arm in arms}
            yield turn
    verdicts = {}
    for arm, reply in turn["replies"].items():
        if reply.strip():
            verdict = judge.classify(message, reply)
            verdicts[arm] = [verdict.label, float(verdict.confidence)]
        elif should_stop is None or not should_stop():
            verdicts[arm] = ["gibberish", 1.0]  # it ended its turn without a word
    yield turn | {"verdicts": verdicts}


def talk_html(turns: Sequence[Turn], busy: bool = False) -> str:
    """Draw a conversation: each prompt, and under it one column an arm. All text is escaped.

    Args:
        turns: the exchanges, oldest first.
        busy: whether the last one is being written.
    """
    if not turns:
        return empty(
            "Ask all of them the same thing",
            "Every arm is the same small language model with another adapter. Pick two or three, "
            "send one message, and read the answers side by side. A judge sorts each reply into "
            "refused, complied, off topic or gibberish.",
        )
    drawn = []
    for number, turn in enumerate(turns):
        live = busy and number == len(turns) - 1
        columns = "".join(
            _column(arm, reply, turn.get("verdicts", {}).get(arm), live)
            for arm, reply in turn["replies"].items()
        )
        drawn.append(
            f'<article class="hf-turn"><div class="hf-ask">{html.escape(turn["prompt"])}</div>'
            f'<div class="hf-arms" style="--arms:{len(turn["replies"])}">{columns}</div></article>'
        )
    return f'<div class="hf-talk" role="log" aria-busy="{str(busy).lower()}">{"".join(drawn)}</div>'


def _column(arm: str, reply: str, verdict: list | None, live: bool) -> str:
    badge = verdict_badge(*verdict) if verdict else ""
    caret = '<span class="hf-caret" aria-hidden="true"></span>' if live and not verdict else ""
    return (
        f'<section class="hf-arm {arm_style(arm)}" aria-label="{html.escape(arm_title(arm))}">'
        f"<header><b>{html.escape(arm_title(arm))}</b>{badge}</header>"
        f'<div class="hf-reply">{html.escape(reply)}{caret}</div></section>'
    )


class ChatTab:
    """Builds the tab inside the current `gr.Tab` and holds its handlers."""

    def __init__(self, engines: Engines, sessions: Sessions) -> None:
        """Lay out the tab and wire it.

        Args:
            engines: the models.
            sessions: what each visitor has open.
        """
        self.engines = engines
        self.sessions = sessions
        self._lay_out()
        self._wire()

    def _lay_out(self) -> None:
        choices = arm_choices()
        missing = {name: self.engines.missing_adapter(name) for _, name in choices[1:]}
        present = [name for _, name in choices if not missing.get(name)]
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=300, elem_classes="hf-panel"):
                self.arms = gr.CheckboxGroup(
                    choices,
                    value=present[:MAX_ARMS],
                    label="Who answers",
                    info=f"One to {MAX_ARMS}. Attacked models appear here from the Attack tab.",
                    elem_id="hf-arms",
                )
                if any(missing.values()):
                    markup(note("\n".join(missing.values()), "warn"))
                with gr.Accordion("Temperature and system prompt", open=False):
                    self.temperature = gr.Slider(
                        0, 1.5, 0, step=0.05, label="Temperature",
                        info="0 always takes the likeliest word, so that replies can be compared.",
                    )  # fmt: skip
                    self.seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                    self.system = gr.Textbox(
                        "", label="System prompt", lines=2, max_lines=5, max_length=MAX_MESSAGE
                    )
                self.examples: list[tuple[gr.Button, str]] = []
                for title, prompts in prompt_examples().items():
                    heading(title)
                    with gr.Row(elem_classes="hf-chips"):
                        for text in prompts:
                            self.examples.append((gr.Button(text, size="sm"), text))
            with gr.Column(scale=8, min_width=480, elem_classes="hf-panel"):
                self.turns = gr.State([])
                self.talk = markup(talk_html([]), elem_id="hf-talk", autoscroll=True)
                self.message = markup(elem_id="hf-chat-message")
                with gr.Row(equal_height=True):
                    self.box = gr.Textbox(
                        label="Your message", lines=1, max_lines=6, max_length=MAX_MESSAGE,
                        placeholder="Ask anything. Enter sends, Shift+Enter makes a new line.",
                        scale=6, elem_id="hf-message",
                    )  # fmt: skip
                    with gr.Column(scale=1, min_width=150):
                        self.send = gr.Button(
                            "Send", variant="primary",
                            elem_id="hf-send", elem_classes="hf-key-go",
                        )  # fmt: skip
                        with gr.Row():
                            self.stop = gr.Button(
                                "Stop", variant="stop", size="sm", min_width=60,
                                interactive=False, elem_id="hf-chat-stop",
                                elem_classes="hf-key-stop",
                            )  # fmt: skip
                            self.clear = gr.Button("Clear", size="sm", min_width=60)

    def _wire(self) -> None:
        inputs = [self.box, self.turns, self.arms, self.temperature, self.seed, self.system]
        outputs = [self.turns, self.talk, self.message, self.box, self.send, self.stop]
        gr.on(
            [self.send.click, self.box.submit], self.reply, inputs, outputs,
            concurrency_id="chat", concurrency_limit=2, **QUIET,
        )  # fmt: skip
        self.stop.click(self.stop_now, None, self.stop, queue=False, **QUIET)
        self.clear.click(
            self.start_anew, None, [self.turns, self.talk, self.message],
            queue=False, **QUIET,
        )  # fmt: skip
        for button, text in self.examples:
            button.click(None, None, self.box, js=f"() => {json.dumps(text)}", **PRIVATE)

    def reply(
        self, message: str, turns: list[Turn], arms: list[str], temperature: float, seed: float,
        system: str, request: gr.Request,
    ) -> Iterator[tuple]:  # fmt: skip
        """Answer with every chosen arm, token by token."""
        session = self.sessions.of(request)
        session.stop_chat.clear()
        epoch = session.chat_epoch
        idle = (gr.Button(interactive=True), gr.Button(interactive=False))
        busy = (gr.Button(interactive=False), gr.Button(interactive=True))
        message = (message or "").strip()
        problem = "" if message else "Write a message first."
        if not 1 <= len(arms) <= MAX_ARMS:
            problem = f"{len(arms)} answerers chosen; choose one to {MAX_ARMS}."
        if problem:
            yield turns, talk_html(turns), note(problem, "error"), message, *idle
            return
        conversation = Conversation(turns, (system or "").strip(), list(arms))
        waiting = {"prompt": message, "replies": dict.fromkeys(arms, "")}
        yield turns, talk_html([*turns, waiting], busy=True), "", "", *busy
        turn = waiting
        try:
            with closing(answer(
                self.engines, conversation, message, temperature=float(temperature),
                seed=int(seed or 0), should_stop=session.stop_chat.is_set,
            )) as written:  # fmt: skip
                for turn in written:
                    if session.chat_epoch != epoch:
                        break
                    yield turns, talk_html([*turns, turn], busy=True), "", "", *busy
        except (NotReady, KeyError, ValueError) as error:
            problem = told(error)
        except Exception as error:  # whatever it was, the page must be usable again
            traceback.print_exc()
            problem = f"The answers broke off: {told(error)}"
        if session.chat_epoch != epoch:
            # Cleared meanwhile: said once more, because what was on its way to the page may have
            # come after the clearing.
            yield [], talk_html([]), "", gr.skip(), *idle
        elif problem:
            yield turns, talk_html(turns), note(problem, "error"), message, *idle
        else:
            turns = [*turns, turn]
            yield turns, talk_html(turns), "", "", *idle

    def stop_now(self, request: gr.Request) -> gr.Button:
        """End this session's replies after the token they are at."""
        self.sessions.of(request).stop_chat.set()
        return gr.Button(interactive=False)

    def start_anew(self, request: gr.Request) -> tuple[list, str, str]:
        """Forget the conversation, and what a reply under way would add to it."""
        session = self.sessions.of(request)
        session.chat_epoch += 1
        session.stop_chat.set()
        return [], talk_html([]), ""
