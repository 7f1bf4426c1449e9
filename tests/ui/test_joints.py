"""The joint editor: its arithmetic, and the editor itself in a real browser. No models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest

from pipelines.pose import JOINTS, PoseClip, PoseError
from pipelines.pose_json import dump_openpose_json, load_openpose_json
from pipelines.profiles import get_profile
from tests.ui.browser import CHROMIUM, FLAGS, HAS_CHROMIUM, NO_CHROMIUM, launched, sync_api
from ui import joints, poses, theme
from ui.animate import AnimateTab
from ui.blocks import markup
from ui.engines import Engines
from ui.session import Scratch, Sessions

NOSE, NECK, SHOULDER, ELBOW, WRIST = range(5)
NASTY = "<img src=x onerror=alert(1)>"


def clip_of(points: Any, seen: Any = None, side: int = 512) -> PoseClip:
    points = np.asarray(points, float)
    return PoseClip(points, np.ones(points.shape[:2]) if seen is None else seen, None, side, side)


# Arithmetic ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 16, 33])
def test_weights_are_sharp_at_keyframes_and_share_everything_between(frames):
    keys, weights = joints.keyframes(frames), joints.weights(frames)
    assert keys[0] == 0 and keys[-1] == frames - 1
    np.testing.assert_allclose(weights[keys], np.eye(len(keys)), atol=1e-12)
    np.testing.assert_allclose(weights.sum(1), 1)


def test_a_displacement_runs_smoothly_through_the_middle():
    frames = 201
    weights = joints.weights(frames)
    rising = weights @ [0.0, 1.0, 2.0]
    speed = np.diff(rising) * (frames - 1) / 2
    assert (speed > -1e-9).all()
    assert 0.4 < speed[99] == pytest.approx(speed[100], rel=1e-6)  # no halt, no jerk
    assert speed[0] < 0.05 and speed[-1] < 0.05
    last_alone = weights @ [0.0, 0.0, 1.0]
    assert np.abs(last_alone[: frames // 2]).max() < 0.04


def test_a_mirror_and_its_mirror_leave_everything_in_place():
    swap, face = joints.swap(), joints.swap_face()
    assert [swap[i] for i in swap] == list(range(18))
    assert [face[i] for i in face] == list(range(68))
    assert JOINTS[swap[JOINTS.index("left ankle")]] == "right ankle"
    assert swap[NOSE] == NOSE and swap[NECK] == NECK
    # Outer corners of the eyes, corners of the mouth, chin, tip of the nose.
    assert (face[36], face[39], face[48], face[8], face[30]) == (45, 42, 54, 8, 30)


def test_a_joint_carries_what_hangs_from_it():
    carried = joints.carried()
    assert sorted(carried[SHOULDER]) == [SHOULDER, ELBOW, WRIST]
    assert sorted(carried[NECK]) == list(range(18))
    assert carried[WRIST] == [WRIST]


def test_joints_that_are_not_seen_get_a_sensible_place():
    standing = poses.library()["stand"].to_square(256)
    points, seen = (standing.keypoints + 0.5) / 256, standing.seen.copy()
    seen[:, 8:14] = False  # the upper body alone
    seen[3:, WRIST] = False
    placed = joints.placed(points, seen)
    np.testing.assert_array_equal(placed[seen], points[seen].astype(float))
    assert (placed > 0).all() and (placed < 1).all()
    hips, knees, ankles = (placed[:, list(pair), 1] for pair in ((8, 11), (9, 12), (10, 13)))
    assert (knees > hips).all() and (ankles > knees).all()
    # A hand out of sight stays with its elbow.
    lost, arm = placed[-1, WRIST] - placed[-1, ELBOW], placed[2, WRIST] - placed[2, ELBOW]
    np.testing.assert_allclose(lost, arm, atol=1e-9)


@pytest.mark.parametrize("joint", [None, NOSE])
def test_hardly_anything_seen_is_no_obstacle(joint):
    seen = np.zeros((2, 18), bool)
    if joint is not None:
        seen[0, joint] = True
    placed = joints.placed(np.full((2, 18, 2), 0.4), seen)
    assert np.isfinite(placed).all()


def test_a_state_is_plain_json_and_never_the_same_twice():
    clip = poses.library()["look_around"]
    one, other = (joints.state(clip, "x", 16, 8) for _ in range(2))
    assert one.pop("opened") != other.pop("opened")
    assert json.loads(json.dumps(one, allow_nan=False)) == one == other
    assert np.asarray(one["pose"]).shape == (16, 18, 3)
    assert np.asarray(one["weights"]).shape == (16, 3) and one["keys"] == [0, 8, 15]


def test_a_face_comes_along_with_its_gaps():
    face = np.full((1, 68, 2), 100.0)
    face[0, 5] = np.nan
    clip = PoseClip(np.full((1, 18, 2), 90.0), np.ones((1, 18)), face, 256, 256)
    state = joints.state(clip, "face", 4, 8)
    assert len(state["face"]) == 4 and len(state["face"][0]) == 68
    assert state["face"][0][5] is None and state["face"][0][4] == [0.3926, 0.3926]


def test_what_the_editor_sends_is_read():
    clip = poses.library()["walk"].to_square(joints.CANVAS)
    back = joints.read(dump_openpose_json(clip))
    np.testing.assert_allclose(back.keypoints, clip.keypoints, atol=0.01)
    np.testing.assert_array_equal(back.seen, clip.seen)
    beside = replace(clip, keypoints=clip.keypoints + [2 * joints.CANVAS, 0])
    back = joints.read(dump_openpose_json(beside))  # as any upload is, fitted or not
    np.testing.assert_allclose(back.keypoints, beside.keypoints, atol=0.01)


def frame(numbers: list, side: Any = 512, **more: Any) -> str:
    person = {"pose_keypoints_2d": numbers}
    return json.dumps({"people": [person], "canvas_width": side, "canvas_height": side} | more)


GOOD = [100, 100, 1] * 18


@pytest.mark.parametrize(
    "sent",
    [
        None, 5, [], {"people": []}, [Path("pose.json")], b"{}", "", "null", "NaN", "[" * 5000,
        frame(GOOD[:-1]), frame(["x", *GOOD[1:]]), frame([float("nan"), *GOOD[1:]]),
        frame([float("inf"), *GOOD[1:]]),
        frame([0, 0, 0] * 18), frame(GOOD, side=0), frame(GOOD, side=float("nan")),
        frame(GOOD, canvas_width=400), frame(GOOD, people=NASTY),
        f"[{','.join([frame(GOOD)] * 241)}]",
    ],
)  # fmt: skip
def test_anything_else_is_refused_in_words(sent):
    with pytest.raises(PoseError):
        joints.read(sent)


def test_the_tab_takes_the_edited_pose_where_it_is():
    engines = Engines(get_profile("embedded"), set_up=False)
    visitor = SimpleNamespace(session_hash="one")
    sessions = Sessions()
    with gr.Blocks():
        tab = AnimateTab(engines, sessions, Scratch())
    opened, _ = tab.choice.open_editor(True, tab.choice.first, visitor)
    assert opened["title"] == poses.title(tab.choice.first)
    corner = clip_of(np.full((16, 18, 2), 30.0) + np.arange(18)[:, None])
    sent = SimpleNamespace(clip=dump_openpose_json(corner))
    mark, stage, told, back, *_ = tab.choice.take_edited(sent, True, visitor)
    assert mark == "" and "edited" in told and back.visible
    shown = np.array(stage["pose"])[0, :, :2]
    np.testing.assert_allclose(shown, corner.keypoints[0] / 512, atol=0.005)
    chosen = sessions.of(visitor).chosen
    told = tab.choice.take_edited(SimpleNamespace(clip=NASTY), True, visitor)[2]
    assert 'role="alert"' in told and NASTY not in told
    assert sessions.of(visitor).chosen is chosen


# In the browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def editor() -> Iterator[SimpleNamespace]:
    """A page with nothing but the editor, on a clip whose only motion is a slow walk to the right.

    ``clip()`` presses "Use this pose" and returns what Python read.
    """
    if not HAS_CHROMIUM:
        pytest.skip(NO_CHROMIUM)
    start = poses.library()["stand"].to_square(512).keypoints[0]
    walk = np.linspace(0, 32, 16)[:, None, None] * [1, 0]
    base = clip_of(np.where(start.any(-1, keepdims=True), start, 200.0) + walk)
    got: list[PoseClip] = []

    def use(event: gr.EventData) -> str:
        got.append(joints.read(event.clip))
        return str(len(got))

    def loaded(event: gr.EventData) -> dict[str, Any]:
        try:
            return joints.state(load_openpose_json(event.clip), event.title, 16, 8)
        except PoseError as error:
            return joints.refusal(str(error))

    with gr.Blocks(analytics_enabled=False) as app:
        component = joints.component()
        count = markup(elem_id="count")
        title = gr.Textbox(NASTY, elem_id="title")
        component.submit(use, None, count, queue=False)
        component.upload(loaded, None, component, queue=False)
        component.edit(lambda name: joints.state(base, name, 16, 8), title, component, queue=False)
    _, url, _ = app.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False,
        theme=theme.theme(), css=theme.css(), footer_links=[],
    )  # fmt: skip
    with launched() as browser:
        yield SimpleNamespace(url=url, browser=browser, base=base, got=got)
    app.close()


@pytest.fixture
def page(editor, request) -> Iterator[sync_api.Page]:
    """The editor, open; the parameter is passed on to the browser's context."""
    options = getattr(request, "param", {"viewport": {"width": 1200, "height": 900}})
    with editor.browser.new_context(**options) as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(editor.url, wait_until="domcontentloaded")
        page.locator(".hf-joints-open").click()
        sync_api.expect(page.locator("dialog")).to_be_visible()
        yield page
        assert complaints == []


