"""What several of the tests of the table share."""

from __future__ import annotations

import pytest

from tests.tiny_table import BROKEN, DESTROYED, LOW, tiny_table


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """A table with an end of each kind; no test may change its rows."""
    ends = {
        ("sdd", "sft"): (BROKEN, (0.9, 0.5)),
        ("sdd", "prefill"): (BROKEN, DESTROYED),
        ("tokenbuncher", "sft"): (BROKEN, BROKEN),
        ("tokenbuncher", "grpo"): (BROKEN, LOW),
    }
    return tiny_table(tmp_path_factory.mktemp("table"), ends)
