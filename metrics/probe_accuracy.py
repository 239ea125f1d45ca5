"""Accuracy of a linear probe."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from metrics._codes import Codes, NotApplicable, Rng, class_labels, features, points, standardise

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n_train": 2_000, "n_test": 1_000}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False


def probe_accuracy(
    codes: Codes, rng: Rng, *, n_train: int = 10_000, n_test: int = 5_000
) -> dict[str, float | NotApplicable]:
    """Test accuracy of a logistic regression that reads the class factor from all latents.

    1: the class is linearly readable; noise and constant codes have the share of the most frequent value. It says
    nothing about disentanglement: a rotation of the latents changes nothing. Latents are standardised, categorical
    ones are one-hot. Not applicable without a class factor that varies. Cost: 0.3 s at 10,000 points.

    Alain and Bengio, 2017, "Understanding intermediate layers using linear classifier probes".

    >>> digit = np.arange(300)[:, None] % 3
    >>> codes = Codes(digit.astype(float), digit, ("digit",), (3,), class_factor="digit")
    >>> probe_accuracy(codes, np.random.default_rng(0))
    {'probe_accuracy': 1.0}
    """
    train, test = points(codes, rng, n_train, n_test)
    labels = class_labels(train)
    if len(np.unique(labels)) < 2:
        raise NotApplicable("the class factor has one value")
    x_train, x_test = standardise(features(train)[0], features(test)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=1_000).fit(x_train, labels)
    return {"probe_accuracy": float(np.mean(model.predict(x_test) == class_labels(test)))}
