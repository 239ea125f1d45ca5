"""Time of each metric beside the plain scikit-learn or numpy form of the same definition, on the same codes.

`python -m benchmark.speed_metrics [--metrics mig dci] [--points 10000] [--repeats 3]`. The forms take turns, after a
call that compiles; printed are medians, their ratio, and the time of all that the metric does under `study`.
Plain trees take minutes, so `dci` is timed on --tree-points. The scores of votes differ by their draws.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from metrics import Codes, metric_rng, run_metric
from metrics.dci import disentanglement

SIZES = (3, 6, 40, 32, 32)
Floats = NDArray[np.floating]


def grid_codes(seed: int = 0) -> Codes:
    """dSprites' whole grid: each factor in one latent under noise (signal to noise 4), and 5 dead latents."""
    factors, rng = np.stack(np.unravel_index(np.arange(np.prod(SIZES)), SIZES), axis=1), np.random.default_rng(seed)
    mean = 0.5 * rng.standard_normal((len(factors), 2 * len(SIZES)), dtype=np.float32)
    mean[:, : len(SIZES)] += (factors - factors.mean(axis=0)) / factors.std(axis=0)
    mean[:, len(SIZES) :] *= 0.05
    return Codes(mean, factors, tuple("abcde"), SIZES, grid=True)


