"""Sprites in colour: binary images of another data set, each changed by random numbers that are drawn for it alone.

Such numbers are a nuisance, since no factor says them. Nothing is stored of them: they are drawn when a batch is.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data._dataset import Dataset, as_floats

FIXED = 2**63  # stands for no visit, and is none


def in_colour(kind: type[Dataset], name: str, plain: Dataset) -> Dataset:
    """The same rows, factors and stored images, in three channels, as a data set of this kind and name."""
    kept = {field.name: getattr(plain, field.name) for field in fields(plain)}
    return kind(**kept | {"name": name, "shape": (3, *plain.shape[1:]), "like": plain.name})


def sprites(data: Dataset, rows: NDArray[np.integer]) -> Tensor:
    """(b, 1, h, w) float32, 0 or 1: the stored images of the given rows."""
    return as_floats(data.images[rows], (1, *data.shape[1:]))


def uniform(rows: NDArray[np.integer], visit: int | None, count: int) -> Tensor:
    """(b, count) float32 in [0, 1), those of a row a pure function of row and visit (None, or 0 to 2**63 - 1).

    Each row has a generator of its own, so that it gets the same numbers in whatever batch it stands.
    """
    drawn = np.empty((len(rows), count), dtype=np.float32)
    for row, numbers in zip(rows.tolist(), drawn, strict=True):
        np.random.default_rng((row, FIXED if visit is None else visit)).random(out=numbers, dtype=np.float32)
    return torch.from_numpy(drawn)
