"""Statistics over seeds: pure functions on numbers and on the long table of scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from benchmark.defaults import HEADLINE

GROUP = ["dataset", "model", "config", "kind", "metric", "protocol", "steps"]
SUMMARY = [*GROUP, "n", "failed", "mean", "std", "median", "iqm", "ci_low", "ci_high", "best"]
SPREAD = [*GROUP, "n", "failed", "dead", "mean", "mean_low", "mean_high", "mean_of_live", "worst", "best", "median",
          "median_low", "median_high", "median_coverage", "iqm", "iqm_low", "iqm_high"]  # fmt: skip
VARIANCE = [*GROUP, "seeds", "draws", "seed_variance", "draw_variance", "seed_share", "draw_share"]
POOLED = "all"
HIDDEN = re.compile("_train|_se$|_residual$")
ARROW = {"higher": "↑", "lower": "↓", "neither": ""}
CONFIG, RUN = ["dataset", "model", "config"], ["dataset", "model", "config", "seed"]
STATES = [*RUN, "state", "reason", "class_state"]
RATES = [*CONFIG, "steps", "runs", "dead", "rate", "low", "high", "classes", "dead_classes"]
VITAL = ("active_units", "discrete_accuracy", "kl", "reconstruction")  # metrics that tell whether a run is dead
OF_THE_CLASS = "discrete_accuracy"  # keys that begin so say nothing where the class is dead
DEAD_RATE = "dead_runs"  # a row of spread.csv
LEAST_KL, LEAST_GAIN = 0.01, 0.01  # nats; share of what can be gained on a constant image


def headline(scores: pd.DataFrame, chosen: Sequence[str] = HEADLINE) -> list[str]:
    """Those of the chosen keys that there are; where there is none, all that stand for their metric."""
    known = set(scores.dropna(subset=["value"])["metric"])
    return [key for key in chosen if key in known] or main_keys(scores)


def main_keys(scores: pd.DataFrame) -> list[str]:
    """The keys that stand for their metric: the one with its name, or all but training points and standard errors."""
    keys: list[str] = []
    for plugin, part in scores.dropna(subset=["value"]).groupby("plugin"):
        own = sorted(part["metric"].unique())
        keys += [str(plugin)] if plugin in own else [key for key in own if not HIDDEN.search(key)]
    return keys


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
    """Mean of the middle half: a quarter of the values, rounded down to whole ones, is cut at each end."""
    x = np.sort(np.asarray(values, dtype=float))
    cut = len(x) // 4
    return float(x[cut : len(x) - cut].mean())


def iqm_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the population's interquartile mean: Student's t on Winsorised deviations; (nan, nan) below two.

    5 values leave 2 degrees of freedom: it is wide.

    Tukey and McLaughlin, 1963, "Less vulnerable confidence and significance procedures for location based on a single
    sample".
    """
    x = np.sort(np.asarray(values, dtype=float))
    cut = len(x) // 4
    kept = len(x) - 2 * cut
    if kept < 2:
        return float("nan"), float("nan")
    winsorised = np.clip(x, x[cut], x[-1 - cut])
    error = np.sqrt(np.square(winsorised - winsorised.mean()).sum() / (kept * (kept - 1)))
    half, middle = stats.t.ppf(0.5 + confidence / 2, kept - 1) * error, interquartile_mean(x)
    return float(middle - half), float(middle + half)


def median_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Interval of the median between two order statistics, and its exact coverage for any continuous distribution.

    Fewer than 6 values reach no 95 %: their whole range is given, which covers 1 - 2^(1-n), 93.75 % at n = 5; more
    values have the next step above 95 % (97.9 % at n = 10, 96.7 % at 50).

    Thompson, 1936, "On confidence ranges for the median and other expectation distributions".

    >>> median_interval([3, 1, 2, 5, 4])
    (1.0, 5.0, 0.9375)
    """
    x = np.sort(np.asarray(values, dtype=float))
    n = len(x)
    if n < 2:
        return float("nan"), float("nan"), float("nan")
    tail = stats.binom.cdf(np.arange(n // 2), n, 0.5)  # tail[k]: the chance that the median lies beyond x[k]
    k = max(int(np.searchsorted(tail, (1 - confidence) / 2, side="right")) - 1, 0)
    return float(x[k]), float(x[n - 1 - k]), float(1 - 2 * tail[k])


def pooled_iqm(groups: Sequence[ArrayLike], confidence: float = 0.95, draws: int = 2000) -> tuple[float, float, float]:
    """Interquartile mean of the runs on all data sets together, and its percentile bootstrap interval.

    groups: the scores on each data set; each is resampled by itself. Nothing better is known for few runs: the nominal
    95 % covers about 90 % with 5 runs on each of two data sets, 93 % with 10, 95 % with 50 (normal scores, equal
    spread), so the interval is too short for few seeds.

    Agarwal, Schwarzer, Castro, Courville and Bellemare, 2021, "Deep reinforcement learning at the edge of the
    statistical precipice".
    """
    arrays = [np.asarray(group, dtype=float) for group in groups]
    value = interquartile_mean(np.concatenate(arrays))
    if min(map(len, arrays)) < 2:
        return value, float("nan"), float("nan")
    rng = np.random.default_rng(0)
    resampled = np.concatenate([rng.choice(x, (draws, len(x))) for x in arrays], axis=1)
    low, high = np.quantile(stats.trim_mean(resampled, 0.25, axis=1), [0.5 - confidence / 2, 0.5 + confidence / 2])
    return value, float(low), float(high)


def per_seed(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per group of `summarise` and seed: the mean over evaluation draws; what is not applicable is left out."""
    known = scores.dropna(subset=["value"])
    return known.groupby([*GROUP, "better", "seed"], sort=True)["value"].mean().reset_index()


