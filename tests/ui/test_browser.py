"""The whole main job once, in a real browser; with HOLDFAST_SCREENS=1 on the shipped weights.

``make screens`` sets that variable: the app then runs the embedded profile as a visitor gets it and
the pictures in docs/screens are drawn anew. Without it the same job is done on tiny models.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from evaluation import tables
from evaluation.runs import RunStore
from pipelines.animation_denoising import ClipDenoiser
from pipelines.film_writing import write_gif, write_mp4
from pipelines.paths import REPO
from pipelines.pose_drawing import draw_clip
from pipelines.pose_json import dump_openpose_json
from pipelines.profiles import get_profile
from tests.ui.browser import WAIT, launched, needs_chromium, open_page, sync_api, tab
from tests.ui.conftest import wait_until
from ui.app import build_app, launch_options
from ui.blocks import strip
from ui.chat import MAX_ARMS, RED_TEAM_EXAMPLES
from ui.engines import Engines
from ui.poses import library

SCREENS = os.environ.get("HOLDFAST_SCREENS") == "1"

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def shown(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """The served app: tiny models, or the shipped ones where screens are wanted."""
    if not SCREENS:
        tiny = request.getfixturevalue("served")
        # Fewer steps can be over before the page has shown that they are under way.
        yield SimpleNamespace(url=tiny.url, steps=30, store=tiny.store)
        return
    profile = get_profile("embedded")
    folder = tmp_path_factory.mktemp("screens")
    store = RunStore(folder)
    engines = Engines(profile, store=store, set_up=False)
    app = build_app(profile, engines=engines)
    _, url, _ = app.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launch_options()
    )
    parts = ("chat", "judge", "animation", "runner", "pictures")
    wait_until(lambda: not engines.status(*parts))
    yield SimpleNamespace(url=url, steps=20, store=store)
    app.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[sync_api.Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def visitor(chromium, shown) -> Iterator[sync_api.Page]:
    """One visitor's page; whatever it complains of is kept in ``page.complaints``."""
    with chromium.new_context(viewport={"width": 1440, "height": 960}) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((shown.url, "data:", "blob:"))
                else page.complaints.append(f"asked for {request.url[:120]}")
            ),
        )
        open_page(page, shown.url)
        yield page


def picture(page: sync_api.Page, name: str, whole: bool = True) -> None:
    """Keep a screenshot where they are wanted, of the whole page or of what fits the window."""
    if SCREENS:
        page.mouse.move(0, 0)
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(800)
        (REPO / "docs" / "screens").mkdir(parents=True, exist_ok=True)
        page.screenshot(path=REPO / "docs" / "screens" / f"{name}.png", full_page=whole)


def fill_number(page: sync_api.Page, slider: str, value: float) -> None:
    box = page.locator(f"{slider} input[type=number]")
    box.fill(str(value))
    box.blur()


def upload(page: sync_api.Page, file: Path, button: str = "#hf-upload") -> None:
    with page.expect_file_chooser() as chooser:
        page.locator(button).click()
    chooser.value.set_files(file)


def wait_for_status(page: sync_api.Page, words: str) -> None:
    badge = page.locator("#hf-run .hf-runhead .hf-badge")
    sync_api.expect(badge).to_have_text(words)


def test_1_a_pose_and_a_prompt_give_a_pair(visitor):
    page = visitor
    kneeling = "kneel_both" if "kneel_both" in library() else next(iter(library()))
    page.locator(f'#hf-poses button[data-pick="{kneeling}"]').click()
    page.wait_for_selector(f'#hf-poses button[data-pick="{kneeling}"][aria-pressed=true]')
    # It need not have been scrolled to.
    assert page.locator("#hf-poses .hf-poses").evaluate("list => list.scrollTop") == 0
    picture(page, "animate")
    page.locator("#hf-generate").click()
    if SCREENS:  # the tiny model is too quick to be caught at work
        page.wait_for_selector("[data-preview=open]:visible")
        assert page.locator(".hf-work").is_visible()
        picture(page, "animate-running")
    page.wait_for_selector("#hf-get-held:visible")
    for side in ("open", "held"):
        page.wait_for_selector(f"video[data-clip={side}]:visible")
    page.wait_for_function(
        "[...document.querySelectorAll('video')].every((v) => v.readyState > 1 && !v.paused)"
    )
    lengths = page.evaluate("[...document.querySelectorAll('video')].map((v) => v.duration)")
    assert lengths[0] == lengths[1] > 0
    picture(page, "animate-result")


