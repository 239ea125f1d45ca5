"""What a data set promises."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark import store
from benchmark.authoring.contract import DRAWS, other_global_state, require
from benchmark.running import encoder, floors
from data import Dataset
from data._dataset import takes_visit


@dataclass(frozen=True)
class DataCase:
    """A data set's function, with the folder that it may use."""

    name: str
    make: Callable[[Path], Dataset]
    root: Path

    @cached_property
    def data(self) -> Dataset:
        return self.make(self.root)

    def require(self, holds: Any, text: str, field: str = "") -> None:
        require(holds, text, self.make, rf"\b{field}\s*=" if field else "return")

    def some_rows(self) -> np.ndarray:
        rows = np.concatenate([self.data.train_rows, self.data.score_rows])
        return rows[np.linspace(0, len(rows) - 1, min(64, len(rows))).astype(int)]


def fields(case: DataCase) -> None:
    """A Dataset with the file's name, a shape of three numbers, and arrays."""
    data = case.data
    case.require(isinstance(data, Dataset), f"{case.name}() gave a {type(data).__name__}, needed a Dataset")
    case.require(data.name == case.name, f"name is {data.name!r}, needed the file's name {case.name!r}", "name")
    good = isinstance(data.shape, tuple) and len(data.shape) == 3 and all(isinstance(s, int) for s in data.shape)
    case.require(good, f"shape is {data.shape!r}, needed (channels, h, w)", "shape")
    for name in ("images", "factors", "train_rows", "score_rows", "attributes"):
        value = getattr(data, name)
        on_disk = name == "images" and hasattr(value, "dtype")  # an array of HDF5, as its own `batch` may read
        good = isinstance(value, np.ndarray) or on_disk or (value is None and name == "attributes")
        case.require(good, f"{name} is a {type(value).__name__}, needed a numpy array", name)
    for name in ("factor_names", "factor_sizes", "attribute_names"):
        value = getattr(data, name)
        good = isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.ndim == 1)
        case.require(good, f"{name} is {value!r}, needed a tuple", name)


