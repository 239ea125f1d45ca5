"""Whether the factors of `digits` are what they say: what is measured on its scored images, and what pixels tell."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from benchmark.reporting import plots
from data import Dataset
from data._attributes import NAMES, measure

FIT = 18_000  # training images that a probe is fitted on
COPIES = 2  # of the grid of scored images, that are measured
SHOWS = {"slant": "slant", "thickness": "thickness", "height": "size"}  # what is measured -> the factor that it shows


def leakage(data: Dataset) -> pd.DataFrame:
    """What is measured (rows) against factors (columns), on scored images: Spearman's rank correlation.

    The class factor has no order: it has the share of the measure's variance that lies between classes, from 0 to 1.
    The last column has the mean of what is measured at each level of the factor that it shows. Slant and rotation both
    tilt an image's second moments, so slant has a row of its own for images that are not turned.
    """
    rows = data.score_rows[: COPIES * int(np.prod(data.factor_sizes))]
    factors = pd.DataFrame(data.factors[rows], columns=data.factor_names)
    measured = pd.DataFrame(measure((data.batch(rows)[:, 0] * 255).round().byte().numpy()), columns=NAMES)
    upright = factors["rotation"] == data.factor_sizes[data.factor_names.index("rotation")] // 2
    table = {name: _told(measured[name], factors, factor) for name, factor in SHOWS.items()}
    table["slant, not turned"] = _told(measured["slant"][upright], factors[upright], "slant")
    return pd.DataFrame(table).T[[*data.factor_names, "levels"]]


def _told(values: pd.Series, factors: pd.DataFrame, shown: str) -> pd.Series:
    varying = [name for name in factors if factors[name].nunique() > 1]
    found: dict[str, object] = {name: values.corr(factors[name], method="spearman") for name in varying}
    found["digit"] = values.groupby(factors["digit"]).transform("mean").var() / values.var()
    found["levels"] = values.groupby(factors[shown]).mean().to_numpy()
    return pd.Series(found)


def ceiling(data: Dataset) -> pd.DataFrame:
    """Accuracy in [0, 1] on the scored images, a column a factor: of a logistic regression on the pixels of 18,000
    training images, and of guessing."""
    rows = np.random.default_rng(0).permutation(data.train_rows)[:FIT]
    train, test = (data.batch(part).flatten(1).numpy() for part in (rows, data.score_rows))
    found = {}
    for j, name in enumerate(data.factor_names):
        with warnings.catch_warnings():  # a hundred iterations are near enough
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe = LogisticRegression(C=0.1, max_iter=100).fit(train, data.factors[rows, j])
        found[name] = probe.score(test, data.factors[data.score_rows, j])
    chance = {name: 1 / size for name, size in zip(data.factor_names, data.factor_sizes, strict=True)}
    return pd.DataFrame({"linear probe from pixels": found, "chance": chance}).T


def grid(data: Dataset) -> Figure:
    """A row a factor: scored images in which it alone goes through its levels, of some digits; handwriting last."""
    sizes = data.factor_sizes
    middle = [size // 2 for size in sizes]

    def shown(levels: NDArray[np.integer], copies: NDArray[np.integer]) -> NDArray[np.float32]:
        rows = np.ravel_multi_index(tuple(levels.T), sizes) + copies * np.prod(sizes)
        return data.batch(data.score_rows[rows]).numpy()

    rows = {}
    for j, name in enumerate(data.factor_names):
        levels = np.tile(middle, (10 - 10 % sizes[j], 1))
        levels[:, 0] = np.arange(len(levels)) // sizes[j] * 3 + 2  # 2, 5, 8
        levels[:, j] = np.arange(len(levels)) % sizes[j]
        rows[name] = shown(levels, np.zeros(len(levels), dtype=np.int64))
    copies = len(data.score_rows) // int(np.prod(sizes))
    rows["handwriting (no factor)"] = shown(np.tile(middle, (copies, 1)), np.arange(copies))
    return plots.strips(rows, f"{data.name}: each row changes one factor; every image is of other handwriting")
