"""Reconstruction error."""

from __future__ import annotations

from typing import Any

import numpy as np

from metrics._codes import Codes, NotApplicable, Rng

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}}
DEFAULT = True
LOWER_IS_BETTER = frozenset({"reconstruction"})
ACROSS_RUNS = False


def reconstruction(codes: Codes, rng: Rng) -> dict[str, float | NotApplicable]:
    """Reconstruction error in nats per image, mean over the images where it was measured; lower is better.

    Of images decoded from the posterior's means and most probable classes, not from draws: the sum with `kl` is not the
    evidence lower bound. The latents play no part. Not applicable where nothing was measured. Cost: none.

    Kingma and Welling, 2014, "Auto-encoding variational Bayes" (the first term of its bound).

    >>> codes = Codes(np.zeros((3, 1)), np.zeros((3, 0), int), (), (), recon=np.array([1.0, 3.0, np.nan]))
    >>> reconstruction(codes, np.random.default_rng(0))
    {'reconstruction': 2.0}
    """
    if codes.recon is None or np.isnan(codes.recon).all():
        raise NotApplicable("no reconstruction error was measured")
    return {"reconstruction": float(np.nanmean(codes.recon, dtype=float))}
