"""MPI3D: coloured 64x64 images of an object that a robot's arm moves, rendered or photographed; a full grid each.

Gondal, Wüthrich, Miladinović, Locatello, Breidt, Volchkov, Akpo, Bachem, Schölkopf, Bauer (2019), On the Transfer of
Inductive Bias from Simulation to the Real World (CC BY 4.0). The files hold images only: that these are in the order of
the grid, which the authors' page describes, cannot be checked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data import _archive
from data._cache import log
from data._dataset import DataError, Dataset, factor_grid

NAMES = (
    "object_color",
    "object_shape",
    "object_size",
    "camera_height",
    "background_color",
    "horizontal_axis",
    "vertical_axis",
)
SHAPES = ("cone", "cube", "cylinder", "hexagonal", "pyramid", "sphere")
SIDE = 64


@dataclass(frozen=True)
class Source:
    """An official file, the sizes of its grid, and its md5 sum where that is known."""

    archive: str
    url: str
    sizes: tuple[int, ...] = (6, 6, 2, 3, 3, 40, 40)
    md5: str = ""


HOST = "https://huggingface.co/datasets/waleedgondal/mpi3d/resolve/main/"
COMPLEX = "real3d_complicated_shapes_ordered.npz"
DRIVE = "https://drive.google.com/file/d/1Tp8eTdHxgUMtsZv5uAoYAbJR1BOa_OQm"
# The sums are those of 2019, as other projects have them. That of the mpi3d_real which replaced, in 2025, a faulty one
# of 2024 is not known.
SOURCES = {
    "mpi3d_toy": Source("mpi3d_toy.npz", HOST + "mpi3d_toy.npz", md5="55889cb7c7dfc655d6e0277beee88868"),
    "mpi3d_realistic": Source(
        "mpi3d_realistic.npz", HOST + "mpi3d_realistic.npz", md5="59a6225b88b635365f70c91b3e52f70f"
    ),
    "mpi3d_real": Source("mpi3d_real.npz", HOST + "mpi3d_real.npz", md5="0f33f609918fb5c97996692f91129802"),
    "mpi3d_real_complex": Source(COMPLEX, DRIVE, (4, 4, 2, 3, 3, 40, 40)),
}


def read(root: Path, name: str, sources: Mapping[str, Source] = SOURCES) -> Dataset:
    """The whole grid, memory-mapped: where it lies in the .npz, or if that is compressed from a copy made at first use.

    A file that is known as another data set's is refused. One whose md5 sum is not known is taken, and `origin` has 8
    digits of that sum, so that its results are never averaged with others.
    Raises DataError where the file is not there, is damaged or another one, or where the folder cannot be written.
    """
    source, owners = sources[name], {source.md5: name for name, source in sources.items() if source.md5}
    path = Path(root) / source.archive
    rows = np.arange(math.prod(source.sizes))
    shape = (len(rows), SIDE, SIDE, 3)
    _archive.require(path, f"{source.url} ({math.prod(shape):,} bytes of pixels) as {path.name}")

    def check(md5: str) -> None:
        if owners.get(md5, name) != name:
            raise DataError(f"{path} is the file of {owners[md5]} (md5 {md5}), not of {name}: fetch {source.url}")
        if md5 not in owners:
            log.warning("%s: md5 %s is not known: whether its images are those of %s is not checked", path, md5, name)

    images, md5 = _archive.images(path, "images", shape, check)
    return Dataset(
        name=name,
        shape=(3, SIDE, SIDE),
        images=images,
        factors=factor_grid(source.sizes),
        factor_names=NAMES,
        factor_sizes=source.sizes,
        class_factor="object_shape",
        train_rows=rows,
        score_rows=rows,
        grid=True,
        like="dsprites",
        origin="" if md5 == source.md5 else f"archive md5 {md5[:8]}",
    )
