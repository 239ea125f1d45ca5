"""Official archives (.npz, HDF5) in the data folder: read a block of rows at a time, checked before they are used."""

from __future__ import annotations

import hashlib
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import h5py
import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from data._cache import cached, log
from data._dataset import DataError

BLOCK = 1024  # rows read at a time
DAMAGES = (OSError, KeyError, ValueError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error,
           lzma.LZMAError)  # fmt: skip


@contextmanager
def reading(path: Path, advice: str = "fetch it again") -> Iterator[None]:
    """What goes wrong in reading an archive as a DataError of one line that names it; advice: where it is damaged."""
    try:
        yield
    except PermissionError as error:
        raise DataError(f"{path} cannot be read (permission denied): make it readable") from error
    except DAMAGES as error:
        raise DataError(f"{path} is damaged ({' '.join(str(error).split())}): {advice}") from error


def require(path: Path, source: str) -> None:
    """Raises DataError where the archive is not there; source: what to fetch."""
    with reading(path):
        if not path.exists():
            raise DataError(f"no {path.name} in {path.parent}: fetch {source} and put it there")


def stamp(path: Path) -> str:
    """By its name, size and time an archive is known again; one that was replaced is read anew."""
    status = path.stat()
    return f"{path.name}, {status.st_size} bytes, {status.st_mtime_ns} ns"


def images(
    path: Path, key: str, shape: tuple[int, int, int, int], check: Callable[[str], None]
) -> tuple[NDArray[np.uint8], str]:
    """The memory-mapped uint8 images of an archive, (n, channels, h, w), and the archive's md5 sum.

    shape: (n, h, w, channels), as the archive has them. Mapped where they lie if they are stored plain in an .npz;
    otherwise from a copy beside the archive, made at first use in blocks of rows.
    check: is given the md5 sum at first use, when all of the archive is read, and may raise DataError. Later on an
    archive of the same size and time is taken to be the same.
    Raises DataError where the archive is damaged or holds something else, or where the folder cannot be written.
    """
    n, height, width, channels = shape
    with reading(path):
        origin, place = stamp(path), _place(path, key)
    shapes: dict[str, tuple[int, ...]] = {"md5": (16,)}
    if place is None:
        shapes["images"] = (n, channels, height, width)

    def fill() -> dict[str, Iterable[NDArray[np.uint8]]]:
        with reading(path):
            next(blocks(path, key, shape, np.uint8))  # of another form: said before the long reading
            copy = f", into {math.prod(shape):,} bytes beside it" if place is None else ""
            log.warning("reading %s, once%s", path, copy)  # seen, since it takes minutes and much of a disk
            md5 = _md5(path)
            check(md5.hex())
            if place is not None:
                for _ in blocks(path, key, shape, np.uint8):  # to the end, where the checksum is compared
                    pass
        return {"md5": [np.frombuffer(md5, np.uint8)], "images": _channels_first(path, key, shape)}

    arrays = cached(path.with_name(f"{path.stem}_read.h5"), shapes, origin, fill)
    found = arrays["images"] if place is None else np.memmap(path, np.uint8, "r", place, shape).transpose(0, 3, 1, 2)
    return found, arrays["md5"].tobytes().hex()


def _channels_first(path: Path, key: str, shape: tuple[int, ...]) -> Iterator[NDArray[np.uint8]]:
    with reading(path):
        for block in blocks(path, key, shape, np.uint8):
            yield np.ascontiguousarray(block.transpose(0, 3, 1, 2))


def _md5(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).digest()


def blocks(path: Path, key: str, shape: tuple[int, ...], kind: type) -> Iterator[NDArray]:
    """Blocks of 1024 rows of one array of the archive, checked to have this shape and kind of element.

    Raises DataError for an array of another form, and what zipfile, numpy and h5py raise for damage (see `reading`).
    """
    reader = _npz_blocks if path.suffix == ".npz" else _hdf5_blocks
    return reader(path, key, shape, kind)


def _member(key: str) -> str:
    return key.replace("/", "_") + ".npy"


def _npz_blocks(path: Path, key: str, shape: tuple[int, ...], kind: type) -> Iterator[NDArray]:
    member = _member(key)
    with zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            raise DataError(f"{path} has no {member}")
        with archive.open(member) as stream:
            found, fortran, dtype = header(stream)
            if fortran:
                raise DataError(f"{path}: {member} is stored column by column (Fortran order)")
            _check_form(f"{path}: {member}", found, dtype, shape, kind)
            yield from rows_of(stream, f"{path}: {member}", shape, dtype)


def rows_of(stream: IO[bytes], name: str, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[NDArray]:
    """Blocks of 1024 rows of the array whose elements follow in a stream, to its end, where zipfile compares the
    checksum; name: what DataError calls an array that goes on."""
    size = dtype.itemsize * math.prod(shape[1:])
    for start in range(0, shape[0], BLOCK):
        rows = min(BLOCK, shape[0] - start)
        yield np.frombuffer(stream.read(rows * size), dtype).reshape(rows, *shape[1:])
    if stream.read(1):
        raise DataError(f"{name} goes on after its last row")


def header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether it is stored column by column, and type of the .npy array that follows in a stream."""
    version = npy.read_magic(stream)
    return (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)


def _place(path: Path, key: str) -> int | None:
    """Where in an .npz the elements of an array begin, if they are stored there plain; else None."""
    if path.suffix != ".npz":
        return None
    with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
        if _member(key) not in archive.namelist() or archive.getinfo(_member(key)).compress_type != zipfile.ZIP_STORED:
            return None
        stream.seek(archive.getinfo(_member(key)).header_offset + 26)
        stream.seek(sum(struct.unpack("<HH", stream.read(4))), 1)  # past the member's name and its extra field
        header(stream)
        return stream.tell()


def _hdf5_blocks(path: Path, key: str, shape: tuple[int, ...], kind: type) -> Iterator[NDArray]:
    with h5py.File(path, "r", locking=False) as archive:
        array = archive.get(key)
        if not isinstance(array, h5py.Dataset):
            raise DataError(f"{path} has no {key}")
        _check_form(f"{path}: {key}", array.shape, array.dtype, shape, kind)
        step = max(BLOCK, array.chunks[0] if array.chunks else 0)
        for start in range(0, shape[0], step):
            rows = _rows(array, start, min(start + step, shape[0]))
            for first in range(0, len(rows), BLOCK):
                yield rows[first : first + BLOCK].copy()  # what has this block does not hold all rows
            del rows  # before the next are read


def _rows(array: h5py.Dataset, start: int, stop: int) -> NDArray:
    """Some rows; chunk by chunk where chunks are deep, as in the official files (15,000 rows by 4 x 4 pixels of one
    channel): HDF5 would unpack each many times, and copy it byte by byte."""
    if not array.chunks or array.chunks[0] <= BLOCK:
        return array[start:stop]
    rows = np.empty((stop - start, *array.shape[1:]), array.dtype)
    for place in array.iter_chunks((slice(start, stop), *(slice(0, size) for size in array.shape[1:]))):
        rows[slice(place[0].start - start, place[0].stop - start), *place[1:]] = array[place]
    return rows


def _check_form(name: str, found: tuple[int, ...], dtype: np.dtype, shape: tuple[int, ...], kind: type) -> None:
    if found != shape or not np.issubdtype(dtype, kind):
        raise DataError(f"{name} is {found} {dtype}, and must be {shape} {kind.__name__}")
