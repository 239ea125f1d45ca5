"""Accuracy of clusters of the continuous latents."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.cluster import KMeans

from metrics._codes import Codes, NotApplicable, Rng, class_labels, sample
from metrics._learning import fitted, legacy
from metrics.discrete_accuracy import class_panel

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n": 2_000}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
DESCRIPTIVE = frozenset({"cluster_accuracy_used", "cluster_accuracy_usage", "cluster_accuracy_usage_share"})
ACROSS_RUNS = False


def cluster_accuracy(
    codes: Codes, rng: Rng, *, n: int = 10_000, n_starts: int = 10
) -> dict[str, float | NotApplicable]:
    """How well k-means clusters of the continuous means agree with the class factor.

    As many clusters as the class factor has values, on the means as they are (not rescaled), best of n_starts. The
    same scores as `discrete_accuracy`: best one-to-one matching, `_many_to_one`, `_nmi`, `_ari`, `_used`,
    `_homogeneity`, `_completeness`, `_information`, `_usage` and their shares (clusters have no probabilities to be
    calibrated). What a model without a categorical latent has to show against one with. 1: the clusters are the
    classes; a constant code has the largest value's share, and 0 for `_nmi` and `_ari`. Categorical latents are
    ignored; not applicable without a continuous latent or a class factor that varies.

    Trap: k-means follows the latents of the largest variance, so a code that holds the class perfectly beside wider
    factors may score at chance: this asks whether the class is the coarsest structure. Cost: 0.5 s at 10,000 points.

    MacQueen, 1967, "Some methods for classification and analysis of multivariate observations".

    >>> digit = np.arange(30)[:, None] % 3
    >>> codes = Codes(digit.astype(float), digit, ("digit",), (3,), class_factor="digit")
    >>> cluster_accuracy(codes, np.random.default_rng(0))["cluster_accuracy"]
    1.0
    """
    if codes.mean.shape[1] == 0:
        raise NotApplicable("the codes have no continuous latent")
    points = sample(codes, rng, n)
    labels = class_labels(points)
    k = len(np.unique(labels))
    # With fewer different codes than clusters some clusters stay empty, which the scores show.
    clusters = fitted(KMeans(k, n_init=n_starts, random_state=legacy(rng)), points.mean, labels).labels_
    return {f"cluster_accuracy{key}": value for key, value in class_panel(clusters, labels, k).items()}