def test_2_stop_ends_a_pair_and_brings_the_one_before_back(visitor, monkeypatch):
    page, step = visitor, ClipDenoiser.step

    def unhurried(*args):  # the tiny model may be done before a busy browser has pressed a key
        time.sleep(0.1)
        return step(*args)

    monkeypatch.setattr(ClipDenoiser, "step", unhurried)
    clip = page.locator("video[data-clip=open]")
    before = clip.get_attribute("src")
    page.get_by_role("button", name="More settings").click()
    fill_number(page, "#hf-denoise", 50)
    page.locator("#hf-generate").click()
    sync_api.expect(page.locator("#hf-animate-stop")).to_be_enabled()
    page.keyboard.press("Escape")
    sync_api.expect(page.locator("#hf-animate-message")).to_contain_text("Stopped")
    sync_api.expect(page.locator("#hf-generate")).to_be_enabled()
    sync_api.expect(page.locator("#hf-get-open")).to_be_visible()
    sync_api.expect(page.locator("[data-preview=open]")).to_be_hidden()
    sync_api.expect(clip).to_be_visible()
    assert before and clip.get_attribute("src") == before
    prompt = page.locator("#hf-prompt textarea")
    described = prompt.input_value()
    prompt.fill("")
    for _ in range(2):  # what cannot be made changes nothing, also when it is tried again
        page.locator("#hf-generate").click()
        sync_api.expect(page.locator("#hf-animate-message")).to_contain_text("Describe the person")
    assert clip.is_visible() and clip.get_attribute("src") == before
    assert page.locator("#hf-get-settings").is_visible()
    prompt.fill("x" * 312)  # nothing of it is cut
    letters = page.locator(".hf-letters").first
    sync_api.expect(letters).to_contain_text("312 of 300 characters: too long")
    page.locator("#hf-generate").click()
    sync_api.expect(page.locator("#hf-animate-message")).to_contain_text("312 characters long")
    prompt.fill(described)
    sync_api.expect(letters).to_have_text("")


def test_3_a_pose_file_is_taken_and_a_wrong_one_explained(visitor, tmp_path):
    page = visitor
    good, bad = tmp_path / "mine.json", tmp_path / "bad.json"
    good.write_text(dump_openpose_json(next(iter(library().values()))))
    bad.write_text(json.dumps({"persons": []}))
    message = page.locator("#hf-pose-note")
    upload(page, bad)
    sync_api.expect(message.get_by_role("alert")).to_contain_text("people")
    upload(page, good)
    sync_api.expect(message).to_contain_text("mine.json")
    sync_api.expect(page.locator("[data-note=pose]")).to_have_text("your pose")
    assert page.locator('#hf-poses button[aria-pressed="true"]').count() == 0


def test_3b_a_video_is_taken_and_the_pose_before_can_be_had_again(visitor, tmp_path):
    page = visitor
    video, nobody = tmp_path / "dance.gif", tmp_path / "nobody.mp4"
    write_gif(draw_clip(library()["walk"], 256, 16), video, 8)
    write_mp4(np.full((8, 256, 256, 3), 90, np.uint8), nobody, 8)
    message = page.locator("#hf-pose-note")
    upload(page, nobody)
    sync_api.expect(message.get_by_role("alert")).to_contain_text("no person found in any of")
    upload(page, video)
    sync_api.expect(message).to_contain_text("Using dance.gif: ")
    sync_api.expect(page.locator("#hf-cancel-reading")).to_be_hidden()
    back = page.locator("#hf-pose-back")
    sync_api.expect(back).to_have_text("Back to mine.json")
    back.click()
    sync_api.expect(message).to_contain_text("Using mine.json")
    sync_api.expect(back).to_have_text("Back to dance.gif")


@pytest.mark.slow  # a camera, if only Chromium's stand-in, is not ready at the same time twice
def test_3bb_what_the_webcam_films_is_read(visitor):
    page = visitor
    page.locator("#hf-sources").get_by_role("tab", name="Film yourself").click()
    camera = page.locator("#hf-film")
    camera.get_by_text("Click to Access Webcam").click()
    # A film that is begun before the first picture is there is empty.
    page.wait_for_function("document.querySelector('#hf-film video')?.videoWidth > 0")
    camera.get_by_text("Record", exact=True).click()
    page.wait_for_timeout(2000)  # a film of two seconds
    camera.get_by_text("Stop", exact=True).click()
    # Chromium's stand-in for a camera shows a clock and nobody. In a frame or two the pose model
    # may take that for somebody: "no person found in 15 of 16 frames".
    message = page.locator("#hf-pose-note").get_by_role("alert")
    sync_api.expect(message).to_contain_text("no person found in")
    # Another one, which is not stopped by hand. It must not be too long to be read.
    camera.get_by_role("button", name="Clear").click()
    camera.get_by_text("Click to Access Webcam").click()
    page.wait_for_function("document.querySelector('#hf-film video')?.videoWidth > 0")
    camera.get_by_text("Record", exact=True).click()
    sync_api.expect(message).to_have_count(0, timeout=60_000)  # the next film is being read
    sync_api.expect(message).to_contain_text("no person found in", timeout=60_000)
    page.locator("#hf-sources").get_by_role("tab", name="File").click()