def drawn(codes: Codes, n: int) -> Codes:
    """n rows to fit on, with n / 2 fixed test rows."""
    rows = np.random.default_rng(1).permutation(codes.n)[: n + n // 2]
    train, test = codes.select(rows[:n]), codes.select(rows[n:])
    return Codes(train.mean, train.factors, tuple("abcde"), SIZES, test=test)


def information(codes: Codes) -> Floats:
    """Mutual information of every latent in 20 bins and every factor, pair by pair."""
    binned = [np.digitize(z, np.histogram(z, 20)[1][:-1]) for z in codes.mean.T]
    return np.array([[mutual_info_score(y, z) for y in codes.factors.T] for z in binned])


def plain_mig(codes: Codes) -> float:
    gaps = np.diff(np.sort(information(codes), axis=0)[-2:], axis=0)[0]
    return float(np.mean(gaps / [mutual_info_score(y, y) for y in codes.factors.T]))


def plain_modularity(codes: Codes) -> float:
    squared = information(codes) ** 2
    best, others = squared.max(axis=1), squared.shape[1] - 1
    for j, y in enumerate(codes.factors.T):
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(codes.mean, y)
        for part in (codes, codes.test or codes):
            roc_auc_score(part.factors[:, j], model.predict_proba(part.mean), multi_class="ovr")
    return float(np.mean(1 - (squared.sum(axis=1) - best) / best / others))


def plain_sap(codes: Codes) -> float:
    test, accuracy = codes.test or codes, np.zeros((codes.mean.shape[1], len(SIZES)))
    for i, j in np.ndindex(*accuracy.shape):
        svm = LinearSVC(C=0.01, class_weight="balanced", random_state=0).fit(codes.mean[:, [i]], codes.factors[:, j])
        accuracy[i, j] = svm.score(test.mean[:, [i]], test.factors[:, j])
    return float(np.mean(np.diff(np.sort(accuracy, axis=0)[-2:], axis=0)))


def plain_dci(codes: Codes) -> float:
    models = [GradientBoostingClassifier(random_state=0).fit(codes.mean, y) for y in codes.factors.T]
    for part in (codes, codes.test or codes):
        _ = [model.score(part.mean, y) for model, y in zip(models, part.factors.T, strict=True)]
    return disentanglement(np.stack([model.feature_importances_ for model in models], axis=1))


def alike(codes: Codes, rng: np.random.Generator, held: int, values: NDArray[np.integer]) -> Floats:
    """Codes of 64 random images that have the given values of one factor."""
    factors = [rng.integers(size, size=64) for size in SIZES]
    factors[held] = np.broadcast_to(values, 64)
    return codes.mean[np.ravel_multi_index(tuple(factors), SIZES)]


def plain_betavae_score(codes: Codes) -> float:
    rng, y = np.random.default_rng(2), np.random.default_rng(3).integers(len(SIZES), size=15_000)
    x = np.empty((len(y), codes.mean.shape[1]))
    for vote, held in enumerate(y):
        values = rng.integers(SIZES[held], size=64)
        x[vote] = np.abs(alike(codes, rng, held, values) - alike(codes, rng, held, values)).mean(axis=0)
    return float(LogisticRegression().fit(x[:10_000], y[:10_000]).score(x[10_000:], y[10_000:]))


def plain_factorvae_score(codes: Codes) -> float:
    rng, y = np.random.default_rng(2), np.random.default_rng(3).integers(len(SIZES), size=15_000)
    overall = codes.mean[rng.integers(codes.n, size=10_000)].var(axis=0, ddof=1)
    active = np.flatnonzero(np.sqrt(overall) >= 0.05)
    votes = np.zeros((2, len(SIZES), len(active)))
    for vote, held in enumerate(y):
        variance = alike(codes, rng, held, rng.integers(SIZES[held], size=1)).var(axis=0, ddof=1)
        votes[int(vote >= 10_000), held, (variance / overall)[active].argmin()] += 1
    return float(votes[1][votes[0].argmax(axis=0), np.arange(len(active))].sum() / votes[1].sum())


FORMS = (plain_mig, plain_modularity, plain_sap, plain_dci, plain_betavae_score, plain_factorvae_score)
PLAIN = {form.__name__.removeprefix("plain_"): form for form in FORMS}
# What the metrics are asked for, so that both do the same work.
VOTES: dict[str, Any] = {"batches": (64,)}
SAME_WORK = {"modularity": {"n_shuffles": 2}, "betavae_score": VOTES, "factorvae_score": VOTES}


def ours(name: str, codes: Codes, **settings: Any) -> float:
    metric = getattr(import_module(f"metrics.{name}"), name)
    return next(iter(run_metric(metric, codes, metric_rng(0, name), settings).values()))


def compare(name: str, codes: Codes, repeats: int) -> list[tuple[float, float]]:
    """Median seconds and the score of the plain form, of the metric at the same work, and at all of `study`."""
    same = SAME_WORK.get(name, {})
    forms = (partial(PLAIN[name], codes), partial(ours, name, codes, **same), partial(ours, name, codes))
    times, values = np.empty((repeats, len(forms))), np.empty(len(forms))
    for i, j in np.ndindex(times.shape):
        start, values[j] = time.perf_counter(), forms[j]()
        times[i, j] = time.perf_counter() - start
    return list(zip(np.median(times, axis=0).tolist(), values.tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--metrics", nargs="+", choices=PLAIN, default=list(PLAIN))
    parser.add_argument("--points", type=int, default=10_000, help="points to fit on; half as many to test on")
    parser.add_argument("--tree-points", type=int, default=1_000, help="the same for dci")
    parser.add_argument("--repeats", type=int, default=3)
    options, grid = parser.parse_args(), grid_codes()
    print(f"{os.cpu_count()} cores; medians of {options.repeats}")
    print(f"{'metric':16}{'points':>8}{'plain s':>10}{'ours s':>10}{'ratio':>8}{'study s':>10}{'plain':>8}{'ours':>8}")
    for name in options.metrics:
        n = options.tree_points if name == "dci" else options.points
        codes = grid if name in ("betavae_score", "factorvae_score") else drawn(grid, n)
        ours(name, codes)
        (plain_s, plain), (ours_s, value), (study_s, _) = compare(name, codes, options.repeats)
        points, ratio = "grid" if codes is grid else n, plain_s / ours_s
        print(f"{name:16}{points:>8}{plain_s:10.3f}{ours_s:10.3f}{ratio:8.1f}{study_s:10.3f}{plain:8.3f}{value:8.3f}")


if __name__ == "__main__":
    main()
