"""Interventional robustness score."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from metrics._codes import Codes, NotApplicable, Rng, sample, varying
from metrics._information import Floats, Ints, discretise

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n_train": 2_000}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False
TRAP = "noise scores about 0.37 with few points a value; read irs_quantile beside it."


def irs(
    codes: Codes, rng: Rng, *, quantile: float = 0.99, bins: int | None = 20, n_train: int = 10_000
) -> dict[str, float | NotApplicable]:
    """Interventional robustness: once the right factor is known, how little do the others move a latent?

    For a latent and a factor: 1 - (quantile of the latent's distance from its mean where the factor has one value, mean
    over values) / (largest distance from its mean over all points). A latent scores with its best factor. `irs` is the
    mean over latents weighted by their largest distances, `irs_mean` the plain mean; at most 1. 1: a latent is a
    function of one factor; 0: no latent varies. Constant latents are left out. A factor with more values than `bins`
    is cut into equal-width bins as the study does (None: never), so a perfect code of dSprites has 0.986. For a
    categorical latent the mean is the most frequent class and a distance is 0 or 1, a mismatch.

    Traps: a quantile over a maximum leaves noise above 0 (0.37 at 10,000 points), and dead latents, which are noise,
    pull `irs_mean`, while `irs` depends on the latents' scales. It asks for robustness only: several latents may tell
    the same factor. `irs_quantile` takes the same quantile below the line: noise has 0.02. Means are summed row by row
    in the codes' own precision, as the study's code does: of codes in single precision, equal ones are not quite at
    their mean, and a function of one factor has up to 5e-5 less than 1. Cost: 0.01 s at 10,000 points.

    Suter, Miladinovic, Schölkopf and Bauer, 2019, "Robustly disentangled causal mechanisms: validating deep
    representations for interventional robustness"; protocol of Locatello et al., 2019, "Challenging common
    assumptions in the unsupervised learning of disentangled representations".

    >>> factors = np.stack(np.divmod(np.arange(90), 3), axis=1) % 3
    >>> perfect = Codes(factors.astype(float), factors, ("a", "b"), (3, 3))
    >>> irs(perfect, np.random.default_rng(0))
    {'irs': 1.0, 'irs_mean': 1.0, 'irs_quantile': 1.0}
    >>> constant = Codes(np.ones((90, 2)), factors, ("a", "b"), (3, 3))
    >>> irs(constant, np.random.default_rng(0))
    {'irs': 0.0, 'irs_mean': 0.0, 'irs_quantile': 0.0}
    """
    points = sample(codes, rng, n_train)
    factors = points.factors[:, varying(points)].astype(float)
    groups = discretise(factors, bins) if bins else factors.astype(np.int64)
    constant = (points.mean == points.mean[:1]).all(axis=0)
    latents = points.mean[:, ~constant], points.classes
    everywhere = distances(*latents)
    known = robust_distances(*latents, groups, quantile)
    largest, usual = everywhere.max(axis=1), _quantile(everywhere, quantile)
    matrix, weight = robustness(known, largest)
    matrix_quantile, weight_quantile = robustness(known, usual)
    score, score_quantile = matrix.max(axis=1), matrix_quantile.max(axis=1)
    return {
        "irs": _mean(score, weight),
        "irs_mean": _mean(score, np.ones_like(score)),
        "irs_quantile": max(0.0, _mean(score_quantile, weight_quantile)),
    }


def robust_distances(mean: Floats, classes: Ints, groups: Ints, quantile: float) -> Floats:
    """(latents, factors) quantiles of the distance from the mean of a factor's value, means over its values."""
    found = np.zeros((mean.shape[1] + classes.shape[1], groups.shape[1]))
    for j, column in enumerate(groups.T):
        order, ends = np.argsort(column, kind="stable"), np.cumsum(np.bincount(column))
        z, labels = mean[order], classes[order]
        parts = [slice(start, end) for start, end in pairwise([0, *ends]) if start < end]
        found[:, j] = np.mean([_quantile(distances(z[p], labels[p]), quantile) for p in parts], axis=0)
    return found


def robustness(known: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """1 - the share of the scale left once a factor is known, and the scale: both of the latents that vary."""
    varies = scale > 0
    return 1 - known[varies] / scale[varies, None], scale[varies]


def distances(mean: Floats, classes: Ints) -> Floats:
    """(latents, n) distances of (n, c) numbers from their means, of (n, k) classes from the most frequent: 0 or 1."""
    modes = np.array([np.bincount(labels).argmax() for labels in classes.T], dtype=np.int64)
    return np.concatenate([np.abs(mean - mean.mean(axis=0)).T, (classes != modes).T], axis=0, dtype=float)


def _quantile(values: Floats, quantile: float) -> Floats:
    """Quantiles of the rows, interpolated linearly."""
    last = values.shape[1] - 1
    low = int(quantile * last)
    ordered = np.partition(values, low, axis=1)
    here, above = ordered[:, low], ordered[:, min(low + 1, last) :].min(axis=1)
    return here + (quantile * last - low) * (above - here)


def _mean(values: Floats, weights: Floats) -> float:
    return float(np.average(values, weights=weights)) if len(values) else 0.0
