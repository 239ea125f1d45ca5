"""Noisy-dSprites: dSprites on a background of random noise.

Locatello, Bauer, Lucic, Rätsch, Gelly, Schölkopf, Bachem (2019), Challenging Common Assumptions in the Unsupervised
Learning of Disentangled Representations.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from data._dataset import Dataset
from data._nuisance import in_colour, sprites, uniform
from data.dsprites import CLASS_NAMES, dsprites

__all__ = ["CLASS_NAMES", "noisydsprites"]


class NoisyDSprites(Dataset):
    """min(dSprites + U(0, 1), 1), drawn for each pixel and channel at every visit."""

    def batch(self, rows: NDArray[np.integer], visit: int | None = None) -> Tensor:
        noise = uniform(rows, visit, math.prod(self.shape)).view(-1, *self.shape)
        return noise.add_(sprites(self, rows)).clamp_(max=1)


def noisydsprites(root: Path) -> Dataset:
    """dSprites' grid as 64x64 images in colour: white sprites on noise from U(0, 1), which is no factor.

    Kept as dSprites, nothing more. Models take their settings for it. Raises DataError as `dsprites`.
    """
    return in_colour(NoisyDSprites, "noisydsprites", dsprites(root))
