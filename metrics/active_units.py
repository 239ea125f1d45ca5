"""Number of latents in use."""

from __future__ import annotations

from typing import Any

import numpy as np

from metrics._codes import Codes, NotApplicable, Rng

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
DESCRIPTIVE = frozenset({"active_units", "active_units_continuous", "active_units_categorical"})
ACROSS_RUNS = False


def active_units(codes: Codes, rng: Rng, *, threshold: float = 0.01) -> dict[str, float | NotApplicable]:
    """How many latents change with the image: the variance over images of the posterior mean is above a threshold.

    `active_units` counts all latents, `_continuous` and `_categorical` each kind; 0 for a constant code, at most the
    number of latents. This is the definition by variance, not by divergence: a latent may have KL > 0 and be inactive
    (a mean that is constant but not 0). A categorical latent's posterior mean is its vector of probabilities, and its
    variance the sum over the classes. All images count. It describes rather than ranks.

    Trap: it depends on the latents' scale, which the prior sets in a variational model and nothing else. Cost: none.

    Burda, Grosse and Salakhutdinov, 2016, "Importance weighted autoencoders".

    >>> codes = Codes(np.array([[0.0, 1.0], [0.0, -1.0]]), np.zeros((2, 0), int), (), ())
    >>> active_units(codes, np.random.default_rng(0))["active_units"]
    1.0
    """
    continuous = int(np.count_nonzero([np.var(z, dtype=float) > threshold for z in codes.mean.T]))
    categorical = sum(bool(p.var(axis=0, dtype=float).sum() > threshold) for p in codes.probs)
    return {
        "active_units": float(continuous + categorical),
        "active_units_continuous": float(continuous),
        "active_units_categorical": float(categorical),
    }
