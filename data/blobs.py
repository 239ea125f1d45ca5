"""Blobs: a tiny factor grid made in memory, for tests and first trials."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from data._dataset import Dataset, factor_grid

NAMES = ("shape", "size", "posX", "posY")
SIZES = (3, 3, 8, 8)
SIDE = 32


def blobs(root: Path) -> Dataset:
    """576 grey-level 32x32 images of a soft-edged disc, square or ring, 3 sizes, 8 x 8 positions; `root` is unused."""
    factors = factor_grid(SIZES)
    rows = np.arange(math.prod(SIZES))
    shape, size, x, y = (column[:, None, None] for column in factors.T)
    pixels = np.arange(SIDE) + 0.5
    radius = 3.0 + 1.5 * size
    across = np.abs(pixels[None, None, :] - (8 + 16 * x / 7))
    down = np.abs(pixels[None, :, None] - (8 + 16 * y / 7))
    distance = np.sqrt(across**2 + down**2)
    outside = np.choose(  # signed distance from the outline, in pixels
        shape, [distance - radius, np.maximum(across, down) - radius, np.abs(distance - 0.75 * radius) - 0.25 * radius]
    )
    images = np.rint(255 * np.clip(0.5 - outside / 2, 0, 1)).astype(np.uint8)
    return Dataset(
        name="blobs",
        shape=(1, SIDE, SIDE),
        images=images[:, None],
        factors=factors,
        factor_names=NAMES,
        factor_sizes=SIZES,
        class_factor="shape",
        train_rows=rows,
        score_rows=rows,
        grid=True,
    )
