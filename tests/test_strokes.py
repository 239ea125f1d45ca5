"""Slant and thickness of drawn strokes, and how much of them latents tell."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from benchmark.evidence import strokes

RNG = np.random.default_rng(0)


def bar(width: float, shear: float, side: int = 64) -> np.ndarray:
    """A stroke of a width, measured along a row, that moves by `shear` pixels to the right with each row upwards."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    place = x + shear * y
    return ((-width / 2 <= place) & (place < width / 2) & (abs(y) < 25)).astype(np.float32)


@pytest.mark.parametrize("width", [3, 5, 9])
@pytest.mark.parametrize("shear", [-0.5, 0, 0.5])
def test_a_drawn_stroke_has_its_slant_and_thickness(width, shear):
    found = strokes.traits(bar(width, shear)[None])
    assert_allclose(found["slant"], shear, atol=0.02)
    assert_allclose(found["thickness"], width / np.hypot(1, shear), rtol=0.12)


def test_what_latents_tell_is_the_known_share():
    latents = RNG.normal(size=(20_000, 3))
    one, every = strokes.told(latents, 2 * latents[:, 0] + latents[:, 1] + RNG.normal(size=20_000))
    assert_allclose((one, every), (4 / 6, 5 / 6), atol=0.02)


def test_the_share_between_classes_is_that_of_the_latent_that_tells_most():
    classes = RNG.integers(2, size=20_000)
    latents = RNG.normal(size=(20_000, 3)) + np.outer(classes, [0, 2, 4])  # variances 1, and 0, 1, 4 between
    assert_allclose(strokes.classes_told(latents, classes), 4 / 5, atol=0.01)
