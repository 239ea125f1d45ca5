"""Separated attribute predictability."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.svm import LinearSVC

from metrics._codes import Codes, NotApplicable, Rng, points, varying
from metrics._information import Floats, Ints, top_two_gap
from metrics._learning import features, fitted

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n_train": 2_000, "n_test": 1_000}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False
TRAP = (
    "it depends on the scale of the codes, and one linear SVM cannot tell 32 positions apart: a perfect dSprites "
    "code has 0.25; sap_continuous does not depend on scale."
)


def sap(
    codes: Codes, rng: Rng, *, n_train: int = 10_000, n_test: int = 5_000, c: float = 0.01
) -> dict[str, float | NotApplicable]:
    """Separated attribute predictability: how much better the best latent predicts a factor than the second best.

    `sap` takes the test accuracy of a balanced linear SVM on one latent, `sap_continuous` the squared correlation of
    the latent with the factor's number; both in [0, 1], means over factors of the gap of the best two. 1 (of the second
    form): each factor is a linear function of one latent, and of no other; 0: two latents predict every factor
    equally well, or none does. A categorical latent enters the SVM as its one-hot block, and the correlation as the
    share of the factor's variance between its classes. A single latent's runner-up counts 0. Factors with one
    value are left out.

    Traps: one linear SVM on one number cannot tell 32 or 40 classes apart, so a perfect code of dSprites has 0.25,
    not 1; and with C = 0.01 the score falls with the code's scale (0.18 at a tenth of it, 0.12 at a hundredth).
    `sap_continuous` does neither, but takes the order of a nominal factor's values for a number. Cost: 1.5 s at
    10,000 points.

    Kumar, Sattigeri and Balakrishnan, 2018, "Variational inference of disentangled latent concepts from unlabeled
    observations"; protocol of Locatello et al., 2019.

    >>> digit = np.arange(90)[:, None] % 3
    >>> code = Codes(np.hstack([digit, 0.0 * digit]), digit, ("digit",), (3,))
    >>> round(sap(code, np.random.default_rng(0))["sap_continuous"], 6)
    1.0
    """
    train, test = points(codes, rng, n_train, n_test)
    kept = varying(train)
    y_train, y_test = train.factors[:, kept], test.factors[:, kept]
    return {
        "sap": float(np.mean(top_two_gap(accuracies(train, test, y_train, y_test, c)))),
        "sap_continuous": float(np.mean(top_two_gap(squared_correlations(train, y_train)))),
    }


def accuracies(train: Codes, test: Codes, y_train: Ints, y_test: Ints, c: float) -> Floats:
    """(latents, factors) test accuracies of a balanced linear SVM on one latent."""
    (x_train, owner), (x_test, _) = features(train), features(test)
    return np.array(
        [
            [
                np.mean(fitted(_svm(c), x_train[:, owner == i], y).predict(x_test[:, owner == i]) == y_new)
                for y, y_new in zip(y_train.T, y_test.T, strict=True)
            ]
            for i in range(owner.max() + 1)
        ]
    )


def _svm(c: float) -> LinearSVC:
    return LinearSVC(C=c, class_weight="balanced", random_state=0)


def squared_correlations(codes: Codes, factors: Ints) -> Floats:
    """(latents, factors) shares of the factors' variance that one latent explains."""
    y = factors - factors.mean(axis=0)
    total = (y**2).sum(axis=0)
    x = codes.mean.astype(float)
    x = x - x.mean(axis=0)
    variance = (x**2).sum(axis=0) / max(codes.n - 1, 1)
    # The study's limit for a latent that does not vary at all.
    scale = np.where(variance > 1e-12, variance * max(codes.n - 1, 1), np.inf)
    linear = (x.T @ y) ** 2 / scale[:, None] / total
    between = [_between_classes(labels, y) / total for labels in codes.classes.T]
    return np.minimum(np.concatenate([linear, *(row[None] for row in between)]), 1)


def _between_classes(labels: Ints, y: Floats) -> Floats:
    counts = np.maximum(np.bincount(labels), 1)
    sums = np.stack([np.bincount(labels, weights=column) for column in y.T], axis=1)
    return (sums**2 / counts[:, None]).sum(axis=0)
