"""Information measures of discrete tables, in nats, and of the posteriors of a model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import xlogy

from metrics._codes import Codes

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


def discretise(values: Floats, bins: int = 20) -> Ints:
    """(n, c) bin numbers 0..bins-1 of equal-width bins between each column's extremes.

    The edges are those of `np.histogram` in the values' own precision, and a value on an edge falls in the bin above
    it, as in the study. A constant column is one bin, also where the range is too narrow for `bins` different edges.

    >>> discretise(np.array([[0.0], [0.5], [1.0]]), bins=2).ravel()
    array([0, 1, 1])
    """
    columns = [np.searchsorted(_edges(column, bins)[:-1], column, side="right") - 1 for column in values.T]
    return np.stack(columns, axis=1) if columns else np.zeros(values.shape, dtype=np.int64)


def _edges(column: Floats, bins: int) -> Floats:
    low, high = column.min(), column.max()
    if low == high:
        return np.array([low, high])
    return np.linspace(low, high, bins + 1, dtype=column.dtype)


def discrete_latents(codes: Codes, bins: int = 20) -> Ints:
    """(n, c + k) bin numbers of the continuous latents, then the classes of the categorical ones as they are.

    The bins of an ordinal latent are its values in their order, however many, wherever they lie.
    """
    numbers = ranks(codes.mean) if codes.ordinal else discretise(codes.mean, bins)
    return np.concatenate([numbers, codes.classes], axis=1)


def ranks(values: Floats) -> Ints:
    """(n, c) numbers from 0 of each column's different values, in their order.

    >>> ranks(np.array([[0.5], [-1.0], [0.5], [9.0]])).ravel()
    array([1, 0, 1, 2])
    """
    columns = [np.unique(column, return_inverse=True)[1] for column in values.T]
    return np.stack(columns, axis=1) if columns else np.zeros(values.shape, dtype=np.int64)


def contingency(x: Ints, y: Ints) -> Ints:
    """(max x + 1, max y + 1) counts of the pairs in two columns of non-negative integers."""
    n_x, n_y = int(x.max()) + 1, int(y.max()) + 1
    return np.bincount(x.astype(np.int64) * n_y + y, minlength=n_x * n_y).reshape(n_x, n_y)


def mutual_information(table: Ints) -> float:
    """Mutual information of a contingency table; exactly 0 where one side is constant."""
    i, j = np.nonzero(table)
    count, n = table[i, j].astype(float), float(table.sum())
    # The ratio of products of counts is exactly 1 for a constant side, which the logarithm of fractions would miss.
    ratio = count * n / (table.sum(axis=1, dtype=float)[i] * table.sum(axis=0, dtype=float)[j])
    return max(0.0, float(count @ np.log(ratio)) / n)


def mutual_information_matrix(x: Ints, y: Ints) -> Floats:
    """(columns of x, columns of y) mutual information of every pair of columns."""
    values = [[mutual_information(contingency(a, b)) for b in y.T] for a in x.T]
    return np.array(values).reshape(x.shape[1], y.shape[1])


def entropy(column: Ints) -> float:
    """Entropy of one column of non-negative integers."""
    return mutual_information(np.diag(np.bincount(column)))


def top_two_gap(matrix: Floats) -> Floats:
    """(f,) difference of the two largest entries of each column of a (latents, f) table; a lone entry itself."""
    ordered = np.sort(np.concatenate([np.zeros((1, matrix.shape[1])), matrix]) if len(matrix) == 1 else matrix, axis=0)
    return ordered[-1] - ordered[-2]


def partition_scores(table: Ints) -> dict[str, float]:
    """How well clusters (rows) agree with classes (columns) of a contingency table.

    "" is the accuracy under the best one-to-one matching, "_many_to_one" with each cluster named by its majority,
    "_nmi" mutual information over the mean of the two entropies (0 where either side is one group, 1 where both are),
    "_ari" the Rand index adjusted for chance (Hubert and Arabie, 1985, "Comparing partitions"), "_used" the clusters
    not empty.

    >>> partition_scores(np.array([[0, 5], [5, 0]]))
    {'': 1.0, '_many_to_one': 1.0, '_nmi': 1.0, '_ari': 1.0, '_used': 2.0}
    """
    n = int(table.sum())
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    mean_entropy = sum(-float(xlogy(p, p).sum()) for p in (rows / n, columns / n)) / 2
    together, by_row, by_column = (float((m * (m - 1.0)).sum()) / 2 for m in (table, rows, columns))
    expected, most = by_row * by_column / max(n * (n - 1) / 2, 1), (by_row + by_column) / 2
    return {
        "": float(matched / n),
        "_many_to_one": float(table.max(axis=1).sum() / n),
        "_nmi": min(1.0, mutual_information(table) / mean_entropy) if mean_entropy > 0 else 1.0,
        "_ari": (together - expected) / (most - expected) if most > expected else 1.0,
        "_used": float(np.count_nonzero(rows)),
    }


def kl_normal(mean: Floats, logvar: Floats) -> Floats:
    """(c,) mean over images of KL(q(z_i | x) || N(0, 1))."""
    return (0.5 * (mean.astype(float) ** 2 + np.exp(logvar.astype(float)) - logvar - 1)).mean(axis=0)


def kl_uniform(probs: Floats) -> float:
    """Mean over images of KL(q(c | x) || uniform)."""
    p = probs.astype(float)
    return float(xlogy(p, p).sum(axis=1).mean() + np.log(p.shape[1]))
