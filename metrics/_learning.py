"""What the metrics that fit a classifier share: its inputs and how it is fitted."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from metrics._codes import Codes, Rng

Floats = NDArray[np.floating]


def features(codes: Codes) -> tuple[Floats, NDArray[np.integer]]:
    """(n, w) numbers for learners that know no nominal columns, and (w,) the latent that each column belongs to.

    A categorical latent is the one-hot block of its most probable class.
    """
    c = codes.mean.shape[1]
    classes = zip(codes.classes.T, codes.probs, strict=True)
    blocks = [codes.mean, *(np.eye(p.shape[1], dtype=codes.mean.dtype)[labels] for labels, p in classes)]
    owner = [np.arange(c), *(np.full(p.shape[1], c + j) for j, p in enumerate(codes.probs))]
    return np.concatenate(blocks, axis=1), np.concatenate(owner)


def standardised_features(train: Codes, test: Codes) -> tuple[Floats, Floats]:
    """Features of both tables, with mean 0 and standard deviation 1 in the first; a constant column becomes zeros."""
    x_train, x_test = features(train)[0], features(test)[0]
    mean, sd = x_train.mean(axis=0), x_train.std(axis=0)
    # The standard deviation of equal numbers may be a rounding error.
    constant = (np.ptp(x_train, axis=0) == 0) | (sd == 0)
    sd[constant] = 1
    return np.where(constant, 0, (x_train - mean) / sd), np.where(constant, 0, (x_test - mean) / sd)


def fitted(model: Any, x: Floats, y: NDArray[np.integer]) -> Any:
    """The model after its fit on one thread; a fit that stops at its limit of steps is used as it is, as in the study.

    These fits are too small to gain from threads, and sums that are split among threads have other last digits.
    """
    with _threads().limit(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


@cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()


def legacy(rng: Rng) -> np.random.RandomState:
    """What scikit-learn takes as its random state; one that is handed in goes on where it stands."""
    return rng if isinstance(rng, np.random.RandomState) else np.random.RandomState(int(rng.integers(2**32)))
