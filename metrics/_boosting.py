"""Gradient-boosted trees with exact splits, for many classes at once: scikit-learn's definition, sorted once.

The same model as scikit-learn's `GradientBoostingClassifier` with its defaults (Friedman, 2001, "Greedy function
approximation: a gradient boosting machine"): 100 rounds of one regression tree of depth 3 a class (one tree in all for
two classes), learning rate 0.1, log loss, float32 features, thresholds between values that differ by more than 1e-7.
What makes it fast: every column is sorted once instead of in every node of every tree, splits divide the orders, and
compiled code without the interpreter's lock lets factors be fitted in threads. Equally good splits of different columns
are chosen between at random, as in scikit-learn, but by other draws. A second form of these trees looks at bins instead
of points.

All compiled code is in this one file: numba forgets what it keeps when the file of a function changes, and not when
that of a function it calls does.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

ROUNDS, RATE, DEPTH = 100, 0.1, 3
NODES = 2 ** (DEPTH + 1) - 1
GAP = 1e-7
TINY = 1e-150
BINS = 64

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]


def boosted_trees(x: Floats, y: Ints, x_test: Floats, seed: int) -> tuple[NDArray[np.float64], Ints, Ints]:
    """Fit classes y (n,) of points x (n, d); returns importances (d,) that sum to 1 (or are all 0), and the classes
    predicted for x and for x_test. y must take two values or more."""
    classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    columns = np.ascontiguousarray(x.T, dtype=np.float32)
    order = np.argsort(columns, axis=1, kind="stable").astype(np.int32)
    start = _initial(counts / len(y))
    test = np.ascontiguousarray(x_test, dtype=np.float32)
    gains, raw, raw_test = _boost(columns, order, labels.astype(np.int32), start, test, np.uint64(seed))
    total = gains.sum()
    return gains / total if total > 0 else gains, classes[_predict(raw)], classes[_predict(raw_test)]


def _initial(prior: NDArray[np.float64]) -> NDArray[np.float64]:
    """(trees,) scores before the first round: the log odds, or the centred logarithms of the shares."""
    edge = np.finfo(np.float32).eps
    prior = np.clip(prior, edge, 1 - edge)
    if len(prior) == 2:
        return np.array([np.log(prior[1] / prior[0])])
    return np.log(prior) - np.log(prior).mean()


def _predict(raw: NDArray[np.float64]) -> Ints:
    return (raw[0] >= 0).astype(np.int64) if len(raw) == 1 else raw.argmax(axis=0)


@njit(cache=True, nogil=True)
def _boost(columns, order, y, start, x_test, seed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    d, n = columns.shape
    trees = len(start)
    raw, raw_test = np.empty((trees, n)), np.empty((trees, len(x_test)))
    for k in range(trees):
        raw[k], raw_test[k] = start[k], start[k]
    inverse = np.zeros(n + 1)
    inverse[1:] = 1 / np.arange(1, n + 1)
    gains = np.zeros((trees, d))
    grown = np.zeros(trees, np.int64)
    residual = np.empty((trees, n))
    scratch = np.empty((2, d, n), np.int32)
    for step in range(ROUNDS):
        _residuals(raw, y, residual)
        for k in range(trees):
            number = seed + np.uint64(step * trees + k)
            feature, threshold, leaf, gain = _grow(residual[k], columns, order, inverse, scratch, number)
            grown[k] += feature[0] >= 0
            gains[k] += gain
            value = _leaf_values(residual[k], leaf, y, k, trees)
            for i in range(n):
                raw[k, i] += RATE * value[leaf[i]]
            for i in range(len(x_test)):
                raw_test[k, i] += RATE * value[_leaf(x_test[i], feature, threshold)]
    return gains.sum(axis=0) / max(1, grown.sum()), raw, raw_test


@njit(cache=True, nogil=True)
def _residuals(raw, y, residual):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """What is left of each class's indicator: 1 or 0 minus its probability."""
    trees, n = raw.shape
    for i in range(n):
        if trees == 1:
            residual[0, i] = y[i] - 1 / (1 + np.exp(-raw[0, i]))
            continue
        top = raw[0, i]
        for k in range(1, trees):
            top = max(top, raw[k, i])
        total = 0.0
        for k in range(trees):
            residual[k, i] = np.exp(raw[k, i] - top)
            total += residual[k, i]
        for k in range(trees):
            residual[k, i] = (y[i] == k) - residual[k, i] / total


