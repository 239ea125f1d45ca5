"""What a metric sees: a table of codes and the factors that made the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rng = np.random.Generator | np.random.RandomState
Rows = NDArray[np.integer] | slice

MOST_LEVELS = 10**4  # of a factor: tables are as long and as wide
MOST_VALUES = 256  # of an ordinal latent: with more, the mutual information of a sample is mostly bias


class NotApplicable(Exception):
    """Why a score cannot be computed: raised for a whole metric, or put in the place of one value."""


@dataclass(frozen=True)
class Codes:
    """Posteriors q(latents | x) of n images, with the images' factors.

    mean: (n, c) floats; logvar: (n, c) or None for a deterministic code.
    probs: one (n, k) table per categorical latent, rows sum to 1.
    ordinal: whether each column of mean holds a few values, at most 256, as of a quantised code: where a metric cuts
        continuous latents into bins, these values are the bins; elsewhere they are the numbers that they are.
    recon: (n,) reconstruction error in nats per image, nan where it was not measured; or None.
    factors: (n, f) integers, factor j in 0..factor_sizes[j]-1; f may be 0.
    grid: the rows are a full grid of the factors' values in order, last factor fastest (some values may be left out
        throughout, as in a regular sub-grid), once or, with other images, several times over.
    attributes, attribute_names: (n, a) finite floats that were measured on the images, which are no factors; or None.
    test: fixed test rows; None means that a metric draws its own.

    Raises ValueError where shapes disagree, factors leave their range, probabilities do not sum to 1 or a code is not
    finite; the message names the array and its first bad row.
    """

    mean: NDArray[np.floating]
    factors: NDArray[np.integer]
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    logvar: NDArray[np.floating] | None = None
    probs: tuple[NDArray[np.floating], ...] = ()
    recon: NDArray[np.floating] | None = None
    class_factor: str | None = None
    grid: bool = False
    attributes: NDArray[np.floating] | None = None
    attribute_names: tuple[str, ...] = ()
    ordinal: bool = False
    test: Codes | None = None

    def __post_init__(self) -> None:
        _check_latents(self)
        _check_factors(self)
        _check_attributes(self)
        if self.test is not None:
            _check_alike(self, self.test)

    @property
    def n(self) -> int:
        """Number of images."""
        return len(self.mean)

    @cached_property
    def classes(self) -> NDArray[np.integer]:
        """(n, number of categorical latents) integers: the most probable class of each categorical latent."""
        if not self.probs:
            return np.zeros((self.n, 0), dtype=np.int64)
        return np.stack([p.argmax(axis=1) for p in self.probs], axis=1)

    @property
    def latent_names(self) -> tuple[str, ...]:
        """Continuous latents z0, z1, …, then categorical ones c0, c1, …"""
        return tuple(f"z{i}" for i in range(self.mean.shape[1])) + tuple(f"c{i}" for i in range(len(self.probs)))

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """How many different values each factor takes in these rows."""
        return tuple(int(np.count_nonzero(np.bincount(column))) for column in self.factors.T)

    @property
    def copies(self) -> int:
        """How often the rows run through the combinations of their factors' values, where they are a grid."""
        return self.n // prod(self.levels)

    def select(self, rows: Rows) -> Codes:
        """The given rows, as a plain table."""
        return replace(
            self,
            mean=self.mean[rows],
            logvar=None if self.logvar is None else self.logvar[rows],
            probs=tuple(p[rows] for p in self.probs),
            recon=None if self.recon is None else self.recon[rows],
            factors=self.factors[rows],
            attributes=None if self.attributes is None else self.attributes[rows],
            grid=False,
            test=None,
        )


def sample(codes: Codes, rng: Rng, n: int) -> Codes:
    """n points to look at, for a metric that needs no test points.

    Fixed test rows: the first n rows. Otherwise: at most n of the rows, drawn without replacement; from a grid (of one
    copy) and with a legacy RandomState: the study's own draws, with replacement, factor by factor.
    """
    if codes.test is not None:
        return codes.select(slice(n))
    if _as_in_the_study(codes, rng):
        return codes.select(grid_rows(codes, rng, draw_factors(rng, codes.levels, n)))
    return codes if n >= codes.n else codes.select(rng.permutation(codes.n)[:n])


