"""A figure that tests of poses move and hide parts of, as a clip and as OpenPose JSON."""

from __future__ import annotations

import numpy as np

from pipelines.pose import PoseClip

# A standing figure, 200 px tall, in a 256 px frame.
STANDING = np.array(
    [
        [128, 45], [128, 70], [108, 70], [100, 105], [96, 138], [148, 70], [156, 105], [160, 138],
        [116, 135], [114, 180], [113, 225], [140, 135], [142, 180], [143, 225],
        [123, 40], [133, 40], [117, 43], [139, 43],
    ],
    np.float32,
)  # fmt: skip


def clip_of(keypoints: np.ndarray, confidence: np.ndarray | None = None, **more) -> PoseClip:
    keypoints = np.asarray(keypoints, np.float32)
    if confidence is None:
        confidence = np.ones(keypoints.shape[:2])
    return PoseClip(keypoints, confidence, **{"face": None, "width": 256, "height": 256} | more)


def frame_json(joints: np.ndarray = STANDING, confidence: float = 0.9, **more) -> dict:
    row = np.concatenate([joints, np.full((len(joints), 1), confidence)], 1)
    person = {"pose_keypoints_2d": row.reshape(-1).tolist()}
    return {"people": [person], "canvas_width": 256, "canvas_height": 256} | more


def moving(frames: int) -> np.ndarray:
    """The standing figure, moved right by 2 px a frame."""
    return STANDING + np.arange(frames)[:, None, None] * np.array([2.0, 0.0])
