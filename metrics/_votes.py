"""Batches of images that share one factor's value, for the metrics that vote."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrics._codes import Codes, NotApplicable, Rng, draw_factors, grid_rows, integers

Ints = NDArray[np.integer]


def groups(codes: Codes, rng: Rng, factors: list[int], n_votes: int, batch: int) -> tuple[Ints, Ints]:
    """(v,) numbers into `factors` and (v, batch) rows: in each batch that factor is held at a random row's value."""
    if not codes.grid:
        return _from_rows(codes, rng, factors, n_votes, batch, anchors=1)[::2]
    held, (drawn,) = _from_grid(codes, rng, factors, n_votes, batch, sets=1)
    votes, factor = np.arange(n_votes), np.asarray(factors)[held]
    drawn[factor, votes] = drawn[factor, votes, :1]
    return held, grid_rows(codes, rng, drawn)


def pairs(codes: Codes, rng: Rng, factors: list[int], n_votes: int, batch: int) -> tuple[Ints, Ints, Ints]:
    """(v,) numbers into `factors` and twice (v, batch) rows: the two rows of a pair agree in that factor."""
    if not codes.grid:
        return _from_rows(codes, rng, factors, n_votes, batch, anchors=batch)
    held, (first, second) = _from_grid(codes, rng, factors, n_votes, batch, sets=2)
    votes, factor = np.arange(n_votes), np.asarray(factors)[held]
    second[factor, votes] = first[factor, votes]
    return held, grid_rows(codes, rng, first), grid_rows(codes, rng, second)


def any_rows(codes: Codes, rng: Rng, n: int) -> Ints:
    """(n,) rows drawn with replacement; on a grid factor by factor, in the study's order of draws."""
    return grid_rows(codes, rng, draw_factors(rng, codes.levels, n)) if codes.grid else integers(rng, codes.n, n)


def _from_grid(
    codes: Codes, rng: Rng, factors: list[int], n_votes: int, batch: int, sets: int
) -> tuple[Ints, list[Ints]]:
    """(v,) factors to hold, and `sets` times (f, v, batch) factor values."""
    levels = codes.levels
    if not isinstance(rng, np.random.RandomState):
        return integers(rng, len(factors), n_votes), [draw_factors(rng, levels, (n_votes, batch)) for _ in range(sets)]
    # The reference implementation's order of draws, vote by vote, so that its scores can be met exactly.
    held, drawn = np.empty(n_votes, np.int64), np.empty((sets, len(levels), n_votes, batch), np.int64)
    for vote in range(n_votes):
        held[vote] = rng.randint(len(factors))
        for one in drawn:
            for j, size in enumerate(levels):
                one[j, vote] = rng.randint(size, size=batch)
    return held, list(drawn)


def _from_rows(
    codes: Codes, rng: Rng, factors: list[int], n_votes: int, batch: int, anchors: int
) -> tuple[Ints, Ints, Ints]:
    """(v,) factors to hold, (v, anchors) rows at random, (v, batch) rows that agree with them in the held factor."""
    held = integers(rng, len(factors), n_votes)
    first, second = np.empty((n_votes, anchors), np.int64), np.empty((n_votes, batch), np.int64)
    for number, factor in enumerate(factors):
        column, votes = codes.factors[:, factor], np.flatnonzero(held == number)
        order, counts = np.argsort(column, kind="stable"), np.bincount(column)
        starts = np.cumsum(counts) - counts
        # A value that one image has makes a batch without any variance.
        usable = np.flatnonzero(counts[column] > 1)
        if not len(usable):
            raise NotApplicable(f"no two images share a value of factor {codes.factor_names[factor]!r}")
        first[votes] = usable[integers(rng, len(usable), (len(votes), anchors))]
        value = column[first[votes]]
        second[votes] = order[starts[value] + (rng.random((len(votes), batch)) * counts[value]).astype(np.int64)]
    return held, first, second