def clip(page: sync_api.Page, editor: SimpleNamespace) -> PoseClip:
    """Press "Use this pose" and return what Python read; the editor is open again afterwards."""
    wanted = str(len(editor.got) + 1)
    page.locator("[data-do=use]").click()
    sync_api.expect(page.locator("#count")).to_have_text(wanted)
    page.locator(".hf-joints-open").click()
    sync_api.expect(page.locator("dialog")).to_be_visible()
    return editor.got[-1]


def middle(page: sync_api.Page, joint: int) -> tuple[float, float]:
    box = page.locator(f'[data-joint="{joint}"] .dot').bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def side(page: sync_api.Page) -> float:
    return page.locator(".hf-joints-board svg").evaluate("(board) => board.clientWidth")


def drag(page: sync_api.Page, joint: int, dx: float, dy: float) -> None:
    """Drag a joint by a part of the frame."""
    x, y = middle(page, joint)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx * side(page), y + dy * side(page), steps=3)
    page.mouse.up()


def moved(page: sync_api.Page, editor: SimpleNamespace) -> np.ndarray:
    """Return the displacement of every joint in every frame, as parts of the frame."""
    return (clip(page, editor).keypoints - editor.base.keypoints) / 512


def test_a_drag_moves_the_limb_and_keeps_the_motion(page, editor):
    sync_api.expect(page.locator("dialog small")).to_have_text(NASTY)  # as text
    drag(page, SHOULDER, -0.1, -0.05)
    found = moved(page, editor)
    wanted = np.zeros((16, 18, 2))
    wanted[:, [SHOULDER, ELBOW, WRIST]] = joints.weights(16)[:, :1, None] * [-0.1, -0.05]
    np.testing.assert_allclose(found, wanted, atol=0.004)
    page.get_by_role("button", name="Last keyframe").click()
    page.keyboard.down("Alt")
    drag(page, ELBOW, 0.05, 0.1)
    page.keyboard.up("Alt")
    wanted[:, ELBOW] += joints.weights(16)[:, 2:] * [0.05, 0.1]
    np.testing.assert_allclose(moved(page, editor), wanted, atol=0.004)


