"""Questions of the Chat tab that wait for their turn: what its handlers make of them."""

from __future__ import annotations

import re
from types import SimpleNamespace

import gradio as gr
import pytest

from ui.chat import (
    MAX_KEPT,
    MAX_KEPT_REPLY,
    MAX_MESSAGE,
    ChatTab,
    Conversation,
    answer,
    kept_turns,
    talk_html,
)
from ui.session import Sessions

FORMER = [{"prompt": "Hi", "replies": {"base": "Hello."}}]
WAITING = "Waiting for the model"


@pytest.fixture
def visit(served):
    """One visitor's Chat tab, whose handlers are called as Gradio would."""

    class Request:
        session_hash = "waiting"

    sessions = Sessions()
    with gr.Blocks():
        chat = ChatTab(served.engines, sessions)

    def ask(message, turns=(), button=None, system="", alone=True):
        pressed = gr.EventData(button or chat.send, None)
        settings = (["base"], 0.0, 0, system, "", alone, ["base"], 1, 1, 1)
        return chat.ask(message, list(turns), *settings, pressed, Request)

    def reply():
        return list(chat.reply(Request))

    def stop(draft=""):
        return chat.stop_now(draft, Request)

    def clear():
        return chat.start_anew(Request)

    return SimpleNamespace(
        chat=chat, ask=ask, reply=reply, stop=stop, clear=clear, sessions=sessions, request=Request
    )


def enabled(shown):
    """Return whether Send, Stop and Regenerate can be pressed."""
    return [button.interactive for button in shown[-3:]]


def unchanged(shown):
    return all(value == gr.skip() for value in shown)


def test_a_question_is_drawn_and_can_be_stopped_before_its_turn_comes(visit):
    shown = visit.ask("And now?", FORMER)
    assert "And now?" in shown[1] and WAITING in shown[1] and shown[3] == ""
    assert enabled(shown) == [False, True, False]
    talk, message, box, *_ = stopped = visit.stop()
    assert talk == talk_html(FORMER) and "Stopped" in message and box == "And now?"
    assert enabled(stopped) == [True, False, True]
    (nothing,) = visit.reply()  # its turn comes all the same
    assert unchanged(nothing)


def test_a_question_on_its_own_is_asked_without_what_was_said_before(visit):
    assert visit.chat.alone.value is True
    user = [{"role": "user", "content": "And now?"}]
    before = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    for alone, messages in ((True, user), (False, before + user)):
        visit.ask("And now?", FORMER, alone=alone)
        conversation = visit.sessions.of(visit.request).asked.conversation
        assert conversation.groups("And now?") == [(["base"], messages)]
        *_, shown = visit.reply()
        assert [turn["prompt"] for turn in shown[0]] == ["Hi", "And now?"]  # on the page it stays


def test_stop_leaves_alone_what_was_written_meanwhile(visit):
    visit.ask("And now?")
    assert visit.stop(draft="Or rather")[2] == gr.skip()
    visit.ask("a draft", FORMER, visit.chat.regenerate)
    assert visit.stop()[2] == gr.skip()


def test_a_cleared_question_is_not_answered(visit):
    visit.ask("And now?", FORMER)
    cleared = visit.clear()
    assert cleared[:3] == ([], talk_html([]), "") and enabled(cleared) == [True, False, False]
    (nothing,) = visit.reply()
    assert unchanged(nothing)


def test_the_place_of_a_cleared_question_goes_to_the_next_one(visit):
    visit.ask("First")
    visit.clear()
    visit.ask("Second")
    first, *_, last = visit.reply()
    assert WAITING not in first[1] and [turn["prompt"] for turn in last[0]] == ["Second"]
    (nothing,) = visit.reply()
    assert unchanged(nothing)


def test_while_a_question_waits_or_is_answered_no_other_is_taken(visit):
    visit.ask("First")
    assert unchanged(visit.ask("Second"))
    reply = visit.chat.reply(visit.request)
    next(reply)
    assert unchanged(visit.ask("Second")) and unchanged(visit.ask(""))
    *others, stop, regenerate = visit.stop()
    assert unchanged((*others, regenerate)) and not stop.interactive
    *_, last = reply
    assert [turn["prompt"] for turn in last[0]] == ["First"]
    assert enabled(visit.ask("Second", last[0])) == [False, True, False]


