"""dSprites: 737,280 binary 64x64 images of one sprite, a full grid of five factors.

Matthey, Higgins, Hassabis, Lerchner (2017), dSprites: Disentanglement testing Sprites dataset (Apache License 2.0).

The official archive is read where it lies in the data folder, else the same grid is drawn (some seconds). Drawn images
equal every published one that they were compared with; that the two grids are identical has not been shown.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data._archive import blocks, reading, stamp
from data._cache import cached, log
from data._dataset import DataError, Dataset, factor_grid

NAMES = ("shape", "scale", "orientation", "posX", "posY")
SIZES = (3, 6, 40, 32, 32)
CLASS_NAMES = ("square", "ellipse", "heart")
ARCHIVE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64"  # .npz or .hdf5
SIDE = 64
PACKED = SIDE * SIDE // 8  # bytes an image
GRID_SHA256 = "3a228f4037ef3d42a42588e0e01f1078aa2df13cfa17584e88c95ed9fb5672da"  # of the drawn, packed grid

UNIT = 256  # vertices lie on a lattice of 1/256 pixel
HALF = UNIT // 2  # a pixel's centre
SUFFIX = np.array([(1 << (SIDE - column)) - 1 for column in range(SIDE + 1)], np.uint64)  # all pixels from a column on


def dsprites(root: Path) -> Dataset:
    """The whole grid, packed (512 bytes an image) and memory-mapped; made in `root` at first use (377 MB).

    Colour, which is constant, is left out of the factors. Raises DataError where the archive in `root` is not dSprites
    or where the folder cannot be written.
    """
    rows = np.arange(math.prod(SIZES))
    images, origin = _images(Path(root))
    return Dataset(
        name="dsprites",
        shape=(1, SIDE, SIDE),
        images=images,
        factors=factor_grid(SIZES),
        factor_names=NAMES,
        factor_sizes=SIZES,
        class_factor="shape",
        train_rows=rows,
        score_rows=rows,
        grid=True,
        origin=origin,
    )


def _images(root: Path) -> tuple[NDArray[np.uint8], str]:
    """The packed images, and `archive` where they are the official ones."""
    shapes = {"images": (math.prod(SIZES), PACKED)}
    for archive in (root / f"{ARCHIVE}.npz", root / f"{ARCHIVE}.hdf5"):
        if archive.exists():
            fill = partial(_fill, f"packing {archive}", read_archive(archive, SIZES))
            return cached(root / "dsprites_archive.h5", shapes, stamp(archive), fill)["images"], "archive"
    fill = partial(_fill, "drawing dSprites", draw_checked())
    return cached(root / "dsprites_drawn.h5", shapes, f"drawing, sha256 {GRID_SHA256}", fill)["images"], ""


def _fill(task: str, blocks: Iterator[NDArray[np.uint8]]) -> dict[str, Iterator[NDArray[np.uint8]]]:
    log.info("%s, once", task)
    return {"images": blocks}


# Drawing


def draw() -> Iterator[NDArray[np.uint8]]:
    """The grid in order, packed: a (1024, 512) block of all positions for each shape, scale and orientation."""
    scales, angles = np.linspace(0.5, 1, SIZES[1]), np.linspace(0, 2 * np.pi, SIZES[2])
    for outline, scale, angle in itertools.product(_outlines(), scales, angles):
        yield _draw_positions(outline, scale, angle)


def draw_checked() -> Iterator[NDArray[np.uint8]]:
    """As `draw`; raises DataError at the end where this machine's arithmetic gave another grid."""
    digest = hashlib.sha256()
    for block in draw():
        digest.update(block.data)
        yield block
    if digest.hexdigest() != GRID_SHA256:
        raise DataError(
            f"dSprites drawn on this machine differs from the known grid (sha256 {digest.hexdigest()}): "
            f"put the official {ARCHIVE}.npz into the data folder"
        )


def _outlines() -> list[NDArray[np.float64]]:
    """(2, v) outline of the square, the ellipse and the heart about the origin, in pixels, y down."""
    h = 9.6
    p, t = 2 * np.pi * np.arange(100) / 100, 2 * np.pi * np.arange(150) / 150
    square = h * np.array([[-1, 1, 1, -1], [-1, -1, 1, 1]])
    ellipse = np.stack([1.33 * h * np.cos(p), h / 1.33 * np.sin(p)])
    lobes = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    heart = np.stack([h * np.sin(t) ** 3, -0.15 * h - h / 14.5 * lobes])
    return [square, ellipse, heart]