def points(codes: Codes, rng: Rng, n_train: int, n_test: int) -> tuple[Codes, Codes]:
    """Points to fit on and points to test on.

    Fixed test rows: the first rows of each table. Otherwise: a disjoint random split, of which the first part has at
    most 2/3. (The study draws from its grid with replacement, which a legacy RandomState repeats. On 737,280 rows that
    is the same; on a small grid a learner would be tested on rows that it has learnt by heart.)
    """
    if codes.test is not None:
        return codes.select(slice(n_train)), codes.test.select(slice(n_test))
    if _as_in_the_study(codes, rng):
        return sample(codes, rng, n_train), sample(codes, rng, n_test)
    n_train = min(n_train, 2 * codes.n // 3)
    if n_train < 1:
        raise NotApplicable(f"{codes.n} rows are too few to fit on some and test on others")
    rows = rng.permutation(codes.n)
    return codes.select(rows[:n_train]), codes.select(rows[n_train : n_train + n_test])


def varying(codes: Codes, at_least: int = 1) -> list[int]:
    """The factors that take two values or more in these rows; a factor with one value has nothing to be found."""
    found = [j for j, levels in enumerate(codes.levels) if levels > 1]
    if len(found) < at_least:
        need = "one factor" if at_least == 1 else f"{at_least} factors"
        raise NotApplicable(f"needs {need} with two values or more; these rows have {len(found)}")
    return found


def class_labels(codes: Codes) -> NDArray[np.integer]:
    """(n,) values of the factor that a categorical latent is hoped to find, of which there are two or more."""
    if codes.class_factor is None:
        raise NotApplicable("there is no class factor")
    labels = codes.factors[:, codes.factor_names.index(codes.class_factor)]
    if labels.min() == labels.max():
        raise NotApplicable("the class factor has one value in these rows")
    return labels


def integers(rng: Rng, high: int, size: int | tuple[int, ...] | None = None) -> NDArray[np.integer]:
    """Uniform integers in 0..high-1 from either kind of random generator."""
    draw = rng.randint if isinstance(rng, np.random.RandomState) else rng.integers
    return draw(high, size=size)


def draw_factors(rng: Rng, levels: tuple[int, ...], size: int | tuple[int, ...]) -> NDArray[np.integer]:
    """(f, *size) uniform and independent factor values, drawn one factor after the other."""
    return np.stack([integers(rng, n, size) for n in levels])


def grid_rows(codes: Codes, rng: Rng, factors: NDArray[np.integer]) -> NDArray[np.integer]:
    """(…) rows of a grid that have these factor values (f, …); where it has several copies, one is drawn for each."""
    rows = np.ravel_multi_index(tuple(factors), codes.levels)
    return rows if codes.copies == 1 else rows + prod(codes.levels) * integers(rng, codes.copies, rows.shape)


def _as_in_the_study(codes: Codes, rng: Rng) -> bool:
    return codes.grid and codes.copies == 1 and isinstance(rng, np.random.RandomState)


def _check_latents(codes: Codes) -> None:
    n = len(codes.mean)
    if codes.mean.ndim != 2 or not np.issubdtype(codes.mean.dtype, np.floating):
        raise ValueError(f"mean must be (n, c) floats, not {codes.mean.shape} {codes.mean.dtype}")
    if n == 0 or codes.mean.shape[1] + len(codes.probs) == 0:
        raise ValueError(
            f"codes need at least one row and one latent, not {n} rows and {len(codes.latent_names)} latents"
        )
    if codes.logvar is not None and codes.logvar.shape != codes.mean.shape:
        raise ValueError(f"logvar is {codes.logvar.shape}, mean is {codes.mean.shape}")
    if codes.recon is not None and codes.recon.shape != (n,):
        raise ValueError(f"recon is {codes.recon.shape}, expected ({n},)")
    for name, table in _tables(codes):
        if table.ndim != 2 or len(table) != n:
            raise ValueError(f"{name} is {table.shape}, expected {n} rows")
        _refuse(~np.isfinite(table).all(axis=1), name, "is not finite")
    # Beyond these a square or an exponential overflows, and scores would be nan.
    _refuse((abs(codes.mean) > 1e15).any(axis=1), "mean", "is beyond 1e15")
    if codes.logvar is not None:
        _refuse((codes.logvar > 700).any(axis=1), "logvar", "is beyond 700")
    if codes.recon is not None:
        _refuse(np.isinf(codes.recon), "recon", "is infinite")
    if codes.ordinal:
        _check_ordinal(codes)
    for j, p in enumerate(codes.probs):
        _refuse((p < 0).any(axis=1) | (abs(p.sum(axis=1) - 1) > 1e-3), f"probs[{j}]", "does not sum to 1")


def _check_ordinal(codes: Codes) -> None:
    if codes.logvar is not None:
        raise ValueError("ordinal codes are deterministic, but logvar is given")
    for j, column in enumerate(codes.mean.T):
        if (values := len(np.unique(column))) > MOST_VALUES:
            raise ValueError(
                f"z{j} has {values} values, and an ordinal latent {MOST_VALUES} at most: is it continuous?"
            )


def _check_factors(codes: Codes) -> None:
    factors, names, sizes = codes.factors, codes.factor_names, codes.factor_sizes
    if factors.ndim != 2 or len(factors) != codes.n or not np.issubdtype(factors.dtype, np.integer):
        raise ValueError(f"factors must be ({codes.n}, f) integers, not {factors.shape} {factors.dtype}")
    if not factors.shape[1] == len(names) == len(sizes):
        raise ValueError(f"factors has {factors.shape[1]} columns, {len(names)} names and {len(sizes)} sizes")
    if len(set(names)) < len(names):
        raise ValueError(f"factor names are not unique: {names}")
    if codes.class_factor is not None and codes.class_factor not in names:
        raise ValueError(f"class_factor {codes.class_factor!r} is none of the factors {names}")
    if factors.size and (factors >= MOST_LEVELS).any():
        j = int(factors.max(axis=0).argmax())
        raise ValueError(
            f"factor {names[j]!r} has the value {factors[:, j].max()}, and {MOST_LEVELS - 1} is the most: number those "
            "that occur from 0 on; a quantity is an attribute"
        )
    _refuse(
        ((factors < 0) | (factors >= np.asarray(sizes, dtype=np.int64))).any(axis=1), "factors", f"is not in {sizes}"
    )
    if codes.grid:
        _check_grid(codes)


def _check_attributes(codes: Codes) -> None:
    table, names = codes.attributes, codes.attribute_names
    if table is None:
        table = np.zeros((codes.n, 0))
    if table.ndim != 2 or len(table) != codes.n or not np.issubdtype(table.dtype, np.floating):
        raise ValueError(f"attributes must be ({codes.n}, a) floats, not {table.shape} {table.dtype}")
    if table.shape[1] != len(names) or len(set(names)) < len(names):
        count = table.shape[1]
        raise ValueError(f"attributes has {count} columns and the names {names}: give {count} different names")
    _refuse(~np.isfinite(table).all(axis=1), "attributes", "is not finite")


def _check_grid(codes: Codes) -> None:
    levels = codes.levels
    if not levels:
        raise ValueError("there is no grid without factors")
    if codes.n % prod(levels):
        raise ValueError(f"a grid of {levels} values has {prod(levels)} rows or a multiple of it, not {codes.n}")
    ranks = tuple((np.cumsum(np.bincount(column) > 0) - 1)[column] for column in codes.factors.T)
    places = np.arange(codes.n) % prod(levels)
    _refuse(np.ravel_multi_index(ranks, levels) != places, "factors", "is not in the grid's order")


def _check_alike(codes: Codes, test: Codes) -> None:
    for what in ("factor_names", "factor_sizes", "attribute_names", "latent_names"):
        if getattr(codes, what) != getattr(test, what):
            raise ValueError(f"test rows have other {what}: {getattr(test, what)}, not {getattr(codes, what)}")
    if codes.ordinal != test.ordinal:
        raise ValueError("either both tables are ordinal, or neither is: the test rows differ")
    if [p.shape[1] for p in codes.probs] != [p.shape[1] for p in test.probs]:
        raise ValueError("test rows have other numbers of classes")


def _tables(codes: Codes) -> Iterator[tuple[str, NDArray[np.floating]]]:
    yield "mean", codes.mean
    if codes.logvar is not None:
        yield "logvar", codes.logvar
    yield from ((f"probs[{j}]", p) for j, p in enumerate(codes.probs))


def _refuse(bad: ArrayLike, name: str, why: str) -> None:
    bad = np.asarray(bad)
    if bad.any():
        raise ValueError(f"{name}: row {int(bad.argmax())} {why} ({int(bad.sum())} such rows)")
