"""Color-dSprites: dSprites whose sprite has one random colour an image.

Locatello, Bauer, Lucic, Rätsch, Gelly, Schölkopf, Bachem (2019), Challenging Common Assumptions in the Unsupervised
Learning of Disentangled Representations.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data._dataset import Dataset
from data._nuisance import in_colour, sprites, uniform
from data.dsprites import CLASS_NAMES, dsprites

__all__ = ["CLASS_NAMES", "colordsprites"]


class ColorDSprites(Dataset):
    """dSprites times (red, green, blue) from U(0.5, 1), drawn for each image at every visit."""

    def batch(self, rows: NDArray[np.integer], visit: int | None = None) -> Tensor:
        colours = 0.5 + 0.5 * uniform(rows, visit, 3)
        return sprites(self, rows) * colours[:, :, None, None]


def colordsprites(root: Path) -> Dataset:
    """dSprites' grid as 64x64 images in colour: the sprite times one colour from U(0.5, 1), which is no factor.

    Kept as dSprites, nothing more. Models take their settings for it. Raises DataError as `dsprites`.
    """
    return in_colour(ColorDSprites, "colordsprites", dsprites(root))