def test_regenerate_is_known_when_its_turn_comes(visit):
    visit.ask("a draft", FORMER, visit.chat.regenerate)
    *_, last = visit.reply()
    assert [turn["prompt"] for turn in last[0]] == ["Hi"] and last[3] == gr.skip()


def test_a_page_that_is_gone_is_not_answered_and_one_that_stays_can_go_on(visit):
    visit.ask("And now?", FORMER)
    reply = visit.chat.reply(visit.request)
    next(reply)
    visit.sessions.close(visit.request)  # as when the connection drops
    send, stop, _ = visit.stop()[-3:]
    assert send.interactive and not stop.interactive
    *_, last = reply
    assert [turn["prompt"] for turn in last[0]] == ["Hi", "And now?"], "nothing said is lost"
    assert enabled(last) == [True, False, True]
    visit.ask("And now?", FORMER)
    visit.sessions.close(visit.request)
    (nothing,) = visit.reply()  # what waited is not asked
    assert unchanged(nothing)
    # A reply that Gradio gives up leaves the session free.
    visit.ask("Second")
    reply = visit.chat.reply(visit.request)
    next(reply)
    reply.close()
    assert visit.sessions.of(visit.request).asked is None


def test_a_reply_that_is_not_whole_says_why(visit, served):
    visit.ask("And now?")
    *_, shown = visit.reply()
    most = served.engines.profile.llm.max_new_tokens
    assert shown[0][-1]["broken"] == {"base": f"cut after {most} tokens"}
    assert f">cut after {most} tokens<" in shown[1]

    visit.ask("And now?")
    writing = visit.chat.reply(visit.request)
    for _ in range(3):
        next(writing)
    visit.stop()
    *_, shown = writing
    assert shown[0][-1]["broken"] == {"base": "stopped"} and ">stopped<" in shown[1]


def test_a_reply_that_its_model_has_ended_is_whole(visit, served):
    chat, message = served.engines.chat, [{"role": "user", "content": "And now?"}]
    *_, said = chat.stream(message, ["base"], max_new_tokens=3)
    tokenizer, former = chat._tokenizer, chat._tokenizer.eos_token
    last = tokenizer(said["base"], add_special_tokens=False)["input_ids"][-1]
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(last)
    try:
        visit.ask("And now?")
        *_, shown = visit.reply()
    finally:
        tokenizer.eos_token = former
    assert "broken" not in shown[0][-1] and ">cut after" not in shown[1]


def test_a_reply_is_judged_when_it_ends_while_another_is_written(served):
    chat, message = served.engines.chat, [{"role": "user", "content": "And now?"}]
    arms = ["base", "sdd"]
    *_, said = chat.stream(message, arms, max_new_tokens=8)
    tokenizer, former = chat._tokenizer, chat._tokenizer.eos_token
    ids = {arm: tokenizer(said[arm], add_special_tokens=False)["input_ids"] for arm in arms}
    last = next(token for token in ids["base"] if token not in ids["sdd"])
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(last)
    try:
        turns = list(answer(served.engines, Conversation([], arms=arms), "And now?"))
    finally:
        tokenizer.eos_token = former
    early = next(turn for turn in turns if "base" in turn["verdicts"])
    most = served.engines.profile.llm.max_new_tokens
    assert list(early["verdicts"]) == ["base"] and list(early["written"]) == ["sdd"]
    assert re.fullmatch(rf"[2-9] of {most} tokens", early["written"]["sdd"])
    drawn = talk_html([early], busy=True)
    assert drawn.count("hf-caret") == 1 and drawn.count("sure</span>") == 1
    assert f"of {most} tokens</span>" in drawn
    assert set(turns[-1]["verdicts"]) == set(arms) and "written" not in turns[-1]


def test_what_is_longer_than_the_form_takes_is_not_asked(visit):
    shown = visit.ask("x" * (MAX_MESSAGE + 1))
    assert f"The message is {MAX_MESSAGE + 1} characters long" in shown[2]
    assert visit.sessions.of(visit.request).asked is None
    shown = visit.ask("And now?", system="x" * (MAX_MESSAGE + 1))
    assert "The system prompt is" in shown[2] and enabled(shown)[0]


