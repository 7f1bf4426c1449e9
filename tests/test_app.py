"""How the app is started: by flags, and on a Space by variables of the environment."""

from __future__ import annotations

import pytest

import app
from pipelines.profiles import Profile


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Profile]:
    """What pages were built of; none is served, and this process keeps its memory as it is."""
    profiles: list[Profile] = []

    class Page:
        def launch(self, **options: object) -> None:
            pass

    def build(profile: Profile) -> Page:
        profiles.append(profile)
        return Page()

    monkeypatch.setattr("ui.app.build_app", build)
    monkeypatch.setattr("app.keep_freed_memory", lambda: True)
    for name in ("HOLDFAST_PROFILE", "HOLDFAST_LLM"):
        monkeypatch.delenv(name, raising=False)
    return profiles


@pytest.mark.parametrize(
    ("variable", "flags", "name"),
    [
        (None, [], "embedded"),
        ("", [], "embedded"),
        ("hub", [], "hub"),
        ("hub", ["--profile", "embedded"], "embedded"),
        ("other", ["--profile", "hub"], "hub"),
    ],
)
def test_a_variable_names_the_profile_that_no_flag_does(
    started: list[Profile], monkeypatch: pytest.MonkeyPatch, variable, flags, name
) -> None:
    if variable is not None:
        monkeypatch.setenv("HOLDFAST_PROFILE", variable)
    app.main(flags)
    assert [profile.name for profile in started] == [name]


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("HOLDFAST_PROFILE", "huge", "HOLDFAST_PROFILE is 'huge'; choose one of: embedded, hub"),
        ("HOLDFAST_LLM", "no/such/model", "llm is 'no/such/model': no such folder"),
    ],
)
def test_a_variable_with_a_wrong_value_is_named(
    started: list[Profile], monkeypatch: pytest.MonkeyPatch, capsys, variable, value, words
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit):
        app.main([])
    assert words in capsys.readouterr().err and not started
