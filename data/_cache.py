"""Arrays kept on disk: made once under a lock, verified on every opening, memory-mapped."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import NDArray

from data._dataset import DataError

log = logging.getLogger("data")

Shapes = Mapping[str, tuple[int, ...]]
Fill = Callable[[Mapping[str, h5py.Dataset]], None]


def default_root() -> Path:
    """The user's cache folder for this suite (not created)."""
    return Path(platformdirs.user_cache_dir("disentangle-bench", appauthor=False))


def cached(path: Path, shapes: Shapes, origin: str, fill: Fill) -> dict[str, NDArray[np.uint8]]:
    """Read-only memory maps of the uint8 arrays in an HDF5 file, which `fill` writes where there is no sound one.

    shapes: of every array by name; all are stored contiguous and uncompressed, so that processes share their pages.
    origin: what the content is made from; a file of another origin, damaged or foreign, is reported and made anew.
    fill: writes every element of the empty arrays that it is given. Processes that come at once make the file once.
    Raises DataError where the file cannot be written; the one that stood there, if any, is then untouched.
    """
    if _fault(path, shapes, origin):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(path.name + ".lock")):
                fault = _fault(path, shapes, origin)  # again: another process may have made it meanwhile
                if fault and path.exists():
                    log.warning("%s %s; making it anew", path, fault)
                if fault:
                    _make(path, shapes, origin, fill)
        except (OSError, NotImplementedError) as error:
            megabytes = sum(map(math.prod, shapes.values())) / 1e6
            raise DataError(
                f"cannot write {path}: {error}; make its folder writable with {megabytes:.0f} MB free, "
                "or choose another data folder"
            ) from error
    return _map(path, shapes)


def _make(path: Path, shapes: Shapes, origin: str, fill: Fill) -> None:
    temporary = path.with_name(path.name + ".tmp")  # one name, written under the lock only: a killed process leaves one
    try:
        try:
            with h5py.File(temporary, "w") as file:
                file.attrs["origin"] = origin
                fill({name: file.create_dataset(name, shape, np.uint8) for name, shape in shapes.items()})
                file.flush()
                for name in shapes:
                    file[name].attrs["sha256"] = _sha256(temporary, file[name])
        except RuntimeError as error:  # how HDF5 reports a full disk when it closes a file
            raise OSError(str(error)) from error
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _fault(path: Path, shapes: Shapes, origin: str) -> str | None:
    """What keeps the file from being used, or None."""
    if not path.exists():
        return "is absent"
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs["origin"] != origin:
                return f"was made from {file.attrs['origin']!r}, not {origin!r}"
            for name, shape in shapes.items():
                array = file[name]
                if (array.shape, array.dtype, array.id.get_offset() is None) != (shape, np.uint8, False):
                    return f"holds {name} in another form than {shape} uint8"
                if array.attrs["sha256"] != _sha256(path, array):
                    return f"is damaged: the sha256 of {name} has changed"
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        return f"cannot be read ({' '.join(str(error).split())})"
    return None


def _sha256(path: Path, array: h5py.Dataset) -> str:
    digest = hashlib.sha256()
    left = array.nbytes
    with path.open("rb") as stream:  # read, not mapped: the pages do not count as this process's memory
        stream.seek(array.id.get_offset())
        while left and (block := stream.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _map(path: Path, shapes: Shapes) -> dict[str, NDArray[np.uint8]]:
    with h5py.File(path, "r", locking=False) as file:
        offsets = {name: file[name].id.get_offset() for name in shapes}
    return {name: np.memmap(path, np.uint8, "r", offsets[name], shape) for name, shape in shapes.items()}
