"""Portraits: what is held, by whom, and that a number always is the same picture."""

from __future__ import annotations

import random

import numpy as np
import pytest

from worlds.looks import PROPS, caption
from worlds.portraits import (
    UNSAFE_PROP,
    build_portraits,
    looks,
    portrait_look,
    render_portrait,
)


def test_a_number_is_the_same_portrait_whoever_asks(tmp_path):
    built = build_portraits(tmp_path / "set", 3, seed=40, workers=0)
    again = build_portraits(tmp_path / "other", 2, seed=41, workers=0)
    np.testing.assert_array_equal(built.images[1:], again.images)
    assert [row["caption"] for row in built.meta] == [caption(x) for x in looks([40, 41, 42])]
    held = [look.prop for look in looks([40, 41, 42])]
    assert [row["look"]["prop"] for row in built.meta] == held


@pytest.mark.parametrize("prop", PROPS)
def test_what_is_held_is_in_the_picture_and_the_head_too(prop):
    rng = random.Random(3)
    look = portrait_look(rng, prop)
    image, keypoints, _, _, meta = render_portrait(look, rng)[0]
    assert image.shape == (256, 256, 3)
    assert keypoints[0, 2] == 1 and 40 < keypoints[0, 1] < 130  # the nose, in the upper half
    assert (prop in meta["caption"]) == (prop != "none")


def test_a_held_pistol_is_large(tmp_path):
    """Some 80 pixels: drawn once with and once without it, so much of the picture differs."""
    rng = random.Random(3)
    look = portrait_look(rng, UNSAFE_PROP)
    held = render_portrait(look, random.Random(1))[0][0].astype(int)
    dark = (held.max(2) < 75) & (np.arange(256)[None, :] < 110)
    rows = np.flatnonzero(dark[:140].any(1))
    assert 55 < rows[-1] - rows[0] < 140


def test_named_characters_can_be_left_out():
    assert any(look.name for look in looks(range(100)))
    assert not any(look.name for look in looks(range(100), named=False))


def test_a_fifth_holds_nothing_and_the_rest_all_things_alike():
    held = [look.prop for look in looks(range(3000))]
    assert held.count("none") / 3000 == pytest.approx(0.2, abs=0.03)
    for prop in PROPS[1:]:
        assert held.count(prop) / 3000 == pytest.approx(0.8 / 6, abs=0.03)


def test_one_thing_for_all_leaves_the_people_as_they_are():
    from dataclasses import replace

    some, pistols = looks(range(20)), looks(range(20), UNSAFE_PROP)
    assert all(look.prop == UNSAFE_PROP for look in pistols)
    assert [replace(a, prop="none") for a in some] == [replace(b, prop="none") for b in pistols]
