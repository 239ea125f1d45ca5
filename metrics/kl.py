"""Divergence of the posterior from the prior."""

from __future__ import annotations

from typing import Any

import numpy as np

from metrics._codes import Codes, NotApplicable, Rng
from metrics._information import kl_normal, kl_uniform

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
DESCRIPTIVE = frozenset({"kl_total", "kl_continuous", "kl_categorical"})
ACROSS_RUNS = False


def kl(codes: Codes, rng: Rng) -> dict[str, float | NotApplicable]:
    """KL(q(latents | x) || prior) in nats per image: `kl_continuous` against N(0, 1), `kl_categorical` against uniform.

    Sums over latents, means over all images; `kl_total` is their sum. 0: the code says nothing; a categorical latent
    with k classes says at most log k. It describes rather than ranks: more is neither better nor worse. A
    deterministic code has no continuous term, and so no total. Cost: none.

    Kingma and Welling, 2014, "Auto-encoding variational Bayes"; the categorical term as in Dupont, 2018, "Learning
    disentangled joint continuous and discrete representations".

    >>> codes = Codes(np.zeros((2, 3)), np.zeros((2, 0), int), (), (), logvar=np.zeros((2, 3)), probs=(np.eye(2),))
    >>> {key: round(nats, 4) for key, nats in kl(codes, np.random.default_rng(0)).items()}
    {'kl_total': 0.6931, 'kl_continuous': 0.0, 'kl_categorical': 0.6931}
    """
    deterministic = NotApplicable("the continuous code is deterministic")
    categorical: float | NotApplicable = NotApplicable("the codes have no categorical latent")
    if codes.probs:
        categorical = float(sum(kl_uniform(p) for p in codes.probs))
    if codes.mean.shape[1] == 0:
        return {
            "kl_total": categorical,
            "kl_continuous": NotApplicable("the codes have no continuous latent"),
            "kl_categorical": categorical,
        }
    if codes.logvar is None:
        return {"kl_total": deterministic, "kl_continuous": deterministic, "kl_categorical": categorical}
    continuous = float(np.sum(kl_normal(codes.mean, codes.logvar)))
    total = continuous + (categorical if isinstance(categorical, float) else 0.0)
    return {"kl_total": total, "kl_continuous": continuous, "kl_categorical": categorical}
