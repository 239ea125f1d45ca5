"""InfoModularity, InfoCompactness and InfoExplicitness."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import digamma
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler, scale

from metrics._codes import Codes, NotApplicable, Rng, sample, varying
from metrics._information import (
    Floats,
    Ints,
    contingency,
    discrete_latents,
    entropy,
    mutual_information,
    mutual_information_matrix,
)
from metrics._learning import fitted, standardised_features

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n_train": 2_000}}
DEFAULT = False
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False
TRAP = "quantised codes have another estimator than continuous ones: compare them with each other only."


def infomec(
    codes: Codes, rng: Rng, *, n_neighbors: int = 10, n_train: int = 10_000
) -> dict[str, float | NotApplicable]:
    """Does a latent know one factor only, is a factor in one latent only, and is it linearly readable?

    From the mutual information of latents and factors as a share of the factor's entropy, of continuous latents by
    nearest neighbours (no bins): `infomec_modularity` is the largest share of a latent's sum over factors, mean over
    latents, and `infomec_compactness` that of a factor's sum over latents, mean over factors, both rescaled so that
    evenly spread information is 0 and one entry alone is 1. What knows nothing counts 0. `infomec_explicitness`: how
    much of the log number of a factor's values an unpenalised, balanced logistic regression on all latents explains, on
    the points fitted, mean over factors; 1: linearly readable without doubt, 0: not at all. Only continuous latents
    count whose range is above a twentieth of the largest; no latent (a constant code): 0. Categorical latents count
    where two classes occur, as one nominal column with their plain mutual information, one-hot in the regression.
    Ordinal latents are treated like categorical ones, as the authors do with their quantised codes. Modularity needs
    two factors, compactness two active latents. Factors with one value are left out.

    Traps: modularity and compactness are ratios, of estimation errors where there is no information: independent codes
    have a compactness of 0.3 (and no modularity at all in the authors' code). Where values repeat, neighbours are told
    apart by jitter of 1e-10, from rng, a draw of n for each factor and latent. Rows that repeat let the neighbours see
    memorised noise. Explicitness is measured on the points fitted, so many latents on few points look explicit.
    Cost: 1 s at 10,000 points, nearly all of it the regression.

    Hsu, Dorrell, Whittington, Wu and Finn, 2023, "Disentanglement via latent quantization"; estimator of Ross, 2014,
    "Mutual information between discrete and continuous data sets".

    >>> factors = np.random.default_rng(0).integers(3, size=(500, 2))
    >>> perfect = Codes(factors.astype(float), factors, ("a", "b"), (3, 3))
    >>> [round(v, 1) for v in infomec(perfect, np.random.default_rng(0)).values()]
    [1.0, 1.0, 1.0]
    """
    points = sample(codes, rng, n_train)
    factors = points.factors[:, varying(points)]
    shares = information_shares(points, factors, rng, n_neighbors)[active_latents(points)]
    return {
        "infomec_modularity": concentration(shares, "needs two factors that vary"),
        "infomec_compactness": concentration(shares.T, "needs two active latents"),
        "infomec_explicitness": explicitness(points, factors),
    }


def active_latents(codes: Codes) -> Ints:
    """Numbers of the continuous latents whose range is above 1/20 of the largest, and of others that vary."""
    ranges = np.ptp(codes.mean, axis=0)
    wide = ranges > (0 if codes.ordinal else ranges.max(initial=0) / 20)
    active = np.concatenate([wide, np.ptp(codes.classes, axis=0) > 0])
    return np.flatnonzero(active)


def concentration(rows: Floats, too_narrow: str) -> float | NotApplicable:
    """Mean over rows of the largest entry's share of the row, rescaled from 1/width..1 to 0..1; of zeros 0.

    >>> concentration(np.array([[2.0, 0.0], [1.0, 1.0]]), "")
    0.5
    """
    n, width = rows.shape
    if n == 0 or width == 0:
        return 0.0
    if width == 1:
        return NotApplicable(too_narrow)
    total = rows.sum(axis=1)
    largest = np.where(total > 0, rows.max(axis=1) / np.where(total > 0, total, 1), 1 / width)
    return float((largest.mean() - 1 / width) / (1 - 1 / width))


def information_shares(codes: Codes, factors: Ints, rng: Rng, n_neighbors: int) -> Floats:
    """(latents, factors) mutual information over the factor's entropy; latents that are not active have 0."""
    active, c = set(active_latents(codes).tolist()), codes.mean.shape[1]
    if codes.ordinal:
        information = mutual_information_matrix(discrete_latents(codes), factors)
        return information / np.array([entropy(y) for y in factors.T])
    scaled = [scale(column, with_mean=False) for column in StandardScaler().fit_transform(codes.mean).T] if c else []
    shares = np.zeros((len(codes.latent_names), factors.shape[1]))
    for j, y in enumerate(factors.T):
        for i in range(c):
            # Drawn for every latent, so that the draws do not hang on which are active.
            jitter = rng.standard_normal(codes.n)
            if i in active:
                x = scaled[i].astype(float)
                size = 1e-10 * max(1.0, float(np.abs(x).mean()))
                shares[i, j] = neighbour_information(x + size * jitter, y, n_neighbors)
        for i, labels in enumerate(codes.classes.T):
            shares[c + i, j] = mutual_information(contingency(labels, y))
        shares[:, j] /= entropy(y)
    return shares


def neighbour_information(x: Floats, y: Ints, k: int) -> float:
    """Mutual information, in nats, of (n,) numbers and (n,) labels, from the k nearest neighbours of the same label.

    Labels that occur once say nothing and are left out; a negative estimate is 0.

    >>> y = np.arange(400) % 2
    >>> round(neighbour_information(10 * y + np.sin(np.arange(400)), y, 10), 2)
    0.69
    """
    order = np.argsort(x)
    x, y = x[order], y[order].astype(np.int64)
    repeated = np.bincount(y)[y] > 1
    x, y = x[repeated], y[repeated]
    if not len(x):
        return 0.0
    counts = np.bincount(y)[y]
    radius = np.empty(len(x))
    for value in np.unique(y):
        rows = np.flatnonzero(y == value)
        radius[rows] = kth_distances(x[rows], min(k, len(rows) - 1))
    inside = count_within(x, np.nextafter(radius, 0))
    used = np.minimum(k, counts - 1)
    return max(0.0, float(digamma(len(x)) + np.mean(digamma(used) - digamma(counts) - digamma(inside))))


def kth_distances(x: Floats, k: int) -> Floats:
    """(n,) distance of each of n sorted numbers to its k-th nearest neighbour.

    >>> kth_distances(np.array([0.0, 1.0, 3.0]), 1)
    array([1., 1., 2.])
    """
    # The neighbours and the number itself are k + 1 in a row: the narrowest such window on its wider side.
    windows, distance = len(x) - k, np.full(len(x), np.inf)
    for place in range(k + 1):
        inside = slice(place, place + windows)
        wider = np.maximum(x[inside] - x[:windows], x[k:] - x[inside])
        distance[inside] = np.minimum(distance[inside], wider)
    return distance


def count_within(x: Floats, radius: Floats) -> Ints:
    """(n,) how many of n sorted numbers are within each one's radius, itself included.

    >>> count_within(np.array([0.0, 1.0, 3.0]), np.array([1.0, 0.5, 5.0]))
    array([2, 1, 3])
    """
    return _after(x, radius) + _after(-x[::-1], radius[::-1])[::-1] + 1


def _after(x: Floats, radius: Floats) -> Ints:
    """(n,) how many of the sorted numbers after each one are within its radius."""
    own = np.arange(len(x))
    last = np.searchsorted(x, x + radius, side="right") - 1
    # The sum is rounded, the difference of near numbers is not: it decides.
    while (over := (x[last] - x > radius)).any():
        last = last - over
    while (under := (last + 1 < len(x)) & (x[np.minimum(last + 1, len(x) - 1)] - x <= radius)).any():
        last = last + under
    return last - own


def explicitness(codes: Codes, factors: Ints) -> float:
    """Mean over factors of 1 - the log loss of a logistic regression over that of a uniform guess."""
    x = one_hot(codes) if codes.ordinal else standardised_features(codes, codes)[0]
    explained = []
    for y in factors.T:
        model = fitted(LogisticRegression(C=np.inf, class_weight="balanced"), x, y)
        explained.append(1 - log_loss(y, model.predict_proba(x)) / np.log(len(model.classes_)))
    return max(0.0, float(np.mean(explained)))


def one_hot(codes: Codes) -> Floats:
    """(n, w) columns of 0 and 1, one for every value that a latent takes."""
    numbers = discrete_latents(codes)
    return np.concatenate([np.eye(int(column.max()) + 1)[column] for column in numbers.T], axis=1)
