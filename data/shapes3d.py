"""3D Shapes: 480,000 coloured 64x64 images of an object in a room, a full grid of six factors.

Burgess, Kim (2018), 3D Shapes Dataset; Kim, Mnih (2018), Disentangling by Factorising (Apache License 2.0). The labels
of the official file are compared with the grid; the names of the four shapes are not in it.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from data import _archive
from data._dataset import DataError, Dataset, factor_grid

NAMES = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")
SIZES = (10, 10, 10, 8, 4, 15)
CLASS_NAMES = ("cube", "cylinder", "sphere", "capsule")
SIDE = 64
ARCHIVE = "3dshapes.h5"
URL = "https://storage.googleapis.com/3d-shapes/3dshapes.h5"
BYTES = 267_573_662
MD5 = "099a2078d58cec4daad0702c55d06868"


def shapes3d(root: Path) -> Dataset:
    """480,000 coloured images of 64x64, a full grid of six factors, from 3dshapes.h5 in `root`.

    Memory-mapped from an uncompressed copy (5.9 GB), which is made beside the file at first use.
    Raises DataError where the file is not there, is damaged or another one, or where the folder cannot be written.
    """
    return read(Path(root), SIZES, MD5)


def read(root: Path, sizes: tuple[int, ...], md5: str) -> Dataset:
    """As `shapes3d`, of a file with a grid of these sizes and this md5 sum."""
    path = root / ARCHIVE
    _archive.require(path, f"{URL} ({BYTES:,} bytes)")

    def check(found: str) -> None:
        check_labels(path, sizes)
        if found != md5:
            size = f"{path.stat().st_size:,} bytes, not {BYTES:,}"
            raise DataError(f"{path} is not the published file (md5 {found}, not {md5}; {size}): fetch {URL}")

    rows = np.arange(math.prod(sizes))
    images, _ = _archive.images(path, "images", (len(rows), SIDE, SIDE, 3), check)
    return Dataset(
        name="shapes3d",
        shape=(3, SIDE, SIDE),
        images=images,
        factors=factor_grid(sizes),
        factor_names=NAMES,
        factor_sizes=sizes,
        class_factor="shape",
        train_rows=rows,
        score_rows=rows,
        grid=True,
        like="dsprites",
    )


def check_labels(path: Path, sizes: tuple[int, ...]) -> None:
    """Raises DataError where the file's labels, which are values of the factors, are not the grid in its order."""
    n = math.prod(sizes)
    labels = np.concatenate(list(_archive.blocks(path, "labels", (n, len(sizes)), np.floating)))
    classes = factor_grid(sizes)
    for factor, (name, size) in enumerate(zip(NAMES, sizes, strict=True)):
        column = labels[:, factor]
        levels = column[:: math.prod(sizes[factor + 1 :])][:size]  # as they come first, the others held at their first
        wrong = ~np.isclose(column, levels[classes[:, factor]], rtol=0, atol=1e-6)
        if wrong.any():
            raise DataError(f"{path}: labels is not the grid in its order: {name} in row {wrong.argmax()}")
        if len(np.unique(levels.round(6))) != size:
            raise DataError(
                f"{path}: labels has {len(np.unique(levels.round(6)))} values of {name}, and must have {size}"
            )