def image_arrays(case: DataCase) -> None:
    """Images are bytes of the promised shape, or packed bits, or what a `batch` of its own reads."""
    pixels, shape = case.data.images, case.data.shape
    case.require(
        pixels.dtype == np.uint8, f"images are {pixels.dtype}, needed uint8 (0..255, or packed bits)", "images"
    )
    plain, packed = pixels.shape[1:] == shape, pixels.shape[1:] == (-(-int(np.prod(shape)) // 8),)
    last = pixels.ndim == 4 and (pixels.shape[3], *pixels.shape[1:3]) == shape
    text = f"images have shape {tuple(pixels.shape)}, needed (n, {', '.join(map(str, shape))})"
    text += "; channels come first: transpose to (n, c, h, w)" if last else ""
    own = type(case.data).batch is not Dataset.batch  # then it alone knows how they are kept
    case.require(plain or packed or own, text, "images")


def factor_table(case: DataCase) -> None:
    """Factors are integers in range, a row an image, with unique names; the class factor is one of them."""
    data = case.data
    n, names, sizes = len(data.images), data.factor_names, data.factor_sizes
    good = data.factors.ndim == 2 and len(data.factors) == n and np.issubdtype(data.factors.dtype, np.integer)
    case.require(good, f"factors are {data.factors.shape} {data.factors.dtype}, needed ({n}, f) integers", "factors")
    case.require(data.factors.shape[1] == len(names) == len(sizes),
                 f"{data.factors.shape[1]} columns of factors, {len(names)} names and {len(sizes)} sizes, needed as "
                 "many of each", "factor_names")  # fmt: skip
    case.require(len(set(names)) == len(names), f"factor_names {names} are not unique", "factor_names")
    for name, size, column in zip(names, sizes, data.factors.T, strict=True):
        text = f"factor {name!r} has values {column.min()}..{column.max()}, needed 0..{size - 1}"
        case.require(column.min() >= 0 and column.max() < size, text, "factors")
    case.require(data.class_factor is None or data.class_factor in names,
                 f"class_factor is {data.class_factor!r}, needed one of {names} or None", "class_factor")  # fmt: skip


def attribute_table(case: DataCase) -> str | None:
    """Attributes, if there are any, are finite floats, a row an image, with unique names."""
    table, names = case.data.attributes, case.data.attribute_names
    if table is None:
        case.require(not names, f"there are names of attributes, {names}, and no attributes", "attribute_names")
        return "no attributes"
    n = len(case.data.images)
    good = table.ndim == 2 and len(table) == n and np.issubdtype(table.dtype, np.floating)
    case.require(good, f"attributes are {table.shape} {table.dtype}, needed ({n}, a) floats", "attributes")
    text = f"{table.shape[1]} columns of attributes and the names {names}, needed as many different ones"
    case.require(table.shape[1] == len(names) == len(set(names)), text, "attribute_names")
    case.require("within" not in names, "no attribute can be called 'within', which scores are", "attribute_names")
    bad = np.flatnonzero(~np.isfinite(table).all(axis=1))
    case.require(not len(bad), f"attributes of image {bad[:1]} are not finite ({len(bad)} such images)", "attributes")
    return None


def row_numbers(case: DataCase) -> None:
    """train_rows and score_rows are numbers of images, each once."""
    n = len(case.data.images)
    for name in ("train_rows", "score_rows"):
        rows = getattr(case.data, name)
        good = rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer) and len(rows) > 0
        case.require(good, f"{name} is {rows.shape} {rows.dtype}, needed a vector of integers, not empty", name)
        case.require(
            rows.min() >= 0 and rows.max() < n, f"{name} has {rows.min()}..{rows.max()}, needed 0..{n - 1}", name
        )
        case.require(len(np.unique(rows)) == len(rows), f"{name} names an image twice", name)


def grid_order(case: DataCase) -> str | None:
    """Where grid is True, the scored rows are a full factor grid, last factor fastest, once or several times over."""
    if not case.data.grid:
        return "no grid: metrics that hold a factor fixed look for rows that share its value"
    factors = case.data.factors[case.data.score_rows]
    expected = np.indices([len(np.unique(column)) for column in factors.T]).reshape(factors.shape[1], -1).T
    ranks = [np.unique(column, return_inverse=True)[1] for column in factors.T]
    copies = max(1, len(factors) // len(expected))
    case.require(np.array_equal(np.stack(ranks, axis=1), np.tile(expected, (copies, 1))),
                 f"grid is True, but the {len(factors)} score_rows are not the {len(expected)} combinations in order "
                 "(last factor fastest), once or several times over", "grid")  # fmt: skip
    return None


def batches(case: DataCase) -> None:
    """batch() gives float32 images in [0, 1]."""
    rows = case.some_rows()
    x = case.data.batch(rows)
    case.require(x.dtype == torch.float32, f"batch() gave {x.dtype}, needed float32")
    shape = (len(rows), *case.data.shape)
    case.require(tuple(x.shape) == shape, f"batch() gave shape {tuple(x.shape)}, needed {shape}", "images")
    case.require(x.min() >= 0 and x.max() <= 1, f"batch() gave values in [{x.min():.3g}, {x.max():.3g}], needed [0, 1]")


def visits(case: DataCase) -> str | None:
    """An image is a pure function of its row and of the visit that batch() is told."""
    if not takes_visit(case.data):
        return "its batch() takes no visit"
    rows = case.some_rows()
    for visit in (None, 1):
        with other_global_state(1):
            backwards = case.data.batch(rows[::-1].copy(), visit=visit)
        same = torch.equal(backwards.flip(0), case.data.batch(rows, visit=visit))
        case.require(
            same, f"batch(rows, visit={visit}) gave other images in another order of the rows, needed the same"
        )
    return None


def kept_codes(case: DataCase) -> None:
    """What a run keeps of the data set, such as its true factors as codes, can be written and read back."""
    data = case.data
    level = floors.factors if data.factor_names else floors.noise
    codes = level(data, encoder.select(data, "quick"), seed=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.h5"
        store.save_codes(path, codes, "all")
        again, _ = store.load_codes(path)
    same = np.array_equal(again.mean, codes.mean) and again.factor_sizes == tuple(codes.factor_sizes)
    case.require(same, "its codes do not come back as they were written", "factor_sizes")


def same_again(case: DataCase) -> None:
    """A second call gives the same images and factors, whatever the global random state."""
    with other_global_state(1):
        other = case.make(case.root)
    rows = case.some_rows()
    same = np.array_equal(other.factors, case.data.factors) and torch.equal(other.batch(rows), case.data.batch(rows))
    require(same, "a second call gave other images or factors, needed the same", case.make, DRAWS)


def tried(case: DataCase) -> str | None:
    """The built-in networks take the images."""
    side = case.data.shape[1:]
    if side not in ((32, 32), (64, 64)):
        return f"images are {side[0]}x{side[1]}: the built-in networks take 32x32 and 64x64, so bring a model"
    return None


DATA: dict[str, Callable[[DataCase], str | None]] = {
    "fields": fields, "images": image_arrays, "factors": factor_table, "attributes": attribute_table,
    "rows": row_numbers, "grid": grid_order,
    "batches": batches, "visits": visits, "codes": kept_codes, "same again": same_again, "networks": tried,
}  # fmt: skip
# Those that take no time, so a run is not begun without them.
BEFORE_A_RUN = (fields, image_arrays, factor_table, attribute_table, row_numbers, grid_order)
