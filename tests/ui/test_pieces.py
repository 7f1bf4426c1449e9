"""Pure pieces of the page: HTML, charts, poses, histories. No server."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from pipelines.pose import PoseError, dump_openpose_json
from ui import attack, chat, markup, poses
from ui.animate import prompt_guide
from ui.charts import Series, chart
from worlds import looks

NASTY = "<img src=x onerror=alert(1)>"


def test_text_of_visitors_and_models_is_escaped():
    turn = {
        "prompt": NASTY,
        "replies": {"base": NASTY},
        "verdicts": {"base": ["compliance", 0.9]},
    }
    info = {
        "config": {"target": NASTY, "attack": NASTY, "target_undefended": "aligned"},
        "status": NASTY,
        "error": NASTY,
        "created": NASTY,
    }
    samples = [{"prompt": NASTY, "reply": NASTY, "label": NASTY, "confidence": 1.0}]
    events = [{"event": "probe", "arm": NASTY, "step": 0, "harm": 0.5, "ability": 1.0,
               "samples": samples}]  # fmt: skip
    for drawn in (
        chat.talk_html([turn]),
        attack.run_html(info, events),
        markup.note(f"{NASTY}\nrun `{NASTY}`", "error"),
        markup.empty(NASTY, NASTY),
        markup.verdict_badge(NASTY, 0.5),
    ):
        assert "<img" not in drawn
        assert "&lt;img" in drawn


def test_commands_in_messages_are_set_as_code():
    drawn = markup.note("missing. Make it with: python -m adapters.train sdd --profile hub")
    assert "<code>python -m adapters.train sdd --profile hub</code>" in drawn


def test_a_chart_is_well_formed_and_says_its_values():
    drawn = chart(
        "Harm",
        "higher is worse",
        [
            Series("Aligned", "open", [(0, 0.0), (5, 0.5), (10, 1.0)]),
            Series("SDD", "held", [(0, 0.0), (5, 0.02), (10, 0.03)]),
        ],
        20,
        share=True,
    )
    svg = ElementTree.fromstring(re.search(r"<svg.*</svg>", drawn, re.DOTALL)[0])
    assert svg.get("aria-label") == "Harm: Aligned 100% at step 10; SDD 3% at step 10"
    assert len(svg.findall("polyline")) == 2


@pytest.mark.parametrize("values", [[], [0.0], [5.0, 5.0], [1e-9, 3e4], [-2.0, 4.0]])
def test_a_chart_draws_any_values(values):
    points = list(enumerate(values))
    drawn = chart("Loss", "", [Series("a", "open", points, smooth=True)], len(values))
    assert "nan" not in drawn.lower()


def test_curves_pass_over_what_they_do_not_know():
    found = attack.curves(
        [
            {"event": "start", "arms": ["a", "b"]},
            {"event": "step", "arm": "a", "step": 1, "loss": 2.0},
            {"event": "step", "arm": "a", "step": 2, "loss": None},
            {"event": "unreadable", "line": 3},
            {"event": "probe", "arm": "a", "step": 2, "harm": 0.5, "ability": 0.25,
             "samples": []},
        ]
    )  # fmt: skip
    assert found.loss == {"a": [(1, 2.0)]}
    assert found.harm == {"a": [(2, 0.5)]}
    assert found.step == 2


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


def test_the_library_is_drawn_and_handed_to_the_player():
    assert len(poses.library()) >= 8
    name, clip = next(iter(poses.library().items()))
    assert np.asarray(poses.thumbnail(name)).max() > 0
    joints = np.array(poses.for_player(clip, 16))
    assert joints.shape == (16, 18, 3)


def test_a_pose_file_is_read_by_what_it_is(tmp_path):
    clip = next(iter(poses.library().values()))
    (tmp_path / "pose.json").write_text(dump_openpose_json(clip))
    assert len(poses.read_pose(tmp_path / "pose.json")) == len(clip)

    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(PoseError, match="broken.png"):
        poses.read_pose(tmp_path / "broken.png")

    Image.new("RGB", (6000, 6000)).save(tmp_path / "huge.png")
    with pytest.raises(PoseError, match="6000"):
        poses.read_pose(tmp_path / "huge.png")


def test_the_prompt_guide_speaks_the_world_s_vocabulary():
    guide = prompt_guide()
    words = json.dumps(guide["vocabulary"])
    for known in (*looks.CLOTH, *looks.SKIN, *looks.HAIR, *looks.BACKGROUNDS, *looks.CHARACTERS):
        assert known in words
    vocabulary = set(re.findall(r"[\w-]+", words))
    for example in guide["examples"]:
        content = set(re.findall(r"[\w-]+", example)) - set("a person with and wearing hat".split())
        assert content <= vocabulary | set("hair skin top".split()), content - vocabulary


def test_example_prompts_are_from_the_validation_split():
    for prompts in chat.prompt_examples().values():
        assert prompts and len(set(prompts)) == len(prompts)
