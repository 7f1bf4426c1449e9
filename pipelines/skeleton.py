"""Reading joints back from a skeleton picture: OpenPose's colours on black.

Joint ``i`` is a disc of hue ``20 i`` degrees and a limb is a darker stick of its own hue, so a
picture can be parsed the way OpenPose parses its part affinity fields (Cao et al., TPAMI 2019,
section 3): every disc and every end of a stick is a candidate for the joint of its colour, a limb
between two candidates is supported by the pixels of its colour along the line, and the best tree
of joints is found by dynamic programming. Both usual styles are read: discs over the limbs (ours,
and most of today's tools) and limbs blended over the discs (the first ControlNet annotator).

What cannot be read: a joint that is wholly covered by others and has no limb in sight, facial
landmarks (white dots without names), and, where limbs are blended over discs, the five points of a
head that is only a few discs wide (they come out up to two radii off).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.pose import LIMBS, MIN_JOINTS, PoseClip, PoseError
from pipelines.pose_drawing import paint_joints
from pipelines.pose_tracking import crowd_note, extent

Array = NDArray[Any]

_LARGEST_SIDE = 768  # larger pictures are halved and so on: more pixels add nothing to read
_NECK = 1
# The body's tree from the neck outwards: (limb, parent, child), parents first.
_TREE = (
    (12, 1, 0), (0, 1, 2), (1, 1, 5), (6, 1, 8), (9, 1, 11),
    (2, 2, 3), (3, 3, 4), (4, 5, 6), (5, 6, 7), (7, 8, 9), (8, 9, 10), (10, 11, 12), (11, 12, 13),
    (13, 0, 14), (14, 14, 16), (15, 0, 15), (16, 15, 17),
)  # fmt: skip
_MOST_CANDIDATES = 8
_MOST_PEOPLE = 6
_FEWEST_LIMBS = 4  # that make a second person
_DISC_WEIGHT = 1.0
_END_WEIGHT = 0.35  # a stick's end is a weaker sign of a joint than a disc


def is_skeleton(image: Array) -> bool:
    """Tell whether a picture is a skeleton drawing rather than a photograph.

    It is when most of it is black and what is not is of pure hues (a colour channel near zero),
    several of them, or white dots.

    Args:
        image: RGB uint8 [H, W, 3].
    """
    step = max(1, max(image.shape[:2]) // 512)
    image = np.ascontiguousarray(image[::step, ::step])  # thin lines survive in part: that will do
    high, low = image.max(-1), image.min(-1)
    lit = high > 60
    count = int(lit.sum())
    if not 0.0005 * lit.size < count < 0.4 * lit.size or np.median(high) > 16:
        return False
    coloured = lit & (low < 0.25 * high)
    white = lit & (low > 0.75 * high)
    if coloured.sum() + min(white.sum(), 0.3 * count) < 0.8 * count:
        return False
    hues = np.bincount(_hue_index(image)[coloured], minlength=18)
    return int((hues > 0.005 * coloured.sum()).sum()) >= 5


def read_skeleton(image: Array) -> PoseClip:
    """Read the joints of a skeleton picture: of several people the largest, which a note says.

    Args:
        image: as for `read_skeletons`.

    Returns:
        A clip of one frame.

    Raises:
        PoseError: when fewer than three joints can be read.
    """
    people = read_skeletons(image)
    clip = max(people, key=lambda who: extent(who.keypoints[who.seen]))
    return clip.with_notes(*crowd_note(len(people)))


def read_skeletons(image: Array) -> list[PoseClip]:
    """Read the joints of everybody in a skeleton picture.

    Args:
        image: RGB uint8 [H, W, 3], OpenPose colours on black.

    Returns:
        A clip of one frame of each, on the picture's own canvas; confidence is 1 for joints seen as
        discs, 0.6 for joints known from the end of a limb only, 0 for missing ones.

    Raises:
        PoseError: when fewer than three joints of anybody can be read.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _LARGEST_SIDE / max(height, width))
    small = image
    if scale < 1:
        side = (round(width * scale), round(height * scale))
        small = cv2.resize(image, side, interpolation=cv2.INTER_AREA)
    rows, columns = np.nonzero(small.max(-1) > 60)
    corner = np.array([columns.min(initial=0), rows.min(initial=0)])
    end = np.array([columns.max(initial=0), rows.max(initial=0)]) + 1
    picture = _Picture.of(np.ascontiguousarray(small[corner[1] : end[1], corner[0] : end[0]]))
    candidates = picture.candidates()
    people: list[tuple[Array, Array, dict[int, Array]]] = []
    for _ in range(_MOST_PEOPLE):
        joints, kinds, used = picture.assemble(candidates)
        if (kinds > 0).sum() < MIN_JOINTS:
            break
        # Leftovers of one person (slivers of its discs) are not another person: that has limbs.
        limbs = picture.limbs(joints, kinds)
        new = {
            limb: middle
            for limb, middle in limbs.items()
            if all(np.linalg.norm(middle - old.get(limb, np.inf)) > 3 * picture.radius
                   for *_, old in people)
        }  # fmt: skip
        if not people or len(new) >= _FEWEST_LIMBS:
            people.append((joints, kinds, limbs))
        for joint, index in used:
            candidates[joint] = _without(
                candidates[joint], candidates[joint].points[index], 2 * picture.radius
            )
    if not people:
        raise PoseError(
            f"a picture in OpenPose's colours with fewer than {MIN_JOINTS} joints; wanted a "
            "skeleton of 18 joints drawn as coloured discs"
        )
    if len(people) > 1:
        people = [(joints, picture.connected(joints, kinds), own) for joints, kinds, own in people]
    notes = []
    if picture.white_share > 0.02:
        notes.append("white dots (facial landmarks) in the picture are not read")
    ratio = np.array([width / small.shape[1], height / small.shape[0]])
    return [
        PoseClip(
            keypoints=((picture.refined(joints, kinds) + corner + 0.5) * ratio - 0.5)[None],
            confidence=np.array([0.0, 0.6, 1.0])[kinds][None],
            face=None,
            width=width,
            height=height,
            notes=tuple(notes),
        )
        for joints, kinds, _ in people
    ]


