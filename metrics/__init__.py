"""Scores of a representation, usable alone: `score(["mig", "dci"], codes, factors)` on anyone's arrays."""

from __future__ import annotations

import difflib
import importlib
import math
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from metrics._codes import Codes, NotApplicable, Rng

__all__ = [
    "Codes",
    "NotApplicable",
    "Scores",
    "available",
    "effective_protocol",
    "metric_rng",
    "protocols",
    "run_metric",
    "score",
    "settings",
]

Metric = Callable[..., Mapping[str, float | NotApplicable]]


class Scores(dict[str, float]):
    """Values by key. What cannot be computed is nan, and `notes` says why."""

    def __init__(self, values: Mapping[str, float] | None = None, notes: Mapping[str, str] | None = None) -> None:
        super().__init__(values or {})
        self.notes: dict[str, str] = dict(notes or {})


MOST_CELLS = 10**9  # of a table of classes
HINTS = {"there is no class factor": ": pass class_factor= with its name or number"}


def score(
    metrics: str | Metric | Sequence[str | Metric],
    codes: Codes | ArrayLike | Sequence[Codes],
    factors: ArrayLike | None = None,
    *,
    codes_test: ArrayLike | None = None,
    factors_test: ArrayLike | None = None,
    classes: Any = None,
    classes_test: Any = None,
    factor_sizes: Sequence[int] | None = None,
    factor_names: Sequence[str] | None = None,
    class_factor: str | int | None = None,
    grid: bool = False,
    ordinal: bool = False,
    attributes: ArrayLike | None = None,
    attributes_test: ArrayLike | None = None,
    attribute_names: Sequence[str] | None = None,
    protocol: str = "study",
    seed: int | Rng = 0,
) -> Scores:
    """Scores of these metrics.

    metrics: names, also of installed plugins, and metric functions, each with the protocols of its own file; one or
        several.
    codes: (n, c) numbers, or a `Codes` (then only metrics, protocol and seed are used beside it). A metric across runs
        (`udr`) takes a list of one or the other, a run each, of the same rows.
    factors: (n, f) non-negative integers (a single column may be (n,)); sizes default to the largest value + 1.
    classes: categorical latents: integers (n,) or (n, k), a column each; or a list of such columns (n,) and probability
        tables (n, k). classes_test: the same for the test rows.
    codes_test, factors_test: fixed test rows; without them a metric draws its own.
    class_factor: name or number of the factor that a categorical latent is hoped to find; a single factor is that one.
    grid: the rows are a full factor grid in order, last factor fastest, once or several times over.
    ordinal: each column of the codes holds a few values, as of a quantised code: they are the bins where a metric has
        bins.
    attributes: (n, a) numbers that were measured on the images, called attribute_names (by default a0, a1, …);
    attributes_test: the same of the test rows.
    protocol: named settings; a metric that lacks them uses "study".
    seed: each metric draws from (seed, its name); a Generator or RandomState is used as it is.

    >>> factors = np.random.default_rng(0).integers(4, size=(200, 2))
    >>> scores = score(["mig", "kl"], factors.astype(float), factors)
    >>> round(scores["mig"], 1), scores["kl_total"], scores.notes["kl_total"]
    (1.0, nan, 'the continuous code is deterministic')
    """
    asked = [metrics] if isinstance(metrics, str) or callable(metrics) else list(metrics or ())
    if not asked:
        raise ValueError(f"no metric is named; there are {', '.join(available())}")
    chosen = [_load(metric) for metric in asked]
    if not any(protocol in protocols(_module(metric)) for metric in chosen):
        every = [*chosen, *map(_load, available())]
        _refuse_unknown("protocol", protocol, {name for metric in every for name in protocols(_module(metric))})
    if not isinstance(seed, Rng) and not (isinstance(seed, int | np.integer) and seed >= 0):
        raise ValueError(f"seed must be an integer from 0 on, a Generator or a RandomState, not {seed!r}")
    measured = (attributes, attributes_test, attribute_names)
    given = (factors, codes_test, factors_test, classes, classes_test, measured, factor_sizes, factor_names,
             class_factor, grid, ordinal)  # fmt: skip
    across = [metric.__name__ for metric in chosen if getattr(_module(metric), "ACROSS_RUNS", False)]
    table: Codes | list[Codes]
    if across:
        if len(across) < len(chosen):
            raise ValueError(f"{across[0]!r} compares several runs; score it apart from the metrics of one run")
        if not isinstance(codes, list | tuple) or not all(isinstance(run, Codes) or np.ndim(run) == 2 for run in codes):
            raise ValueError(
                f"{across[0]!r} compares several runs of one model: give a list of Codes or (n, c) arrays, a run each"
            )
        table = [_table(run, *given) for run in codes]
    else:
        table = _table(codes, *given)
    scores = Scores()
    for metric in chosen:
        rng = seed if isinstance(seed, Rng) else metric_rng(seed, metric.__name__)
        found = run_metric(metric, table, rng, settings(_module(metric), protocol))
        scores.update(found)
        scores.notes.update({key: note + HINTS.get(note, "") for key, note in found.notes.items()})
    return scores


