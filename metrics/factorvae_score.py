"""FactorVAE's score."""

from __future__ import annotations

from typing import Any

import numpy as np

from metrics._codes import Codes, NotApplicable, Rng, varying
from metrics._information import Floats, Ints
from metrics._votes import any_rows, groups

PROTOCOLS: dict[str, dict[str, Any]] = {
    "study": {},
    "quick": {"n_train": 2_000, "n_test": 1_000, "n_variance": 5_000},
    "kim": {"batches": (100,), "n_train": 800, "n_test": 800, "both": True},
}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False
TRAP = (
    "votes of 64 images saturate; chance is 1 / number of factors; all latents below a standard deviation of 0.05 "
    "give 0; read factorvae_score_batch8 beside it."
)


def factorvae_score(
    codes: Codes,
    rng: Rng,
    *,
    batches: tuple[int, ...] = (64, 8),
    n_train: int = 10_000,
    n_test: int = 5_000,
    n_variance: int = 10_000,
    threshold: float = 0.05,
    both: bool = False,
) -> dict[str, float | NotApplicable]:
    """FactorVAE's score: is the latent that varies least while one factor is held still a sign of that factor?

    A vote: hold a random factor, and take the latent whose variance in the batch is smallest beside its variance over
    all images. A majority vote names the factor of each latent; the score is its accuracy on new votes, in [0, 1]. 1:
    every factor stills a latent of its own; noise has 1 / number of factors. `_train` is the accuracy on the votes
    that named the factors (what several papers' code reports), `_batch8` that of votes of 8 images: votes of 64
    saturate. Protocol "kim" reports `_train` and `_test`, since papers differ in which of the two they mean. A
    nominal column's variance is Gini's impurity. On rows that are no grid, a batch is drawn from the rows that share
    a random row's value. Needs two factors.

    Traps: latents with a standard deviation under 0.05 do not vote, and where none is left the score is 0, not
    chance: a perfect code times 0.03 scores 0, and so does a constant code. Ties go to the first latent. A
    RandomState gives the reference implementation's own draws on a grid, a Generator other ones of the same
    distribution. Cost: 0.5 s with a Generator, 2 s with a RandomState.

    Kim and Mnih, 2018, "Disentangling by factorising"; protocol "study" of Locatello et al., 2019.

    >>> factors = np.stack(np.divmod(np.arange(16), 4), axis=1)
    >>> perfect = Codes(factors.astype(float), factors, ("a", "b"), (4, 4), grid=True)
    >>> factorvae_score(perfect, np.random.default_rng(0), batches=(64,))
    {'factorvae_score': 1.0, 'factorvae_score_train': 1.0}
    """
    factors = varying(codes, at_least=2)
    scores: dict[str, float | NotApplicable] = {}
    for batch in batches:
        on_train, on_test = _accuracies(codes, rng, factors, batch, n_train, n_test, n_variance, threshold)
        size = "_batch8" if batch == 8 else ""
        scores[f"factorvae_score{'_test' if both else ''}{size}"] = on_test
        scores[f"factorvae_score_train{size}"] = on_train
    return scores


def _accuracies(
    codes: Codes, rng: Rng, factors: list[int], batch: int, n_train: int, n_test: int, n_variance: int, threshold: float
) -> tuple[float, float]:
    overall = dispersion(codes, any_rows(codes, rng, n_variance)[None])[0]
    active = np.sqrt(overall) >= threshold
    if not active.any():
        return 0.0, 0.0
    votes = []
    for n in (n_train, n_test):
        held, rows = groups(codes, rng, factors, n, batch)
        stillest = (dispersion(codes, rows)[:, active] / overall[active]).argmin(axis=1)
        votes.append(_count(held, stillest, len(factors), int(active.sum())))
    factor_of_latent = votes[0].argmax(axis=0)
    right = [table[factor_of_latent, np.arange(table.shape[1])].sum() / table.sum() for table in votes]
    return float(right[0]), float(right[1])


def _count(held: Ints, latent: Ints, n_factors: int, n_latents: int) -> Ints:
    return np.bincount(held * n_latents + latent, minlength=n_factors * n_latents).reshape(n_factors, n_latents)


def dispersion(codes: Codes, rows: Ints) -> Floats:
    """(v, latents) variance of each latent within each of (v, batch) rows; Gini's impurity for a categorical latent."""
    parts = np.array_split(rows, max(1, rows.size // 2**17))
    variance = np.concatenate([codes.mean[part].var(axis=1, ddof=1) for part in parts])
    impurity = [_impurity(labels[rows], p.shape[1]) for labels, p in zip(codes.classes.T, codes.probs, strict=True)]
    return np.concatenate([variance, *(column[:, None] for column in impurity)], axis=1)


def _impurity(labels: Ints, k: int) -> Floats:
    v, batch = labels.shape
    share = np.bincount((labels + k * np.arange(v)[:, None]).ravel(), minlength=v * k).reshape(v, k) / batch
    return (1 - (share**2).sum(axis=1)) * batch / (batch - 1)