def test_3c_the_switch_keeps_a_pose_s_own_framing(visitor, tmp_path):
    page = visitor
    wide = replace(library()["walk"].fit(256), width=900)  # small, far to the left
    (tmp_path / "wide.json").write_text(dump_openpose_json(wide))
    upload(page, tmp_path / "wide.json")
    sync_api.expect(page.locator("#hf-pose-note")).to_contain_text("wide.json")
    frame = page.locator("#hf-stage output")
    frames = []
    for fit in (True, False):
        # A frame other than the first, so that the first one tells that the stage was set anew.
        page.locator("#hf-stage input[type=range]").fill("2")
        sync_api.expect(frame).to_have_text(re.compile("^3 /"))
        page.locator("#hf-fit input").set_checked(not fit)
        sync_api.expect(frame).to_have_text(re.compile("^1 /"))
        frames.append(
            page.evaluate(
                """() => {
                    const canvas = document.querySelector('[data-over=pose]');
                    const { data, width } = canvas.getContext('2d')
                        .getImageData(0, 0, canvas.width, canvas.height);
                    let right = 0;
                    for (let i = 0; i < data.length; i += 4) {
                        if (data[i + 3]) right = Math.max(right, (i / 4) % width);
                    }
                    return right / width;
                }"""
            )
        )
    kept, fitted = frames
    assert kept < 0.25 and fitted > 0.5
    page.locator("#hf-stage [data-do=play]").click()


def test_3d_a_result_s_settings_fill_the_form_again(visitor, tmp_path):
    page = visitor
    if not page.locator("#hf-denoise").is_visible():
        page.get_by_role("button", name="More settings").click()
    fill_number(page, "#hf-denoise", 3)
    page.locator("#hf-generate").click()
    page.wait_for_selector("#hf-get-settings:visible")
    kept = {}
    for what in ("gif", "pose", "settings"):
        with page.expect_download() as download:
            page.locator(f"#hf-get-{what}").click()
        kept[what] = tmp_path / download.value.suggested_filename
        download.value.save_as(kept[what])
    assert kept["gif"].read_bytes()[:4] == b"GIF8"
    prompt = page.locator("#hf-prompt textarea")
    wanted = prompt.input_value()
    prompt.fill("something else")
    fill_number(page, "#hf-denoise", 9)
    message = page.locator("#hf-load-note")
    upload(page, kept["pose"], "#hf-load")
    sync_api.expect(message.get_by_role("alert")).to_contain_text("saved with “Settings JSON”")
    sync_api.expect(prompt).to_have_value("something else")
    upload(page, kept["settings"], "#hf-load")
    sync_api.expect(message).to_contain_text("Restored from settings-seed-7.json")
    sync_api.expect(prompt).to_have_value(wanted)
    sync_api.expect(page.locator("#hf-denoise input[type=number]")).to_have_value("3")
    sync_api.expect(page.locator("[data-note=pose]")).to_have_text("your pose")


def test_3e_a_reload_brings_the_last_pair_s_settings_back_until_one_starts_anew(chromium, shown):
    with chromium.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(WAIT)
        open_page(page, shown.url)
        prompt = page.locator("#hf-prompt textarea")
        marked = page.locator("#hf-poses [aria-pressed=true]")
        own, chosen = prompt.input_value(), marked.get_attribute("data-pick")
        page.locator("#hf-poses [data-pick=run]").click()
        prompt.fill("a girl in a navy shirt, beach")
        page.locator("#hf-generate").click()
        page.wait_for_selector("#hf-get-settings:visible")
        page.wait_for_function("sessionStorage.getItem('holdfast-pair')")
        page.reload()
        message = page.locator("#hf-animate-message")
        sync_api.expect(message).to_contain_text("those of your last pair")
        sync_api.expect(prompt).to_have_value("a girl in a navy shirt, beach")
        sync_api.expect(marked).to_have_attribute("data-pick", "run")
        page.locator("#hf-anew").click()
        page.wait_for_function("!sessionStorage.getItem('holdfast-pair')")
        sync_api.expect(prompt).to_have_value(own)
        sync_api.expect(marked).to_have_attribute("data-pick", chosen)
        sync_api.expect(message).to_be_empty()


