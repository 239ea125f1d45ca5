"""MPI3D, photographs: see data/_mpi3d.py."""

from __future__ import annotations

from pathlib import Path

from data import _mpi3d
from data._dataset import Dataset

CLASS_NAMES = _mpi3d.SHAPES


def mpi3d_real(root: Path) -> Dataset:
    """1,036,800 photographs of 64x64, a full grid of seven factors, from mpi3d_real.npz in `root`.

    Raises DataError as `_mpi3d.read` does.
    """
    return _mpi3d.read(root, "mpi3d_real")