@njit(cache=True)
def _grow(r, columns, order, inverse, scratch, seed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """A tree of least squares on r: feature and threshold of its nodes (children of i are 2i+1 and 2i+2), the node in
    which each point ends, and how much each column lowered the squared error.

    The points of a node lie side by side in every column's order, which a split divides without disturbing it."""
    d, n = columns.shape
    feature, threshold, gain = np.full(NODES, -1), np.zeros(NODES), np.zeros(d)
    first, count = np.zeros(NODES, np.int64), np.zeros(NODES, np.int64)
    total, square = np.zeros(NODES), np.zeros(NODES)
    leaf, right = np.zeros(n, np.int16), np.zeros(n, np.uint8)
    count[0] = n
    for i in range(n):
        total[0] += r[i]
        square[0] += r[i] * r[i]
    for level in range(DEPTH):
        source, target = order if level == 0 else scratch[level % 2], scratch[(level + 1) % 2]
        for node in range(2**level - 1, 2 ** (level + 1) - 1):
            begin, end = first[node], first[node] + count[node]
            if not _impure(count[node], total[node], square[node]):
                continue
            best, best_feature = -np.inf, -1
            for f in range(d):
                ids = source[f, begin:end]
                q, place = _best_split(ids, columns[f], r, total[node], inverse)
                if q > best or (place > 0 and q == best and _hash(f, node, seed) > _hash(best_feature, node, seed)):
                    best, best_feature = q, f
                    low, high = np.float64(columns[f, ids[place - 1]]), np.float64(columns[f, ids[place]])
                    middle = low / 2 + high / 2
                    threshold[node] = middle if middle < high else low
            if best_feature < 0:
                continue
            feature[node] = best_feature
            gain[best_feature] += (best - total[node] * total[node] * inverse[count[node]]) / n
            for p in range(begin, end):
                i = source[0, p]
                right[i] = columns[best_feature, i] > threshold[node]
                child = 2 * node + 1 + right[i]
                leaf[i] = child
                count[child] += 1
                total[child] += r[i]
                square[child] += r[i] * r[i]
            first[2 * node + 1], first[2 * node + 2] = begin, begin + count[2 * node + 1]
            if level < DEPTH - 1:
                for f in range(d):
                    _divide(source[f, begin:end], right, count[2 * node + 1], target[f, begin:end])
    return feature, threshold, leaf, gain


@njit(cache=True)
def _impure(count, total, square):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Whether a node has a variance that is more than a rounding error."""
    return count > 1 and square / count - (total / count) ** 2 > 2.220446049250313e-16


@njit(cache=True)
def _best_split(ids, column, r, total, inverse):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Least squares: the largest sum of squared totals over sizes, and how many points then go left (0: no split)."""
    n = len(ids)
    best, place = -np.inf, 0
    left, last = r[ids[0]], np.float64(column[ids[0]])
    for p in range(1, n):
        i = ids[p]
        value = np.float64(column[i])
        if value > last + GAP:
            rest = total - left
            q = left * left * inverse[p] + rest * rest * inverse[n - p]
            if q > best:
                best, place = q, p
        left += r[i]
        last = value
    return best, place


@njit(cache=True)
def _divide(ids, right, n_left, target):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Points that go left first, both parts in their order; without branches, which would be guessed wrong."""
    to_left, to_right = np.int64(0), np.int64(n_left)
    for p in range(len(ids)):
        i = ids[p]
        side = np.int64(right[i])
        target[to_left + side * (to_right - to_left)] = i
        to_left += 1 - side
        to_right += side


@njit(cache=True)
def _hash(f, node, seed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """SplitMix64 of a tree's seed, a node and a column."""
    z = seed * np.uint64(0x9E3779B97F4A7C15) + np.uint64(f * NODES + node + 1) * np.uint64(0xD1342543DE82EF95)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True)
def _leaf_values(r, leaf, y, k, trees):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """One Newton step of the log loss in each leaf."""
    up, down = np.zeros(NODES), np.zeros(NODES)
    for i in range(len(r)):
        p = (y[i] if trees == 1 else y[i] == k) - r[i]
        up[leaf[i]] += r[i]
        down[leaf[i]] += p * (1 - p)
    scale = 1.0 if trees == 1 else (trees - 1) / trees
    for node in range(NODES):
        up[node] = 0.0 if abs(down[node]) < TINY else scale * up[node] / down[node]
    return up


@njit(cache=True)
def _leaf(point, feature, threshold):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    node = 0
    while feature[node] >= 0:
        node = 2 * node + 1 + (point[feature[node]] > threshold[node])
    return node


# The same trees on binned latents


def histogram_trees(x: Floats, y: Ints, x_test: Floats, seed: int) -> tuple[NDArray[np.float64], Ints, Ints]:
    """As `boosted_trees`, on binned latents.

    Every column is cut into at most 64 bins of about equally many points; a column with fewer values has a bin for
    each. A level of a tree needs one pass over the points, which adds up residuals by node and bin. An approximation:
    no split falls within a bin.

    >>> x = np.arange(40.0)[:, None]
    >>> importance, _, predicted = histogram_trees(x, np.arange(40) // 20, np.array([[3.5], [33.0]]), seed=0)
    >>> importance, predicted
    (array([1.]), array([0, 1]))
    """
    classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    bins, bins_test = binned(x, x_test)
    start = _initial(counts / len(y))
    gains, raw, raw_test = _boost_bins(bins, labels.astype(np.int32), start, bins_test, np.uint64(seed))
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
def _boost_bins(bins, y, start, bins_test, seed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    d, n = bins.shape
    trees = len(start)
    raw, raw_test = np.empty((trees, n)), np.empty((trees, bins_test.shape[1]))
    for k in range(trees):
        raw[k], raw_test[k] = start[k], start[k]
    gains, split, residual = np.zeros((trees, d)), np.zeros(trees, np.int64), np.empty((trees, n))
    for step in range(ROUNDS):
        _residuals(raw, y, residual)
        for k in range(trees):
            feature, threshold, leaf, gain = _grow_bins(residual[k], bins, seed + np.uint64(step * trees + k))
            split[k] += feature[0] >= 0
            gains[k] += gain
            value = _leaf_values(residual[k], leaf, y, k, trees)
            for i in range(n):
                raw[k, i] += RATE * value[leaf[i]]
            for i in range(bins_test.shape[1]):
                raw_test[k, i] += RATE * value[_leaf(bins_test[:, i], feature, threshold)]
    return gains.sum(axis=0) / max(1, split.sum()), raw, raw_test


@njit(cache=True)
def _grow_bins(r, bins, seed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
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