def run_metric(metric: Metric, codes: Codes | Sequence[Codes], rng: Rng, settings: Mapping[str, Any]) -> Scores:
    """One metric's scores; what is not applicable is nan with a note, and any other nan is an error of the metric."""
    name = metric.__name__
    try:
        found = metric(codes, rng, **settings)
    except NotApplicable as reason:
        found = {name: reason}
    if not hasattr(found, "items"):
        raise ValueError(f"metric {name!r} returned {found!r:.80}; return a dictionary of numbers")
    scores = Scores()
    for key, value in found.items():
        if not (isinstance(key, str) and key.startswith(name)):
            raise ValueError(f"metric {name!r} returned the key {key!r}; keys start with the metric's name")
        if isinstance(value, NotApplicable):
            scores[key], scores.notes[key] = math.nan, str(value)
        else:
            scores[key] = _number(value, f"metric {name!r} returned {value!r:.80} for {key!r}")
    return scores


def _number(value: Any, what: str) -> float:
    try:
        number = float("" if isinstance(value, str | bytes) else value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{what}; return a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{what}; return NotApplicable(reason) instead")
    return number


def metric_rng(seed: int, name: str, draw: int = 0) -> np.random.Generator:
    """The generator that a metric draws from: the same on every machine, another for every metric and draw."""
    return np.random.default_rng(np.random.SeedSequence([int(seed), zlib.crc32(name.encode())], spawn_key=(draw,)))


def effective_protocol(module: Any, protocol: str) -> str:
    """The protocol to record: "study" where a metric lacks the one asked for.

    "quick" is always quick, since it thins the images that are scored, whatever a metric then does with them.
    """
    return protocol if protocol == "quick" or protocol in protocols(module) else "study"


def protocols(module: Any) -> dict[str, dict[str, Any]]:
    """A metric file's named settings; a file that names none has one protocol, of its function's defaults."""
    return getattr(module, "PROTOCOLS", {"study": {}})


def settings(module: Any, protocol: str) -> dict[str, Any]:
    """What a protocol fixes for a metric; those of "study" where it has no such protocol."""
    named = protocols(module)
    return named.get(protocol, named.get("study", {}))


def available() -> list[str]:
    """Names of the metrics in this folder."""
    return sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def _load(metric: str | Metric) -> Metric:
    """The metric of a name: of this folder or, where it has none of it, of an installed plugin."""
    if not isinstance(metric, str):
        if not hasattr(metric, "__name__"):
            raise ValueError(f"a metric is a function with a name (def mymetric(codes, rng): …), not {metric!r}")
        return metric
    installed = {entry.name: entry.module for entry in entry_points(group="disentangle_bench.metrics")}
    places = {**installed, **{name: f"{__name__}.{name}" for name in available()}}
    _refuse_unknown("metric", metric, places)
    found: Metric = getattr(importlib.import_module(places[metric]), metric)
    return found


def _module(metric: Metric) -> ModuleType | None:
    return sys.modules.get(metric.__module__)


def _refuse_unknown(kind: str, name: str, allowed: Iterable[str]) -> None:
    allowed = sorted(allowed)
    if name not in allowed:
        near = difflib.get_close_matches(str(name), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        raise ValueError(f"unknown {kind} {name!r}{hint} available: {', '.join(allowed)}")


def _table(codes: Any, *given: Any) -> Codes:
    if not isinstance(codes, Codes):
        return _from_arrays(codes, *given)
    factors, codes_test, factors_test, classes, classes_test, measured, _, _, class_factor, _, ordinal = given
    rows = (factors, codes_test, factors_test, classes, classes_test, class_factor, *measured)
    if any(x is not None for x in rows) or (ordinal and not codes.ordinal):
        raise ValueError(
            "a Codes table brings its own factors, classes, attributes, `ordinal` and test rows; give arrays or a "
            "table, not both"
        )
    return codes


def _from_arrays(
    codes: ArrayLike,
    factors: ArrayLike | None,
    codes_test: ArrayLike | None,
    factors_test: ArrayLike | None,
    classes: Any,
    classes_test: Any,
    measured: tuple[ArrayLike | None, ArrayLike | None, Sequence[str] | None],
    factor_sizes: Sequence[int] | None,
    factor_names: Sequence[str] | None,
    class_factor: str | int | None,
    grid: bool,
    ordinal: bool,
) -> Codes:
    mean = _means(codes, "codes")
    values = _factors(factors, len(mean), "factors")
    parts = [values]
    if codes_test is not None:
        mean_test = _means(codes_test, "codes_test")
        if factors_test is None and factors is not None:
            raise ValueError("codes_test needs factors_test")
        parts.append(_factors(factors_test, len(mean_test), "factors_test"))
        if parts[1].shape[1] != values.shape[1]:
            raise ValueError(f"factors_test has {parts[1].shape[1]} columns, factors {values.shape[1]}")
    elif factors_test is not None or classes_test is not None:
        raise ValueError("factors_test and classes_test need codes_test")
    names = _names(factor_names, "factor_names", "f", values.shape[1])
    sizes = _sizes(parts) if factor_sizes is None else _whole(factor_sizes)
    columns = [_categorical(classes, len(mean), "classes")]
    columns.append(_categorical(classes_test, len(mean_test) if len(parts) == 2 else 0, "classes_test"))
    if len(parts) == 2 and len(columns[0]) != len(columns[1]):
        raise ValueError(f"classes has {len(columns[0])} latents, classes_test has {len(columns[1])}")
    probs = _probabilities(columns)
    attributes, attributes_test = (
        None if x is None else _means(x, name).astype(np.float64, copy=False)
        for x, name in zip(measured[:2], ("attributes", "attributes_test"), strict=True)
    )
    count = 0 if attributes is None else attributes.shape[1]
    known: dict[str, Any] = {"class_factor": _class_factor(class_factor, names), "ordinal": ordinal,
                             "attribute_names": _names(measured[2], "attribute_names", "a", count)}  # fmt: skip
    test = None
    if len(parts) == 2:
        try:
            test = Codes(mean_test, parts[1], names, sizes, probs=probs[1], attributes=attributes_test, **known)
        except ValueError as error:
            raise ValueError(f"test rows: {error}") from None
    elif attributes_test is not None:
        raise ValueError("attributes_test needs codes_test")
    return Codes(mean, values, names, sizes, probs=probs[0], attributes=attributes, grid=grid, test=test, **known)


def _names(names: Sequence[str] | None, what: str, letter: str, count: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{letter}{j}" for j in range(count))
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f"{what} must be a list of names, not {names!r:.80}")
    return tuple(map(str, names))


def _whole(sizes: Sequence[int]) -> tuple[int, ...]:
    try:
        found = None if isinstance(sizes, str) else tuple(map(int, sizes))
    except (TypeError, ValueError):
        found = None
    if found is None or list(found) != list(sizes):
        raise ValueError(f"factor_sizes must be a list of integers, one a factor, not {sizes!r:.80}")
    return found


def _class_factor(given: str | int | None, names: tuple[str, ...]) -> str | None:
    if given is None:
        return names[0] if len(names) == 1 else None
    if isinstance(given, int | np.integer) and 0 <= given < len(names):
        return names[given]
    if not isinstance(given, str):
        raise ValueError(f"class_factor {given!r:.80} is none of the factors {names}, nor one of their numbers from 0")
    return given


def _array(values: ArrayLike, name: str) -> NDArray:
    parts = values if isinstance(values, list | tuple) else [values]
    if any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in parts):
        raise ValueError(f"{name} has masked values; leave out their rows")
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{name} is no array: {error}") from None


def _means(codes: ArrayLike, name: str) -> NDArray[np.floating]:
    mean = _array(codes, name)
    if mean.dtype.kind not in "fiub" or mean.ndim != 2:
        raise ValueError(f"{name} must be (n, c) numbers, not {mean.shape} {mean.dtype}")
    return mean if mean.dtype in (np.float32, np.float64) else mean.astype(np.float64)


def _factors(factors: ArrayLike | None, n: int, name: str) -> NDArray[np.integer]:
    if factors is None:
        return np.zeros((n, 0), dtype=np.int64)
    values = _array(factors, name)
    if values.dtype.kind not in "biu" or values.ndim not in (1, 2):
        raise ValueError(f"{name} must be ({n}, f) integers, not {_form(values)}")
    if values.dtype.kind in "bu":
        values = values.astype(np.int64)
    return values[:, None] if values.ndim == 1 else values


def _sizes(parts: Sequence[NDArray[np.integer]]) -> tuple[int, ...]:
    return tuple(int(m) + 1 for m in np.max([part.max(axis=0, initial=0) for part in parts], axis=0, initial=0))


def _categorical(classes: Any, n: int, name: str) -> list[NDArray]:
    """A list with an integer column or a probability table for each categorical latent."""
    if classes is None:
        return []
    if isinstance(classes, list | tuple) and not (classes and np.isscalar(classes[0])):
        return [_latent(_array(item, name), n, name) for item in classes]
    table = _array(classes, name)
    if table.dtype.kind == "f" or table.ndim != 2:
        return [_latent(table, n, name)]
    return [_latent(column, n, name) for column in table.T]


def _latent(item: NDArray, n: int, name: str) -> NDArray:
    """An integer column or a probability table."""
    kinds = {1: "iu", 2: "fiub"}.get(item.ndim, "")
    if item.dtype.kind not in kinds or len(item) != n:
        raise ValueError(
            f"{name} must be non-negative integers ({n},) or probabilities ({n}, k), or a list of such arrays, not "
            f"{_form(item)}"
        )
    if item.ndim == 1 and item.min() < 0:
        raise ValueError(f"{name} must be non-negative integers, and {item.min()} is among them")
    return item


def _form(values: NDArray) -> str:
    text = values.dtype.kind in "OUS"
    hint = "; number labels from 0 on, those of test rows alike" if text else ""
    return f"{values.shape} {values.dtype}{hint}"


def _probabilities(columns: list[list[NDArray]]) -> list[tuple[NDArray[np.floating], ...]]:
    """Probability tables of both sets of rows, alike in width: integer columns become one-hot."""
    width = [max(_width(item) for item in items) for items in zip(*filter(None, columns), strict=True)]
    return [tuple(_one_hot(item, k) for item, k in zip(items, width, strict=False)) for items in columns]


def _width(item: NDArray) -> int:
    return item.shape[1] if item.ndim == 2 else int(item.max()) + 1


def _one_hot(item: NDArray, k: int) -> NDArray[np.floating]:
    if item.ndim == 2:
        return item.astype(float) if item.dtype.kind != "f" else item
    if k * len(item) > MOST_CELLS:
        raise ValueError(f"classes reach {k - 1} in {len(item)} rows: number those that occur from 0 on")
    table = np.zeros((len(item), k))
    table[np.arange(len(item)), item] = 1
    return table
