"""What latents tell of attributes that were measured on the images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression

from metrics._codes import Codes, NotApplicable, Rng, class_labels, points
from metrics._learning import Floats, fitted, standardised_features

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n_train": 2_000, "n_test": 1_000}}
DEFAULT = False
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = False
ATTRIBUTES = True
TRAP = (
    "attributes depend on each other and on the class: a latent that knows the digit alone tells something of each; "
    "read _within beside it."
)

TINY = 1e-9  # of a column's standard deviation: less is a rounding error
Ints = NDArray[np.integer]
Value = float | NotApplicable


def attributes(codes: Codes, rng: Rng, *, n_train: int = 10_000, n_test: int = 5_000) -> dict[str, Value]:
    """How much the latents tell of attributes such as slant and thickness: R² of linear fits, on points held out.

    `attributes_<name>_one`: by the continuous latent that tells most (on the points fitted); `_all`: by all latents,
    categorical ones as one-hot blocks of their most probable class. `_within_one` and `_within_all`: the same within
    classes, where the mean of each value of the class factor is subtracted from attributes and latents alike; one slope
    serves all classes. Without a name, `attributes_one` and so on: means over the attributes that vary. In [0, 1]; a
    fit that is worse than the mean has 0. 1: the attribute is a linear function of the latent, or of all; noise and
    constant codes have 0. The ceiling `factors` has the attributes themselves as latents here, and so 1. Attributes
    that do not vary are not applicable; nor are codes without attributes, `_one` without a continuous latent, `_within`
    without a class factor that varies.

    Traps: attributes are not factors. They depend on each other (area is about length times thickness) and on the class
    (a 1 is narrow), so MIG against them would mislead: a latent that is the thickness tells of the area too, which
    narrows the gap of both, and a class that is found tells of all of them. No code reaches 1, and the one that comes
    nearest need not be the one that takes the writing apart. For the same reason a code of the class alone has what the
    classes' means tell: read `_within` for what is more than that. A fit is linear: an attribute along a curve is seen
    in part. Cost: 0.1 s at 10,000 points; but MNIST's attributes are measured once, for half a minute, on its original
    images, which have to be fetched again: so it is not in the default set.

    Castro, Tan, Kainz, Konukoglu and Glocker, 2019, "Morpho-MNIST: quantitative assessment and diagnostics for
    representation learning", who measure such attributes and correlate latents with them.

    >>> z = np.random.default_rng(0).standard_normal((300, 2))
    >>> known = {"attributes": z @ [[1, 1], [0, 1]], "attribute_names": ("slant", "area")}
    >>> scores = attributes(Codes(z, np.zeros((300, 0), int), (), (), **known), np.random.default_rng(0))
    >>> [round(scores[f"attributes_{key}"], 1) for key in ("slant_one", "slant_all", "area_one", "area_all")]
    [1.0, 1.0, 0.5, 1.0]
    >>> scores["attributes_within_all"]
    NotApplicable('there is no class factor')
    """
    if codes.attributes is None or not codes.attribute_names:
        raise NotApplicable("there are no attributes of these images")
    if "within" in codes.attribute_names:
        raise ValueError("no attribute can be called 'within', which scores are")
    train, test = points(codes, rng, n_train, n_test)
    if test.n < 1:
        raise NotApplicable("there are no points to test on")
    told = {key: _told(train, test, groups) for key, groups in _groups(train, test).items()}
    kinds = {f"{key}{kind}": values for key, found in told.items() for kind, values in found.items()}
    means = {f"attributes{key}": _mean(values) for key, values in kinds.items()}
    names = train.attribute_names
    single = {f"attributes_{name}{key}": values[j] for j, name in enumerate(names) for key, values in kinds.items()}
    return means | single


def _groups(train: Codes, test: Codes) -> dict[str, tuple[Ints, Ints] | NotApplicable]:
    """Numbers of the groups whose means are subtracted, of both tables: of one group, and of the classes."""
    one = np.zeros(train.n, dtype=np.int64), np.zeros(test.n, dtype=np.int64)
    try:
        classes = class_labels(train)
    except NotApplicable as reason:
        return {"": one, "_within": reason}
    return {"": one, "_within": (classes, test.factors[:, test.factor_names.index(str(test.class_factor))])}


def _told(train: Codes, test: Codes, groups: tuple[Ints, Ints] | NotApplicable) -> dict[str, list[Value]]:
    """R² of each attribute on the test points, by the best continuous latent and by all latents."""
    names = train.attribute_names
    if isinstance(groups, NotApplicable):
        return {kind: [groups] * len(names) for kind in ("_one", "_all")}
    assert train.attributes is not None and test.attributes is not None
    x, x_test = _centred(*standardised_features(train, test), groups)
    y, y_test = _centred(*_standardised(train.attributes, test.attributes), groups)
    c = train.mean.shape[1]
    best = _by_one(x[:, :c], y, x_test[:, :c]) if c else NotApplicable("the codes have no continuous latent")
    every = fitted(LinearRegression(fit_intercept=False), x, y).predict(x_test)
    return {"_one": _r2(best, y_test), "_all": _r2(every, y_test)}


def _standardised(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    mean, sd = train.mean(axis=0), train.std(axis=0)
    return (train - mean) / np.where(sd > 0, sd, 1), (test - mean) / np.where(sd > 0, sd, 1)


def _centred(x: Floats, x_test: Floats, groups: tuple[Ints, Ints]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both tables, of standardised columns, less the means of the groups in the first (0 where it lacks a group)."""
    x, x_test = x.astype(np.float64), x_test.astype(np.float64)
    size = max(int(group.max()) for group in groups) + 1
    counts = np.maximum(np.bincount(groups[0], minlength=size), 1)
    means = np.stack([np.bincount(groups[0], column, size) for column in x.T], axis=1) / counts[:, None]
    x, x_test = x - means[groups[0]], x_test - means[groups[1]]
    varies = x.std(axis=0) > TINY
    return x * varies, x_test * varies


def _by_one(x: Floats, y: Floats, x_test: Floats) -> Floats:
    """What the latent that fits best predicts of each attribute."""
    power, product = (x**2).sum(axis=0)[:, None], x.T @ y
    slope = product / np.where(power > 0, power, 1)
    best = (slope * product).argmax(axis=0)
    return x_test[:, best] * slope[best, np.arange(y.shape[1])]


def _r2(predicted: Floats | NotApplicable, y: Floats) -> list[Value]:
    """Of each column, in [0, 1], against a prediction of 0."""
    if isinstance(predicted, NotApplicable):
        return [predicted] * y.shape[1]
    rest, whole = ((values**2).sum(axis=0) for values in (y - predicted, y))
    still = NotApplicable("the attribute does not vary in these rows")
    return [float(np.clip(1 - a / b, 0, 1)) if b > 0 else still for a, b in zip(rest, whole, strict=True)]


def _mean(values: list[Value]) -> Value:
    numbers = [value for value in values if not isinstance(value, NotApplicable)]
    return float(np.mean(numbers)) if numbers else values[0]
