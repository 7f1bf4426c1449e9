"""What an arm is asked before and after an attack."""

from __future__ import annotations

import pytest

from evaluation import measuring


def test_each_seed_asks_another_wording_of_the_same_topics():
    first, second = measuring.held_out(14, 0), measuring.held_out(14, 1)
    assert len(first) == len(second) == 14 and not set(first) & set(second)
    with pytest.raises(ValueError, match="prompts is 9999"):
        measuring.held_out(9999, 0)
