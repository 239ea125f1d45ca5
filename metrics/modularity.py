"""Modularity and explicitness."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from metrics._codes import Codes, NotApplicable, Rng, points, varying
from metrics._information import Floats, Ints, discrete_latents, mutual_information_matrix
from metrics._learning import fitted, standardised_features

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n_train": 2_000, "n_test": 1_000}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False
TRAP = (
    "pure noise has a modularity of about 0.66 and tiny dead latents lower a perfect code's; read "
    "modularity_informative beside it, where noise is 0."
)


def modularity(
    codes: Codes,
    rng: Rng,
    *,
    bins: int = 20,
    n_train: int = 10_000,
    n_test: int = 5_000,
    n_shuffles: int = 50,
) -> dict[str, float | NotApplicable]:
    """Modularity: does each latent know about one factor only? Explicitness: are the factors linearly readable?

    `modularity`: 1 - (squared mutual information with all other factors) / (that with the best, times f - 1), mean over
    latents, in [0, 1]. 1: every latent knows one factor; 0: every latent knows all equally well. A latent with
    no information at all (constant) counts 0. Needs two factors.
    `modularity_explicitness`: area under the ROC curve of each factor value against the rest, from a multinomial
    logistic regression on all standardised latents, mean over values, then factors; on test points (`_train`: on the
    points fitted). 1: all factors are linearly readable; 0.5: nothing is.
    Categorical latents are one nominal column each for the first, one-hot for the second.

    Trap: `modularity` of noise is 0.66 on dSprites, 0.86 on digits, whatever n: it is then a ratio of estimation
    errors; dead latents pull a perfect code to 0.85. `modularity_informative` is the sound form: the mutual information
    that shuffled rows show by chance is subtracted, and the mean is over the latents that know anything (5 standard
    deviations over chance); noise and constant codes have 0, dead latents do not count. Traps of the peers, not kept: a
    constant latent, or a factor value without test points, is an error there. Cost: 3 s at 10,000 points, nearly all of
    it the regression.

    Ridgeway and Mozer, 2018, "Learning deep disentangled embeddings with the F-statistic loss"; protocol of Locatello
    et al., 2019.

    >>> factors = np.stack(np.divmod(np.arange(300), 3), axis=1) % 3
    >>> perfect = Codes(factors.astype(float), factors, ("a", "b"), (3, 3))
    >>> [round(v, 3) for v in modularity(perfect, np.random.default_rng(0)).values()]
    [1.0, 1.0, 1.0, 1.0]
    """
    train, test = points(codes, rng, n_train, n_test)
    kept = varying(train)
    scores: dict[str, float | NotApplicable] = {}
    if len(kept) < 2:
        scores |= dict.fromkeys(("modularity", "modularity_informative"), NotApplicable("needs two factors that vary"))
    else:
        latents, factors = discrete_latents(train, bins), train.factors[:, kept]
        information = mutual_information_matrix(latents, factors)
        scores["modularity"] = float(np.mean(per_latent(information)))
        scores["modularity_informative"] = informative(information, _by_chance(latents, factors, rng, n_shuffles))
    return scores | explicitness(train, test, kept)


def per_latent(information: Floats) -> Floats:
    """(latents,) modularity of each row of a (latents, factors) table of mutual information."""
    squared = information**2
    best = squared.max(axis=1)
    others = (squared.sum(axis=1) - best) / np.where(best > 0, best, 1) / (information.shape[1] - 1)
    return np.where(best > 0, 1 - others, 0)


def informative(information: Floats, chance: Floats) -> float:
    """Mean modularity of the latents whose information exceeds chance ((shuffles, latents, factors)); 0 if none."""
    excess = information - chance.mean(axis=0)
    known = (excess > np.maximum(5 * chance.std(axis=0, ddof=1), 1e-12)).any(axis=1)
    return float(np.mean(per_latent(np.maximum(excess[known], 0)))) if known.any() else 0.0


def _by_chance(latents: Ints, factors: Ints, rng: Rng, n_shuffles: int) -> Floats:
    return np.stack([mutual_information_matrix(rng.permutation(latents), factors) for _ in range(n_shuffles)])


def explicitness(train: Codes, test: Codes, factors: list[int]) -> dict[str, float | NotApplicable]:
    """Mean over factors of the area under the ROC curves of a logistic regression, on both tables."""
    x_train, x_test = standardised_features(train, test)
    areas: list[tuple[float, float]] = []
    for j in factors:
        model = fitted(LogisticRegression(), x_train, train.factors[:, j])
        on_train, on_test = (
            roc_area(model.classes_ == table.factors[:, j, None], model.predict_proba(x))
            for x, table in ((x_train, train), (x_test, test))
        )
        areas.append((on_train, on_test))
    on_train, on_test = np.mean(areas, axis=0)
    return {"modularity_explicitness": float(on_test), "modularity_explicitness_train": float(on_train)}


def roc_area(truth: NDArray[np.bool_], scores: Floats) -> float:
    """Mean over columns of the area under the ROC curve; a column without both outcomes is left out."""
    positive = truth.sum(axis=0)
    usable = (positive > 0) & (positive < len(truth))
    if not usable.any():
        raise NotApplicable("the test points hold one value of a factor only")
    truth, positive = truth[:, usable], positive[usable].astype(float)
    ranks = rankdata(scores[:, usable], axis=0)
    return float(np.mean(((ranks * truth).sum(axis=0) / positive - (positive + 1) / 2) / (len(truth) - positive)))
