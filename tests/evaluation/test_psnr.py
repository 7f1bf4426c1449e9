"""PSNR by hand, where a copy is exact or nearly, and that there is one way to count it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from evaluation.psnr import EXACT_DB, mean_psnr, psnr
from pipelines.paths import REPO


def pictures(*levels: int) -> np.ndarray:
    return np.stack([np.full((256, 256, 3), level, np.uint8) for level in levels])


def test_each_picture_has_its_own_figure_by_hand() -> None:
    # Mean squared errors of 100 and of 255².
    found = psnr(pictures(100, 0), pictures(110, 255))
    np.testing.assert_allclose(found, [10 * np.log10(255**2 / 100), 0.0], atol=1e-9)
    assert mean_psnr(pictures(100, 0), pictures(110, 255)) == pytest.approx(found.mean())


def test_an_exact_copy_has_most_and_none_has_more(recwarn: pytest.WarningsRecorder) -> None:
    near = pictures(7)
    near[0, 0, 0, 0] += 1
    assert psnr(pictures(7, 7), np.concatenate([pictures(7), near])).tolist() == [EXACT_DB] * 2
    near[0, 0, 0] += 2
    assert 80 < psnr(pictures(7), near)[0] < EXACT_DB
    assert not recwarn.list


def test_numbers_or_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError):
        psnr(pictures(1, 2), pictures(1))
    with pytest.raises(ValueError):
        psnr(pictures(1), pictures(1)[:, ::2])


def test_it_is_counted_nowhere_else() -> None:
    ours = ("adapters", "evaluation", "pipelines", "ui", "worlds")
    files = [path for folder in ours for path in (REPO / folder).rglob("*.py")]
    counted = re.compile(r"255 ?\*\* ?2|peak_signal_noise_ratio")
    found = {path.name for path in files if counted.search(path.read_text(encoding="utf-8"))}
    assert found == {"psnr.py"}
