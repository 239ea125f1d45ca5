"""The mutual information gap of latents and factors at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from metrics._codes import Codes, NotApplicable, Rng, sample, varying
from metrics._information import Floats, discrete_latents, entropy, mutual_information_matrix, top_two_gap

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n_train": 2_000}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False


def dcimig(codes: Codes, rng: Rng, *, bins: int = 20, n_train: int = 10_000) -> dict[str, float | NotApplicable]:
    """How much of the factors' entropy is in latents that know one factor only.

    A latent stands for the factor that it knows best, with the gap to the second best; a factor takes the largest gap
    of its latents. `dcimig` is the sum over factors as a share of the sum of their entropies, in [0, 1]. 1: each factor
    has a latent that is that factor and nothing else; 0: every latent knows two factors equally well, or none. Dead
    and repeated latents neither cost nor help. Continuous latents are cut into equal-width bins; a categorical latent
    is one nominal column. Needs two factors with two values or more; others are left out.

    Traps: the study's 20 bins cannot hold 32 or 40 values, so a perfect code of dSprites has 0.86; factors of many
    values weigh more. Cost: milliseconds.

    Sepliarskaia, Kiseleva and de Rijke, 2019, "How to not measure disentanglement".

    >>> factors = np.stack(np.divmod(np.arange(90), 3), axis=1) % 3
    >>> twice = Codes(np.tile(factors, 2).astype(float), factors, ("a", "b"), (3, 3))
    >>> dcimig(twice, np.random.default_rng(0))
    {'dcimig': 1.0}
    >>> first = Codes(factors[:, :1].astype(float), factors, ("a", "b"), (3, 3))
    >>> dcimig(first, np.random.default_rng(0))
    {'dcimig': 0.5}
    """
    points = sample(codes, rng, n_train)
    factors = points.factors[:, varying(points, at_least=2)]
    information = mutual_information_matrix(discrete_latents(points, bins), factors)
    total = sum(entropy(column) for column in factors.T)
    return {"dcimig": float(best_gaps(information).sum() / total)}


def best_gaps(information: Floats) -> Floats:
    """(factors,) largest gap, between its two best factors, of the latents (rows) that know the factor best."""
    best = np.zeros(information.shape[1])
    np.maximum.at(best, information.argmax(axis=1), top_two_gap(information.T))
    return best
