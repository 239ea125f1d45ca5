"""Handwriting with known factors: 72,000 grey-level 32x32 images of real digits, drawn anew from their skeletons.

Every MNIST digit (LeCun, Bottou, Bengio, Haffner 1998) is thinned to a skeleton and brought to a standard form:
upright, centred, of one size. From there it is drawn with a slant, a thickness, a rotation and a size that are chosen
independently of it and of each other. Which handwritten digit it is, is a nuisance: a function of the row, no factor.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data._cache import cached, log
from data._dataset import DataError, Dataset, factor_grid
from data.mnist import SIDE, mnist

NAMES = ("digit", "slant", "thickness", "rotation", "size")
SLANTS = (-0.5, -0.25, 0.0, 0.25, 0.5)  # pixels to the right per pixel upwards
THICKNESSES = (1.5, 2.5, 3.5)  # of a stroke, in pixels
ROTATIONS = (-24, -12, 0, 12, 24)  # degrees, clockwise
HEIGHTS = (11, 14, 17)  # of the skeleton before it is turned, in pixels; less where it would be wider than this
SIZES = (10, len(SLANTS), len(THICKNESSES), len(ROTATIONS), len(HEIGHTS))
FORMS = math.prod(SIZES[1:])  # a digit has
COPIES = (24, 8)  # of the grid, each with other handwriting: to train on, to score on
SHA256 = "0f55536983a40b480b5fe72a139b49c2e1f9e03759a445398353147fa660dd6c"  # of all images

ONE = 1 << 14  # as which 1 is written in the standard form and in the matrices that change it
UNIT = 16  # parts of a pixel that places on the image are rounded to
BLOCK = 1000  # images that are thinned at a time
FAR = 8000  # squared distance, in those parts, from which on nothing is drawn


def digits(root: Path) -> Dataset:
    """The grid of factors 24 times over to train on and 8 times to score, each time with other handwriting.

    Training images are drawn from MNIST's training images, each of which is used once at most, scored images from its
    test images. Made in `root` at first use (74 MB). Raises DataError as `mnist` does, or where this machine's
    arithmetic gave other images.
    """
    shapes = {"images": (sum(COPIES) * math.prod(SIZES), 1, SIDE, SIDE)}
    images = cached(Path(root) / "digits.h5", shapes, f"MNIST, sha256 {SHA256}", lambda: {"images": _checked(root)})
    rows = np.arange(len(images["images"]))
    train = COPIES[0] * math.prod(SIZES)
    return Dataset(
        name="digits",
        shape=(1, SIDE, SIDE),
        images=images["images"],
        factors=np.tile(factor_grid(SIZES), (sum(COPIES), 1)),
        factor_names=NAMES,
        factor_sizes=SIZES,
        class_factor="digit",
        train_rows=rows[:train],
        score_rows=rows[train:],
        grid=True,
        like="mnist",
    )


def _checked(root: Path) -> Iterator[NDArray[np.uint8]]:
    """As `draw`; raises DataError at the end where this machine's arithmetic gave other images."""
    log.info("drawing digits from MNIST, once")
    data = mnist(root)
    digest = hashlib.sha256()
    for part, copies in zip((data.train_rows, data.score_rows), COPIES, strict=True):
        for block in draw(data.images[part, 0], data.factors[part, 0], copies):
            digest.update(block.data)
            yield block
    if digest.hexdigest() != SHA256:
        found = f"sha256 {digest.hexdigest()}, not {SHA256}"
        raise DataError(f"digits drawn here are not the known ones ({found}): their scores could not be compared")


def draw(images: NDArray[np.uint8], labels: NDArray[np.integer], copies: int) -> Iterator[NDArray[np.uint8]]:
    """The grid in order, `copies` times: (FORMS, 1, 32, 32) images of a digit after the other.

    images (n, 32, 32), labels (n,): the handwritten digits.
    """
    forms, written = _forms(), handwriting(labels, copies)
    used, places = np.unique(written, return_inverse=True)
    skeletons = [standard(*points) for points in skeleton_points(images[used])]
    for row in places.reshape(-1, FORMS):
        yield np.stack([stroke(m @ skeletons[i], levels) for i, (m, levels) in zip(row, forms, strict=True)])[:, None]


def handwriting(labels: NDArray[np.integer], copies: int) -> NDArray[np.int64]:
    """(copies, 10, FORMS) numbers of the handwritten digits that are drawn: each digit's own in turn."""
    turns = np.arange(copies * FORMS).reshape(copies, FORMS)
    own = [np.flatnonzero(labels == digit) for digit in range(SIZES[0])]
    return np.stack([rows[turns % len(rows)] for rows in own], axis=1)


