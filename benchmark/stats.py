"""Statistics over seeds: pure functions on numbers and on the long table of scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

GROUP = ["dataset", "model", "config", "kind", "metric", "protocol", "steps"]
SUMMARY = [*GROUP, "n", "failed", "mean", "std", "median", "iqm", "ci_low", "ci_high", "best"]


def t_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of independent values; (nan, nan) for fewer than two.

    Student: The Probable Error of a Mean (1908).
    """
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(0.5 + confidence / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return float(x.mean() - half), float(x.mean() + half)


def interquartile_mean(values: ArrayLike) -> float:
    """Mean of the middle half: a quarter of the values is cut at each end, in whole values as scipy's trim_mean."""
    return float(stats.trim_mean(np.asarray(values, dtype=float), 0.25))


def summarise(scores: pd.DataFrame, failed: pd.DataFrame) -> pd.DataFrame:
    """A row per data set, model, configuration and metric, over seeds.

    scores: long table with the columns of scores.csv and `better`; empty values (not applicable) do not count.
    failed: rows of runs.csv of the failed runs; `failed` counts those that lack the score. A configuration without any
    score has one row, of metric `none`. A seed's evaluation draws are averaged first.
    """
    known = scores.dropna(subset=["value"])
    per_seed = known.groupby([*GROUP, "better", "seed"], sort=True)["value"].mean().reset_index()
    rows = []
    for key, group in per_seed.groupby([*GROUP, "better"], sort=True):
        *names, better = key
        x = group["value"].to_numpy()
        low, high = t_interval(x)
        rows.append(
            {
                **dict(zip(GROUP, names, strict=True)),
                "n": len(x),
                "failed": len(_of(failed, names) - set(group["seed"])),
                "mean": x.mean(),
                "std": x.std(ddof=1) if len(x) > 1 else float("nan"),
                "median": float(np.median(x)),
                "iqm": interquartile_mean(x),
                "ci_low": low,
                "ci_high": high,
                "best": {"lower": x.min(), "higher": x.max()}.get(str(better), float("nan")),
            }
        )
    scored = {tuple(row[name] for name in GROUP[:3]) for row in rows}
    for key, group in failed.groupby(GROUP[:3]):
        if key not in scored:
            same = {"kind": "run", "metric": "none", "steps": group["steps"].iloc[0], "n": 0, "failed": len(group)}
            rows.append({**dict(zip(GROUP, key, strict=False)), **same})
    return pd.DataFrame(rows, columns=SUMMARY)


def draw_errors(scores: pd.DataFrame) -> pd.DataFrame:
    """Standard error that evaluation draws leave in one seed's score, a row per group of `summarise` with 2 draws or
    more: the standard deviation over draws within a seed (pooled over seeds), over the root of the number of draws."""
    known = scores.dropna(subset=["value"])
    within = known.groupby([*GROUP, "seed"])["value"].agg(["var", "count"]).reset_index()
    within = within[within["count"] > 1]
    pooled = within.groupby(GROUP).agg(variance=("var", "mean"), draws=("count", "mean")).reset_index()
    return pooled.assign(error=np.sqrt(pooled["variance"] / pooled["draws"]))[[*GROUP, "error"]]


def _of(failed: pd.DataFrame, names: list[object]) -> set[int]:
    """Seeds of the failed runs of a data set, model and configuration."""
    same = (failed["dataset"] == names[0]) & (failed["model"] == names[1]) & (failed["config"] == names[2])
    return set(failed.loc[same, "seed"])
