"""Accuracy of categorical latents as a clustering."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import xlogy

from metrics._codes import Codes, NotApplicable, Rng, class_labels
from metrics._information import Floats, contingency, partition_scores

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False


def discrete_accuracy(codes: Codes, rng: Rng) -> dict[str, float | NotApplicable]:
    """How well the most probable class of a categorical latent agrees with the class factor; nothing is fitted.

    `discrete_accuracy`: accuracy under the best one-to-one matching of latent classes and factor values (classes in
    excess are wrong); `_many_to_one`: each latent class stands for its most frequent value; `_nmi`: normalised mutual
    information; `_ari`: Rand index adjusted for chance (1 the same partition, 0 chance, may be below); `_used`: how
    many classes occur. 1: the latent is the factor, renumbered; a constant latent has the largest value's share, and
    0 for `_nmi` and `_ari`. Every row of the table counts, nothing is drawn.

    With several categorical latents the scores are those of the one with the best accuracy, a choice that uses the
    labels; `_unsupervised` is the accuracy of the latent chosen without: the one that tells most about the image (the
    entropy of its mean posterior less the mean entropy). Continuous latents are ignored. Not applicable without a
    categorical latent or a class factor.

    Trap: a matching is never worse than the largest value's share where one class takes all, so the floor of
    `discrete_accuracy` is 1 / number of values, and `_many_to_one` grows with the number of classes. Cost:
    milliseconds.

    Matching: Kuhn, 1955, "The Hungarian method for the assignment problem"; as used by Dupont, 2018, "Learning
    disentangled joint continuous and discrete representations", and Jeong and Song, 2019, "Learning discrete and
    continuous factors of data via alternating disentanglement".

    >>> digit = np.arange(30)[:, None] % 3
    >>> renumbered = np.eye(3)[(digit[:, 0] + 1) % 3]
    >>> codes = Codes(np.zeros((30, 0)), digit, ("digit",), (3,), probs=(renumbered,), class_factor="digit")
    >>> discrete_accuracy(codes, np.random.default_rng(0))["discrete_accuracy"]
    1.0
    """
    if not codes.probs:
        raise NotApplicable("the codes have no categorical latent")
    labels = class_labels(codes)
    panels = [partition_scores(contingency(classes, labels)) for classes in codes.classes.T]
    best = max(panels, key=lambda panel: panel[""])
    blind = panels[int(np.argmax([information(p) for p in codes.probs]))]
    scores: dict[str, float | NotApplicable] = {f"discrete_accuracy{key}": value for key, value in best.items()}
    return scores | {"discrete_accuracy_unsupervised": blind[""]}


def information(probs: Floats) -> float:
    """Nats that a categorical latent tells about the image, from its (n, k) probabilities."""
    mean = probs.mean(axis=0, dtype=float)
    return float(xlogy(probs, probs).sum(axis=1).mean() - xlogy(mean, mean).sum())
