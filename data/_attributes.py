"""Attributes of handwritten digits: not set by anyone, as factors are, but measured on the image.

Castro, Tan, Kainz, Konukoglu, Glocker (2019), Morpho-MNIST: Quantitative Assessment and Diagnostics for Representation
Learning. A run's bits do not depend on this file, which is why no data set imports it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from data._cache import cached
from data._dataset import Dataset
from data.mnist import COUNTS, MD5, SOURCES, _fetch, _idx

NAMES = ("area", "length", "thickness", "slant", "width", "height")
SCALE = 4  # images are enlarged so many times
OUTSIDE = 0.01  # the share of the ink that lies left, right, above and below of a digit's width and height
CHUNK = 100  # digits that are measured at a time

Floats = NDArray[np.floating]


def attributes_of(data: Dataset, rows: NDArray[np.integer], root: Path) -> tuple[Floats | None, tuple[str, ...]]:
    """(rows, a) attributes and their names: those that the data set brings or, of MNIST's, measured on its digits.

    None where there are neither. rows: some of the scored ones. What is measured is kept in `root` (0.5 MB).
    Raises DataError where MNIST's original images cannot be had.
    """
    if data.attributes is not None:
        return data.attributes[rows], data.attribute_names
    if data.name not in ORIGINALS:
        return None, ()
    shape = (len(data.score_rows), 8 * len(NAMES))
    code = f"scikit-image {version('scikit-image')}, sha256 {hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}"
    origin = f"IDX files, md5 {' '.join(MD5.values())}, by {code}"

    def fill() -> dict[str, Iterator[NDArray[np.uint8]]]:
        images = ORIGINALS[data.name](root)[data.score_rows]
        return {"attributes": (part.view(np.uint8) for part in _measured(images))}

    kept = cached(root / f"{data.name}_attributes.h5", {"attributes": shape}, origin, fill)["attributes"]
    return np.asarray(kept).view(np.float64)[np.searchsorted(data.score_rows, rows)], NAMES


def measure(images: NDArray[np.uint8]) -> Floats:
    """(n, 6) attributes of (n, h, w) images of a bright digit, none of them of one grey level, as Morpho-MNIST measures
    them: in pixels of the image, but for the slant.

    area: of what is at least half as bright as the brightest. length: of its skeleton, the medial axis. thickness:
    twice the mean distance from the skeleton to the paper. slant: of the line through the ink by its second moments, in
    radians, positive to the right. width, height: of the parallelogram of that slant which leaves 1 % of the ink to
    every side.

    Beyond an image's border there is paper here, and ink that touches it (1 % of MNIST's digits) has its distance to
    that. The paper's images were enlarged by an earlier scikit-image, whose cubic filter is used here: the present
    one's makes other lengths.
    """
    return np.concatenate(list(_measured(images)))


def _mnist(root: Path) -> NDArray[np.uint8]:
    """(70,000, 28, 28) images before they are resized, training images first."""
    files = list(_fetch(root, SOURCES, MD5).values())
    return np.concatenate([_idx(raw, (n, 28, 28)) for raw, n in zip(files[::2], COUNTS, strict=True)])


ORIGINALS: dict[str, Callable[[Path], NDArray[np.uint8]]] = {"mnist": _mnist, "mnist_dev": _mnist}


def _measured(images: NDArray[np.uint8]) -> Iterator[Floats]:
    for start in range(0, len(images), CHUNK):
        large = _enlarged(images[start : start + CHUNK])
        yield np.column_stack([*_strokes(large), *_frame(large.astype(np.float64))])


# --- the image, enlarged --------------------------------------------------------------------------------------------


def _enlarged(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, 4 h, 4 w): interpolated, held within the image's range, and smoothed."""
    down, across = (_cubic(side) for side in images.shape[1:])
    x = images / 255.0
    x = np.clip(down @ x @ across.T, *_range(x))
    down, across = (_gaussian(side) for side in x.shape[1:])
    return (255 * (down @ x @ across.T)).astype(np.uint8)


def _cubic(side: int) -> Floats:
    """(4 side, side) weights of Keys's cubic convolution, for numbers that are mirrored at both ends."""
    places = (np.arange(SCALE * side) + 0.5) / SCALE - 0.5
    t = np.abs(places[:, None] - np.arange(-2, side + 2))
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0)) @ np.pad(np.eye(side), ((2, 2), (0, 0)), "symmetric")


