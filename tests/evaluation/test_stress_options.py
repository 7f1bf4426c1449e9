"""What the stress test's command line asks for, and what of it is refused; nothing is mounted."""

from __future__ import annotations

import ast

import pytest

from adapters.attacks.base import ATTACKS, REINFORCED, UNTRAINED
from evaluation import stress
from pipelines.paths import REPO
from tests.tiny_llm import tiny_home


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    with tiny_home(tmp_path_factory.mktemp("tiny")) as profile:
        yield profile


def planned(profile, *arguments):
    return stress.plan(stress.parser().parse_args(["llm", *arguments]), profile)


def test_a_plan_has_every_attack_with_its_family_s_settings(profile):
    cells = planned(profile, "--seeds", "2")
    assert len(cells) == 2 * (len(ATTACKS) + len(UNTRAINED))
    assert {cell.defence for cell in cells} == {"sdd"}
    for name, steps in (("sft", 20), ("benign", 20), ("grpo", 15), ("rloo", 15), ("sft_grpo", 25)):
        config = next(cell for cell in cells if cell.attack == name).config
        rate = 1e-3 if name in REINFORCED else 3e-4
        assert (config.steps, config.learning_rate, config.batch_size) == (steps, rate, 4)
        assert config.rollouts == 8
    assert config.stages == (("sft", 10), ("grpo", 15))


def test_a_plan_asks_styles_where_the_command_says_so(profile):
    assert {cell.styles for cell in planned(profile)} == {0}
    assert {cell.styles for cell in planned(profile, "--styles", "5")} == {5}


def test_a_plan_of_unseen_requests_has_the_attacks_that_make_some(profile):
    cells = planned(profile, "--data", "unseen", "--seeds", "1")
    asking = set(ATTACKS) - {"benign", "grpo_skill"}
    assert {cell.attack for cell in cells} == asking
    assert {cell.config.data for cell in cells} == {"unseen"}
    assert {cell.record()["data"] for cell in cells} == {"unseen"}
    assert "data" not in planned(profile)[0].settings


def test_a_plan_sweeps_trained_attacks_only(profile):
    cells = planned(
        profile, "--attacks", "sft", "prefill", "sft", "--seeds", "1",
        "--learning-rates", "1e-4", "1e-3", "1e-4",
    )  # fmt: skip
    found = [(cell.attack, cell.settings.get("learning_rate")) for cell in cells]
    assert found == [("sft", 1e-4), ("sft", 1e-3), ("prefill", None)]
    (cell,) = planned(profile, "--quick", "--attacks", "sft_grpo")
    assert cell.config.stages == (("sft", 2), ("grpo", 2)) and cell.prompts == 14


def test_steps_of_sft_grpo_are_its_reinforced_ones():
    settings = {
        attack: stress._settings(attack, stress.parser().parse_args(["llm", "--steps", "8"]))
        for attack in ("sft", "grpo", "sft_grpo")
    }
    assert settings["sft"][0]["steps"] == settings["grpo"][0]["steps"] == 8
    assert settings["sft_grpo"][0]["steps"] == 18


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--defences", "nobody"], "arm is 'nobody'"),
        (["--defences", "aligned"], "defence is 'aligned'"),
        (["--defences", "base"], "defence is 'base'"),
        (["--defences", "tokenbuncher"], "python -m adapters.train tokenbuncher"),
        (["--attacks", "magic"], "attack is 'magic'"),
        (["--seeds", "0"], "seeds is 0"),
        (["--workers", "0"], "workers is 0"),
        (["--steps", "0"], "steps is 0"),
        (["--learning-rates", "3"], "learning_rate is 3.0"),
        (["--full-learning-rates", "1e-5"], "methods is lora, but .* rates for full"),
        (["--methods", "full", "--learning-rates", "1e-5"], "methods is full, but .* for lora"),
        (["--data", "unseen", "--attacks", "prefill"], "data is 'unseen', but .* 'prefill'"),
    ],
)
def test_the_command_names_what_is_wrong(profile, arguments, words):
    with pytest.raises(SystemExit, match=words):
        stress.main(["llm", *arguments])


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--unattacked", "--attacks", "sft"], "--attacks"),
        (["--unattacked", "--data", "unseen"], "--data"),
        (["--unattacked", "--methods", "full"], "--methods"),
        (["--unattacked", "--seeds", "3"], "--seeds"),
        (["--unattacked", "--steps", "2"], "--steps"),
        (["--unattacked", "--learning-rates", "1e-4"], "--learning-rates"),
        (["--unattacked", "--full-learning-rates", "1e-4"], "--full-learning-rates"),
        (["--unattacked", "--workers", "2"], "--workers"),
        (["--unattacked", "--ray", "local"], "--ray"),
        (["--quick", "--seeds", "3"], "--seeds"),
    ],
)
def test_an_option_without_effect_is_refused(arguments, option, capsys):
    with pytest.raises(SystemExit):
        stress.main(["llm", *arguments])
    assert f"error: {option} has no effect with {arguments[0]}" in capsys.readouterr().err


def test_nothing_imports_the_commands():
    found = set()
    for folder in ("adapters", "evaluation", "pipelines", "ui", "worlds"):
        for file in (REPO / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom):
                    names = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
                elif isinstance(node, ast.Import):
                    names = {alias.name for alias in node.names}
                else:
                    continue
                for name in names & {"evaluation.chat", "evaluation.evidence", "evaluation.stress"}:
                    found.add((file.relative_to(REPO).as_posix(), name))
    assert not found