def summarise(scores: pd.DataFrame, failed: pd.DataFrame) -> pd.DataFrame:
    """A row per data set, model, configuration and metric, over seeds.

    scores: long table with the columns of scores.csv and `better`; empty values (not applicable) do not count.
    failed: rows of runs.csv of the failed runs; `failed` counts those that lack the score. A configuration without any
    score has one row, of metric `none`. A seed's evaluation draws are averaged first. `best` is that of a live run.
    """
    rows = []
    lost = _failed_seeds(failed)
    for key, group in with_state(per_seed(scores), scores).groupby([*GROUP, "better"], sort=True):
        *names, better = key
        x = group["value"].to_numpy()
        live = x[~group["dead"].to_numpy()]
        low, high = t_interval(x)
        rows.append(
            {
                **dict(zip(GROUP, names, strict=True)),
                "n": len(x),
                "failed": len(lost.get(tuple(names[:3]), set()) - set(group["seed"])),
                "mean": x.mean(),
                "std": x.std(ddof=1) if len(x) > 1 else float("nan"),
                "median": float(np.median(x)),
                "iqm": interquartile_mean(x),
                "ci_low": low,
                "ci_high": high,
                "best": _best(live, str(better)),
            }
        )
    scored = {tuple(row[name] for name in GROUP[:3]) for row in rows}
    for key, group in failed.groupby(GROUP[:3]):
        if key not in scored:
            same = {"kind": "run", "metric": "none", "steps": group["steps"].iloc[0], "n": 0, "failed": len(group)}
            rows.append({**dict(zip(GROUP, key, strict=False)), **same})
    return pd.DataFrame(rows, columns=SUMMARY)


def states(scores: pd.DataFrame) -> pd.DataFrame:
    """Whether each trained run that was scored has learned anything: a row a run with the columns `STATES`.

    A run is dead when its latents carry nothing:
    - `active_units` is 0; or
    - `kl_total` is below 0.01 nats per image; or
    - `reconstruction` is no better than constant - 0.01 (constant - H), where constant is that of the mean training
      image (the floor `constant`) and H the entropy of the pixels (the ceiling `factors`), under the same protocol.
    Else it is live, or unknown where none of these can be told. Its class is dead when one class alone is used, and is
    empty where there is none or it is not known. `reason` is empty for a run that lives with its class.
    """
    runs = scores[scores["kind"] == "run"]
    scored = pd.MultiIndex.from_frame(runs[RUN].drop_duplicates()).sort_values()
    wide = runs.pivot_table(index=RUN, columns="metric", values="value").reindex(
        scored,
        columns=["active_units", "kl_total", "kl_categorical", "discrete_accuracy_used", "active_units_categorical"],
    )
    spare = _spare_reconstruction(scores).reindex(wide.index)
    signs = {
        "no latent is in use": wide["active_units"] == 0,
        "the KL is below 0.01 nats": wide["kl_total"] < LEAST_KL,
        "it reconstructs no better than a constant image": spare <= 0,
    }
    known = wide[["active_units", "kl_total"]].notna().any(axis=1) | spare.notna()
    used = wide["discrete_accuracy_used"].where(
        wide["discrete_accuracy_used"].notna() | wide["kl_categorical"].isna(), 1 + wide["active_units_categorical"]
    )
    table = pd.DataFrame({"state": np.where(known, "live", "unknown"), "reason": ""}, index=wide.index)
    table["class_state"] = np.where(used.isna(), "", np.where(used > 1, "live", "dead"))
    table.loc[table["class_state"] == "dead", "reason"] = "it uses one class"
    for reason, fires in reversed(signs.items()):
        table.loc[fires, ["state", "reason"]] = ["dead", reason]
    return table.reset_index()[STATES]


