"""What a data set hands to the benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class DataError(Exception):
    """Data that cannot be had or cannot be trusted; the message names the file and what to do."""


@dataclass(frozen=True)
class Dataset:
    """Images with their generative factors, kept packed and turned into float tensors a batch at a time.

    images: (n, channels, h, w) uint8 grey levels, or of binary images (n, channels * h * w / 8), by `np.packbits`.
    factors: (n, f) integers, factor j in 0..factor_sizes[j]-1; f may be 0.
    class_factor: the factor that a categorical latent is hoped to find, or None.
    train_rows, score_rows: the rows that models see and the rows that are scored.
    grid: whether score_rows are a full factor grid in order (last factor fastest).
    like: the data set whose published settings models take for this one; empty: one that has its own, or none.
    origin: which images these are, where there are others of that name than the usual ones; empty: the usual ones.
    """

    name: str
    shape: tuple[int, int, int]
    images: NDArray[np.uint8]
    factors: NDArray[np.integer]
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    class_factor: str | None
    train_rows: NDArray[np.integer]
    score_rows: NDArray[np.integer]
    grid: bool
    like: str = ""
    origin: str = ""

    def batch(self, rows: NDArray[np.integer]) -> Tensor:
        """(b, channels, h, w) float32 in [0, 1] of the given rows."""
        pixels = np.asarray(self.images[rows])
        if pixels.ndim == 4:
            return torch.from_numpy(pixels).float().div_(255)
        bits = np.unpackbits(pixels, axis=1).reshape(-1, *self.shape)
        return torch.from_numpy(bits).float()


def factor_grid(sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """(n, f) classes of all n = prod(sizes) combinations, the last factor fastest."""
    return np.indices(sizes).reshape(len(sizes), -1).T.copy()
