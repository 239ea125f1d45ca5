"""Mutual information gap of the latents."""

from __future__ import annotations

from typing import Any

import numpy as np

from metrics._codes import Codes, NotApplicable, Rng, sample, varying
from metrics._information import Floats, discrete_latents, entropy, mutual_information_matrix, top_two_gap

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n_train": 2_000}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False


def mig_sup(codes: Codes, rng: Rng, *, bins: int = 20, n_train: int = 10_000) -> dict[str, float | NotApplicable]:
    """Does a latent know about one factor only: the gap between the two factors that it knows best.

    The complement of `mig`, which asks whether a factor is in one latent only. `mig_sup` takes information as a share
    of the factor's entropy, as the paper; `mig_sup_code` as a share of the latent's own entropy, as a widely used
    implementation, so that anything else in the latent, noise too, costs. Both are means over latents, in [0, 1]. 1:
    every latent is one factor; 0: every latent knows two factors equally well, or none. A constant latent counts 0.
    Continuous latents are cut into equal-width bins; a categorical latent is one nominal column. Needs two factors
    with two values or more; others are left out.

    Traps: dead latents count 0, so a perfect code beside as many dead latents has half (`dcimig` has no such fault; the
    authors' code leaves out latents whose means vary by less than 0.01, which depends on the code's scale, and takes
    information from posteriors), and a code that holds each factor twice has 1. Cost: milliseconds.

    Li, Murkute, Gyawali and Wang, 2020, "Progressive learning and disentanglement of hierarchical representations".

    >>> factors = np.stack(np.divmod(np.arange(90), 3), axis=1) % 3
    >>> perfect = Codes(factors.astype(float), factors, ("a", "b"), (3, 3))
    >>> mig_sup(perfect, np.random.default_rng(0))
    {'mig_sup': 1.0, 'mig_sup_code': 1.0}
    >>> both = Codes(factors @ np.array([[3.0], [1.0]]), factors, ("a", "b"), (3, 3))
    >>> mig_sup(both, np.random.default_rng(0))["mig_sup"]
    0.0
    """
    points = sample(codes, rng, n_train)
    factors = points.factors[:, varying(points, at_least=2)]
    latents = discrete_latents(points, bins)
    information = mutual_information_matrix(latents, factors)
    of_factors, of_latents = _entropies(factors), _entropies(latents)
    gaps = top_two_gap((information / of_factors).T)
    gaps_code = top_two_gap((information / np.where(of_latents > 0, of_latents, 1)[:, None]).T)
    return {"mig_sup": float(np.mean(gaps)), "mig_sup_code": float(np.mean(gaps_code))}


def _entropies(columns: np.ndarray) -> Floats:
    return np.array([entropy(column) for column in columns.T])
