"""Joint entropy minus mutual information gap."""

from __future__ import annotations

from typing import Any

import numpy as np

from metrics._codes import Codes, NotApplicable, Rng, sample, varying
from metrics._information import discrete_latents, entropy, mutual_information_matrix, top_two_gap

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n_train": 2_000}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset({"jemmig_nats"})
ACROSS_RUNS = False


def jemmig(codes: Codes, rng: Rng, *, bins: int = 20, n_train: int = 10_000) -> dict[str, float | NotApplicable]:
    """Is each factor in one latent only (as `mig`), and is nothing else in that latent?

    For a factor: the joint entropy with its most informed latent, less the gap of information to the second best.
    `jemmig_nats` is its mean over factors: 0 if each factor is in one latent and that latent holds nothing else, lower
    is better. `jemmig` is 1 - its share of a bound, the factor's entropy + ln(number of bins), mean over factors, in
    [0, 1]. Continuous latents are cut into equal-width bins; a categorical latent is one nominal column, with ln of its
    number of classes in the bound, an ordinal one has its values for bins, with ln of how many occur. A single latent's
    runner-up counts 0; factors with one value are left out.

    Trap: a constant code, which holds nothing else either, has a `jemmig` of 0.55 on dSprites, above that of a rotation
    (0.23); noise has 0.11. `jemmig_joint` takes the share of the joint entropy itself, so that it is the gap over the
    joint entropy: 1 as before, 0 for a constant code and for noise. Means are binned here, posteriors in the authors'
    code and in `rmig`. Cost: milliseconds.

    Do and Tran, 2020, "Theory and evaluation metrics for learning disentangled representations".

    >>> factors = np.stack(np.divmod(np.arange(90), 3), axis=1) % 3
    >>> perfect = Codes(factors.astype(float), factors, ("a", "b"), (3, 3))
    >>> jemmig(perfect, np.random.default_rng(0))
    {'jemmig': 1.0, 'jemmig_nats': 0.0, 'jemmig_joint': 1.0}
    >>> both = Codes(factors @ np.array([[3.0], [1.0]]), factors, ("a", "b"), (3, 3))
    >>> round(jemmig(both, np.random.default_rng(0))["jemmig_joint"], 6)
    0.5
    """
    points = sample(codes, rng, n_train)
    factors, latents = points.factors[:, varying(points)], discrete_latents(points, bins)
    information = mutual_information_matrix(latents, factors)
    of_factors = np.array([entropy(column) for column in factors.T])
    of_latents = np.array([entropy(column) for column in latents.T])
    joint = of_latents[:, None] + of_factors - information
    # Of latents that know as much, to rounding, the one that holds least else; the order of latents must not matter.
    equal = information >= information.max(axis=0) - 1e-12
    rivals = np.where(equal, joint, np.inf)
    best, of_best = rivals.argmin(axis=0), rivals.min(axis=0)
    gaps, values = top_two_gap(information), [*bins_of(points, bins), *(p.shape[1] for p in points.probs)]
    nats = np.maximum(of_best - gaps, 0)
    return {
        "jemmig": float(np.mean(1 - nats / (of_factors + np.log(values)[best]))),
        "jemmig_nats": float(np.mean(nats)),
        "jemmig_joint": float(np.mean(np.minimum(gaps / of_best, 1))),
    }


def bins_of(codes: Codes, bins: int) -> list[int]:
    """How many values each continuous latent can have: the bins, and of an ordinal one those that occur."""
    return [len(np.unique(column)) if codes.ordinal else bins for column in codes.mean.T]
