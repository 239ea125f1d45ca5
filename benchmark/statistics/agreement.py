"""Do metrics agree with each other, do seeds find the same latents, and does choosing without labels work? Pure."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import linear_sum_assignment

from metrics import Codes
from metrics.udr import in_use

AGREEMENT = [
    "kind",
    "dataset",
    "model",
    "config",
    "a",
    "b",
    "protocol_a",
    "protocol_b",
    "n",
    "value",
    "low",
    "high",
    "note",
]
SELECTION = [
    "dataset",
    "model",
    "criterion",
    "metric",
    "protocol",
    "n",
    "chosen",
    "score",
    "best",
    "regret",
    "random_regret",
]
Scored = tuple[str, str]  # key and protocol
CRITERIA = ("udr", "udr_spearman", "reconstruction")
ROWS = 10_000
LEAST_KL = 0.01


def metric_agreement(scores: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Spearman's rank correlation of every two keys over all trained runs of a data set that have both.

    Scores of which less is better have their sign changed, so that a positive value means agreement on what is better.
    `low` and `high` are the 95 % interval after Fisher's transformation. Runs of several models count together: two
    metrics that both separate the models agree, whatever they do within one. Scores of two protocols are paired only
    where neither was computed under the other's.

    Spearman, 1904, "The proof and measurement of association between two things"; Bonett and Wright, 2000, "Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations" (the interval).
    """
    known = scores[(scores["kind"] == "run") & scores["value"].notna() & scores["metric"].isin(keys)]
    known = known[known["better"] != "neither"]
    known = known.assign(value=np.where(known["better"] == "lower", -known["value"], known["value"]))
    rows = []
    for dataset, part in known.groupby("dataset", sort=True):
        wide = part.pivot_table(index=["model", "config", "seed"], columns=["metric", "protocol"], values="value")
        for one, other in itertools.combinations(wide.columns, 2):
            if not _of_one_protocol(one, other, wide.columns):
                continue
            both = wide[[one, other]].dropna()
            value, low, high = spearman(both[one].to_numpy(), both[other].to_numpy())
            rows.append(
                {
                    "kind": "metrics",
                    "dataset": dataset,
                    "a": one[0],
                    "b": other[0],
                    "protocol_a": one[1],
                    "protocol_b": other[1],
                    "n": len(both),
                    "value": value,
                    "low": low,
                    "high": high,
                    "note": "" if value == value else "fewer than 3 runs, or a score that never differs",
                }
            )
    return pd.DataFrame(rows, columns=AGREEMENT)


def _of_one_protocol(one: Scored, other: Scored, known: Collection[Scored]) -> bool:
    """Whether two scores are of one protocol, or neither is known under the other's."""
    return one[1] == other[1] or ((one[0], other[1]) not in known and (other[0], one[1]) not in known)


