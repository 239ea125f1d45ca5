"""Arrays kept on disk: made once under a lock, verified on every opening, memory-mapped."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

import h5py
import numpy as np
import platformdirs
from filelock import FileLock
from numpy.typing import NDArray

from data._dataset import DataError

log = logging.getLogger("data")

Shapes = Mapping[str, tuple[int, ...]]
Fill = Callable[[], Mapping[str, Iterable[NDArray[np.uint8]]]]

HEAD = 512  # bytes before the HDF5 content (its user block), which begin with the sha256 of what follows
MARGIN = 1 << 18  # bytes, more than HDF5's own structures take
WHOLE = 1 << 30  # bytes; a larger file is verified by a sample, so that it opens at once too
PIECES, PIECE = 128, 1 << 16  # of a sample: their number, and bytes of each


def default_root() -> Path:
    """The user's cache folder for this suite (not created)."""
    return Path(platformdirs.user_cache_dir("disentangle-bench", appauthor=False))


def cached(path: Path, shapes: Shapes, origin: str, fill: Fill) -> dict[str, NDArray[np.uint8]]:
    """Read-only memory maps of the uint8 arrays in an HDF5 file, which `fill` writes where there is no sound one.

    shapes: of every array by name; all are stored contiguous and uncompressed, so that processes share their pages.
    origin: what the content is made from; a file of another origin, damaged or foreign, is reported and made anew.
    fill: makes every array's content, as contiguous blocks of rows. Processes that come at once make the file once.
    Of a file above 1 GiB the size, both ends and 128 pieces spread evenly are compared: what is cut off or longer, and
    a hole of 1 % or more, is noticed; a few bytes changed elsewhere are not.
    Raises DataError where the file cannot be written; the one that stood there, if any, is then untouched.
    """
    try:
        if _fault(path, shapes, origin):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(path.name + ".lock")):
                fault = _fault(path, shapes, origin)  # again: another process may have made it meanwhile
                if fault and path.exists():
                    log.warning("%s %s; making it anew", path, fault)
                if fault:
                    _make(path, shapes, origin, fill)
        return _map(path, shapes)
    except (OSError, NotImplementedError) as error:  # the latter where a file system has no locks
        megabytes = sum(map(math.prod, shapes.values())) / 1e6
        raise DataError(
            f"cannot write {path}: {' '.join(str(error).split())}; "
            f"make its folder writable with {megabytes:.0f} MB free, or choose another data folder"
        ) from error


def _make(path: Path, shapes: Shapes, origin: str, fill: Fill) -> None:
    temporary = path.with_name(path.name + ".tmp")  # one name, written under the lock only: a killed process leaves one
    size = sum(map(math.prod, shapes.values()))
    try:
        temporary.unlink(missing_ok=True)
        _see_room(path.parent, size)
        content = fill()  # which says what is wrong with its source before anything large is written
        _reserve(temporary, size)
        offsets = _lay_out(temporary, shapes, origin)
        with temporary.open("r+b") as stream:
            for name, shape in shapes.items():
                stream.seek(offsets[name])
                if (written := sum(stream.write(block.data) for block in content[name])) != math.prod(shape):
                    raise ValueError(f"{written} bytes of {name} for the shape {shape}")
        seal = _seal(temporary)
        with temporary.open("r+b") as stream:
            stream.write(seal)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _see_room(folder: Path, size: int) -> None:
    if (free := shutil.disk_usage(folder).free) < size + MARGIN:
        raise OSError(f"only {free / 1e6:.0f} MB are free there")


def _reserve(path: Path, size: int) -> None:
    """Take the room before it is used, since the HDF5 library can crash on a full disk; raises OSError."""
    with path.open("wb") as stream:
        for _ in range(0, size + MARGIN, MARGIN):
            stream.write(bytes(MARGIN))


def _lay_out(path: Path, shapes: Shapes, origin: str) -> dict[str, int]:
    """Make the HDF5 file with its arrays allocated and not written; returns where in the file each begins."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w", userblock_size=HEAD) as file:
        file.attrs["origin"] = origin
        return {
            name: file.create_dataset(name, shape, np.uint8, dcpl=layout).id.get_offset()
            for name, shape in shapes.items()
        }


def _seal(path: Path) -> bytes:
    """What a sound file begins with."""
    size = path.stat().st_size
    with path.open("rb") as stream:  # read, not mapped: the pages do not count as this process's memory
        stream.seek(HEAD)
        if size <= WHOLE:
            text = f"sha256 {hashlib.file_digest(stream, 'sha256').hexdigest()}\n"
        else:
            text = f"{size} bytes, sha256 of a sample {_sample(stream, size)}\n"
    return text.encode().ljust(HEAD, b"\0")


def _sample(stream: IO[bytes], size: int) -> str:
    """The sha256 of both ends, where HDF5's own structures are, and of pieces between."""
    ends = [(HEAD, MARGIN), (max(size - MARGIN, HEAD), MARGIN)]
    digest = hashlib.sha256()
    for start, length in [*ends, *((HEAD + size // PIECES * piece, PIECE) for piece in range(1, PIECES))]:
        stream.seek(start)
        digest.update(stream.read(length))
    return digest.hexdigest()


def _fault(path: Path, shapes: Shapes, origin: str) -> str | None:
    """What keeps the file from being used, or None."""
    if not path.exists():
        return "is absent"
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if head != _seal(path):  # compared before HDF5 sees the file: its library can crash or hang on a damaged one
        return "is damaged or foreign (its content has not the sha256 at its beginning)"
    with h5py.File(path, "r", locking=False) as file:
        if file.attrs["origin"] != origin:
            return f"was made from {file.attrs['origin']!r}, not {origin!r}"
        if (found := {name: array.shape for name, array in file.items()}) != dict(shapes):
            return f"holds {found}, not {dict(shapes)}"
    return None


def _map(path: Path, shapes: Shapes) -> dict[str, NDArray[np.uint8]]:
    with h5py.File(path, "r", locking=False) as file:
        offsets = {name: file[name].id.get_offset() for name in shapes}
    return {name: np.memmap(path, np.uint8, "r", offsets[name], shape) for name, shape in shapes.items()}
