"""What a data set hands to the benchmark."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MOST = 2**32  # bytes of images that a device is given at once


class DataError(Exception):
    """Data that cannot be had or cannot be trusted; the message names the file and what to do."""


@dataclass(frozen=True)
class Dataset:
    """Images with their generative factors, kept packed and turned into float tensors a batch at a time.

    images: (n, channels, h, w) uint8 grey levels, or of binary images (n, channels * h * w / 8), by `np.packbits`.
    factors: (n, f) integers, factor j in 0..factor_sizes[j]-1; f may be 0.
    class_factor: the factor that a categorical latent is hoped to find, or None.
    train_rows, score_rows: the rows that models see and the rows that are scored.
    grid: whether score_rows are a full factor grid in order (last factor fastest), once or several times over.
    attributes, attribute_names: (n, a) finite floats that were measured on the images, which are no factors; or None.
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
    attributes: NDArray[np.floating] | None = None
    attribute_names: tuple[str, ...] = ()

    def batch(self, rows: NDArray[np.integer], visit: int | None = None) -> Tensor:
        """(b, channels, h, w) float32 in [0, 1] of the given rows.

        visit: for images with a nuisance that is drawn anew at every visit, which one this is: each image is a pure
        function of visit and row. None: the one fixed draw of rows that are scored or shown.
        """
        return as_floats(self.images[rows], self.shape)

    def reader(
        self, rows: NDArray[np.integer], device: torch.device, visit: int | None = None
    ) -> Callable[[slice], Tensor]:
        """Gives the batch of a slice of these rows at this visit, on a device.

        Elsewhere than on a CPU the packed images are moved once, the rows once a reader, and all else happens there.
        Batches are moved one by one where the images are too many, or the data set has a `batch` of its own.
        """
        own = type(self).batch is not Dataset.batch
        if device.type == "cpu" or own or len(self.images) * self.images[:1].nbytes > MOST:
            which = {"visit": visit} if visit is not None and takes_visit(self) else {}
            return lambda part: self.batch(rows[part], **which).to(device)
        images = self._moved.get(device) or Images(self.images, self.shape, device)
        self._moved[device] = images
        moved = torch.from_numpy(np.asarray(rows, dtype=np.int64)).to(device)
        return lambda part: images.batch(moved[part])

    @cached_property
    def _moved(self) -> dict[torch.device, Images]:
        return {}

    def forget(self) -> None:
        """Give back what other devices hold of the images."""
        self._moved.clear()


class Images:
    """Packed images on a device, and `Dataset.batch` there: the same numbers, bit for bit."""

    def __init__(self, images: NDArray[np.uint8], shape: tuple[int, int, int], device: torch.device) -> None:
        self.pixels, self.shape = torch.from_numpy(np.array(images, order="C")).to(device), shape
        self.levels = torch.arange(256).float().div_(255).to(device)  # looked up: a GPU's division may round otherwise
        self.bits = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=device)

    def batch(self, rows: Tensor) -> Tensor:
        """(b, channels, h, w) float32 in [0, 1] of the given rows, int64 on the device."""
        pixels = self.pixels[rows]
        if pixels.ndim == 4:
            return self.levels[pixels.int()]
        return (pixels[:, :, None] & self.bits).ne(0).float().view(-1, *self.shape)


def as_floats(pixels: NDArray[np.uint8], shape: tuple[int, int, int]) -> Tensor:
    """(b, *shape) float32 in [0, 1] of grey levels or packed bits, as `Dataset.images` has them."""
    pixels = np.ascontiguousarray(pixels)
    if pixels.ndim == 4:
        return torch.from_numpy(pixels).float().div_(255)
    bits = np.unpackbits(pixels, axis=1).reshape(-1, *shape)
    return torch.from_numpy(bits).float()


def takes_visit(data: Dataset) -> bool:
    """Whether its `batch` is told the visit: one that a user wrote may know no such argument."""
    return "visit" in inspect.signature(data.batch).parameters


def factor_grid(sizes: tuple[int, ...]) -> NDArray[np.int64]:
    """(n, f) classes of all n = prod(sizes) combinations, the last factor fastest."""
    return np.indices(sizes).reshape(len(sizes), -1).T.copy()