def _draw_positions(outline: NDArray[np.float64], scale: float, angle: float) -> NDArray[np.uint8]:
    """(1024, 512) packed images of one sprite at every position, posY fastest."""
    u, v = outline
    cos, sin = np.cos(angle), np.sin(angle)
    x = scale * (u * cos + v * sin) + 16 + 32 * np.linspace(0, 1, SIZES[3])[:, None]
    y = scale * (v * cos - u * sin) + 16 + 32 * np.linspace(0, 1, SIZES[4])[:, None]
    words = rasterise(*(np.rint(UNIT * vertices).astype(np.int32) for vertices in (x, y)))
    return words.astype(">u8").view(np.uint8).reshape(-1, PACKED)


def rasterise(x: NDArray[np.int32], y: NDArray[np.int32]) -> NDArray[np.uint64]:
    """(a, b, 64) rows of pixels, first column in the highest bit, of polygons with vertices (x[i], y[j]), all i, j.

    x (a, v), y (b, v): vertices in 1/256 pixel, inside the image. A pixel is on iff its centre is inside the polygon;
    on ties left edges and horizontal bottom edges (y points down) belong to it, right and horizontal top edges do not.
    """
    polygon, row, edge = _crossings(y)
    x0, y0 = x.T[edge], y[polygon, edge][:, None]  # (crossings, a), (crossings, 1)
    dx, dy = np.roll(x, -1, axis=1).T[edge] - x0, np.roll(y, -1, axis=1)[polygon, edge][:, None] - y0
    centre = UNIT * row[:, None] + HALF
    # The first column whose centre is not left of the edge: an exact ceiling, of integers below 2**31.
    column = -(((y0 - centre) * dx - (x0 - HALF) * dy) // (UNIT * dy))
    # Each edge that crosses a row of centres flips the pixels from its column on; crossings of one row lie together.
    cell = polygon * SIDE + row
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    words = np.zeros((len(x), len(y) * SIDE), np.uint64)
    words[:, cell[first]] = np.bitwise_xor.reduceat(SUFFIX[column], first).T
    return words.reshape(len(x), len(y), SIDE)


def _crossings(y: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """(polygon, row, edge) of every edge that crosses a row's centres, in this order, for vertices y (b, v)."""
    start = (y + HALF) // UNIT  # the first row whose centre lies at or below the vertex
    end = np.roll(start, -1, axis=1)
    count = np.abs(end - start).ravel()
    which = np.repeat(np.arange(count.size), count)
    step = np.arange(which.size) - np.repeat(np.cumsum(count) - count, count)
    row = np.minimum(start, end).ravel()[which] + step
    polygon, edge = np.divmod(which, y.shape[1])
    order = np.lexsort((row, polygon))
    return polygon[order].astype(np.int32), row[order].astype(np.int32), edge[order].astype(np.int32)


# The official archive


def read_archive(path: Path, sizes: tuple[int, ...]) -> Iterator[NDArray[np.uint8]]:
    """The packed images of an official .npz or .hdf5, checked, in blocks of (1024 at most, 512); sizes of its factors.

    Raises DataError that names the file and what is wrong with it. The pickled `metadata` of the .npz is never read.
    """
    n = math.prod(sizes)
    with reading(path, "fetch it again, or remove it to have dSprites drawn"):
        start = 0
        for classes in blocks(path, "latents/classes", (n, 6), np.integer):
            rows = np.arange(start, start + len(classes))
            if not np.array_equal(classes, np.stack(np.unravel_index(rows, (1, *sizes)), axis=1)):
                raise DataError(f"{path}: latents/classes is not the grid in its order near row {start}")
            start += len(classes)
        next(blocks(path, "latents/values", (n, 6), np.floating))
        for images in blocks(path, "imgs", (n, SIDE, SIDE), np.uint8):
            if images.max() > 1:
                raise DataError(f"{path}: imgs holds {images.max()}, and must hold 0 and 1 only")
            yield np.packbits(images.reshape(-1, SIDE * SIDE), axis=1)