def _spare_reconstruction(scores: pd.DataFrame) -> pd.Series:
    """By run: the nats that its reconstruction is better than what a dead run has, where that is known."""
    recon = scores[(scores["metric"] == "reconstruction") & scores["value"].notna()]
    levels = recon[recon["kind"] != "run"].pivot_table(index=["dataset", "protocol"], columns="model", values="value")
    levels = levels.reindex(columns=["constant", "factors"])
    most = levels["constant"] - LEAST_GAIN * (levels["constant"] - levels["factors"])
    found = recon[recon["kind"] == "run"].merge(most.rename("most").reset_index(), on=["dataset", "protocol"])
    return (found["most"] - found["value"]).groupby([found[name] for name in RUN]).min()


def dead_rates(scores: pd.DataFrame) -> pd.DataFrame:
    """A row a configuration with the columns `RATES`: dead runs among those of known state, and their rate.

    low, high: the exact 95 % interval of the rate, from 0.00 to 0.52 for none of 5 runs.

    Clopper and Pearson, 1934, "The use of confidence or fiducial limits illustrated in the case of the binomial".
    """
    steps = scores[scores["kind"] == "run"].groupby(CONFIG)["steps"].first()
    rows = []
    for key, group in states(scores).groupby(CONFIG, sort=True):
        n, dead = int((group["state"] != "unknown").sum()), int((group["state"] == "dead").sum())
        ends = stats.binomtest(dead, n).proportion_ci() if n else None
        rows.append({**dict(zip(CONFIG, key, strict=True)), "steps": steps[key], "runs": n, "dead": dead,
                     "rate": dead / n if n else float("nan"), "low": ends.low if ends else float("nan"),
                     "high": ends.high if ends else float("nan"),
                     "classes": int((group["class_state"] != "").sum()),
                     "dead_classes": int((group["class_state"] == "dead").sum())})  # fmt: skip
    return pd.DataFrame(rows, columns=RATES)


def unlearned(rates: pd.DataFrame, metric: str = "") -> dict[tuple[str, str, str], str]:
    """The configurations of which nothing can be concluded, as most of their runs are dead -> `4 of 5 runs`.

    For a score of the class so are those most of whose classes are dead.
    """
    found = {}
    for row in rates.to_dict("records"):
        key = (row["dataset"], row["model"], row["config"])
        if 2 * row["dead"] > row["runs"]:
            found[key] = f"{row['dead']} of {row['runs']} runs"
        elif metric.startswith(OF_THE_CLASS) and 2 * row["dead_classes"] > row["classes"]:
            found[key] = f"the class of {row['dead_classes']} of {row['classes']} runs"
    return found


