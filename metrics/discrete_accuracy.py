"""Accuracy of categorical latents as a clustering."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import xlogy

from metrics._codes import Codes, NotApplicable, Rng, class_labels
from metrics._information import Floats, Ints, contingency, entropy, mutual_information, partition_scores

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset({"discrete_accuracy_calibration_error"})
DESCRIPTIVE = frozenset({"discrete_accuracy_used", "discrete_accuracy_usage", "discrete_accuracy_usage_share"})
ACROSS_RUNS = False
TRAP = (
    "chance is the share of the largest class; with several categorical latents the best one is chosen by its "
    "labels (discrete_accuracy_unsupervised: without)."
)


def discrete_accuracy(codes: Codes, rng: Rng) -> dict[str, float | NotApplicable]:
    """How well the most probable class of a categorical latent agrees with the class factor; nothing is fitted.

    `discrete_accuracy`: accuracy under the best one-to-one matching of latent classes and factor values (classes in
    excess are wrong); `_many_to_one`: each latent class stands for its most frequent value; `_nmi`: normalised mutual
    information; `_ari`: Rand index adjusted for chance (1 the same partition, 0 chance, may be below); `_used`: how
    many classes occur. 1: the latent is the factor, renumbered; a constant latent has the largest value's share, and
    0 for `_nmi` and `_ari`. Every row of the table counts, nothing is drawn.
    `_homogeneity`: does a class hold one value only (mutual information over the factor's entropy); `_completeness`:
    is a value in one class only (over the classes' entropy; 1 where one class takes all). `_information`: mutual
    information of class and factor in nats, `_information_share` as a share of ln(number of classes), the most that
    the latent can tell; `_usage` and `_usage_share`: entropy of how often each class is chosen, likewise; 1: all
    equally often. `_calibration_error`: q(class | x) taken as a forecast of the matched value, the distance between
    its confidence and its accuracy, mean over images in 15 bins of confidence; 0: sure as often as right, lower is
    better; a latent that is always sure has its error rate.

    With several categorical latents the scores are those of the one with the best accuracy, a choice that uses the
    labels; `_unsupervised` is the accuracy of the latent chosen without: the one that tells most about the image (the
    entropy of its mean posterior less the mean entropy). Continuous latents are ignored. Not applicable without a
    categorical latent or a class factor.

    Trap: a matching is never worse than the largest value's share where one class takes all, so the floor of
    `discrete_accuracy` is 1 / number of values, and `_many_to_one` grows with the number of classes. Cost:
    milliseconds.

    Matching: Kuhn, 1955, "The Hungarian method for the assignment problem"; as used by Dupont, 2018, "Learning
    disentangled joint continuous and discrete representations", and Jeong and Song, 2019, "Learning discrete and
    continuous factors of data via alternating disentanglement". Homogeneity and completeness: Rosenberg and
    Hirschberg, 2007, "V-measure: a conditional entropy-based external cluster evaluation measure". Calibration: Guo,
    Pleiss, Sun and Weinberger, 2017, "On calibration of modern neural networks".

    >>> digit = np.arange(30)[:, None] % 3
    >>> renumbered = np.eye(3)[(digit[:, 0] + 1) % 3]
    >>> codes = Codes(np.zeros((30, 0)), digit, ("digit",), (3,), probs=(renumbered,), class_factor="digit")
    >>> discrete_accuracy(codes, np.random.default_rng(0))["discrete_accuracy"]
    1.0
    """
    if not codes.probs:
        raise NotApplicable("the codes have no categorical latent")
    labels = class_labels(codes)
    panels = [
        class_panel(classes, labels, p.shape[1]) | {"_calibration_error": calibration_error(p, labels)}
        for classes, p in zip(codes.classes.T, codes.probs, strict=True)
    ]
    best = max(panels, key=lambda panel: panel[""])
    blind = panels[int(np.argmax([information(p) for p in codes.probs]))]
    scores: dict[str, float | NotApplicable] = {f"discrete_accuracy{key}": value for key, value in best.items()}
    return scores | {"discrete_accuracy_unsupervised": blind[""]}


def class_panel(classes: Ints, labels: Ints, k: int) -> dict[str, float]:
    """How well (n,) classes, of k that there are, agree with (n,) labels.

    >>> panel = class_panel(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3]), 4)
    >>> panel["_homogeneity"], panel["_completeness"], panel["_usage_share"]
    (0.5, 1.0, 0.5)
    """
    table = contingency(classes, labels)
    nats, of_labels, usage = mutual_information(table), entropy(labels), entropy(classes)
    most = float(np.log(max(k, 2)))
    return partition_scores(table) | {
        "_homogeneity": min(1.0, nats / of_labels) if of_labels > 0 else 1.0,
        "_completeness": min(1.0, nats / usage) if usage > 0 else 1.0,
        "_information": nats,
        "_information_share": min(1.0, nats / most),
        "_usage": usage,
        "_usage_share": min(1.0, usage / most),
    }


def calibration_error(probs: Floats, labels: Ints, bins: int = 15) -> float:
    """Mean over images of |accuracy - confidence| in bins of the confidence, classes matched to labels one to one.

    >>> round(calibration_error(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0])), 6)
    0.15
    """
    classes = probs.argmax(axis=1)
    table = contingency(classes, labels)
    value_of = np.full(len(table), -1)
    matched, values = linear_sum_assignment(table, maximize=True)
    value_of[matched] = values
    confidence = probs.max(axis=1).astype(float)
    surplus = (value_of[classes] == labels) - confidence
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    return float(np.abs(np.bincount(place, weights=surplus)).sum() / len(labels))


def information(probs: Floats) -> float:
    """Nats that a categorical latent tells about the image, from its (n, k) probabilities."""
    mean = probs.mean(axis=0, dtype=float)
    return float(xlogy(probs, probs).sum(axis=1).mean() - xlogy(mean, mean).sum())