@dataclass(frozen=True)
class _Candidates:
    """Where one joint may be: points [N, 2], weights [N], kinds [N] (1 stick's end, 2 disc)."""

    points: Array
    weights: Array
    kinds: Array


@dataclass(frozen=True)
class _Picture:
    """A skeleton picture's pixels, classified.

    Attributes:
        image: RGB uint8 [H, W, 3].
        hue: int [H, W], nearest of the 18 hues.
        coloured: bool [H, W], pixels of a pure hue.
        bright: bool [H, W], coloured pixels as bright as a disc.
        lit: bool [H, W], pixels that are not black.
        radius: the discs' radius in pixels.
        stick: the limbs' width in pixels.
        blended: whether limbs are drawn over the discs.
        white_share: part of the lit pixels that are white.
    """

    image: Array
    hue: Array
    coloured: Array
    bright: Array
    lit: Array
    radius: float
    stick: int
    blended: bool
    white_share: float

    @classmethod
    def of(cls, image: Array) -> _Picture:
        high, low = image.max(-1), image.min(-1)
        lit = high > 60
        coloured = lit & (low < 0.3 * high)
        hue = _hue_index(image)
        bright = coloured & (high > 195)
        dim = coloured & ~bright
        # Covered discs look smaller than they are, noise smaller still: hence the upper quartile.
        radii = [r for joint in range(18) if (r := _thickness(bright & (hue == joint)))]
        halves = [r for limb in range(17) if (r := _thickness(dim & (hue == limb)))]
        radius = max(1.5, float(np.percentile(radii, 75)) if radii else 2.0)
        stick = max(1, round(2 * float(np.median(halves)) - 0.5)) if halves else 1
        # Where limbs lie over the discs, only slivers of these are bright. Such drawings have
        # limbs about twice as wide as the discs' radius.
        blended = stick > 3.2 * radius
        if blended:
            radius = max(1.5, 0.42 * stick)
        return cls(
            image=image,
            hue=hue,
            coloured=coloured,
            bright=bright,
            lit=lit,
            radius=radius,
            stick=stick,
            blended=blended,
            white_share=float((lit & (low > 0.75 * high)).sum() / max(1, lit.sum())),
        )

    def candidates(self) -> list[_Candidates]:
        """Find the candidates of each joint."""
        ends: list[list[Array]] = [[] for _ in range(18)]
        for limb, (a, b) in enumerate(LIMBS):
            for end in self._stick_ends(limb):
                ends[a].append(end)
                ends[b].append(end)
        found = []
        for joint in range(18):
            discs, quality = self._discs(joint)
            points, weights, kinds = list(discs), list(_DISC_WEIGHT * quality), [2] * len(discs)
            for end in ends[joint]:
                if all(np.linalg.norm(end - point) > self.radius for point in points):
                    points.append(end)
                    weights.append(_END_WEIGHT * (0.3 if self.blended else 1.0))
                    kinds.append(1)
            found.append(
                _Candidates(
                    np.array(points[:_MOST_CANDIDATES], np.float64).reshape(-1, 2),
                    np.array(weights[:_MOST_CANDIDATES], np.float64),
                    np.array(kinds[:_MOST_CANDIDATES], np.int64),
                )
            )
        return found

    def _discs(self, joint: int) -> tuple[Array, Array]:
        """Match a disc against the pixels of a joint's colour.

        Pixels of the colour count for a position, pixels that no later drawing can have covered
        count against it, and those of joints drawn later (or of white dots) say nothing.

        Returns:
            Centres [N, 2] and qualities [N] in 0..1, best first.
        """
        own = self.bright & (self.hue == joint)
        covering = (self.bright & (self.hue > joint)) | (self.lit & ~self.coloured)
        if self.blended:
            covering = self.lit & ~own
        reach = int(np.ceil(self.radius)) + 1
        y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
        # A disc with a soft edge and, around it, a rim in which its colour must not go on.
        distance = np.hypot(x, y)
        disc = np.clip(self.radius + 0.5 - distance, 0, 1).astype(np.float32)
        rim = np.clip(distance - self.radius, 0, 1) * (distance < self.radius + 1.5)
        count, _, stats, _ = cv2.connectedComponentsWithStats(own.astype(np.uint8))
        order = np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:_MOST_CANDIDATES] + 1
        found: list[tuple[float, Array]] = []
        for left, top, width, height, _ in stats[order] if count > 1 else ():
            left, top = max(0, left - 2 * reach), max(0, top - 2 * reach)
            part = np.s_[top : top + height + 4 * reach, left : left + width + 4 * reach]
            mine = own[part].astype(np.float32)
            evidence = mine - (~own[part] & ~covering[part])
            score = cv2.filter2D(evidence, -1, disc, borderType=cv2.BORDER_CONSTANT)
            score -= cv2.filter2D(mine, -1, rim.astype(np.float32), borderType=cv2.BORDER_CONSTANT)
            score /= disc.sum()
            best = float(score.max())
            if best < (0.15 if self.blended else 0.3):
                continue
            # The matches nearly as good as the best lie around it: their mean is finer than 1 px.
            weight = np.clip(score - (best - 0.15), 0, None)
            row, column = np.unravel_index(score.argmax(), score.shape)
            rows, columns = np.nonzero(weight)
            near = np.hypot(rows - row, columns - column) <= self.radius
            rows, columns = rows[near], columns[near]
            weights = weight[rows, columns]
            centre = np.array([columns @ weights, rows @ weights]) / weights.sum() + [left, top]
            if all(np.linalg.norm(centre - other) > self.radius for _, other in found):
                found.append((min(1.0, best), centre))
        found.sort(key=lambda match: -match[0])
        quality, points = [q for q, _ in found], [point for _, point in found]
        return np.array(points, np.float64).reshape(-1, 2), np.array(quality)

    def _stick_ends(self, limb: int) -> list[Array]:
        """Find the two ends of each stick of a limb's colour, from its principal axis."""
        mask = (self.coloured & ~self.bright & (self.hue == limb)).astype(np.uint8)
        # A disc of the same hue has a dim rim: it is no stick.
        disc = (self.bright & (self.hue == limb)).astype(np.uint8)
        mask[cv2.dilate(disc, np.ones((5, 5), np.uint8)) > 0] = 0
        bridge = max(3, int(self.radius) | 1)
        joined = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((bridge, bridge), np.uint8))
        count, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
        ends: list[Array] = []
        order = np.argsort(-stats[1:, cv2.CC_STAT_AREA])[:_MOST_PEOPLE] + 1
        for label in order:
            rows, columns = np.nonzero((labels == label) & (mask > 0))
            if len(rows) < max(6, self.radius**2):
                continue
            points = np.stack([columns, rows], -1).astype(np.float64)
            centre = points.mean(0)
            values, axes = np.linalg.eigh(np.cov((points - centre).T))
            if values[1] < 3 * values[0]:
                continue  # as wide as long: no direction to tell its ends by
            along = (points - centre) @ axes[:, 1]
            ends += [centre + axes[:, 1] * along.min(), centre + axes[:, 1] * along.max()]
        return ends

    def assemble(self, candidates: list[_Candidates]) -> tuple[Array, Array, list]:
        """Find the best tree of joints.

        Returns:
            Joints [18, 2], kinds [18] (0 missing, 1 stick's end, 2 disc), and the candidates used
            as (joint, index) pairs.
        """
        # best[j][i]: score of the subtree below joint j if it takes candidate i; the last entry is
        # for "missing", whose children start trees of their own.
        best = [np.append(c.weights, 0.0) for c in candidates]
        choice: dict[int, Array] = {}
        for limb, parent, child in reversed(_TREE):
            table = np.zeros((len(best[parent]), len(best[child])))
            for i, start in enumerate(candidates[parent].points):
                for k, end in enumerate(candidates[child].points):
                    table[i, k] = self._support(limb, start, end)
            total = table + best[child]
            choice[child] = total.argmax(1)
            best[parent] = best[parent] + total.max(1)
        chosen = {_NECK: int(best[_NECK].argmax())}
        group = {}
        for _, parent, child in _TREE:
            chosen[child] = int(choice[child][chosen[parent]])
        joints, kinds = np.zeros((18, 2)), np.zeros(18, np.int64)
        for joint, index in chosen.items():
            if index < len(candidates[joint].points):
                joints[joint] = candidates[joint].points[index]
                kinds[joint] = candidates[joint].kinds[index]
                group[joint] = joint
        # Joints joined by limbs that are there form groups; another person's make another group.
        for limb, parent, child in _TREE:
            if kinds[parent] and kinds[child]:
                if self._support(limb, joints[parent], joints[child]) > 0:
                    group[child] = group[parent]
        crowded = sum((c.kinds == 2).sum() > 1 for c in candidates) >= 3
        if crowded and group:
            sizes = [sum(other == mine for other in group.values()) for mine in group.values()]
            largest = list(group.values())[int(np.argmax(sizes))]
            for joint, mine in group.items():
                if mine != largest:
                    kinds[joint] = 0
        # A stick's end that no limb of its own joins to anything is no joint.
        for joint in np.flatnonzero(kinds == 1):
            if not any(
                kinds[a] and kinds[b] and self._support(limb, joints[a], joints[b]) > 0.3
                for limb, (a, b) in enumerate(LIMBS)
                if joint in (a, b)
            ):
                kinds[joint] = 0
        joints[kinds == 0] = 0
        used = [(joint, index) for joint, index in chosen.items() if kinds[joint]]
        return joints, kinds, used

    def refined(self, joints: Array, kinds: Array) -> Array:
        """Place the joints that others cover by drawing them and comparing with the picture.

        Args:
            joints: [18, 2] as found.
            kinds: [18], as from :meth:`assemble`.

        Returns:
            Joints [18, 2]. A joint moves only where that explains the picture far better, so that
            pictures in another style than ours keep what was found.
        """
        joints = joints.copy()
        stick = min(
            range(1, self.stick + 2), key=lambda w: self._misfit(joints, kinds, w, np.s_[:, :])
        )
        area = np.pi * self.radius**2
        reach = int(5 * self.radius)
        covered: list[tuple[int, tuple[slice, slice]]] = []
        for joint in np.flatnonzero(kinds):
            left, top = np.maximum(np.rint(joints[joint]).astype(int) - reach, 0)
            part = np.s_[top : top + 2 * reach, left : left + 2 * reach]
            own = self.bright[part] & (self.hue[part] == joint)
            rows, columns = np.nonzero(own)
            x, y = joints[joint] - [left, top]
            if (np.hypot(columns - x, rows - y) <= self.radius).sum() < 0.75 * area:
                covered.append((joint, part))
        steps = [step for step in (2.0, 1.0, 0.5, 0.25) if step <= self.radius]
        for joint, part in covered:
            start = joints[joint].copy()
            first = lowest = self._misfit(joints, kinds, stick, part)
            for step in steps:
                moved = True
                while moved and np.linalg.norm(joints[joint] - start) <= 3 * self.radius:
                    moved = False
                    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                        before = joints[joint].copy()
                        joints[joint] = before + step * np.array([dx, dy])
                        misfit = self._misfit(joints, kinds, stick, part)
                        if misfit < lowest:
                            lowest, moved = misfit, True
                        else:
                            joints[joint] = before
            if lowest > 0.6 * first:
                joints[joint] = start
        return joints

    def _misfit(self, joints: Array, kinds: Array, stick: int, part: tuple[slice, slice]) -> float:
        """Compare a part of the picture with the drawing of the joints, 0..255."""
        image = np.ascontiguousarray(self.image[part])
        canvas = np.zeros_like(image)
        corner = [part[1].start or 0, part[0].start or 0]
        paint_joints(canvas, joints - corner, kinds > 0, stick, self.radius)
        return float(cv2.absdiff(canvas, image).mean())

    def limbs(self, joints: Array, kinds: Array) -> dict[int, Array]:
        """Middles [2] of those limbs of a person that the picture clearly shows."""
        return {
            limb: (joints[a] + joints[b]) / 2
            for limb, (a, b) in enumerate(LIMBS)
            if kinds[a] and kinds[b] and self._support(limb, joints[a], joints[b]) > 0.5
        }

    def connected(self, joints: Array, kinds: Array) -> Array:
        """Return the kinds [18] without those joints (0) that nothing ties to the others.

        Where people stand side by side, one's missing joint is taken from what is left of another.
        """
        tied = np.zeros(len(kinds), bool)
        for limb, (a, b) in enumerate(LIMBS):
            if kinds[a] and kinds[b]:
                tied[[a, b]] |= self._support(limb, joints[a], joints[b]) > 0
        return np.where(tied, kinds, 0)

    def _support(self, limb: int, start: Array, end: Array) -> float:
        """Judge a limb between two points by the pixels along it: −1 (black) to 1 (its colour)."""
        length = float(np.linalg.norm(end - start))
        if length < 2 * self.radius:
            return 0.2  # nothing of the limb shows between two discs that touch
        # Where it ends the discs cover it.
        t = np.linspace(self.radius / length, 1 - self.radius / length, max(3, int(length / 1.5)))
        points = np.rint(start + t[:, None] * (end - start)).astype(int)
        height, width = self.hue.shape
        inside = ((points >= 0) & (points < [width, height])).all(-1)
        if not inside.any():
            return 0.0
        x, y = points[inside].T
        own = self.coloured[y, x] & (self.hue[y, x] == limb)
        hidden = self.lit[y, x] & ~own
        return float((own + 0.4 * hidden - ~self.lit[y, x]).mean())


def _thickness(mask: Array) -> float:
    """Half the width of the thickest part of a mask, 0 where it is empty."""
    if not mask.any():
        return 0.0
    return float(cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5).max())


def _without(candidates: _Candidates, point: Array, radius: float) -> _Candidates:
    keep = np.linalg.norm(candidates.points - point, axis=-1) > radius
    return _Candidates(candidates.points[keep], candidates.weights[keep], candidates.kinds[keep])


def _hue_index(image: Array) -> Array:
    """Index [H, W] of the nearest of OpenPose's 18 hues, which are 20 degrees apart."""
    degrees = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[..., 0]
    return np.rint(degrees / 20).astype(np.int64) % 18