def with_state(table: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Rows of scores with a column `dead`: whether the run is dead or, for a score of the class, its class."""
    known = table.merge(states(scores)[[*RUN, "state", "class_state"]], how="left", on=RUN)
    of_the_class = known["metric"].str.startswith(OF_THE_CLASS) & (known["class_state"] == "dead")
    return known.assign(dead=(known["state"] == "dead") | of_the_class).drop(columns=["state", "class_state"])


def spread(scores: pd.DataFrame, failed: pd.DataFrame) -> pd.DataFrame:
    """What `summarise` has no room for: dead runs, mean and best of the live ones, the worst of all, robust intervals.

    The row `dead_runs` of a configuration has their rate as its mean, with the exact interval of `dead_rates`. Rows of
    the data set `all` pool the runs of a model over data sets (never over metrics), where it has one configuration on
    each of two or more; where it has several, those of one length.
    """
    seeds = with_state(per_seed(scores), scores)
    rows = [
        {**{name: row[name] for name in (*CONFIG, "steps", "dead")}, "kind": "run", "metric": DEAD_RATE,
         "n": row["runs"], "mean": row["rate"], "mean_low": row["low"], "mean_high": row["high"]}
        for row in dead_rates(scores).to_dict("records") if row["runs"]
    ]  # fmt: skip
    lost = _failed_seeds(failed)
    for key, group in seeds.groupby([*GROUP, "better"], sort=True):
        x = group["value"].to_numpy()
        low, high = iqm_interval(x)
        median_low, median_high, coverage = median_interval(x)
        rows.append({**dict(zip(GROUP, key, strict=False)), **_extremes(group, str(key[-1])),
                     "failed": len(lost.get(key[:3], set()) - set(group["seed"])), "median": float(np.median(x)),
                     "median_low": median_low, "median_high": median_high, "median_coverage": coverage,
                     "iqm": interquartile_mean(x), "iqm_low": low, "iqm_high": high})  # fmt: skip
    for (model, metric, protocol, better), group in seeds[seeds["kind"] == "run"].groupby(
        ["model", "metric", "protocol", "better"]
    ):
        same = {"dataset": POOLED, "model": model, "kind": "run", "metric": metric, "protocol": protocol}
        by_length = [(group, {})] if _one_each(group) else [(g, {"steps": n}) for n, g in group.groupby("steps")]
        for runs, steps in by_length:
            if _one_each(runs) and runs["dataset"].nunique() > 1:
                rows.append({**same, **steps, **_pooled(runs, str(better))})
    return pd.DataFrame(rows, columns=SPREAD)


def _one_each(runs: pd.DataFrame) -> bool:
    """Whether a model has one configuration on each of its data sets."""
    return not runs[["dataset", "config"]].drop_duplicates()["dataset"].duplicated().any()


def _pooled(runs: pd.DataFrame, better: str) -> dict[str, float]:
    """The numbers of `spread` over all data sets of these runs together."""
    value, low, high = pooled_iqm([part["value"].to_numpy() for _, part in runs.groupby("dataset")])
    return {**_extremes(runs, better), "iqm": value, "iqm_low": low, "iqm_high": high}


def _extremes(group: pd.DataFrame, better: str) -> dict[str, float]:
    """The worst of all runs and the best of the live ones, with the means of both."""
    x, live = group["value"].to_numpy(), group.loc[~group["dead"], "value"].to_numpy()
    worst = {"higher": x.min(), "lower": x.max()}.get(better, float("nan"))
    low, high = t_interval(x)
    return {"n": len(x), "mean": x.mean(), "mean_low": low, "mean_high": high, "worst": worst,
            "best": _best(live, better), "dead": int(group["dead"].sum()),
            "mean_of_live": live.mean() if len(live) else float("nan")}  # fmt: skip


def variance_components(scores: pd.DataFrame) -> pd.DataFrame:
    """Seed noise against metric noise: a row per group with two seeds and two evaluation draws or more.

    `seed_variance` and `draw_variance` are the components of one score, from one training and one evaluation; their
    shares sum to 1. By the mean squares of a one-way analysis of variance, the seed's component not below 0; seeds may
    have different numbers of draws. Repeating the evaluation helps only against the draws' share.

    Searle, Casella and McCulloch, 1992, "Variance components", section 3.6.
    """
    known = scores.dropna(subset=["value"])
    rows = []
    for key, group in known.groupby(GROUP, sort=True):
        of_seed = group.groupby("seed")["value"].agg(["count", "mean", "var"])
        counts = of_seed["count"].to_numpy(dtype=float)
        if len(of_seed) < 2 or counts.sum() == len(of_seed):
            continue
        total, k = counts.sum(), len(counts)
        within = float(((counts - 1) * of_seed["var"].fillna(0)).sum() / (total - k))
        between = float((counts * np.square(of_seed["mean"] - group["value"].mean())).sum() / (k - 1))
        size = (total - np.square(counts).sum() / total) / (k - 1)
        seed = max(0.0, (between - within) / size)
        share = seed / (seed + within) if seed + within > 0 else float("nan")
        rows.append({**dict(zip(GROUP, key, strict=True)), "seeds": k, "draws": total / k, "seed_variance": seed,
                     "draw_variance": within, "seed_share": share, "draw_share": 1 - share})  # fmt: skip
    return pd.DataFrame(rows, columns=VARIANCE)


def draw_errors(scores: pd.DataFrame) -> pd.DataFrame:
    """Standard error that evaluation draws leave in one seed's score, a row per group of `summarise` with 2 draws or
    more: the standard deviation over draws within a seed (pooled over seeds), over the root of the number of draws."""
    known = scores.dropna(subset=["value"])
    within = known.groupby([*GROUP, "seed"])["value"].agg(["var", "count"]).reset_index()
    within = within[within["count"] > 1]
    pooled = within.groupby(GROUP).agg(variance=("var", "mean"), draws=("count", "mean")).reset_index()
    return pooled.assign(error=np.sqrt(pooled["variance"] / pooled["draws"]))[[*GROUP, "error"]]


def _failed_seeds(failed: pd.DataFrame) -> dict[tuple[str, str, str], set[int]]:
    """(data set, model, configuration) -> seeds of its failed runs."""
    return {key: set(group["seed"]) for key, group in failed.groupby(GROUP[:3])}


def best_named(means: Mapping[str, float], better: str) -> str | None:
    """The name with the best of these means, of equal ones the first; None where none is better than another."""
    if not means or better == "neither":
        return None
    return (min if better == "lower" else max)(sorted(means), key=means.__getitem__)


def _best(values: NDArray[np.floating], better: str) -> float:
    """nan where there are none, and of what is neither good nor bad."""
    best = {"lower": np.min, "higher": np.max}.get(better)
    return float(best(values)) if best is not None and len(values) else float("nan")
