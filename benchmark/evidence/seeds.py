"""What the seeds of the published runs say: which runs are dead, and which scores can tell models apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from benchmark.evidence.published import PublishedRuns, grouped
from benchmark.reporting import report
from benchmark.runs import Run, config_labels
from benchmark.statistics import differences, stats

MANY = 5  # seeds, from which on models are compared
LEAST_FALL = 0.03  # of a constant image's error: a mean over a hundred steps that is lower by so much is no chance


def dead_rows(published: PublishedRuns) -> list[list[str]]:
    """A row a configuration that has a dead run or many seeds: dead runs, their rate, when the living ones began."""
    rows = []
    names = config_labels(published.trained, longest=200)
    for row in stats.dead_rates(published.scores).itertuples():
        if not row.dead and row.runs < MANY:
            continue
        members = [run for run in published.trained if (run.spec.dataset, run.config) == (row.dataset, row.config)]
        constant = _constant_error(published, row.dataset)
        living = [run for run in members if published.states.get(run.id) == "live"]
        begins = [_begin(published.history(run), constant) for run in living]
        name = _name(published, names, members[0])
        rate = f"{row.rate:.2f} [{row.low:.2f}, {row.high:.2f}]"
        rows.append([row.dataset, name, f"{row.steps:,}", f"{row.dead} of {row.runs}", rate, _range(begins)])
    return rows


def living(published: PublishedRuns) -> Iterator[tuple[str, list[Run]]]:
    """(name, the runs that live, by seed) of every configuration that has both dead and living runs."""
    names = config_labels(published.trained, longest=200)
    for _, members in grouped(published.trained, lambda run: (run.spec.dataset, run.spec.model, run.config)):
        states = [published.states.get(run.id) for run in members]
        if {"dead", "live"} <= set(states):
            alive = [run for run, state in zip(members, states, strict=True) if state == "live"]
            yield _name(published, names, members[0]), alive


def _name(published: PublishedRuns, names: Mapping[tuple[str, str, str], str], run: Run) -> str:
    """Of a run's configuration: a standard one has the model's name."""
    return published.name(run) if run in published.standard else names[run.spec.dataset, run.spec.model, run.config]


def _constant_error(published: PublishedRuns, dataset: str) -> float:
    """The reconstruction error of the floor `constant`."""
    scores = published.scores
    floor = scores[(scores["dataset"] == dataset) & (scores["model"] == "constant")]
    return float(floor.loc[floor["metric"] == "reconstruction", "value"].mean())


def _begin(history: pd.DataFrame, constant: float) -> float:
    """The end of the first hundred steps whose mean reconstruction is clearly better than a constant image's."""
    better = history.loc[history["recon"] < (1 - LEAST_FALL) * constant, "step"]
    return float(better.min()) if len(better) else float("nan")


def _range(steps: list[float]) -> str:
    known = [step for step in steps if step == step]
    if not known:
        return "–"
    low, high = f"{min(known):,.0f}", f"{max(known):,.0f}"
    return low if low == high else f"{low} to {high}"


def told_apart_rows(published: PublishedRuns, columns: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
    """A row a score of a data set: its spread between seeds, and what these can show between models.

    Of the standard models with many seeds, less those most of whose runs are dead.
    """
    counts = Counter((run.spec.dataset, run.config) for run in published.standard)
    many = {run.id for run in published.standard if counts[run.spec.dataset, run.config] >= MANY}
    scores = published.scores[published.scores["run"].isin(many) | (published.scores["kind"] != "run")]
    table = differences.comparisons(scores, report.run_table([]))
    table = table[table["verdict"] != "not learned"]
    values, smallest = stats.per_seed(scores[scores["kind"] == "run"]), smallest_effect()
    rows = []
    for dataset, titles in columns.items():
        for key, title in titles.items():
            pairs = table[(table["dataset"] == dataset) & (table["metric"] == key)]
            if not len(pairs):
                continue
            part = values[(values["dataset"] == dataset) & (values["metric"] == key)]
            part = part[part["config"].isin({*pairs["config_a"], *pairs["config_b"]})]
            rest = part["value"] - part.groupby("config")["value"].transform("mean")
            groups = part["config"].nunique()
            deviation = np.sqrt((rest**2).sum() / (len(part) - groups))
            share = (rest**2).sum() / ((part["value"] - part["value"].mean()) ** 2).sum()
            told = pairs["verdict"] != "not shown"
            rows.append([dataset, title, f"{groups}", f"{deviation:.3g}", f"{100 * share:.0f} %",
                         f"{smallest * deviation:.2g}", f"{(pairs['p'] <= differences.ALPHA).sum()} of {len(pairs)}",
                         f"{told.sum()} of {len(pairs)}", _middle(pairs.loc[~told, "seeds_needed"])])  # fmt: skip
    return rows


def _middle(seeds: pd.Series) -> str:
    """The median of numbers of seeds and their range; a pair without a difference needs any number (not a number)."""
    if not len(seeds):
        return "–"
    values = seeds.fillna(np.inf)
    least, median, most = (
        f"{n:.0f}" if np.isfinite(n) else "any number" for n in (values.min(), np.median(values), values.max())
    )
    return median if len(seeds) == 1 else f"{median} ({least} to {most})"


def smallest_effect() -> float:
    """In standard deviations, what a permutation test of two models shows with so many seeds and 80 % power."""
    level = differences.attainable(differences.ALPHA, MANY)
    return float(brentq(lambda effect: differences.power(effect, MANY, level) - differences.POWER, 0.1, 4))
