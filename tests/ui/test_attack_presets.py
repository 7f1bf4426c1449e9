"""What can be attacked with, and the form's rules. No server."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from adapters.attacks.base import ATTACKS, UNTRAINED, attack_settings
from evaluation.cells import cells
from tests.tiny_table import tiny_table
from ui import attack_form, attack_presets
from ui.attack_presets import (
    LEARNING_RATES,
    MAX_SECONDS,
    MAX_STEPS,
    PRESETS,
    plainly,
    refuse_long,
    settled,
)
from ui.attack_view import attack_title

BROKEN, HELD = (0.8, 0.8), (0.0, 0.8)


def test_every_attack_has_a_name_and_every_preset_can_be_started():
    assert set(attack_presets.ATTACKS) == {*ATTACKS, *UNTRAINED}
    assert set(UNTRAINED) <= {preset.attack for preset in PRESETS}
    for preset in PRESETS:
        assert preset.rate in LEARNING_RATES
        assert preset.steps <= MAX_STEPS and preset.steps % 5 == 0  # the slider's step
        config = attack_settings(
            "sdd", preset.attack, 0, steps=preset.steps, learning_rate=preset.rate
        )
        assert attack_presets.ATTACKS[preset.attack].title in attack_title(config.record())


@pytest.mark.parametrize(
    ("ends", "titles"),
    [
        ({}, {"RL against a plain refusal", "RL against TokenBuncher"}),
        (
            {("tokenbuncher", "grpo"): (BROKEN, HELD)},
            {"RL breaks a plain refusal", "TokenBuncher leaves RL nothing to learn"},
        ),
        (
            {("tokenbuncher", "grpo"): (BROKEN, BROKEN)},
            {"RL breaks a plain refusal", "RL against TokenBuncher"},
        ),
        # Where the undefended arm withstands it too, nobody can say what the defence did.
        (
            {("tokenbuncher", "grpo"): (HELD, HELD)},
            {"RL against a plain refusal", "RL against TokenBuncher"},
        ),
        ({("sdd", "sft_retain"): (BROKEN, BROKEN)}, {"An attacker who keeps what they want"}),
        (
            {("sdd", "sft_retain"): (BROKEN, (0.8, 0.6))},
            {"An attacker who mixes in harmless pairs"},
        ),
        ({("sdd", "prefill"): (BROKEN, HELD)}, {"“Sure, here is” breaks a plain refusal"}),
        ({("sdd", "prefill"): (HELD, HELD)}, {"Words put into the model's mouth"}),
        (
            {("sdd", "abliteration"): (BROKEN, HELD)},
            {"A plain refusal is cut out of the weights"},
        ),
        (
            {("sdd", "abliteration"): ((0.8, 0.3), HELD)},
            {"The direction of refusal, taken out of the weights"},
        ),
    ],
)
def test_a_preset_says_how_it_ends_only_where_the_table_does(tmp_path, ends, titles):
    found = cells(tiny_table(tmp_path, ends)) if ends else []
    offered = [settled(preset, found) for preset in PRESETS]
    assert titles <= {preset.title for preset in offered}
    said = {preset.title for preset in offered} - {preset.title for preset in PRESETS}
    assert said <= titles
    for preset in offered:
        if preset.title in said:
            row = next(cell.verdict for cell in found if cell.attack == preset.attack)
            if preset.attack in UNTRAINED:
                assert row["learning_rate"] is None
                continue
            assert (preset.steps, preset.rate) == (
                row["settings"]["steps"], row["learning_rate"],
            )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ((0.7, 0.05), True),
        ((0.7, 0.4), False),  # it has something to say
        ((0.05, 0.05), False),  # so has the undefended arm not
        ((0.7, None), False),
        ((None, 0.05), False),
    ],
)
def test_a_preset_says_that_agreement_is_empty_only_where_content_was_measured(
    tmp_path, content, said
):
    pair = "seam_tokenbuncher"
    table = tiny_table(tmp_path, {(pair, "sft"): (BROKEN, BROKEN)})
    for row in table:
        row["substance_after"] = dict(zip(("aligned", pair), content, strict=True))[row["arm"]]
    (preset,) = (preset for preset in PRESETS if preset.target == pair)
    offered = settled(preset, cells(table))
    assert ("hardly any content" in offered.title) == said
    assert offered.title == (preset.states if said else preset.title)


def test_a_preset_does_not_say_what_was_measured_at_settings_that_cannot_be_chosen(tmp_path):
    table = tiny_table(tmp_path, {("tokenbuncher", "grpo"): (BROKEN, HELD)})
    for row in table:
        row["learning_rate"] = row["settings"]["learning_rate"] = 1.234e-4
    assert [settled(preset, cells(table)) for preset in PRESETS] == [*PRESETS]


def test_an_attack_that_takes_too_long_is_refused_with_what_to_lower():
    slow = SimpleNamespace(estimate=lambda config: 52 * 60.0)
    with pytest.raises(ValueError, match="^200 steps take about 52 min here .* 30 min.* lower"):
        refuse_long(slow, attack_settings("sdd", "grpo", 0, steps=200))
    refuse_long(slow, attack_settings("sdd", "abliteration", 0))  # nothing to lower
    quick = SimpleNamespace(estimate=lambda config: float(MAX_SECONDS))
    refuse_long(quick, attack_settings("sdd", "grpo", 0, steps=200))


def test_errors_name_attacks_as_the_page_does(tmp_path):
    for name, settings in (
        ("sft_grpo", {"steps": 10}), ("benign", {"data": tmp_path / "own.jsonl"}),
    ):  # fmt: skip
        with pytest.raises(ValueError) as caught:
            attack_settings("sdd", name, 0, **settings)
        said = plainly(caught.value)
        assert f"“{attack_presets.ATTACKS[name].title}”" in said
        assert name not in said and "sft" not in said


def test_the_settings_of_a_training_are_hidden_where_nothing_is_trained():
    def visible(name):
        return [update.visible for update in attack_form._fitting(name)]

    assert visible("sft") == visible("sft_grpo") == [True, True]
    assert visible("abliteration") == [False, True] and visible("prefill") == [False, False]
    form = attack_form.AttackForm.__new__(attack_form.AttackForm)
    hidden = ("upload", None, 1e-3, 5)
    assert form.config("sdd", "prefill", *hidden, 7, "full").seed == 0
    assert form.config("sdd", "abliteration", *hidden, 7, "full").seed == 7
    with pytest.raises(ValueError, match="seed is -1"):
        form.config("sdd", "abliteration", *hidden, -1, "full")
    with pytest.raises(ValueError, match="Upload a JSONL"):
        form.config("sdd", "sft", *hidden, 7, "full")


def test_an_upload_without_answers_is_for_reinforcement_only(tmp_path):
    path = tmp_path / "asked.jsonl"
    path.write_text('{"prompt": "Do it."}\n')
    form = attack_form.AttackForm.__new__(attack_form.AttackForm)
    assert "1 requests can be used" in form.check_file(str(path), "grpo", "upload")
    assert "reinforcement only" in form.check_file(str(path), "sft_grpo", "upload")
    assert form.check_file(str(path), "sft_grpo", "builtin") == "", "it is not used"