def test_nobody_is_pushed_out_of_the_frame_at_any_keyframe(page, editor):
    page.locator("[data-do=limb]").uncheck()
    page.locator("[data-do=all]").check()
    drag(page, WRIST, 0.9, 0)
    found = clip(page, editor)
    keys = joints.keyframes(16)
    reach = (found.keypoints[keys, WRIST, 0] + 0.5) / 512
    assert reach.max() == pytest.approx(1, abs=0.005)
    shift = (found.keypoints[keys, WRIST] - editor.base.keypoints[keys, WRIST]) / 512
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=0.004)


def test_zoomed_in_the_view_stays_while_another_joint_is_dragged(page, editor):
    page.locator("[data-do=zoom]").check()
    for joint in (SHOULDER, ELBOW):
        x, y = middle(page, joint)
        drag(page, joint, 0, 0.05)
        np.testing.assert_allclose(middle(page, joint), [x, y + 0.05 * side(page)], atol=2)


def test_all_of_it_can_be_done_by_keys(page, editor):
    wrist = page.get_by_role("slider", name="right wrist")
    # Chromium lets the keyboard reach the board itself where it could scroll.
    page.locator(".hf-joints-board svg").evaluate(
        "(board) => board.dispatchEvent(new FocusEvent('focusin', { bubbles: true }))"
    )
    page.get_by_role("slider", name="right elbow").focus()
    page.keyboard.press("Tab")
    sync_api.expect(wrist).to_be_focused()
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowUp"):
        page.keyboard.press(key)
    found = moved(page, editor)
    np.testing.assert_allclose(found[0, WRIST], [0.02, -0.05], atol=1e-4)
    np.testing.assert_allclose(found[:, ELBOW], 0, atol=1e-4)
    wrist.focus()
    page.keyboard.press("Delete")
    sync_api.expect(wrist).to_have_attribute("aria-valuetext", "hidden; Delete brings it back")
    assert not clip(page, editor).seen[:, WRIST].any()
    page.locator("[data-keys] button").first.focus()
    page.keyboard.press("Control+z")
    assert clip(page, editor).seen[:, WRIST].all()
    wrist.focus()
    page.keyboard.press("Control+z")  # one row of presses is one step
    np.testing.assert_allclose(moved(page, editor), 0, atol=1e-4)
    sync_api.expect(page.locator("[data-do=undo]")).to_have_attribute("aria-disabled", "true")
    wrist.focus()
    page.keyboard.press("Control+Shift+z")
    np.testing.assert_allclose(moved(page, editor)[0, WRIST], [0.02, -0.05], atol=1e-4)
    page.keyboard.press("Escape")
    sync_api.expect(page.locator("dialog")).to_be_hidden()


