"""Accuracy of a linear probe."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from metrics._codes import Codes, NotApplicable, Rng, class_labels, points
from metrics._learning import fitted, standardised_features

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
    x_train, x_test = standardised_features(train, test)
    model = fitted(LogisticRegression(max_iter=1_000), x_train, class_labels(train))
    return {"probe_accuracy": float(np.mean(model.predict(x_test) == class_labels(test)))}
