"""Differences between models: intervals, tests, effect sizes, and how many seeds would be needed. Pure functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from benchmark.statistics.stats import dead_rates, per_seed, t_interval, unlearned

Floats = NDArray[np.floating]
ALPHA, POWER = 0.05, 0.8
EXACT = 20_000  # splits of two samples up to which all are enumerated: 8 against 8
SETTING = ["dataset", "metric", "protocol", "steps"]
COMPARISONS = [
    *SETTING,
    "better",
    "model_a",
    "config_a",
    "model_b",
    "config_b",
    "design",
    "n_a",
    "n_b",
    "failed_a",
    "failed_b",
    "mean_a",
    "mean_b",
    "difference",
    "ci_low",
    "ci_high",
    "p_welch",
    "p",
    "family",
    "p_holm",
    "verdict",
    "hedges_g",
    "g_low",
    "g_high",
    "a_above_b",
    "seeds_needed",
    "seeds_low",
    "seeds_high",
]


def welch(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Interval of the difference of two means, a - b, and the p-value of Welch's t test; nan below two values each.

    Welch, 1947, "The generalization of 'Student's' problem when several different population variances are involved".
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if min(len(x), len(y)) < 2:
        return (float("nan"),) * 3
    of_x, of_y = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    difference, error = x.mean() - y.mean(), math.sqrt(of_x + of_y)
    if error <= 1e-12 * max(abs(x).max(), abs(y).max(), 1e-300):
        return float(difference), float(difference), float(difference == 0)
    df = (of_x + of_y) ** 2 / (of_x**2 / (len(x) - 1) + of_y**2 / (len(y) - 1))
    half = stats.t.ppf(0.5 + confidence / 2, df) * error
    p = 2 * stats.t.sf(abs(difference) / error, df)
    return float(difference - half), float(difference + half), float(p)


def permutation_test(a: ArrayLike, b: ArrayLike, draws: int = 9_999) -> Floats:
    """Two-sided p-values of permutation tests on Welch's t, of a (…, n) against b (…, m).

    All splits into n and m are enumerated where there are at most 20,000 (252 for 5 and 5: no p-value is below
    2/252 = 0.008); else `draws` random ones, with a fixed seed, and the observed one. nan below two values each.

    Exact where both models have one distribution; where one's deviation is three times the other's and seeds are few,
    it errs a little more often than it says (docs/statistics.md).

    Janssen, 1997, "Studentized permutation tests for non-i.i.d. hypotheses and the generalized Behrens-Fisher problem".

    >>> float(permutation_test([1, 2, 3, 4], [5, 6, 7, 8]))  # 2 of 70 splits
    0.02857142857142857
    """
    x, y = np.atleast_2d(np.asarray(a, dtype=float)), np.atleast_2d(np.asarray(b, dtype=float))
    shape, n, m = np.shape(a)[:-1], x.shape[-1], y.shape[-1]
    if min(n, m) < 2:
        return np.full(shape, np.nan)
    values = np.concatenate([x, y], axis=1)
    values = values - values.mean(axis=1, keepdims=True)
    values /= np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-300)
    splits = _splits(n, m, draws)
    p = np.empty(len(values))
    for start in range(0, len(values), 256):
        block = values[start : start + 256]
        sums, squares = block @ splits.T, np.square(block) @ splits.T
        others, other_squares = (
            block.sum(axis=1, keepdims=True) - sums,
            np.square(block).sum(1, keepdims=True) - squares,
        )
        error = (squares - sums**2 / n) / (n * (n - 1)) + (other_squares - others**2 / m) / (m * (m - 1))
        difference = np.abs(sums / n - others / m)
        # the values are at most 1: what lies below 1e-9 is rounding, which must not part a split from its mirror
        t = np.where(difference > 1e-12, difference / np.sqrt(np.maximum(error, 1e-9)), 0)
        p[start : start + 256] = np.mean(t >= t[:, :1] * (1 - 1e-7), axis=1)
    return p.reshape(shape)


@lru_cache(maxsize=16)
def _splits(n: int, m: int, draws: int) -> Floats:
    """(splits, n + m) zeros and ones: which values are in the first sample; the first row is the split as observed."""
    if math.comb(n + m, n) <= EXACT:
        chosen = np.array(list(itertools.combinations(range(n + m), n)))
    else:
        rng = np.random.default_rng(0)
        chosen = np.concatenate([[np.arange(n)], rng.permuted(np.tile(np.arange(n + m), (draws, 1)), axis=1)[:, :n]])
    table = np.zeros((len(chosen), n + m))
    np.put_along_axis(table, chosen, 1, axis=1)
    return table


def sign_flip_test(differences: ArrayLike, draws: int = 9_999) -> float:
    """Two-sided p-value of the exact test of paired differences: all 2^n changes of sign up to n = 15, else `draws`.

    5 pairs reach 2/32 = 0.0625 at best. Fisher, 1935, "The design of experiments", section 21.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return float("nan")
    if len(d) <= 15:
        signs = np.array(list(itertools.product((1, -1), repeat=len(d))))
    else:
        signs = np.concatenate([np.ones((1, len(d))), np.random.default_rng(0).choice([1, -1], (draws, len(d)))])
    sums = np.abs(signs @ d)
    return float(np.mean(sums >= sums[0] - 1e-9 * np.abs(d).sum()))