def spearman(a: NDArray[np.floating], b: NDArray[np.floating]) -> tuple[float, float, float]:
    """Rank correlation and its 95 % interval; nan below 3 values or where one never differs, no interval below 5."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan"), float("nan"), float("nan")
    rho = float(np.clip(stats.spearmanr(a, b).statistic, -1, 1))
    if len(a) < 5 or abs(rho) > 1 - 1e-12:
        return rho, float("nan"), float("nan")
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / (len(a) - 3))
    return rho, float(np.tanh(np.arctanh(rho) - half)), float(np.tanh(np.arctanh(rho) + half))


def seed_agreement(runs: Mapping[int, Codes]) -> list[dict[str, object]]:
    """How far two runs of one configuration have the same latents: rows of `AGREEMENT` for every two seeds.

    runs: seed -> codes of the same images. `latents`: continuous latents in use (that vary, KL above 0.01 nats) are
    matched one to one by their absolute correlations (Kuhn, 1955, "The Hungarian method for the assignment problem");
    the value is the sum over the matched, by the larger number in use: in [0, 1], 1 where both runs found the same up
    to order and sign. `classes`: the largest share of images in matched classes of the two runs' categorical latents.
    Images are at most 10,000, evenly spaced. Equal failures agree: where a run uses no latent, or one class, there is
    no value but a note. Chance is not 0: the best match of unrelated latents of n images is near 1/√n, that of k equal
    classes somewhat above 1/k.
    """
    tables = {seed: codes.select(slice(None, None, -(-codes.n // ROWS))) for seed, codes in runs.items()}
    rows: list[dict[str, object]] = []
    for (a, one), (b, other) in itertools.combinations(sorted(tables.items()), 2):
        if one.n != other.n or not np.array_equal(one.factors, other.factors):
            continue  # encoded for protocols with other images
        same = {"kind": "seeds", "n": one.n, "protocol_a": "", "protocol_b": ""}
        if one.mean.shape[1]:
            value, note = _latents(one, other)
            rows.append({**same, "a": f"latents of seed {a}", "b": f"seed {b}", "value": value, "note": note})
        if one.probs and other.probs:
            value, note = _classes(one, other)
            rows.append({**same, "a": f"classes of seed {a}", "b": f"seed {b}", "value": value, "note": note})
    return rows


def _latents(one: Codes, other: Codes) -> tuple[float, str]:
    c = one.mean.shape[1]
    x, y = (run.mean[:, [i for i in in_use(run, LEAST_KL) if i < c]].astype(float) for run in (one, other))
    if not x.shape[1] or not y.shape[1]:
        return float("nan"), "a run uses no continuous latent"
    x, y = ((z - z.mean(axis=0)) / z.std(axis=0) for z in (x, y))
    correlation = np.abs(x.T @ y) / len(x)
    matched = correlation[linear_sum_assignment(correlation, maximize=True)].sum()
    return min(1.0, float(matched / max(x.shape[1], y.shape[1]))), ""


def _classes(one: Codes, other: Codes) -> tuple[float, str]:
    if min(np.ptp(run.classes, axis=0).min() for run in (one, other)) == 0:
        return float("nan"), "a run uses one class"
    shares = np.array([[_matched(a, b) for b in other.classes.T] for a in one.classes.T])
    return float(shares[linear_sum_assignment(shares, maximize=True)].mean()), ""


def _matched(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    table = np.zeros((int(a.max()) + 1, int(b.max()) + 1))
    np.add.at(table, (a, b), 1)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(a))


def selection(scores: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """What choosing a run of a model without labels costs: a row per model, criterion and headline key.

    Among all runs of a model on a data set (seeds and configurations) the criterion (`udr`, `udr_spearman` or the
    reconstruction) chooses one; `regret` is how much its score lies behind the best run's, `random_regret` what a run
    drawn at random would lose on average. Needs two runs with both.

    Duan, Matthey, Saraiva, Watters, Burgess, Lerchner and Higgins, 2020, "Unsupervised model selection for variational
    disentangled representation learning".
    """
    known = scores[(scores["kind"] == "run") & scores["value"].notna() & (scores["better"] != "neither")]
    lower = set(known.loc[known["better"] == "lower", "metric"])
    rows = []
    for (dataset, model), part in known.groupby(["dataset", "model"], sort=True):
        wide = part.pivot_table(index=["config", "seed"], columns=["metric", "protocol"], values="value")
        for rule, key in itertools.product(wide.columns, wide.columns):
            if rule[0] not in CRITERIA or key[0] not in keys or key[0] in CRITERIA:
                continue
            if not _of_one_protocol(rule, key, wide.columns):
                continue
            both = wide[[rule, key]].dropna()
            if len(both) < 2:
                continue
            sign = -1 if key[0] in lower else 1
            by, values = both[rule] * (-1 if rule[0] in lower else 1), sign * both[key]
            config, seed = by.idxmax()
            score = float(values.loc[by.idxmax()])
            rows.append(
                {
                    "dataset": dataset,
                    "model": model,
                    "criterion": rule[0],
                    "metric": key[0],
                    "protocol": key[1],
                    "n": len(both),
                    "chosen": f"{config} seed {seed}",
                    "score": sign * score,
                    "best": sign * float(values.max()),
                    "regret": float(values.max()) - score,
                    "random_regret": float(values.max() - values.mean()),
                }
            )
    return pd.DataFrame(rows, columns=SELECTION)
