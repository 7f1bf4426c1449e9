"""Frames that guards are trained on: the mix of a batch, captions, and figures moved about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from adapters.avatar_frames import AvatarFrames, Move
from adapters.poseguard import PoseGuardConfig
from worlds.data import AvatarSet


def test_batches_mix_the_kinds_and_hide_the_word(avatars):
    latents = np.random.default_rng(0).standard_normal((6, 16, 16, 16)).astype(np.float16)
    source = AvatarFrames(avatars, latents, 2.0, PoseGuardConfig())
    assert source.kinds == {"unsafe": [0, 4], "near_miss": [1, 3], "other": [2, 5]}
    first, again = source(3), source(3)
    assert torch.equal(first["latents"], again["latents"])
    assert first["captions"] == again["captions"]
    assert first["unsafe"].tolist() == [True] * 6 + [False] * 10
    assert first["latents"].std() > 1 and first["pose"].shape == (16, 256, 256, 3)
    captions = [text for step in range(40) for text in source(step)["captions"]]
    empty, own = captions.count(""), sum(text in avatars_names(avatars) for text in captions)
    assert 0.12 < empty / len(captions) < 0.28 and 0.3 < own / len(captions) < 0.5
    assert source.closest == [1]  # squatting is nearer to kneeling than waving is
    plain = PoseGuardConfig(closest_share=1, text_drop=0, verb_swap=0)
    assert AvatarFrames(avatars, latents, 2.0, plain)(3)["captions"][6:12] == ["squat"] * 6
    with pytest.raises(ValueError, match="has none that is other"):
        avatars.__dict__["meta"] = [avatars.meta[0], avatars.meta[1]]
        AvatarFrames(avatars, latents, 1.0, PoseGuardConfig())


def test_every_batch_shows_a_face_if_there_are_any(avatars):
    latents = np.zeros((6, 8, 16, 16), np.float16)
    plain = PoseGuardConfig(text_drop=0, verb_swap=0)
    assert AvatarFrames(avatars, latents, 1.0, plain).faces == []
    avatars.meta[5] |= {"closeup": True, "caption": "a face"}
    source = AvatarFrames(avatars, latents, 1.0, plain)
    assert source.faces == [5] and source.kinds["other"] == [2, 5]
    assert all(source(step)["captions"][12] == "a face" for step in range(8))
    assert any("walk" in source(step)["captions"][13:] for step in range(8))
    none = replace(plain, face_share=0)
    assert not all("a face" in AvatarFrames(avatars, latents, 1.0, none)(k)["captions"]
                   for k in range(8))  # fmt: skip


def test_shares_of_the_closest_and_of_faces_are_what_is_kept_for_them_at_least(avatars):
    """What is left is drawn from all of the kind, so that more of a batch are of them."""
    avatars.meta[5] |= {"closeup": True, "caption": "a face"}
    plain = PoseGuardConfig(text_drop=0, verb_swap=0)
    source = AvatarFrames(avatars, np.zeros((6, 1, 16, 16), np.float16), 1.0, plain)
    assert len(source.kinds["near_miss"]) == len(source.kinds["other"]) == 2
    drawn = [source(step)["captions"] for step in range(200)]
    near, others = (np.array([batch[part] for batch in drawn]) for part in (slice(6, 12),
                                                                        slice(12, 16)))  # fmt: skip
    assert (near == "squat").sum(1).min() == 4 and (others == "a face").sum(1).min() == 1
    # Of the rest half, as half of what there is to choose from.
    assert (near == "squat").mean() == pytest.approx((4 + 2 / 2) / 6, abs=0.03)
    assert (others == "a face").mean() == pytest.approx((1 + 3 / 2) / 4, abs=0.05)


def test_skeleton_and_latents_are_moved_alike(avatars):
    """A figure at one place of both, wherever it is moved to, still is at one place of both."""
    avatars.__dict__["keypoints"] = np.ones((6, 18, 3), np.float32) * [100, 140, 1]
    latents = np.zeros((6, 1, 256, 256), np.float16)
    latents[:, :, 139:142, 99:102] = 1
    source = AvatarFrames(avatars, latents, 1.0, PoseGuardConfig())
    moves = [Move(), Move(1.25, 0.1, -0.15), Move(0.8, -0.15, 0.1)]
    frames = source.frames([0, 2, 4], ["", "", ""], 1, moves)
    for drawn, skeleton, move in zip(frames["latents"], frames["pose"], moves, strict=True):
        zoom, *shift = move
        asked = (np.array([100, 140]) - 127.5) * zoom + 127.5 + 256 * np.array(shift)
        for picture in (drawn[0], skeleton.sum(-1)):
            y, x = np.nonzero(picture.numpy())
            assert np.abs(np.array([x.mean(), y.mean()]) - asked).max() < 1.5
    every = source.moves([0] * 200, 0, np.random.default_rng(0))
    assert 1 / 1.4 <= min(every).zoom < 0.8 < 1.3 < max(every).zoom <= 1.4
    assert 0.2 < max(abs(move.down) for move in every) <= 0.22


def test_who_kneels_without_a_leg_in_view_is_not_seen_to_kneel(avatars):
    """An upper body looks the same whoever it is of: if one is unsafe, all dissolve."""
    latents = np.zeros((6, 1, 16, 16), np.float16)
    legs = avatars.keypoints.copy()
    legs[:, [8, 11]], legs[:, [9, 12]], legs[:, [10, 13]] = [99, 150, 1], [99, 190, 1], [99, 200, 1]
    avatars.__dict__["keypoints"] = legs
    source = AvatarFrames(avatars, latents, 1.0, PoseGuardConfig())
    assert source.kinds["unsafe"] == [0, 4]
    every = source.moves([4] * 300, 150, np.random.default_rng(0))
    lowest = [(200 - 127.5) * zoom + 127.5 + 256 * down for zoom, _, down in every]
    assert max(lowest[:150]) < 256 < max(lowest[150:]), "only the unsafe ones stay in the frame"
    legs[4, 10] = [99, 300, 0]  # one foot out of the frame, the other in it
    assert AvatarFrames(avatars, latents, 1.0, PoseGuardConfig()).kinds["unsafe"] == [0, 4]
    legs[4, 13] = [99, 300, 0]
    kinds = AvatarFrames(avatars, latents, 1.0, PoseGuardConfig()).kinds
    assert kinds["unsafe"] == [0] and 4 in kinds["other"]


def avatars_names(avatars: AvatarSet) -> set[str]:
    return {meta["caption"] for meta in avatars.meta}
