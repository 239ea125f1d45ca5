"""MPI3D, photographs of four everyday objects: see data/_mpi3d.py."""

from __future__ import annotations

from pathlib import Path

from data import _mpi3d
from data._dataset import Dataset

CLASS_NAMES = ("coffee-cup", "tennis-ball", "croissant", "beer-cup")


def mpi3d_real_complex(root: Path) -> Dataset:
    """460,800 photographs of 64x64, a full grid of seven factors, from real3d_complicated_shapes_ordered.npz in `root`.

    Raises DataError as `_mpi3d.read` does.
    """
    return _mpi3d.read(root, "mpi3d_real_complex")