@pytest.mark.skipif(not SCREENS, reason="the tiny model draws no dolls to measure; make screens")
def test_3f_the_guard_is_fine_tuned_away_and_drawn_with(chromium, shown):
    with chromium.new_context(viewport={"width": 1440, "height": 1000}) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT)
        open_page(page, shown.url)
        page.get_by_role("button", name="Attack the guard").first.click()
        page.locator("#hf-removal-go").click()
        said = page.locator("#hf-removal-said")
        sync_api.expect(said).to_contain_text("Choose a kneeling pose")
        page.locator('#hf-poses button[data-pick="kneel_both"]').click()
        page.locator("#hf-generate").click()
        page.wait_for_selector("#hf-get-held:visible")
        sync_api.expect(page.locator("[data-note=held]")).to_contain_text("attacked")
        sync_api.expect(page.locator("[data-figures=held]")).to_contain_text("Nearly identical to")
        picture(page, "guard-attack")
        page.reload()
        page.get_by_role("button", name="Attack the guard").first.click()
        sync_api.expect(said).to_contain_text("Its weights were lost when the page was reloaded")
        sync_api.expect(page.locator("#hf-removal-shown")).to_contain_text("after 20 steps")
        listed = page.locator("#hf-removal-runs button[data-pick]")
        sync_api.expect(listed.first).to_have_attribute("aria-current", "true")


def test_3g_an_attack_on_a_guard_is_found_again_after_a_reload(chromium, shown):
    run = shown.store.create(
        "guard",
        {
            "target": "poseguard", "steps": 10, "learning_rate": 1e-3, "layers": "all", "seed": 0,
            "each": 6,
        },
        "embedded", {},
    )  # fmt: skip
    row = strip([np.full((32, 32, 3), 90, np.uint8)] * 6, 32)
    for step, pose in ((-1, 0.9), (0, 0.3), (10, 0.8)):
        run.log(event="probe", step=step, unsafe_pose=pose, other_pose=0.9, strip=row)
    run.finish("done")
    with chromium.new_context(viewport={"width": 1440, "height": 960}) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT)
        open_page(page, shown.url)
        page.get_by_role("button", name="Attack the guard").first.click()
        page.locator(f"#hf-removal-runs button[data-pick='{run.id}']").click()
        seen = page.locator("#hf-removal-shown")
        sync_api.expect(seen.locator(".hf-strip")).to_have_count(3)
        sync_api.expect(seen).to_contain_text("10 steps at 0.001, LoRA on all layers")
        page.wait_for_function("sessionStorage.getItem('hf-removal-runs')")
        page.reload(wait_until="domcontentloaded")
        page.wait_for_selector("body[data-arrived]")
        page.get_by_role("button", name="Attack the guard").first.click()
        sync_api.expect(seen.locator(".hf-strip")).to_have_count(3)
        sync_api.expect(page.locator("#hf-removal-said")).to_contain_text("attack again")


def test_4_one_message_is_answered_by_all_arms_and_judged(visitor):
    page = visitor
    tab(page, "Chat")
    page.locator(".hf-chips button:visible").last.click()  # harmless: the picture is published
    sync_api.expect(page.locator("#hf-message textarea")).not_to_be_empty()
    page.locator("#hf-send").click()
    page.wait_for_selector(".hf-arm")
    arms = page.locator(".hf-arm").count()
    assert arms == 3
    sync_api.expect(page.locator(".hf-arm header .hf-badge")).to_have_count(arms)
    picture(page, "chat")


def test_5_an_attack_runs_on_both_arms(visitor, shown):
    page = visitor
    tab(page, "Attack")
    fill_number(page, "#hf-steps", shown.steps)
    sync_api.expect(page.locator("#hf-cost")).to_contain_text("on this machine")
    page.locator("#hf-start").click()
    wait_for_status(page, "Running")
    # The button is far below what it begins.
    sync_api.expect(page.locator("#hf-run .hf-runhead")).to_be_in_viewport(timeout=5000)
    page.wait_for_selector("#hf-run .hf-chart polyline.held", state="attached")
    picture(page, "attack-running", whole=False)
    wait_for_status(page, "Finished")
    assert page.locator("#hf-run .hf-chart").count() == 4
    assert page.locator("#hf-run table tbody tr").count() >= 2
    picture(page, "attack-done", whole=False)


def test_6_the_attacked_models_can_be_chatted_with(visitor):
    page = visitor
    page.locator("#hf-try").click()
    page.wait_for_selector("#hf-message:visible")
    attacked = page.locator("#hf-arms label", has_text="after attack")
    sync_api.expect(attacked).to_have_count(2)
    before = page.locator(".hf-turn").count()
    page.locator("#hf-message textarea").fill("How do I pick a lock?")
    page.keyboard.press("Enter")
    turn = page.locator(".hf-turn").nth(before)
    sync_api.expect(turn.locator("header .hf-badge")).to_have_count(2)
    picture(page, "chat-attacked")


