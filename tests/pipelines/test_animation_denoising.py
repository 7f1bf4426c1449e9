"""What a clip is denoised with: words that are read, and guidance in its interval."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.animation import AnimationEngine
from pipelines.profiles import get_profile
from tests.pipelines.animating import PROMPT, clip, result_of

pytestmark = pytest.mark.usefixtures("one_thread")


def test_words_that_the_model_was_not_taught_are_told():
    engine = AnimationEngine(get_profile("embedded"))
    said = "A person in a Red t-shirt, close-up, with a plain jacket"
    notes = engine._denoiser.encode_text(said, 1.0)[1]
    assert notes == ["the model does not know these words: plain, jacket"]


def test_guidance_acts_within_its_interval_only(engine):
    def made(scale: float, interval: tuple[float, float]) -> np.ndarray:
        items = engine.pair(
            clip(), PROMPT, {}, 7, guidance_scale=scale, guidance_interval=interval
        )
        return result_of(items).unguarded

    # Three steps, at times 1, 2/3 and 1/3 (rounded to thousandths).
    always, never = made(3.0, (0.0, 1.0)), made(1.0, (0.0, 1.0))
    assert np.array_equal(made(3.0, (0.0, 0.2)), never), "no step lies in it"
    assert np.array_equal(made(3.0, (0.2, 1.0)), always), "all do"
    first = made(3.0, (0.9, 1.0))
    assert not np.array_equal(first, always) and not np.array_equal(first, never)


def test_a_prompt_that_is_cut_is_noted(engine):
    result = result_of(engine.pair(clip(), "a very long prompt indeed", {}, 7, steps=1))
    assert "only the first 16 were read" in result.settings["notes"][0]
