"""Downstream accuracy and sample efficiency."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from metrics._boosting import boosted_trees
from metrics._codes import Codes, NotApplicable, Rng, integers, points, varying
from metrics._learning import Floats, fitted, standardised_features

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"sizes": (10, 100, 1_000), "n_test": 1_000}}
DEFAULT = False
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False
TRAP = "efficiency is a ratio of accuracies: noise, of which nothing can be learnt, has about 1."

Ints = NDArray[np.integer]
LEARNERS = ("logistic", "trees")


def downstream(
    codes: Codes, rng: Rng, *, sizes: tuple[int, ...] = (10, 100, 1_000, 10_000), n_test: int = 5_000
) -> dict[str, float | NotApplicable]:
    """How well, and from how few labels, all latents together tell the factors.

    `downstream_<learner>_<labels>`: test accuracy of a learner that was given that many labelled rows, mean over
    factors. 1: the factors can be read; its floor is the largest class's share.
    `downstream_<learner>_efficiency_<labels>`: that accuracy over the one with most labels. 1: more would not help.
    "logistic" is multinomial logistic regression, "trees" the gradient boosting of `dci` (100 rounds, depth 3).
    Fewer labels are the first of more. Latents are standardised by the labelled rows, categorical ones are one-hot. A
    value that the labelled rows lack is never predicted; if they hold one value, it is predicted always. Factors with
    one value are left out. With fewer rows than labels asked for, the score is not applicable.

    Traps: efficiency is a ratio, so noise and constant codes, of which nothing can be learnt, have about 1 (or more):
    read it beside the accuracy. Neither says anything about disentanglement: a rotation changes "logistic" hardly at
    all. The study picks the logistic regression's penalty by 5 folds, which 10 labels do not allow; here C is 1.
    Cost: 27 s of one core (five factors, 113 values), of which 22 s are trees of 10,000 labels, so it is not in the
    default set; "quick" 3 s.

    Locatello et al., 2019, "Challenging common assumptions in the unsupervised learning of disentangled
    representations", section 5.5.

    >>> factors = np.stack(np.divmod(np.arange(300), 3), axis=1) % 3
    >>> perfect = Codes(factors.astype(float), factors, ("a", "b"), (3, 3))
    >>> scores = downstream(perfect, np.random.default_rng(0), sizes=(100, 1_000))
    >>> scores["downstream_trees_100"], scores["downstream_trees_1000"]
    (1.0, NotApplicable('needs 1000 labelled rows; there are 200'))
    """
    train, test = points(codes, rng, max(sizes), n_test)
    kept = varying(train)
    seed = int(integers(rng, 2**31 - 1))
    scores: dict[str, float | NotApplicable] = {}
    for learner in LEARNERS:
        found = [_score(learner, train, test, kept, size, seed) for size in sorted(sizes)]
        names = [f"downstream_{learner}_{size}" for size in sorted(sizes)]
        scores |= dict(zip(names, found, strict=True))
        shares = [_share(value, found[-1]) for value in found[:-1]]
        names = [f"downstream_{learner}_efficiency_{size}" for size in sorted(sizes)[:-1]]
        scores |= dict(zip(names, shares, strict=True))
    return scores


def _score(learner: str, train: Codes, test: Codes, factors: list[int], size: int, seed: int) -> float | NotApplicable:
    """Mean test accuracy over factors with the first `size` labelled rows."""
    if size > train.n:
        return NotApplicable(f"needs {size} labelled rows; there are {train.n}")
    labelled = train.select(slice(size))
    x, x_test = standardised_features(labelled, test)
    right = [_predict(learner, x, labelled.factors[:, j], x_test, seed) == test.factors[:, j] for j in factors]
    return float(np.mean(right))


def _predict(learner: str, x: Floats, y: Ints, x_test: Floats, seed: int) -> Ints:
    if y.min() == y.max():
        return np.full(len(x_test), y[0])
    if learner == "trees":
        return boosted_trees(x, y, x_test, seed)[2]
    return fitted(LogisticRegression(), x, y).predict(x_test)


def _share(value: float | NotApplicable, most: float | NotApplicable) -> float | NotApplicable:
    if isinstance(value, NotApplicable) or isinstance(most, NotApplicable):
        return value if isinstance(value, NotApplicable) else most
    return value / most if most > 0 else NotApplicable("nothing is predicted with most labels")
