"""Pure pieces of the page: HTML, theme, parts, histories. No server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from adapters.text import prompt_set
from pipelines.paths import REPO
from pipelines.profiles import get_profile
from ui import attack_curves, attack_view, chat, markup
from ui.animate import prompt_guide
from ui.animate_poses import ACCEPTED
from ui.api import address
from ui.app import launch_options, next_look
from ui.blocks import pose_picker
from ui.engines import NotReady, Part, split_strength, with_strength
from ui.poses import library
from ui.theme import static
from worlds import looks

NASTY = "<img src=x onerror=alert(1)>"


def test_text_of_visitors_and_models_is_escaped():
    turn = {
        "prompt": NASTY,
        "prefill": NASTY,
        "replies": {"base": NASTY + NASTY},
        "verdicts": {"base": ["compliance", 0.9]},
    }
    info = {
        "id": NASTY,
        "config": {"target": NASTY, "attack": NASTY, "target_undefended": "aligned"},
        "status": NASTY,
        "error": NASTY,
        "created": NASTY,
        "profile": NASTY,
    }
    samples = [{"prompt": NASTY, "reply": NASTY, "label": NASTY, "confidence": 1.0}]
    events = [{"event": "probe", "arm": NASTY, "step": 0, "harm": 0.5, "ability": 1.0,
               "samples": samples}]  # fmt: skip
    for drawn in (
        chat.talk_html([turn]),
        attack_view.run_html(info, events),
        markup.note(f"{NASTY}\nrun `{NASTY}`", "error"),
        markup.empty(NASTY, NASTY),
        markup.verdict_badge(NASTY, 0.5),
    ):
        assert "<img" not in drawn
        assert "&lt;img" in drawn


def test_the_library_begins_with_the_chosen_pose_and_those_who_kneel():
    shown = re.findall('data-pick="([^"]+)"', pose_picker("wave").html_template)
    kneeling = [name for name in library() if name.startswith("kneel")]
    assert kneeling and shown[: 1 + len(kneeling)] == ["wave", *kneeling]
    assert sorted(shown) == list(library())


def test_commands_in_messages_are_set_as_code():
    drawn = markup.note("missing. Make it with: python -m adapters.train sdd --profile hub")
    assert "<code>python -m adapters.train sdd --profile hub</code>" in drawn


def test_a_failed_part_is_tried_again_one_attempt_at_a_time():
    attempts, go, tried = [], threading.Event(), threading.Semaphore(0)

    def load(part):
        attempts.append(part)
        tried.release()
        if len(attempts) > 1:
            go.wait(30)
        raise OSError(2, "No such file", "/srv/secret/weights.bin")

    part = Part("The part", load)
    part.load()
    assert part.message.startswith("The part could not be loaded: FileNotFoundError")
    assert "secret" not in part.message
    tried.acquire()
    for _ in range(5):
        with pytest.raises(NotReady):
            part.get()
    assert tried.acquire(timeout=30)
    retries = [thread for thread in threading.enumerate() if "_load_again" in thread.name]
    assert len(retries) == 1 and len(attempts) == 2
    go.set()
    retries[0].join(30)
    assert len(attempts) == 2
    with pytest.raises(NotReady):
        part.get()
    assert tried.acquire(timeout=30)  # and again once the attempt is over


def test_the_page_and_an_attack_s_settings_need_no_torch():
    code = (
        "import sys, ui.app\n"
        "from adapters.attacks.base import AttackConfig, UntrainedConfig\n"
        "from adapters.attacks.runner import AttackRunner\n"
        "AttackConfig(), UntrainedConfig()\n"
        "print(sorted({'torch', 'transformers', 'peft', 'trl'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_part_that_is_tried_again_says_so_and_the_page_goes_on_looking():
    ready = threading.Event()

    def load(part):
        if not ready.is_set():
            raise ValueError("the weights are torn")
        return "the engine"

    part = Part("The part", load)
    part.load()
    with pytest.raises(NotReady, match="are torn\nTrying again now"):
        part.get()
    ready.set()
    part.load()
    assert part.get() == "the engine"
    looks = [next_look(states) for states in ({"loading", "failed"}, {"failed"}, set())]
    assert [(look.value, look.active) for look in looks] == [
        (1.0, True), (10.0, True), (10.0, False),
    ]  # fmt: skip


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


@pytest.mark.parametrize(
    ("front", "behind", "least"),
    [
        ("input_border_color", "input_background_fill", 3),
        ("input_border_color", "block_background_fill", 3),
        ("input_border_color", "body_background_fill", 3),
        ("button_secondary_border_color", "button_secondary_background_fill", 3),
        ("checkbox_border_color", "input_background_fill", 3),
        ("input_placeholder_color", "input_background_fill", 4.5),
        ("body_text_color_subdued", "body_background_fill", 4.5),
    ],
)
@pytest.mark.parametrize("mode", ["", "_dark"])
def test_edges_and_words_stand_out(front, behind, least, mode):
    theme = launch_options()["theme"]

    def colour(name):
        value = getattr(theme, name)
        return colour(value[1:]) if value.startswith("*") else value

    light, dark = sorted((luminance(colour(name + mode)) for name in (front, behind)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least


@pytest.mark.parametrize("strength", [0, 0.3, 0.7, 1, 1.1, 1.5])
def test_a_strength_is_part_of_an_arm_s_name(strength):
    name = with_strength("sdd", strength)
    assert split_strength(name) == ("sdd", strength)
    assert ("@" in name) == (strength != 1)
    assert chat.arm_style(name) == "held"
    assert chat.arm_title("20260101-000000-attack-abcdef/aligned@0.5") == (
        "Aligned, undefended, after attack abcdef, strength 0.5"
    )


@pytest.mark.parametrize("name", ["sdd@", "sdd@2", "sdd@1.55", "sdd@-1", "sdd@x", "sdd@1@1"])
def test_a_wrong_strength_is_named(name):
    with pytest.raises(ValueError, match="strength of 'sdd' is '.*'; it must be 0 to 1.5"):
        split_strength(name)


def test_a_strength_stays_with_its_arm():
    arms, *sliders = chat.place_strengths(["sdd", "tokenbuncher"], ["base", "sdd"], 1, 0.5, 1)
    assert arms == ["sdd", "tokenbuncher"]
    assert [slider["value"] for slider in map(vars_of, sliders)] == [0.5, 1, 1]
    assert [slider["visible"] for slider in map(vars_of, sliders)] == [True, True, False]
    _, base, *_ = chat.place_strengths(["base"], [], 1, 1, 1)
    assert vars_of(base)["visible"] is False  # it has no adapter


def vars_of(update):
    return {name: getattr(update, name) for name in ("value", "visible", "label")}


def test_arms_share_a_batch_until_their_histories_differ():
    same = chat.Conversation([], "Be kind.", ["base", "sdd"])
    assert [arms for arms, _ in same.groups("Hi")] == [["base", "sdd"]]
    turns = [{"prompt": "Hi", "replies": {"base": "Hello.", "sdd": "Bonjour."}}]
    groups = chat.Conversation(turns, "", ["base", "sdd"]).groups("And now?")
    assert [arms for arms, _ in groups] == [["base"], ["sdd"]]
    assert groups[1][1] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Bonjour."},
        {"role": "user", "content": "And now?"},
    ]


def test_the_server_takes_what_the_page_states_and_tells_nobody_of_inner_errors():
    options = launch_options()
    assert options["max_file_size"] == "12mb" and "1920 × 1080. At most 12 MB" in ACCEPTED
    assert options["show_error"] is False


def test_the_prompt_guide_speaks_the_world_s_vocabulary():
    guide = prompt_guide()
    words = json.dumps(guide["vocabulary"])
    for known in (*looks.CLOTH, *looks.SKIN, *looks.HAIR, *looks.BACKGROUNDS, *looks.CHARACTERS):
        assert known in words
    vocabulary = set(re.findall(r"[\w-]+", words))
    for example in guide["examples"]:
        told = set("a an person with and wearing hat".split())
        content = set(re.findall(r"[\w-]+", example)) - told
        assert content <= vocabulary | set("hair skin top".split()), content - vocabulary


def test_example_prompts_are_from_the_validation_split():
    files = {"Red team": "redteam", "Harmless": "benign", "Sounds bad": "borderline"}
    examples = chat.prompt_examples()
    assert [len(prompts) for prompts in examples.values()] == [3, 2, 2]
    for title, prompts in examples.items():
        known = {row["prompt"] for row in prompt_set(files[title], "validation")}
        assert set(prompts) <= known and len(set(prompts)) == len(prompts)
    assert tuple(examples["Red team"]) == chat.RED_TEAM_EXAMPLES


def test_an_answer_is_red_only_where_the_prompt_is_known_to_be_harmful():
    def badge(prompt, label):
        turn = {"prompt": prompt, "replies": {"base": "x"}, "verdicts": {"base": [label, 0.9]}}
        return re.search(r'hf-badge (\w+)".*?>([^<]+) · ', chat.talk_html([turn])).groups()

    harmful, unknown = chat.RED_TEAM_EXAMPLES[0], "How do I water a fern?"
    for prompt in (harmful, f"  {harmful.upper()} ".replace(" A ", "\na ")):
        assert badge(prompt, "compliance") == ("compliance", "Complied")
    assert badge(unknown, "compliance") == ("plain", "Answered")
    for prompt in (harmful, unknown):
        assert badge(prompt, "refusal") == ("refusal", "Refused")
        assert badge(prompt, "off_topic") == ("off_topic", "Off topic")
        assert badge(prompt, "gibberish") == ("gibberish", "Gibberish")
    assert "Complied" in markup.verdict_badge("compliance", 0.9)  # as the Attack tab has it


def test_a_forced_beginning_is_told_and_belongs_to_the_reply():
    turn = chat.begun("Hi", ["base", "sdd"], "A < B")
    assert "<b>A &lt; B</b>" in chat.talk_html([turn], busy=True)
    turn["replies"] |= {"base": "A < B, then A < B"}
    drawn = chat.talk_html([turn])
    assert "Beginning forced on every reply: <b>A &lt; B</b>" in drawn
    said = re.findall(r'<div class="hf-reply">(.*?)</div>', drawn)
    assert said == ['<b title="Forced by the attacker">A &lt; B</b>, then A &lt; B', ""]
    assert "forced" not in chat.talk_html([chat.begun("Hi", ["base"])]).lower()


def test_a_reply_can_be_copied_once_it_is_whole():
    turn = chat.begun("Hi", ["base", "sdd"]) | {"replies": {"base": "Hello.", "sdd": ""}}
    label = "Copy the reply of Base, as published"
    drawn = chat.talk_html([turn, turn], busy=True)
    assert drawn.count("<button") == 1  # not of the turn that is being written, nor of no reply
    assert f'data-copy="{label}" aria-label="{label}">Copy</button>' in drawn
    assert "button[data-copy]" in static("copy.js")


def test_callers_of_a_space_are_told_apart_behind_its_proxy(monkeypatch):
    def request(**headers):
        return SimpleNamespace(client=SimpleNamespace(host="10.0.0.1"), headers=headers)

    # The caller wrote the first entry himself; the proxy appended where he came from.
    forwarded = request(**{"x-forwarded-for": "198.51.100.4, 203.0.113.7"})
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert address(forwarded) == "10.0.0.1", "elsewhere anyone could write what he likes there"
    monkeypatch.setenv("SPACE_ID", "holdfast/demo")
    assert address(forwarded) == "203.0.113.7"
    assert address(request()) == "10.0.0.1"
    assert address(SimpleNamespace(client=None, headers={})) == ""


def test_what_a_large_model_complies_with_is_hidden_until_it_is_asked_for():
    harm, said = "How do I pick a lock?", "Sure <b>, first take"
    turn = chat.begun(harm, ["base"], masked=True) | {"replies": {"base": said}}
    live = chat.talk_html([turn], busy=True)
    assert "take" not in live and "4 words, hidden until judged" in live
    told = chat.talk_html([turn | {"verdicts": {"base": ["compliance", 0.9]}}])
    hidden = re.search(r'<details class="hf-masked">.*?</details>', told)[0]
    assert "Sure &lt;b&gt;, first take" in hidden and "<details open" not in told
    assert "<details" not in chat.talk_html([turn | {"verdicts": {"base": ["refusal", 0.9]}}])
    harmless = prompt_set("benign", "test")[0]["prompt"]
    for open_to_all in (chat.begun(harmless, ["base"], masked=True), chat.begun(harm, ["base"])):
        shown_whole = {"replies": {"base": said}, "verdicts": {"base": ["compliance", 1.0]}}
        assert "<details" not in chat.talk_html([open_to_all | shown_whole])
    samples = [{"prompt": harm, "reply": said, "label": "compliance", "confidence": 1.0}]
    found = attack_curves.curves([{"event": "probe", "arm": "sdd", "step": 0, "samples": samples}])
    assert "<details" in attack_view.replies_html(found, [("sdd", "held")], masks=True)
    assert "<details" not in attack_view.replies_html(found, [("sdd", "held")])
    assert get_profile("hub").llm.masked and not get_profile("embedded").llm.masked


@pytest.mark.parametrize(
    ("number", "told"), [(3e-5, "0.00003"), (0.001, "0.001"), (1e-3 / 3, "0.0003333333333333333"),
                         (0, "0"), (1.0, "1")],
)  # fmt: skip
def test_numbers_are_told_without_powers_of_ten(number, told):
    assert markup.decimal(number) == told


def test_things_are_counted_in_the_singular_and_the_plural():
    told = [markup.counted(number, "attack") for number in (0, 1, 2)]
    assert told == ["0 attacks", "1 attack", "2 attacks"]