def _forms() -> list[tuple[NDArray[np.int64], NDArray[np.uint8]]]:
    """Of every combination but the digit's: the (2, 2) matrix, in 1/ONE pixel, and grey levels by squared distance."""
    return [
        (_matrix(SLANTS[slant], ROTATIONS[turn], HEIGHTS[size]), _levels(THICKNESSES[thick]))
        for slant, thick, turn, size in factor_grid(SIZES[1:])
    ]


def _matrix(slant: float, degrees: float, height: float) -> NDArray[np.int64]:
    """Size, then rotation, then slant, which comes last so that it adds to what the second moments say."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = np.array([[cos, -sin], [sin, cos]])
    return np.rint(ONE * height / 2 * np.array([[1, -slant], [0, 1]]) @ turned).astype(np.int64)


def _levels(thickness: float) -> NDArray[np.uint8]:
    """(2 FAR + 1,) grey level at a squared distance from the middle of a stroke: its edge is one pixel wide."""
    edge = round((thickness + 1) / 2 * UNIT)
    inside = [255 * (edge * 256 - math.isqrt(square << 16)) // (UNIT * 256) for square in range(2 * FAR + 1)]
    return np.clip(inside, 0, 255).astype(np.uint8)


def stroke(points: NDArray[np.int64], levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(32, 32) image of a line through points (2, p), in 1/ONE² pixel from the middle."""
    middles = UNIT * np.arange(SIDE) - UNIT * (SIDE - 1) // 2
    places = (points + (ONE * ONE // UNIT // 2)) // (ONE * ONE // UNIT)
    across, down = (np.minimum((middles - axis[:, None]) ** 2, FAR).astype(np.int16) for axis in places)
    return levels[(down[:, :, None] + across[:, None, :]).min(axis=0)]


def standard(x: NDArray[np.integer], y: NDArray[np.integer]) -> NDArray[np.int64]:
    """(2, p) points, in 1/ONE, of a skeleton of places x, y (p,): upright, centred, 2 high or, if wider, 2 wide."""
    n = len(x)
    x, y = n * x - x.sum(), n * y - y.sum()
    spread = max(int(y @ y), 1)
    upright = np.stack([x * spread - y * int(x @ y), y * spread])  # less its own slant, the ratio of second moments
    low, high = upright.min(axis=1, keepdims=True), upright.max(axis=1, keepdims=True)
    half = max(int((high - low).max()) // ONE, 1)  # divided before it divides, since the product would overflow
    return (2 * upright - low - high) // half


# Skeletons


def skeleton_points(images: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """x and y (p,) of the pixels of every image's skeleton, at twice the images' resolution."""
    for start in range(0, len(images), BLOCK):
        for words in thinned(_bits(images[start : start + BLOCK])):
            y, x = np.nonzero(np.unpackbits(words.astype(">u8").view(np.uint8)).reshape(2 * SIDE, 2 * SIDE))
            yield x, y


def _bits(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """(n, 64) rows of the images at twice the resolution (bilinear), ink above half; first column highest."""
    wide = np.pad(images.astype(np.uint16), ((0, 0), (1, 1), (1, 1)))
    for axis in (1, 2):
        before, near, after = (np.take(wide, range(at, wide.shape[axis] - 2 + at), axis) for at in range(3))
        both = np.stack([3 * near + before, 3 * near + after], axis=axis + 1)
        wide = both.reshape(*both.shape[:axis], -1, *both.shape[axis + 2 :])
    return np.packbits(wide > 16 * 255 // 2, axis=2).view(">u8")[:, :, 0].astype(np.uint64)


def thinned(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Lines of one pixel instead of thick ones, in rows of pixels (n, h).

    Zhang, Suen: A Fast Parallel Algorithm for Thinning Digital Patterns (1984).
    """
    while True:
        before = words
        for first in (True, False):
            words = words & ~_spare(words, first)
        if np.array_equal(words, before):
            return words


def _spare(words: NDArray[np.uint64], first: bool) -> NDArray[np.uint64]:
    """The pixels that one of the two passes takes away."""
    one = np.uint64(1)
    above, below = np.zeros_like(words), np.zeros_like(words)
    above[:, 1:], below[:, :-1] = words[:, :-1], words[:, 1:]
    around = [above, above << one, words << one, below << one, below, below >> one, words >> one, above >> one]
    north, _, east, _, south, _, west, _ = around
    _, two_inked = _count(around)
    _, two_blank = _count([~side for side in around])
    begins, two_begin = _count([~side & after for side, after in zip(around, [*around[1:], around[0]], strict=True)])
    open_here = ~(east & south & (north | west)) if first else ~(north & west & (east | south))
    return words & two_inked & two_blank & begins & ~two_begin & open_here


def _count(planes: list[NDArray[np.uint64]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Where at least one of these has a bit, and where at least two have."""
    one, two = planes[0], np.zeros_like(planes[0])
    for plane in planes[1:]:
        one, two = one | plane, two | (one & plane)
    return one, two