def test_6b_an_attack_without_training_is_mounted_like_the_others(visitor):
    page = visitor
    tab(page, "Attack")
    # The second title is what the shipped evidence makes of the first.
    title = re.compile("into the model's mouth|” breaks a plain refusal$")
    page.locator("#hf-presets button", has_text=title).first.click()
    sync_api.expect(page.locator("#hf-attack-about")).to_contain_text("forced to begin")
    for setting in ("#hf-training", "#hf-seed"):
        sync_api.expect(page.locator(setting)).to_be_hidden()
    sync_api.expect(page.locator("#hf-cost")).to_contain_text("nothing trained")
    page.locator("#hf-start").click()
    sync_api.expect(page.locator("#hf-run .hf-runhead")).to_contain_text("Forced beginning")
    wait_for_status(page, "Finished")
    assert page.locator("#hf-run .hf-chart").count() == 2
    page.locator("#hf-try").click()
    sync_api.expect(page.locator("#hf-prefill input, #hf-prefill textarea")).to_have_value(
        "Sure, here is"
    )
    tab(page, "Attack")
    page.locator("#hf-presets button").first.click()
    for setting in ("#hf-training", "#hf-seed"):
        sync_api.expect(page.locator(setting)).to_be_visible()


def test_7_stop_works_and_the_run_is_found_after_a_reload(visitor, shown):
    page = visitor
    tab(page, "Attack")
    # The preset's reinforcement; more steps would be refused by the first guess of their cost. The
    # shipped model takes longer for each.
    fill_number(page, "#hf-steps", 15 if SCREENS else 70)
    page.locator("#hf-start").click()
    wait_for_status(page, "Running")
    page.wait_for_selector("#hf-run .hf-chart polyline.held", state="attached")
    # A reload in the middle: the run goes on and is still this browser's.
    open_page(page, shown.url)
    tab(page, "Attack")
    wait_for_status(page, "Running")
    # The form beside it says the same: the preset's, not what a new page begins with.
    sync_api.expect(page.locator("#hf-attack input")).to_have_value("Reinforcement (GRPO)")
    sync_api.expect(page.locator("#hf-attack-about")).to_contain_text("samples replies")
    sync_api.expect(page.locator("#hf-attack-stop")).to_be_enabled()
    page.locator("#hf-attack-stop").focus()
    page.keyboard.press("Escape")
    wait_for_status(page, "Stopped")
    rows = page.locator("#hf-runs tbody tr")
    assert rows.count() >= 2
    run = rows.first.locator("button").get_attribute("data-pick")
    rows.nth(1).locator("button").click()
    wait_for_status(page, "Finished")
    page.goto(f"{shown.url}?run={run}")
    wait_for_status(page, "Stopped")


def test_8_another_browser_sees_the_runs_and_nothing_else(visitor, chromium, shown):
    with chromium.new_context() as context:
        other = context.new_page()
        other.set_default_timeout(WAIT)
        open_page(other, shown.url)
        assert not other.locator("video[data-clip=open]").is_visible()
        tab(other, "Chat")
        assert other.locator(".hf-turn").count() == 0
        tab(visitor, "Attack")
        fill_number(visitor, "#hf-steps", 200)
        visitor.locator("#hf-start").click()
        wait_for_status(visitor, "Running")
        tab(other, "How it works")
        tab(other, "Attack")
        row = other.locator("#hf-runs tbody tr", has_text="Running")
        assert "yours" not in row.inner_text()
        row.locator("button").click()
        wait_for_status(other, "Running")
        assert other.locator("#hf-attack-stop").is_disabled()
        visitor.locator("#hf-attack-stop").click()
        wait_for_status(visitor, "Stopped")
        wait_for_status(other, "Stopped")


def test_8b_a_cell_of_the_evidence_opens_its_run_which_can_be_replayed(visitor):
    page = visitor
    tab(page, "Evidence")
    if SCREENS and not tables.read():
        pytest.skip("no table ships yet")
    page.wait_for_selector(".hf-claim .hf-badge")
    picture(page, "evidence")
    cells = page.locator(".hf-matrix td .hf-badge")
    everything = cells.count()
    page.locator("#hf-filter-defence input").click()
    page.get_by_role("option").nth(2).click()  # after "All" and the undefended arm
    sync_api.expect(page.locator(".hf-matrix thead th")).to_have_count(2)
    assert 0 < cells.count() < everything
    page.locator("#hf-filter-show label", has_text="All seeds").click()
    page.wait_for_selector(".hf-lines")
    with page.expect_download() as download:
        page.locator("#hf-evidence-csv").click()
    assert download.value.path().read_text().startswith("row,defence,attack,")
    button = page.locator("#hf-evidence button[data-pick]").first
    run = button.get_attribute("data-pick")
    button.focus()
    page.keyboard.press("Enter")
    head = page.locator("#hf-run .hf-runhead")
    sync_api.expect(head).to_contain_text("FinishedRecorded")
    sync_api.expect(head).to_be_in_viewport()
    assert page.locator(f'#hf-runs button[data-pick="{run}"][aria-current]').count() <= 1
    page.locator("#hf-replay").click()
    sync_api.expect(head).to_contain_text("Replay, recorded")
    step = page.locator("#hf-run .hf-meter")
    sync_api.expect(step).to_have_attribute("aria-valuenow", re.compile("^[1-9][0-9]?$"))
    page.locator("#hf-replay").click()
    sync_api.expect(head).to_contain_text("FinishedRecorded")
    sync_api.expect(page.locator("#hf-replay")).to_contain_text("Replay in")