def test_mirror_reset_and_download(page, editor):
    drag(page, WRIST, -0.1, 0)
    before = clip(page, editor)
    page.locator("[data-do=mirror]").click()
    mirrored = clip(page, editor)
    wanted = before.keypoints[:, joints.swap()] * [-1, 1] + [511, 0]
    np.testing.assert_allclose(mirrored.keypoints, wanted, atol=0.1)
    with page.expect_download() as download:
        page.locator("[data-do=save]").click()
    assert download.value.suggested_filename.endswith("_edited.json")
    saved = joints.read(Path(download.value.path()).read_text())
    np.testing.assert_array_equal(saved.keypoints, mirrored.keypoints)
    page.locator("[data-do=reset]").click()
    np.testing.assert_allclose(moved(page, editor), 0, atol=1e-4)
    page.locator("[data-do=undo]").click()
    np.testing.assert_allclose(clip(page, editor).keypoints, mirrored.keypoints)
    page.keyboard.press("Escape")
    undo, dialog = page.locator("[data-do=undo]"), page.locator("dialog")
    page.locator(".hf-joints-open").click()  # the same clip: the work on it is still there
    sync_api.expect(dialog).to_be_visible()
    sync_api.expect(undo).to_have_attribute("aria-disabled", "false")
    page.keyboard.press("Escape")
    page.locator("#title textarea, #title input").fill("another clip")
    page.locator(".hf-joints-open").click()
    sync_api.expect(page.locator("dialog small")).to_have_text("another clip")
    sync_api.expect(undo).to_have_attribute("aria-disabled", "true")


