"""beta-VAE's score."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from metrics._codes import Codes, NotApplicable, Rng, varying
from metrics._information import Floats, Ints
from metrics._learning import fitted, legacy
from metrics._votes import pairs

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n_train": 2_000, "n_test": 1_000}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False
TRAP = "votes of 64 pairs saturate: a random rotation of the factors gets 0.99; read betavae_score_batch8 beside it."


def betavae_score(
    codes: Codes, rng: Rng, *, batches: tuple[int, ...] = (64, 8), n_train: int = 10_000, n_test: int = 5_000
) -> dict[str, float | NotApplicable]:
    """beta-VAE's score: can a linear classifier tell which factor two images share from how their codes differ?

    A point: the mean absolute difference of the codes of a batch of pairs that agree in a random factor; a logistic
    regression names the factor. Its accuracy on new points, in [0, 1]; chance (noise, a constant code) is 1 / number of
    factors. `_train` is the accuracy on the points fitted, `_batch8` that of batches of 8 pairs.
    A categorical latent's difference is 0 or 1: the same class or another. On rows that are no grid, the second
    image of a pair is drawn from the rows with the first one's value. Needs two factors.

    Trap: batches of 64 saturate: 1.0 for a noisy code (signal to noise 4) and 0.99 for a random rotation, which is
    entangled; `_batch8` tells them apart. A RandomState gives the reference implementation's own draws on a grid, a
    Generator other ones of the same distribution. Cost: 1 s with a Generator, 3 s with a RandomState.

    Higgins et al., 2017, "beta-VAE: learning basic visual concepts with a constrained variational framework";
    protocol of Locatello et al., 2019.

    >>> factors = np.stack(np.divmod(np.arange(16), 4), axis=1)
    >>> perfect = Codes(factors.astype(float), factors, ("a", "b"), (4, 4), grid=True)
    >>> betavae_score(perfect, np.random.default_rng(0), batches=(64,), n_train=500, n_test=100)["betavae_score"]
    1.0
    """
    factors = varying(codes, at_least=2)
    scores: dict[str, float | NotApplicable] = {}
    for batch in batches:
        held, *rows = pairs(codes, rng, factors, n_train, batch)
        x = differences(codes, *rows)
        model = fitted(LogisticRegression(random_state=legacy(rng)), x, held)
        new_held, *rows = pairs(codes, rng, factors, n_test, batch)
        size = "_batch8" if batch == 8 else ""
        scores[f"betavae_score{size}"] = float(np.mean(model.predict(differences(codes, *rows)) == new_held))
        scores[f"betavae_score_train{size}"] = float(np.mean(model.predict(x) == held))
    return scores


def differences(codes: Codes, first: Ints, second: Ints) -> Floats:
    """(v, latents) mean absolute difference of (v, batch) pairs of rows."""
    n_parts = max(1, first.size // 2**17)
    parts = zip(np.array_split(first, n_parts), np.array_split(second, n_parts), strict=True)
    continuous = np.concatenate([np.abs(codes.mean[a] - codes.mean[b]).mean(axis=1) for a, b in parts])
    mismatches = [(labels[first] != labels[second]).mean(axis=1)[:, None] for labels in codes.classes.T]
    return np.concatenate([continuous.astype(float), *mismatches], axis=1)