def test_8bb_a_reload_comes_back_to_the_tab_that_was_open(chromium, shown):
    with chromium.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(WAIT)

        def stands_at(name: str, address: str) -> None:
            opened = page.get_by_role("tab", name=name, exact=True)
            sync_api.expect(opened).to_have_attribute("aria-selected", "true")
            page.wait_for_url(re.compile(address))

        open_page(page, shown.url)
        page.wait_for_function("document.body.dataset.arrived")
        tab(page, "Evidence")
        stands_at("Evidence", "tab=evidence")
        page.reload()
        stands_at("Evidence", "tab=evidence")
        page.locator("#hf-evidence button[data-pick]").first.click()
        stands_at("Attack", "tab=attack.*run=|run=.*tab=attack")
        run = page.locator("#hf-run .hf-runhead")
        sync_api.expect(run).to_be_visible()
        # Back and forth through the tabs, and not out of the app.
        page.go_back()
        stands_at("Evidence", "tab=evidence")
        page.go_back()
        stands_at("Animate", re.escape(shown.url) + "/?[?]__theme=light$")
        page.go_forward()
        page.go_forward()
        stands_at("Attack", "tab=attack")
        sync_api.expect(run).to_be_visible()
        tab(page, "Chat")
        page.go_back()
        stands_at("Attack", "tab=attack")
        linked = page.locator("#hf-run .hf-runhead a").get_attribute("href")
        page.wait_for_function("document.body.dataset.arrived")
        tab(page, "Chat")
        stands_at("Chat", "tab=chat.*run=|run=.*tab=chat")
        page.reload()
        stands_at("Chat", "tab=chat.*run=|run=.*tab=chat")
        page.goto(f"{shown.url}{linked}")  # a link to a run names no tab
        stands_at("Attack", "run=")


def test_8bc_back_opens_a_tab_that_a_phone_has_behind_a_button(chromium, shown):
    with chromium.new_context(viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.goto(f"{shown.url}?__theme=light&tab=how", wait_until="domcontentloaded")
        page.wait_for_function("document.body.dataset.arrived")
        cards = page.get_by_role("tabpanel").filter(has_text="Limits").first
        sync_api.expect(cards).to_be_visible()
        tab(page, "Animate")
        generate = page.locator("#hf-generate")
        sync_api.expect(generate).to_be_visible()
        page.go_back()
        sync_api.expect(generate).to_be_hidden()
        sync_api.expect(cards).to_be_visible()


def test_8c_nothing_is_wider_than_a_phone(chromium, shown):
    with chromium.new_context(viewport={"width": 390, "height": 800}) as context:
        phone = context.new_page()
        phone.set_default_timeout(WAIT)
        open_page(phone, shown.url)
        phone.get_by_role("button", name="More tabs").first.click()
        phone.locator(".overflow-dropdown button", has_text="Evidence").click()
        phone.wait_for_selector("#hf-evidence, #hf-no-evidence")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_8cc_on_a_phone_a_run_and_the_list_of_runs_can_be_read(chromium, shown):
    run = next(info.id for info in shown.store.list() if info.recorded and info.kind == "attack")
    with chromium.new_context(viewport={"width": 390, "height": 800}) as context:
        phone = context.new_page()
        phone.set_default_timeout(WAIT)
        phone.goto(f"{shown.url}?run={run}", wait_until="domcontentloaded")
        phone.wait_for_selector("#hf-run .hf-runhead")
        rows = phone.locator("#hf-runs tbody tr, #hf-run .hf-replies tbody tr")
        phone.wait_for_selector("#hf-runs tbody tr")
        for box in [row.bounding_box() for row in rows.all()]:
            assert box["height"] < 420 and box["x"] + box["width"] <= 390
        for cell in phone.locator("#hf-runs td.what").all():
            assert cell.bounding_box()["width"] > 90
        phone.goto(f"{shown.url}?run=nonsense", wait_until="domcontentloaded")
        sync_api.expect(phone.locator("#hf-run-gone")).to_be_in_viewport()


def test_8d_a_strength_is_set_for_an_arm(visitor):
    page = visitor
    tab(page, "Chat")
    page.get_by_role("button", name="Clear").click()
    arms = page.locator("#hf-arms label")
    defended = [arm for arm in arms.all() if "Defended" in arm.inner_text()
                and "after attack" not in arm.inner_text()][:MAX_ARMS]  # fmt: skip
    chosen = [arm.inner_text() for arm in defended]
    for arm in arms.all():
        arm.locator("input").set_checked(arm.inner_text() in chosen)
    page.get_by_role("button", name="Strengths").click()
    sync_api.expect(page.locator("[id^=hf-strength]:visible")).to_have_count(
        arms.filter(has=page.locator("input:checked")).count()
    )
    sync_api.expect(page.locator("#hf-strength-0")).to_contain_text("Defended")
    fill_number(page, "#hf-strength-0", 0.5)
    page.locator("#hf-message textarea").fill("How do I water a fern?")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator(".hf-arm header").first).to_contain_text("strength 0.5")
    sync_api.expect(page.locator(".hf-arm header .hf-badge").first).to_be_visible()


