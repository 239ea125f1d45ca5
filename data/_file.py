"""A user's own data set, without code: arrays in an .npz file, which `--dataset-file` names.

images: (n, h, w), (n, h, w, c) or (n, c, h, w) with c 1 or 3; bytes, booleans, or floats in [0, 1]; square.
factors: (n, f) or (n,) integers from 0 on, optional; a factor's values are numbered in their order.
factor_names: (f,) texts; without them factor0, factor1, …
class_factor: the name of one; without it, a single factor is that one, and otherwise there is none.

Images of up to 32×32 pixels become 32×32, larger ones 64×64 (bilinear). Where the factors are a full grid, in whatever
order, all images train and are scored; else one image in five, drawn once and for all, is scored, and the others train.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

from data._archive import DAMAGES, header, rows_of
from data._cache import cached, log
from data._dataset import MOST, DataError, Dataset, factor_grid

LIKE = {32: "mnist", 64: "dsprites"}  # side -> the data set whose published settings models take
READ = ("images", "factors", "factor_names", "class_factor")
FEWEST, SMALLEST = 100, 8  # images, and pixels of a side
SCORED = 5  # one image in so many, without a grid


@dataclass(frozen=True)
class Form:
    """How the images lie in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    n: int
    channels: int
    side: int
    channels_first: bool

    @property
    def target(self) -> int:
        """The side that they are brought to."""
        return min(LIKE) if self.side <= min(LIKE) else max(LIKE)


def data_set(path: Path) -> Callable[[Path], Dataset]:
    """The function `root -> Dataset` of a file, whose images it keeps in `root` by their sha256.

    It raises DataError that names the file, what was found, and what is needed.
    """

    def load(root: Path) -> Dataset:
        return _load(path, Path(root))

    load.__doc__ = f"The images of {path.name}."
    return load


def note(path: Path, data: Dataset) -> str:
    """What was made of a file, in a line."""
    with _archive(path) as archive:
        form, spare = _form(path, archive), sorted(_names(archive) - {*READ})
    size = f"{data.name}: {form.n:,} images of {form.side}×{form.side}"
    if form.side != form.target:
        size += f", resized to {form.target}×{form.target} (bilinear)"
    factors = ", ".join(f"{name} {k}" for name, k in zip(data.factor_names, data.factor_sizes, strict=True))
    parts = [size, f"factors: {factors}" if factors else "no factors, so no scores that need them"]
    if data.grid:
        parts.append("a full grid: all images train and are scored")
    else:
        parts.append(f"{len(data.train_rows):,} drawn images train, the other {len(data.score_rows):,} are scored")
    if factors:
        parts.append(f"class factor: {data.class_factor or 'none'}")
    return "; ".join([*parts, *([f"not read: {', '.join(spare)}"] if spare else [])])


def _load(path: Path, root: Path) -> Dataset:
    with _archive(path) as archive:
        form = _form(path, archive)
        factors, names, class_factor = _factors(path, archive, form.n)
    with _told(path), path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    shape = (form.channels, form.target, form.target)

    def fill() -> dict[str, Iterator[NDArray[np.uint8]]]:
        log.info("reading %s, once", path)
        return {"images": _images(path, form)}

    sizes = tuple(int(column.max()) + 1 for column in factors.T)
    rows = np.lexsort(factors.T[::-1]) if sizes else np.arange(form.n)
    grid = bool(sizes) and math.prod(sizes) == form.n and np.array_equal(factors[rows], factor_grid(sizes))
    train, scored = (rows, rows) if grid else _split(form.n)
    origin = f"{path.name}, sha256 {digest}, to {form.target}x{form.target} bilinear"
    return Dataset(
        name=path.stem,
        shape=shape,
        images=cached(root / f"{path.stem}_{digest[:8]}.h5", {"images": (form.n, *shape)}, origin, fill)["images"],
        factors=factors,
        factor_names=names,
        factor_sizes=sizes,
        class_factor=class_factor,
        train_rows=train,
        score_rows=scored,
        grid=grid,
        like=LIKE[form.target],
        origin=f"content {digest[:8]}",
    )