def _gaussian(side: int) -> Floats:
    """(side, side) weights of the smoothing of an image pyramid."""
    return gaussian_filter1d(np.eye(side), 2 * SCALE / 6, axis=0)


def _range(images: Floats | NDArray[np.uint8]) -> tuple[Floats, Floats]:
    return images.min((1, 2), keepdims=True), images.max((1, 2), keepdims=True)


# --- strokes: area, length, thickness -------------------------------------------------------------------------------


def _strokes(large: NDArray[np.uint8]) -> tuple[Floats, Floats, Floats]:
    low, high = (bound.astype(np.float64) for bound in _range(large))
    ink = large >= (low + high) / 2
    skeleton, distance = _medial_axis(ink)
    right, below = skeleton[:, :, :-1] & skeleton[:, :, 1:], skeleton[:, :-1] & skeleton[:, 1:]
    falling, rising = skeleton[:, :-1, :-1] & skeleton[:, 1:, 1:], skeleton[:, 1:, :-1] & skeleton[:, :-1, 1:]
    straight, diagonal = (_count(one) + _count(other) for one, other in ((right, below), (falling, rising)))
    thickness = 2 * (distance * skeleton).sum((1, 2)) / _count(skeleton)
    return _count(ink) / SCALE**2, (straight + np.sqrt(2) * diagonal) / SCALE, thickness / SCALE


def _count(pixels: NDArray[np.bool_]) -> NDArray[np.integer]:
    return pixels.sum((1, 2))


def _medial_axis(ink: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Floats]:
    """Skeletons, and distances to the paper, both with a margin of a pixel and without the rows and columns that have
    no ink in any of the images. All are found in one tall image, since a call costs as much as twenty digits."""
    from skimage.morphology import medial_axis  # at need: every run's process loads this file

    rows, columns = (np.flatnonzero(ink.any(axes)) for axes in ((0, 2), (0, 1)))
    ink = np.pad(ink[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], ((0, 0), (1, 1), (1, 1)))
    found = medial_axis(ink.reshape(-1, ink.shape[2]), return_distance=True, rng=_Ties(_count(ink)))
    skeleton, distance = (part.reshape(ink.shape) for part in found)
    return skeleton, distance


class _Ties(np.random.Generator):
    """Orders pixels that are alike, as scikit-image did for Morpho-MNIST, and each digit's apart: so its skeleton does
    not depend on its neighbours in the tall image."""

    def __init__(self, counts: NDArray[np.integer]) -> None:
        super().__init__(np.random.PCG64(0))
        self.counts = counts

    def permutation(self, x: NDArray, axis: int = 0) -> NDArray[np.integer]:  # type: ignore[override]
        return np.concatenate([np.random.RandomState(0).permutation(count) for count in self.counts])


# --- frame: slant, width, height ------------------------------------------------------------------------------------


def _frame(mass: Floats) -> tuple[Floats, Floats, Floats]:
    mass /= mass.sum((1, 2), keepdims=True)
    y, x = (np.arange(side, dtype=np.float64) for side in mass.shape[1:])
    down, across = mass.sum(2), mass.sum(1)
    middle = down @ y
    shear = ((mass @ x) @ y - middle * (across @ x)) / (down @ y**2 - middle**2)
    width = [_width(*digit) for digit in zip(mass, shear, middle, strict=True)]
    height = [_extent(np.concatenate([[0], line[:-1]])) for line in down]
    return np.arctan(-shear), np.array(width) / SCALE, np.array(height) / SCALE


def _width(mass: Floats, shear: float, middle: float) -> float:
    """Across the slant: pixels count by where a line of that slant through them meets the middle row."""
    height, width = mass.shape
    away = np.arange(height)[:, None] - middle
    place = np.floor(np.arange(width) + 0.5 - shear * away).astype(np.int64) + 1
    counted = np.bincount(place.clip(0, width).ravel(), mass.ravel(), width + 1).astype(np.float64)
    return _extent(counted[:width])


def _extent(mass: Floats) -> float:
    """Between the places, interpolated, that have 1 % of the mass before and behind them."""
    first, last = np.interp([OUTSIDE, 1 - OUTSIDE], np.cumsum(mass), np.arange(len(mass)))
    return float(last - first)
