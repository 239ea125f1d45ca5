"""Disentanglement, completeness and informativeness."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from numba import get_num_threads
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Lasso

from metrics._boosting import boosted_trees, histogram_trees
from metrics._codes import Codes, NotApplicable, Rng, points, varying
from metrics._information import Floats, Ints
from metrics._learning import features, fitted, legacy, standardised_features

PROTOCOLS: dict[str, dict[str, Any]] = {
    "study": {},
    "quick": {"learners": ("hist",), "n_train": 2_000, "n_test": 1_000},
    "eastwood": {"learners": ("rf", "lasso")},
}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset(
    f"dci_{learner}_informativeness_nrmse{points}" for learner in ("rf", "lasso") for points in ("", "_train")
)
ACROSS_RUNS = False
TRAP = (
    "unique noise attracts splits of trees: a perfect but noisy code (signal to noise 4) has disentanglement 0.52. "
    "dci_lasso of noise may look disentangled: read it beside its error."
)

NAMES = {"gbt": "dci", "hist": "dci_hist", "rf": "dci_rf", "lasso": "dci_lasso"}
TREES = {"gbt": boosted_trees, "hist": histogram_trees}


def dci(
    codes: Codes, rng: Rng, *, learners: tuple[str, ...] = ("gbt",), n_train: int = 10_000, n_test: int = 5_000
) -> dict[str, float | NotApplicable]:
    """Disentanglement, completeness and informativeness from the importances of learners that predict the factors.

    `dci_disentanglement`: does each latent matter for one factor only; `dci_completeness`: does one latent only
    matter for each factor; both 1 - a normalised entropy of the importances, in [0, 1]; the mean over latents is
    weighted by importance, factors count alike. 1: one each; 0: importances are spread evenly (also where no latent
    matters: a constant code).
    `dci_informativeness`: test accuracy, mean over factors (`_train`: on the points fitted); its floor is the largest
    class's share. Each learner is another estimator, and has keys of its own:

    - "gbt", `dci_*`: the study's gradient boosting (100 rounds, depth 3, exact splits, scikit-learn's defaults);
    - "hist", `dci_hist_*`: the same trees on latents cut into at most 64 bins of equal count, an approximation (over 30
      codes from disentangled to mixed, rank correlations with "gbt" of 0.98, 0.99 and 0.99, and scores within 0.05);
    - "rf", `dci_rf_*`, and "lasso", `dci_lasso_*`, the original paper's: a forest of 10 trees of depth 12 and a linear
      model with penalty 0.02 that regress the standardised number of each factor's value on the standardised latents.
      They have an error instead of an accuracy, `_informativeness_nrmse`: root mean square error over the standard
      deviation of the test points; 0 is perfect, about 1 is the floor.

    A categorical latent enters as its one-hot block, of which the importances are added up. Factors with one value are
    left out; disentanglement needs two factors, completeness two latents.

    Traps: unique noise attracts splits, so a perfect but noisy code (signal to noise 4) has a disentanglement of 0.52
    by "gbt", and dead latents cost completeness; a continuous latent of noise is split more often than a categorical
    one, which may look like completeness. Regression takes the order of a nominal factor's values for a number, and
    "lasso" sees linear relations only; its few tiny weights on noise had a disentanglement of 0.98, so read it beside
    its error. The paper's code has nan where a latent or a factor has no weight: here such a latent does not
    count, and such a factor counts 0 in completeness. Cost at 10,000 points (five factors, 113 values): 24 s of one
    core for "gbt" and about half for "hist", which both use all cores, 3.5 s for "rf", 0.03 s for "lasso".

    Eastwood and Williams, 2018, "A framework for the quantitative evaluation of disentangled representations"; "gbt" by
    the protocol of Locatello et al., 2019.

    >>> round(disentanglement(np.eye(3)), 6), round(completeness(np.ones((3, 3))), 6)
    (1.0, 0.0)
    >>> disentanglement(np.zeros((3, 3)))
    0.0
    >>> factors = np.stack(np.divmod(np.arange(300), 3), axis=1) % 3
    >>> perfect = Codes(factors.astype(float), factors, ("a", "b"), (3, 3))
    >>> [round(v, 3) for v in dci(perfect, np.random.default_rng(0), learners=("lasso",)).values()]
    [1.0, 1.0, 0.02, 0.02]
    """
    unknown = [learner for learner in learners if learner not in NAMES]
    if unknown or not learners:
        raise ValueError(f"unknown learner {', '.join(map(repr, unknown))}; available: {', '.join(NAMES)}")
    train, test = points(codes, rng, n_train, n_test)
    kept = varying(train)
    start = legacy(rng)
    scores: dict[str, float | NotApplicable] = {}
    for learner in learners:
        # All start from the same state, so that a score does not depend on which others are asked for.
        importance, informativeness = importances(train, test, kept, learner, deepcopy(start))
        values = structure(importance) | informativeness
        scores |= {f"{NAMES[learner]}_{key}": value for key, value in values.items()}
    return scores


def structure(importance: Floats) -> dict[str, float | NotApplicable]:
    """Disentanglement and completeness of a (latents, factors) table, where there is something to compare."""
    latents, factors = importance.shape
    few_factors, few_latents = NotApplicable("needs two factors that vary"), NotApplicable("needs two latents")
    return {
        "disentanglement": disentanglement(importance) if factors > 1 else few_factors,
        "completeness": completeness(importance) if latents > 1 else few_latents,
    }


def importances(
    train: Codes, test: Codes, factors: list[int], learner: str, random_state: np.random.RandomState
) -> tuple[Floats, dict[str, float | NotApplicable]]:
    """(latents, factors) importances, and how well the factors are predicted."""
    x, x_test, owner = _inputs(train, test, learner)
    y, y_test = train.factors[:, factors], test.factors[:, factors]
    if learner not in TREES:
        mean, sd = y.mean(axis=0), y.std(axis=0)
        y, y_test = (y - mean) / sd, (y_test - mean) / sd
    seeds = [int(random_state.randint(2**31 - 1)) for _ in factors]
    # The trees' compiled code runs without the interpreter's lock, and most classes come first: they take longest.
    with ThreadPoolExecutor(get_num_threads() if learner in TREES else 1) as pool:
        tasks = {j: pool.submit(_fit, learner, x, y[:, j], x_test, seeds[j]) for j in np.argsort(-y.max(axis=0))}
    fits = [tasks[j].result() for j in range(len(factors))]
    importance = np.zeros((len(train.latent_names), len(factors)))
    np.add.at(importance, owner, np.stack([fit[0] for fit in fits], axis=1))
    on_train, on_test = (np.stack([fit[i] for fit in fits], axis=1) for i in (1, 2))
    if learner in TREES:
        accuracy = {"informativeness": (on_test == y_test), "informativeness_train": on_train == y}
        return importance, {key: float(right.mean(axis=0).mean()) for key, right in accuracy.items()}
    return importance, {
        "informativeness_nrmse": _error(on_test, y_test),
        "informativeness_nrmse_train": _error(on_train, y),
    }


def _inputs(train: Codes, test: Codes, learner: str) -> tuple[Floats, Floats, Ints]:
    """What a learner sees of both tables, and (w,) the latent that each column belongs to."""
    (x, owner), (x_test, _) = features(train), features(test)
    if learner in TREES:
        return x, x_test, owner
    precise = (replace(codes, mean=codes.mean.astype(float), test=None) for codes in (train, test))
    return *standardised_features(*precise), owner


def _fit(
    learner: str, x: Floats, y: NDArray[Any], x_test: Floats, seed: int
) -> tuple[Floats, NDArray[Any], NDArray[Any]]:
    """(w,) importances, and what is predicted for x and for x_test."""
    if learner in TREES:
        return TREES[learner](x, y, x_test, seed)
    if learner == "rf":
        model = fitted(RandomForestRegressor(n_estimators=10, max_depth=12, random_state=seed), x, y)
        return model.feature_importances_, model.predict(x), model.predict(x_test)
    model = fitted(Lasso(alpha=0.02), x, y)
    return np.abs(model.coef_), model.predict(x), model.predict(x_test)


def _error(predicted: NDArray[Any], truth: NDArray[Any]) -> float | NotApplicable:
    """Root mean square error over the standard deviation, mean over columns."""
    sd = truth.std(axis=0)
    if not sd.all():
        return NotApplicable("the test points hold one value of a factor only")
    return float(np.mean(np.sqrt(((predicted - truth) ** 2).mean(axis=0)) / sd))


def disentanglement(importance: Floats) -> float:
    """Mean over latents (rows), weighted by importance, of 1 - the entropy of their importances over factors."""
    weights = importance.sum(axis=1)
    return float(np.clip(concentration(importance) @ weights / weights.sum(), 0, 1)) if weights.sum() > 0 else 0.0


def completeness(importance: Floats) -> float:
    """Mean over factors (columns) of 1 - the entropy of their importances over latents."""
    return float(np.clip(concentration(importance.T).mean(), 0, 1))


def concentration(rows: Floats) -> Floats:
    """1 - the normalised entropy of each row, after the study's 1e-11; 0 for a row of zeros."""
    return np.where(rows.any(axis=1), 1 - entropy(rows + 1e-11, base=rows.shape[1], axis=1), 0)