def test_a_json_file_is_opened_in_the_editor_and_a_wrong_one_is_told(page, editor, tmp_path):
    other = replace(editor.base, keypoints=editor.base.keypoints * 0.5 + 100)
    good, wrong = tmp_path / "other.json", tmp_path / "wrong.json"
    good.write_text(dump_openpose_json(other))
    wrong.write_text(json.dumps({"people": NASTY}))
    status = page.locator(".hf-joints-status")
    page.locator("dialog input[type=file]").set_input_files(wrong)
    sync_api.expect(status).to_contain_text("is text; wanted a list")
    page.locator("dialog input[type=file]").set_input_files(good)
    sync_api.expect(page.locator("dialog header small")).to_have_text("other")
    found = clip(page, editor)
    np.testing.assert_allclose(found.keypoints, other.keypoints, atol=0.1)


def test_a_press_beside_the_editor_closes_it_and_one_on_its_scrollbar_scrolls(editor):
    # Playwright hides scrollbars; a visitor's browser does not.
    browser = editor.browser.browser_type.launch(
        executable_path=CHROMIUM, args=FLAGS, ignore_default_args=["--hide-scrollbars"]
    )
    page = browser.new_page(viewport={"width": 1200, "height": 420})
    page.goto(editor.url, wait_until="domcontentloaded")
    page.locator(".hf-joints-open").click()
    dialog = page.locator("dialog")
    sync_api.expect(dialog).to_be_visible()
    box, width = dialog.bounding_box(), dialog.evaluate("(dialog) => dialog.clientWidth")
    assert box["width"] - width > 5  # there is a scrollbar
    x, y = box["x"] + (box["width"] + width) / 2, box["y"] + box["height"] - 40
    # Held down: a press that is let go before the next frame need not scroll.
    page.mouse.move(x, y)
    page.mouse.down()
    page.wait_for_function("document.querySelector('dialog').scrollTop > 0")
    page.mouse.up()
    sync_api.expect(dialog).to_be_visible()
    page.mouse.click(box["x"] / 2, y)
    sync_api.expect(dialog).to_be_hidden()
    browser.close()


@pytest.mark.parametrize(
    "page",
    [{"viewport": {"width": 360, "height": 740}, "has_touch": True, "reduced_motion": "reduce"}],
    indirect=True,
)
def test_a_finger_on_a_small_screen(page, editor):
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    sync_api.expect(page.locator("[data-do=play]")).to_have_text("Play")  # motion is not wanted
    hit = page.locator(f'[data-joint="{WRIST}"] .hit').bounding_box()
    assert min(hit["width"], hit["height"]) >= 43.5
    x, y = middle(page, WRIST)
    finger = page.context.new_cdp_session(page)
    for kind, step in (("touchStart", 0), ("touchMove", 0.05), ("touchMove", 0.1), ("touchEnd", 0)):
        points = [] if kind == "touchEnd" else [{"x": x, "y": y + step * side(page)}]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    np.testing.assert_allclose(moved(page, editor)[0, WRIST], [0, 0.1], atol=0.005)
    page.locator("[data-do=zoom]").check()
    drag(page, WRIST, 0, -0.1)  # zoomed in, the same way on the screen is less in the frame
    np.testing.assert_allclose(moved(page, editor)[0, WRIST], [0, 0.06], atol=0.005)
