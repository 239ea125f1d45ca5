"""Gradient-boosted trees on binned latents: the trees of `_boosting`, which look at bins instead of points.

Every column is cut into at most 64 bins of about equally many points; a column with fewer values has a bin for each. A
level of a tree needs one pass over the points, which adds up residuals by node and bin. An approximation: no split
falls within a bin.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from metrics._boosting import DEPTH, NODES, RATE, ROUNDS, _hash, _initial, _leaf, _leaf_values, _predict, _residuals

BINS = 64

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


def histogram_trees(x: Floats, y: Ints, x_test: Floats, seed: int) -> tuple[NDArray[np.float64], Ints, Ints]:
    """As `boosted_trees`: importances (d,) that sum to 1 (or are all 0), and the classes predicted for x and x_test.

    >>> x = np.arange(40.0)[:, None]
    >>> importance, _, predicted = histogram_trees(x, np.arange(40) // 20, np.array([[3.5], [33.0]]), seed=0)
    >>> importance, predicted
    (array([1.]), array([0, 1]))
    """
    classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    bins, bins_test = binned(x, x_test)
    start = _initial(counts / len(y))
    gains, raw, raw_test = _boost(bins, labels.astype(np.int32), start, bins_test, np.uint64(seed))
    total = gains.sum()
    return gains / total if total > 0 else gains, classes[_predict(raw)], classes[_predict(raw_test)]


def binned(x: Floats, x_test: Floats) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(d, n) and (d, n_test) bin numbers; the edges are those of x."""
    numbers = np.empty(x.T.shape, np.uint8), np.empty(x_test.T.shape, np.uint8)
    for j, column in enumerate(x.T.astype(float)):
        values = np.unique(column)
        many = len(values) > BINS
        edges = np.quantile(column, np.arange(1, BINS) / BINS) if many else (values[1:] + values[:-1]) / 2
        for to, of in zip(numbers, (x, x_test), strict=True):
            to[j] = np.searchsorted(edges, of[:, j], side="right")
    return numbers


@njit(cache=True, nogil=True)
def _boost(bins, y, start, bins_test, seed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    d, n = bins.shape
    trees = len(start)
    raw, raw_test = np.empty((trees, n)), np.empty((trees, bins_test.shape[1]))
    for k in range(trees):
        raw[k], raw_test[k] = start[k], start[k]
    gains, split, residual = np.zeros((trees, d)), np.zeros(trees, np.int64), np.empty((trees, n))
    for step in range(ROUNDS):
        _residuals(raw, y, residual)
        for k in range(trees):
            feature, threshold, leaf, gain = _grow(residual[k], bins, seed + np.uint64(step * trees + k))
            split[k] += feature[0] >= 0
            gains[k] += gain
            value = _leaf_values(residual[k], leaf, y, k, trees)
            for i in range(n):
                raw[k, i] += RATE * value[leaf[i]]
            for i in range(bins_test.shape[1]):
                raw_test[k, i] += RATE * value[_leaf(bins_test[:, i], feature, threshold)]
    return gains.sum(axis=0) / max(1, split.sum()), raw, raw_test


@njit(cache=True)
def _grow(r, bins, seed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """A tree of least squares on r: feature and threshold (a bin) of its nodes (children of i are 2i+1 and 2i+2), the
    node in which each point ends, and how much each column lowered the squared error."""
    d, n = bins.shape
    feature, threshold = np.full(NODES, -1), np.zeros(NODES)
    leaf, gain = np.zeros(n, np.int16), np.zeros(d)
    best, count, total, sums = np.empty(NODES), np.empty(NODES), np.empty(NODES), np.empty((NODES, BINS, 2))
    for level in range(DEPTH):
        first, end = 2**level - 1, 2 ** (level + 1) - 1
        best[:] = -np.inf
        for f in range(d):
            sums[first:end] = 0.0
            for i in range(n):
                cell = sums[leaf[i], bins[f, i]]
                cell[0] += 1.0
                cell[1] += r[i]
            for node in range(first, end):
                if f == 0:
                    count[node], total[node] = sums[node, :, 0].sum(), sums[node, :, 1].sum()
                left_count, left = 0.0, 0.0
                for b in range(BINS - 1):
                    if sums[node, b, 0] == 0:
                        continue
                    left_count += sums[node, b, 0]
                    left += sums[node, b, 1]
                    if left_count == count[node]:
                        break
                    rest = total[node] - left
                    q = left * left / left_count + rest * rest / (count[node] - left_count)
                    tie = q == best[node] and f != feature[node]
                    if q > best[node] or (tie and _hash(f, node, seed) > _hash(feature[node], node, seed)):
                        best[node], feature[node], threshold[node] = q, f, b
        for node in range(first, end):
            if feature[node] >= 0:
                gain[feature[node]] += max(0.0, best[node] - total[node] ** 2 / count[node]) / n
        for i in range(n):
            node = leaf[i]
            if feature[node] >= 0:
                leaf[i] = 2 * node + 1 + (bins[feature[node], i] > threshold[node])
    return feature, threshold, leaf, gain