def _split(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that train and rows that are scored: images often come class by class, so they are drawn."""
    drawn = np.random.default_rng(0).permutation(n)
    return np.sort(drawn[n // SCORED :]), np.sort(drawn[: n // SCORED])


# Reading


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except zipfile.BadZipFile as error:
        raise DataError(f"{path} is no .npz file, or is damaged ({error})") from error
    except DAMAGES as error:
        raise DataError(f"{path} cannot be read ({' '.join(str(error).split()) or type(error).__name__})") from error


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with _told(path), zipfile.ZipFile(path) as archive:
        yield archive


def _names(archive: zipfile.ZipFile) -> set[str]:
    return {name.removesuffix(".npy") for name in archive.namelist()}


def _form(path: Path, archive: zipfile.ZipFile) -> Form:
    """What the header says of the images; raises DataError where they cannot be used."""
    if "images" not in _names(archive):
        raise DataError(f"{path} has no array `images`; it has {', '.join(sorted(_names(archive))) or 'none'}")
    with archive.open("images.npy") as stream:
        shape, by_columns, dtype = header(stream)
    found = f"{path}: images are {shape} {dtype}, and must be"
    if not (dtype in (np.uint8, np.bool_) or np.issubdtype(dtype, np.floating)):
        raise DataError(f"{found} uint8, bool, or floats in [0, 1]")
    if by_columns:
        raise DataError(f"{path}: images are stored column by column; save np.ascontiguousarray(images)")
    sizes = {3: (*shape, 1), 4: shape}.get(len(shape), ())
    first = len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3)
    n, height, width, channels = (sizes[i] for i in (0, 2, 3, 1)) if first else (*sizes, 0, 0, 0, 0)[:4]
    if channels not in (1, 3):
        raise DataError(f"{found} (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels c")
    if height != width or width < SMALLEST:
        raise DataError(f"{found} square, of {SMALLEST}×{SMALLEST} pixels or more: pad or crop them")
    if n < FEWEST:
        raise DataError(f"{found} {FEWEST} or more")
    form = Form(shape, dtype, n, channels, width, first)
    if max(math.prod(shape), n * channels * form.target**2) > MOST:
        raise DataError(f"{found} of at most 2**32 numbers, also at {form.target}×{form.target}")
    return form


def _images(path: Path, form: Form) -> Iterator[NDArray[np.uint8]]:
    """(b, channels, side, side) blocks of the images, checked and resized."""
    start, most = 0, 0
    with _archive(path) as archive, archive.open("images.npy") as stream:
        header(stream)
        for block in rows_of(stream, f"{path}: images", form.shape, form.dtype):
            levels = _grey_levels(f"{path}: images", block, start)
            most = max(most, int(levels.max()))
            start += len(block)
            yield _resized(_channels_last(levels, form), form.target)
    if most <= 1:
        advice = ": save them times 255, or as booleans" if form.dtype == np.uint8 else ""
        raise DataError(f"{path}: images are all black, with nothing above {most} of 255{advice}")


def _grey_levels(name: str, block: NDArray, start: int) -> NDArray[np.uint8]:
    """0..255 of bytes, booleans or floats; the block begins at this row."""
    if block.dtype == np.bool_:
        return block.astype(np.uint8) * np.uint8(255)
    if block.dtype == np.uint8:
        return block
    good = (block >= 0) & (block <= 1)  # nan is neither
    if not good.all():
        row = int(np.argmin(good.reshape(len(block), -1).all(axis=1)))
        raise DataError(f"{name}: row {start + row} holds {block[row][~good[row]][0]}, and floats must be in [0, 1]")
    return np.rint(255 * block.astype(np.float64)).astype(np.uint8)


def _channels_last(block: NDArray[np.uint8], form: Form) -> NDArray[np.uint8]:
    """(b, h, w, c)."""
    if block.ndim == 3:
        return block[..., None]
    return np.moveaxis(block, 1, -1) if form.channels_first else block


def _resized(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """(b, h, w, c) -> (b, c, side, side), bilinear, as MNIST is resized."""
    if images.shape[1] != side:
        planes = np.moveaxis(images, -1, 1).reshape(-1, *images.shape[1:3])
        resized = [Image.fromarray(plane).resize((side, side), Image.Resampling.BILINEAR) for plane in planes]
        return np.stack([np.asarray(plane) for plane in resized]).reshape(len(images), -1, side, side)
    return np.ascontiguousarray(np.moveaxis(images, -1, 1))


def _factors(path: Path, archive: zipfile.ZipFile, n: int) -> tuple[NDArray[np.int64], tuple[str, ...], str | None]:
    """(n, f) values of every factor from 0 on, the factors' names, and the class factor."""
    if "factors" not in _names(archive):
        for other in ("factor_names", "class_factor"):
            if other in _names(archive):
                raise DataError(f"{path} has {other}, but no array `factors`")
        return np.zeros((n, 0), dtype=np.int64), (), None
    given = _array(path, archive, "factors")
    table = given[:, None] if given.ndim == 1 else given
    if table.ndim != 2 or len(table) != n or not np.issubdtype(table.dtype, np.integer):
        raise DataError(f"{path}: factors are {given.shape} {given.dtype}, and must be ({n}, f) integers, as images")
    names = _factor_names(path, archive, table.shape[1])
    for name, column in zip(names, table.T, strict=True):
        if column.min() < 0 or column.min() == column.max():
            raise DataError(
                f"{path}: factor {name!r} has the values {column.min()}..{column.max()}, and must have two or more, "
                "from 0 on"
            )
    ranks = [np.unique(column, return_inverse=True)[1] for column in table.T]
    factors = np.stack(ranks, axis=1).astype(np.int64) if ranks else np.zeros((n, 0), dtype=np.int64)
    return factors, names, _class_factor(path, archive, names)


def _array(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray:
    """A small array; one of Python objects is refused, since to read it is to run what it says."""
    with archive.open(f"{name}.npy") as stream:
        if (dtype := header(stream)[2]).hasobject:
            raise DataError(f"{path}: {name} is {dtype}, of Python objects, which are not read: save numbers or texts")
    with archive.open(f"{name}.npy") as stream:
        return np.asarray(npy.read_array(stream, allow_pickle=False))


def _texts(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[str, ...]:
    found = _array(path, archive, name)
    if found.dtype.kind != "U" or found.ndim > 1:
        raise DataError(f"{path}: {name} is {found.shape} {found.dtype}, and must be text")
    texts = tuple(str(text) for text in found.reshape(-1))
    for text in texts:
        if not (text.strip() and text.isprintable()):
            raise DataError(f"{path}: {name} holds {text!r}, and must be text to print")
    return texts


def _factor_names(path: Path, archive: zipfile.ZipFile, f: int) -> tuple[str, ...]:
    if "factor_names" not in _names(archive):
        return tuple(f"factor{j}" for j in range(f))
    names = _texts(path, archive, "factor_names")
    if len(names) != f or len(set(names)) != f:
        raise DataError(f"{path}: factor_names are {', '.join(names)}, and must be {f} different ones, as factors")
    return names


def _class_factor(path: Path, archive: zipfile.ZipFile, names: tuple[str, ...]) -> str | None:
    if "class_factor" not in _names(archive):
        return names[0] if len(names) == 1 else None
    chosen = _texts(path, archive, "class_factor")
    if len(chosen) != 1 or chosen[0] not in names:
        raise DataError(f"{path}: class_factor is {', '.join(chosen)}, and must be one of {', '.join(names)}")
    return chosen[0]