def holm(p: ArrayLike) -> Floats:
    """p-values corrected over their family; nan stays and counts for nothing.

    Holm, 1979, "A simple sequentially rejective multiple test procedure".

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    values = np.asarray(p, dtype=float)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    corrected = np.full(len(values), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


def hedges_g(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Difference in pooled standard deviations, corrected for small samples, and its interval by the noncentral t.

    Hedges, 1981, "Distribution theory for Glass's estimator of effect size and related estimators".
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    n, m = len(x), len(y)
    df = n + m - 2
    pooled = math.sqrt((x.var() * n + y.var() * m) / df) if min(n, m) > 1 else 0.0
    if pooled <= 1e-12 * max(abs(x).max(), abs(y).max(), 1e-300):
        return (float("nan"),) * 3
    scale = math.sqrt(1 / n + 1 / m)
    t = float(x.mean() - y.mean()) / pooled / scale
    correct = math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2) if df > 1 else 1.0
    tails = [0.5 + confidence / 2, 0.5 - confidence / 2]
    # the inverse is for positive t only where it is far from 0, so both signs are made positive
    if abs(t) > 1e3:  # that inverse takes forever far out, where T is near δ / sqrt(χ² / df)
        ends = [abs(t) * math.sqrt(stats.chi2.ppf(1 - tail, df) / df) * scale for tail in tails]
    else:
        ends = [float(special.nctdtrinc(df, tail, abs(t))) * scale for tail in tails]
    low, high = ends if t >= 0 else (-ends[1], -ends[0])
    return t * scale * correct, low * correct, high * correct


def power(effect: float, n: float, alpha: float = ALPHA) -> float:
    """Chance that a two-sided t test shows a difference of `effect` standard deviations with n seeds each."""
    df, shift = 2 * n - 2, abs(effect) * math.sqrt(n / 2)
    t = stats.t.isf(alpha / 2, df)
    return float(1 - special.nctdtr(df, shift, t) + special.nctdtr(df, shift, -t))


def seeds_needed(effect: float, alpha: float = ALPHA, target: float = POWER, most: int = 100_000) -> float:
    """Seeds of each of two models for the permutation test to show a difference of `effect` standard deviations.

    By the power of the t test at the level that the permutation test can attain with so many seeds (its p-values are
    multiples of 2/C(2n, n), so 3 seeds can never give 0.05). inf for no effect or above `most`. For normal scores with
    equal spread.

    Cohen, 1988, "Statistical power analysis for the behavioral sciences", chapter 2.
    """
    if not abs(effect) > 0:
        return math.inf if effect == 0 else math.nan
    low = high = least_seeds(alpha)
    while power(effect, high, attainable(alpha, high)) < target:
        low, high = high + 1, 2 * high
        if low > most:
            return math.inf
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, attainable(alpha, middle)) >= target else (middle + 1, high)
    return low


def attainable(alpha: float, n: int) -> float:
    """The largest p-value up to alpha that the permutation test of n against n can give.

    >>> round(attainable(0.05, 4), 4)
    0.0286
    """
    splits = math.comb(2 * n, n) // 2 if n < EXACT.bit_length() else EXACT  # more than 2^n, and slow to count
    return math.floor(alpha * splits) / splits if 2 * splits <= EXACT else alpha


@lru_cache(maxsize=256)
def least_seeds(alpha: float) -> int:
    """The fewest seeds of each model with which a permutation test can give a p-value of alpha."""
    return next(n for n in itertools.count(2) if least_p(n, n) <= alpha)


def least_p(n: int, m: int) -> float:
    """The least p-value that the permutation test can give with so many seeds; 1 where one side has a single one."""
    return (1 + (n == m)) / math.comb(n + m, n) if min(n, m) > 1 else 1.0


def above(a: ArrayLike, b: ArrayLike) -> float:
    """Probability of improvement: that a run of a scores more than a run of b, ties counting half.

    Agarwal, Schwarzer, Castro, Courville and Bellemare, 2021, "Deep reinforcement learning at the edge of the
    statistical precipice" (Mann and Whitney's U over n·m).
    """
    difference = np.subtract.outer(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def comparisons(scores: pd.DataFrame, failed: pd.DataFrame) -> pd.DataFrame:
    """A row per pair of trained configurations and score, on one data set, protocol and number of steps.

    `difference` is mean_a - mean_b with Welch's interval, `p` that of the permutation test, `p_holm` corrected over
    the `family`: all pairs of one score (data set, metric, protocol, steps). `verdict` names the side that is better at
    a corrected p of 0.05 or less and an interval without 0 (`a`, `b`; `differ` for a score that is neither good nor
    bad), or says `not shown`; it is `not learned`, and the pair in no family, where most runs of one side are dead
    (`stats.unlearned`).
    `a_above_b` is the probability of improvement. `seeds_needed` would show the estimated effect, within this family,
    with 80 % power; `seeds_low` and `seeds_high` are those of the ends of the effect's interval (empty: no number).

    An equal seed does not pair two models, so their runs are independent samples. Two configurations of one model (a
    sweep) share batches and noise: with enough common seeds for the test by signs to show anything in the family (6 for
    one pair, 7 for three, 10 for fifteen) their runs are compared as pairs (`design`), by the t interval of the
    differences. Effects and seeds needed are always those of independent runs. A score over runs is left out.
    """
    seeds = per_seed(scores[(scores["kind"] == "run") & ~scores["over_runs"]])
    lost = failed.groupby(["dataset", "model", "config"])["seed"].agg(set).to_dict()
    rows: list[dict[str, Any]] = []
    samples: list[tuple[Floats, Floats]] = []
    for (*setting, better), group in seeds.groupby([*SETTING, "better"], sort=True):
        found = {key: part.set_index("seed")["value"] for key, part in group.groupby(["model", "config"], sort=True)}
        for (a, x), (b, y) in itertools.combinations(found.items(), 2):
            gone = [len(lost.get((setting[0], *key), set()) - set(v.index)) for key, v in ((a, x), (b, y))]
            rows.append(
                {
                    **dict(zip(SETTING, setting, strict=True)),
                    "better": better,
                    "model_a": a[0],
                    "config_a": a[1],
                    "model_b": b[0],
                    "config_b": b[1],
                    "failed_a": gone[0],
                    "failed_b": gone[1],
                    **difference(x, y, paired=a[0] == b[0] and signs_can_pass(x, y, math.comb(len(found), 2))),
                }
            )
            samples.append((x.to_numpy(), y.to_numpy()))
    fill_in_p(rows, samples)
    table = pd.DataFrame(rows, columns=COMPARISONS)
    return _corrected(table, _concluded(rows, dead_rates(scores))) if len(table) else table


def _concluded(rows: Sequence[dict[str, Any]], rates: pd.DataFrame) -> list[bool]:
    """Whether something may be concluded from each pair: most runs of both sides have learned."""
    dead = {metric: unlearned(rates, metric) for metric in {row["metric"] for row in rows}}
    return [
        not any((row["dataset"], row[f"model_{side}"], row[f"config_{side}"]) in dead[row["metric"]] for side in "ab")
        for row in rows
    ]


def signs_can_pass(x: pd.Series, y: pd.Series, family: int) -> bool:
    """Whether the common seeds are enough for the test by signs to show anything in a family of so many tests."""
    return 2.0 ** (1 - len(x.index.intersection(y.index))) * family <= ALPHA


def difference(x: pd.Series, y: pd.Series, paired: bool) -> dict[str, Any]:
    """Everything of a pair but `p` where it is not `paired`, which `fill_in_p` does; x and y are scores by seed."""
    a, b = x.to_numpy(), y.to_numpy()
    common = x.index.intersection(y.index)
    low, high, p = welch(a, b)
    g, g_low, g_high = hedges_g(a, b)
    row = {
        "design": "independent",
        "n_a": len(a),
        "n_b": len(b),
        "mean_a": a.mean(),
        "mean_b": b.mean(),
        "difference": a.mean() - b.mean(),
        "ci_low": low,
        "ci_high": high,
        "p_welch": p,
        "p": float("nan"),
        "hedges_g": g,
        "g_low": g_low,
        "g_high": g_high,
        "a_above_b": above(a, b),
    }
    if paired:
        d = (x[common] - y[common]).to_numpy()
        low, high = t_interval(d)
        row |= {"design": "paired", "difference": d.mean(), "ci_low": low, "ci_high": high, "p": sign_flip_test(d)}
    return row


def fill_in_p(rows: Sequence[dict[str, Any]], samples: Sequence[tuple[Floats, Floats]]) -> None:
    """Fill in `p` of the independent pairs, by the permutation test of those of equal sizes together."""
    sizes: dict[tuple[int, int], list[int]] = {}
    for i, (x, y) in enumerate(samples):
        if rows[i]["design"] == "independent":
            sizes.setdefault((len(x), len(y)), []).append(i)
    for places in sizes.values():
        p = permutation_test(np.stack([samples[i][0] for i in places]), np.stack([samples[i][1] for i in places]))
        for i, value in zip(places, p, strict=True):
            rows[i]["p"] = float(value)


def _corrected(table: pd.DataFrame, concluded: Sequence[bool]) -> pd.DataFrame:
    """With Holm's correction over each family, the verdicts, and the seeds that a test in that family needs."""
    families = table.assign(p=table["p"].where(concluded)).groupby(SETTING, dropna=False)
    table["family"] = families["p"].transform("count")  # a pair that cannot be tested has no p-value, as for Holm
    table["p_holm"] = families["p"].transform(lambda p: holm(p.to_numpy()))
    holds_0 = (table["ci_low"] <= 0) & (table["ci_high"] >= 0)  # also at a small p, of 2 seeds against 5
    shown = (table["p_holm"] <= ALPHA) & ~holds_0
    a_better = (table["difference"] > 0) == (table["better"] == "higher")
    table["verdict"] = np.where(
        ~shown, "not shown", np.where(table["better"] == "neither", "differ", np.where(a_better, "a", "b"))
    )
    table.loc[~np.array(concluded), "verdict"] = "not learned"
    needed = [
        _seeds(row) if known else (math.nan,) * 3 for row, known in zip(table.itertuples(), concluded, strict=True)
    ]
    table[["seeds_needed", "seeds_low", "seeds_high"]] = np.where(np.isfinite(needed), needed, math.nan)
    return table


def _seeds(row: Any) -> tuple[float, float, float]:
    """Seeds that would show the effect of a pair within its family, and those of the ends of the effect's interval."""
    alpha = ALPHA / max(row.family, 1)
    near, far = sorted((abs(row.g_low), abs(row.g_high))) if row.g_low == row.g_low else (math.nan, math.nan)
    least = 0.0 if row.g_low < 0 < row.g_high else near
    return seeds_needed(row.hedges_g, alpha), seeds_needed(far, alpha), seeds_needed(least, alpha)