def test_a_question_that_failed_comes_back_unless_a_new_one_is_begun(visit, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("the conversation is 1040 tokens long")
        yield

    monkeypatch.setattr("ui.chat.answer", fail)
    for draft, given in (("", "And now?"), (" ", "And now?"), ("And then?", gr.skip())):
        visit.ask("And now?", FORMER)
        *_, last = visit.reply()
        assert "1040 tokens" in last[2] and last[3] == gr.skip() and enabled(last)[0]
        assert visit.chat.give_back(draft, visit.request) == given
        assert visit.chat.give_back("", visit.request) == gr.skip(), "once"
    visit.ask("a draft", FORMER, visit.chat.regenerate)
    visit.reply()
    assert visit.chat.give_back("", visit.request) == gr.skip(), "it stands in the talk"


WHOLE = {
    "prompt": "Hi", "prefill": "Sure", "masked": True,
    "replies": {"base": "Sure, hello.", "20261127-0-attack-a1/sdd@0.5": ""},
    "verdicts": {"base": ["off_topic", 0.75]},
    "broken": {"20261127-0-attack-a1/sdd@0.5": "stopped"},
}  # fmt: skip


def test_what_a_browser_kept_comes_back_after_a_reload(visit):
    turns, talk, *rest = visit.chat.come_back([*FORMER, WHOLE], visit.request)
    assert turns == [*FORMER, WHOLE] and talk == talk_html(turns)
    assert [button.interactive for button in rest[:3]] == [True, False, True]
    arms, placed, *_, prefill, tools = rest[3:]
    assert arms.value == placed == ["base"]  # the attacked model's weights are gone
    assert prefill == "Sure" and tools.open
    asked = {"prompt": "Hi", "replies": {"aligned@0.5": "No.", "base": "Yes."}}
    *_, arms, placed, first, second, third, prefill, tools = visit.chat.come_back(
        [asked], visit.request
    )
    assert arms.value == placed == ["aligned", "base"] and prefill == ""
    assert (first.value, first.visible, second.visible) == (0.5, True, False)
    assert kept_turns([WHOLE] * (MAX_KEPT + 9)) == [WHOLE] * MAX_KEPT
    assert unchanged(visit.chat.come_back(None, visit.request))
    visit.ask("And now?")
    assert unchanged(visit.chat.come_back(FORMER, visit.request)), "it would take the question away"


@pytest.mark.parametrize(
    "wrong",
    [
        "[]",
        {"prompt": "Hi"},
        ["Hi"],
        [FORMER[0], {"prompt": "Hi"}],
        [WHOLE | {"prompt": 3}],
        [WHOLE | {"replies": {"base": None}}],
        [WHOLE | {"replies": {}}],
        [WHOLE | {"replies": dict.fromkeys("abcd", "Hello.")}],
        [WHOLE | {"verdicts": {"base": ["<b>", 0.5]}}],
        [WHOLE | {"verdicts": {"base": ["refusal", "high"]}}],
        [WHOLE | {"verdicts": {"base": ["refusal", 7]}}],
        [WHOLE | {"verdicts": {"base": [["refusal"], 0.5]}}],
        [WHOLE | {"verdicts": {"sdd": ["refusal", 0.5]}}],
        [WHOLE | {"prompt": "a" * (MAX_MESSAGE + 1)}],
        [WHOLE | {"replies": {"base": "a" * (MAX_KEPT_REPLY + 1)}}],
        [WHOLE | {"replies": {"sdd@x": "Hello."}}],
        [WHOLE | {"replies": {"sdd@1.2.3": "Hello."}, "verdicts": {}, "broken": {}}],
        [WHOLE | {"replies": {"a/" * 3000: "Hello."}, "verdicts": {}, "broken": {}}],
        [WHOLE | {"masked": "no"}],
        [WHOLE | {"note": "<script>"}],
    ],
)
def test_what_a_browser_made_up_does_not(wrong):
    assert kept_turns(wrong) == []
