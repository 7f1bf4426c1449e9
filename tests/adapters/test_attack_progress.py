"""What an attack that is under way tells of the time it still takes."""

from __future__ import annotations

from adapters.attacks.base import attack_settings
from adapters.attacks.progress import seconds_left, share_done

ARMS = ("aligned", "sdd")


def step(arm, number, stage="sft", seconds=3.0):
    return {"event": "step", "arm": arm, "step": number, "stage": stage, "seconds": seconds}


PROBES = [
    {"event": "probe", "arm": arm, "step": at, "seconds": 2.0} for at in (0, 5) for arm in ARMS
]
STEPS = [step(arm, number) for number in range(1, 6) for arm in ARMS]


def test_the_time_left_goes_by_the_steps_and_probes_so_far():
    config = attack_settings("sdd", "sft", 0, steps=20).record()
    # 15 steps and 3 probes of each arm are left: the seconds of both add up to those that pass.
    assert seconds_left(config, PROBES + STEPS) == 2 * (15 * 3 + 3 * 2)
    one = [event for event in PROBES + STEPS if event["arm"] == "sdd"]
    assert seconds_left(config, one, arms=1) == 15 * 3 + 3 * 2
    assert seconds_left(config, PROBES) is None


def test_what_reinforcement_will_take_the_supervised_steps_before_it_do_not_tell():
    mixed = attack_settings("sdd", "sft_grpo", 0, steps=20).record()
    assert seconds_left(mixed, PROBES + STEPS) is None
    # With a guess of it: 5 supervised steps and 3 probes of each arm are left before it.
    assert seconds_left(mixed, PROBES + STEPS, later=100.0) == 2 * (5 * 3 + 3 * 2) + 100
    both = [*PROBES, *STEPS, step("sdd", 11, "grpo", 20.0)]
    assert seconds_left(mixed, both) == (40 - 11) * 20 + 6 * 2
    assert seconds_left(mixed, both, later=100.0) == seconds_left(mixed, both)


def test_what_trains_nothing_tells_its_share():
    assert share_done([{"event": "start"}]) == 0
    assert share_done([{"event": "progress", "share": share} for share in (0.0, 0.25)]) == 0.25
