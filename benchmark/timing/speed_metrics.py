"""Time of each metric beside the plain scikit-learn or numpy form of the same definition, on the same codes.

`python -m benchmark.timing.speed_metrics [--metrics mig dci] [--points 10000] [--repeats 3]`. The forms take turns,
after a call that compiles; printed are medians, their ratio, and the time of all that the metric does under `study`,
then a score by either form. Plain trees take minutes, so `dci` and `downstream` are timed on --tree-points. The scores
of votes and clusters differ by their draws.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from benchmark.timing import plain_metrics
from metrics import Codes, available, metric_rng, run_metric

SIZES = (3, 6, 40, 32, 32)
RUNS = 5
VOTES, TREES, CATEGORICAL = (
    {"betavae_score", "factorvae_score"},
    {"dci", "downstream"},
    {"discrete_accuracy", "elbo_parts", "kl"},
)
# What the metrics are asked for, so that both forms do the same work.
SAME_WORK: dict[str, dict[str, Any]] = {
    "modularity": {"n_shuffles": 2},
    "betavae_score": {"batches": (64,)},
    "factorvae_score": {"batches": (64,)},
    "downstream": {"sizes": (10, 100, 1_000)},
}


def grid_codes(sizes: tuple[int, ...] = SIZES, seed: int = 0) -> Codes:
    """A whole factor grid: each factor in one latent under noise (signal to noise 4), and as many dead latents."""
    factors, rng = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1), np.random.default_rng(seed)
    mean = 0.5 * rng.standard_normal((len(factors), 2 * len(sizes)), dtype=np.float32)
    mean[:, : len(sizes)] += (factors - factors.mean(axis=0)) / factors.std(axis=0)
    mean[:, len(sizes) :] *= 0.05
    return Codes(mean, factors, tuple("abcdefgh"[: len(sizes)]), sizes, class_factor="a", grid=True)


def drawn(grid: Codes, n: int) -> Codes:
    """n rows to fit on, with n / 2 fixed test rows; posteriors, reconstruction errors and attributes are made up."""
    rng = np.random.default_rng(1)
    rows = rng.permutation(grid.n)[: n + n // 2]
    table, active = grid.select(rows), np.arange(grid.mean.shape[1]) < len(grid.factor_sizes)
    logvar = np.where(active, -2 + 0.1 * rng.standard_normal(table.mean.shape), 0).astype(np.float32)
    table = replace(table, logvar=logvar, recon=rng.uniform(10, 90, table.n))
    measured = table.factors + rng.standard_normal(table.factors.shape)
    table = replace(table, attributes=measured, attribute_names=table.factor_names)
    return replace(table.select(slice(n)), test=table.select(slice(n, None)))


def with_classes(codes: Codes, rng: np.random.Generator) -> Codes:
    """The codes with a categorical latent that finds the class factor, unsurely and with errors."""
    sure = np.eye(codes.factor_sizes[0])[codes.factors[:, 0]] + rng.exponential(0.4, (codes.n, codes.factor_sizes[0]))
    test = None if codes.test is None else with_classes(codes.test, rng)
    return replace(codes, probs=(sure / sure.sum(axis=1, keepdims=True),), test=test)


def runs_of(codes: Codes, rng: np.random.Generator) -> list[Codes]:
    """Runs that find the same latents in another order, with other signs and with noise."""
    orders = [rng.permutation(codes.mean.shape[1]) for _ in range(RUNS)]
    signs = rng.choice([-1, 1], (RUNS, codes.mean.shape[1])).astype(np.float32)
    noise = 0.3 * rng.standard_normal((RUNS, *codes.mean.shape), dtype=np.float32)
    logvar = np.zeros_like(codes.mean) if codes.logvar is None else codes.logvar
    return [
        replace(codes, mean=codes.mean[:, order] * sign + extra, logvar=logvar[:, order], test=None)
        for order, sign, extra in zip(orders, signs, noise, strict=True)
    ]


def codes_for(name: str, grid: Codes, n: int) -> Any:
    """What a metric is timed on: the grid where it votes, else n drawn points, or runs of them."""
    if name in VOTES:
        return grid
    codes, rng = drawn(grid, n), np.random.default_rng(4)
    if import_module(f"metrics.{name}").ACROSS_RUNS:
        return runs_of(codes, rng)
    return with_classes(codes, rng) if name in CATEGORICAL else codes


def plain(name: str, codes: Any) -> dict[str, float]:
    """Scores by the plain form, which bears the metric's name."""
    return getattr(plain_metrics, name)(codes)


def ours(name: str, codes: Any, **settings: Any) -> dict[str, float]:
    metric = getattr(import_module(f"metrics.{name}"), name)
    return run_metric(metric, codes, metric_rng(0, name), settings)


def compare(name: str, codes: Any, repeats: int) -> tuple[list[float], float, float]:
    """Median seconds of the plain form, of the metric at the same work, and at all of `study`; a score by each."""
    same = partial(ours, name, codes, **SAME_WORK.get(name, {}))
    forms: tuple[Callable[[], dict[str, float]], ...] = (partial(plain, name, codes), same, partial(ours, name, codes))
    times, scores = np.empty((repeats, len(forms))), [dict[str, float]()] * len(forms)
    for i, j in np.ndindex(times.shape):
        start, scores[j] = time.perf_counter(), forms[j]()
        times[i, j] = time.perf_counter() - start
    key = list(scores[0])[-1] if name == "downstream" else next(iter(scores[0]))
    return np.median(times, axis=0).tolist(), scores[0][key], scores[1][key]


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--metrics", nargs="+", choices=available(), default=available())
    parser.add_argument("--points", type=int, default=10_000, help="points to fit on; half as many to test on")
    parser.add_argument("--tree-points", type=int, default=1_000, help="the same for dci and downstream")
    parser.add_argument("--repeats", type=int, default=3)
    options, grid = parser.parse_args(), grid_codes()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"{os.cpu_count()} cores; medians of {options.repeats}")
    heads = ("plain s", "ours s", "ratio", "study s", "plain", "ours")
    print(f"{'metric':18}{'points':>7}" + "".join(f"{head:>10}" for head in heads))
    for name in options.metrics:
        n = options.tree_points if name in TREES else options.points
        codes = codes_for(name, grid, n)
        ours(name, codes)
        (plain_s, ours_s, study_s), expected, found = compare(name, codes, options.repeats)
        points = "grid" if codes is grid else n
        numbers = f"{plain_s:10.4f}{ours_s:10.4f}{plain_s / ours_s:10.1f}{study_s:10.4f}{expected:10.4f}{found:10.4f}"
        print(f"{name:18}{points:>7}{numbers}", flush=True)


if __name__ == "__main__":
    main()