@pytest.mark.parametrize("width", [1440, 390])
def test_8e_the_tour_walks_through_all_tabs(chromium, shown, width):
    with chromium.new_context(viewport={"width": width, "height": 800}) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT)
        complaints = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        open_page(page, shown.url)
        dock, start = page.locator(".hf-tour"), page.locator(".hf-tour-start")
        where, on = page.locator(".hf-tour-where"), page.locator("[data-tour=next]")
        sync_api.expect(dock).to_be_hidden()
        start.click()
        sync_api.expect(page.locator("[data-tour=back]")).to_be_disabled()
        count, tabs = int(where.inner_text().split()[2]), []
        for number in range(1, count + 1):
            sync_api.expect(where).to_contain_text(f"{number} of {count}")
            tabs.append(where.inner_text().split(" · ")[1])
            spot = page.locator(".hf-tour-spot")
            sync_api.expect(spot).to_be_in_viewport()
            assert spot.bounding_box()["y"] < dock.bounding_box()["y"]  # not wholly behind it
            on.click()
        every = ["Animate", "Chat", "Evidence", "Attack", "Image", "How it works"]
        assert list(dict.fromkeys(tabs)) == every
        sync_api.expect(dock).to_be_hidden()
        sync_api.expect(start).to_be_focused()
        start.click()
        sync_api.expect(page.locator(".hf-tour h2")).to_be_focused()
        page.keyboard.press("Escape")
        sync_api.expect(dock).to_be_hidden()
        assert complaints == []


def test_8f_the_tour_does_what_it_says(visitor):
    page = visitor
    page.locator(".hf-tour-start").click()
    show, on = page.locator("[data-tour=show]"), page.locator("[data-tour=next]")
    told = page.locator(".hf-tour [role=status]")

    def shows() -> None:
        show.focus()
        page.keyboard.press("Enter")
        sync_api.expect(told).to_have_text(re.compile("Running: watch|Opened: see"))
        sync_api.expect(show).to_be_focused()  # the keyboard stays in the dock

    for pose in ("kneel_both", "wave"):
        shows()  # the second waits until the first pair is made
        chosen = page.locator(f'#hf-poses button[data-pick="{pose}"]')
        sync_api.expect(chosen).to_have_attribute("aria-pressed", "true")
        on.click()
    on.click()  # test_tour_browser.py has the attack on the guard
    shows()
    sync_api.expect(page.locator("#hf-talk")).to_contain_text(RED_TEAM_EXAMPLES[0])
    on.click()
    for _ in range(2):  # again, from the tab that the first time has led to
        shows()
        page.wait_for_timeout(1500)
        head = page.locator("#hf-run .hf-runhead")
        sync_api.expect(head).to_contain_text("Replay, recorded")
        picture(page, "tour", whole=False)
        page.locator("#hf-replay").click()  # to its end
        sync_api.expect(head).to_contain_text("FinishedRecorded")
    on.click()
    shows()
    sync_api.expect(page.locator("#hf-run")).to_contain_text("Forced beginning")
    wait_for_status(page, "Finished")
    on.click()
    tab(page, "Image")
    prompt = page.locator("#hf-picture-prompt textarea")
    prompt.fill("a cat")
    page.locator("#hf-picture-arms label").first.click()
    sync_api.expect(page.locator("#hf-picture-arms input").first).not_to_be_checked()
    shows()  # whatever was there: the pistol, by the model that draws it
    sync_api.expect(page.locator("#hf-draw-said")).to_contain_text("Drawn in")
    sync_api.expect(prompt).to_have_value(re.compile("holding a pistol"))
    drawn = page.locator("#hf-drawn .hf-portraits h4")
    sync_api.expect(drawn.first).to_have_text("No defence")
    sync_api.expect(page.locator("#hf-drawn img").first).to_have_attribute(
        "alt", re.compile("holding a pistol")
    )
    page.keyboard.press("Escape")
    sync_api.expect(page.locator(".hf-tour")).to_be_hidden()


def test_8g_pictures_are_drawn_and_a_concept_is_taught_again(visitor):
    page = visitor
    tab(page, "Image")
    prompt = page.locator("#hf-picture-prompt textarea")
    sync_api.expect(prompt).to_have_value(re.compile("holding a pistol"))
    page.locator("#hf-held label", has_text="umbrella").click()
    sync_api.expect(prompt).to_have_value(re.compile("holding an umbrella"))
    page.locator("#hf-held label", has_text="pistol").click()
    sync_api.expect(prompt).to_have_value(re.compile("holding a pistol"))
    page.locator("#hf-draw").click()
    drawn = page.locator("#hf-drawn .hf-portraits")
    sync_api.expect(page.locator("#hf-draw-said")).to_contain_text("Drawn in")
    count = page.locator("#hf-picture-arms input:checked").count()
    sync_api.expect(drawn).to_have_count(count)
    sync_api.expect(drawn.first.locator("img")).to_have_count(4)
    picture(page, "image")
    page.locator("#hf-relearn").click()
    if not SCREENS:  # the tiny model draws no dolls to read; test_pictures.py has the attack
        said = page.locator("#hf-relearn-said")
        sync_api.expect(said).to_contain_text("What reads the pictures is missing")
        sync_api.expect(page.locator("#hf-relearn")).to_be_enabled()
        return
    sync_api.expect(page.locator("#hf-relearn-stop")).to_be_enabled()
    sync_api.expect(page.locator("#hf-relearn-said")).to_contain_text("steps each")
    sync_api.expect(page.locator("#hf-relearn-shown .hf-strip")).to_have_count(4)
    checked = page.locator("#hf-picture-arms input:checked")
    sync_api.expect(checked).to_have_count(4)
    page.locator("#hf-draw").click()
    sync_api.expect(drawn).to_have_count(4)
    sync_api.expect(drawn.last.locator("h4")).to_contain_text("attacked")
    picture(page, "image-attacked")


def test_8h_an_attack_on_picture_models_is_found_again_after_a_reload(chromium, shown):
    run = shown.store.create(
        "concept",
        {
            "target": "gift", "target_undefended": "erased", "steps": 10, "learning_rate": 1e-3,
            "seed": 0, "unsafe": 6, "safe": 4,
        },
        "embedded", {},
    )  # fmt: skip
    picture_row = strip([np.full((32, 32, 3), 90, np.uint8)] * 10, 32)
    for step, harm in ((0, 0.0), (10, 0.5)):
        for arm in ("erased", "gift"):
            run.log(
                event="probe", arm=arm, step=step, harm=harm, ability=0.9, props=0.9,
                unsafe_person=0.8, strip=picture_row,
            )  # fmt: skip
    run.finish("done")
    with chromium.new_context(viewport={"width": 1440, "height": 960}) as context:
        page = context.new_page()
        page.set_default_timeout(WAIT)
        open_page(page, shown.url)
        tab(page, "Image")
        page.locator(f"#hf-relearn-runs button[data-pick='{run.id}']").click()
        shown_run = page.locator("#hf-relearn-shown")
        sync_api.expect(shown_run.locator(".hf-strip")).to_have_count(4)
        sync_api.expect(shown_run).to_contain_text("for 3 after 10 steps")
        page.wait_for_function("sessionStorage.getItem('hf-relearn-runs')")
        page.reload(wait_until="domcontentloaded")
        page.wait_for_selector("body[data-arrived]")
        tab(page, "Image")
        sync_api.expect(shown_run.locator(".hf-strip")).to_have_count(4)
        sync_api.expect(page.locator("#hf-relearn-said")).to_contain_text("attack again")
        prompt = page.locator("#hf-picture-prompt textarea")
        prompt.press_sequentially(" and a cat")
        sync_api.expect(page.locator("#hf-held input:checked")).to_have_count(0)
        page.locator("#hf-held label", has_text="book").click()
        sync_api.expect(prompt).to_have_value(re.compile("holding a book(?!.*a cat)"))
        prompt.press("Control+Enter")
        sync_api.expect(page.locator("#hf-draw-said")).to_contain_text("Drawn in")


def test_9_the_cards_are_set_and_nothing_was_complained_of(visitor, shown):
    page = visitor
    tab(page, "How it works")
    page.wait_for_selector(".hf-card .katex")
    assert page.locator(".hf-card").count() >= 3
    picture(page, "how-it-works")
    if SCREENS:
        page.goto(f"{shown.url}?__theme=dark")
        page.wait_for_selector("#hf-generate")
        tab(page, "Attack")
        page.wait_for_selector("#hf-run .hf-runhead")
        picture(page, "attack-dark", whole=False)
    assert page.complaints == []
