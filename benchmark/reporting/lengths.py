"""Models that were trained to several lengths: which configurations are one model, and what is shown at each length."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from benchmark.runs import LABEL, Run, config_labels, follows
from benchmark.spec import SCHEDULE
from benchmark.statistics.stats import CONFIG

FILE = "lengths.csv"
SCORED = ["dataset", "protocol", "model", "config"]
PAIR = ["dataset", "protocol", "metric", "model_a", "model_b"]
LENGTHS = [*PAIR, "steps", "n_a", "n_b", "mean_a", "mean_b", "difference", "ci_low", "ci_high", "p", "p_holm", "better",
           "stays"]  # fmt: skip

Key = tuple[str, str, str]  # data set, model, config
Scored = tuple[str, str, str, str]
Names = Mapping[Key, str]


def figure_name(dataset: str, protocol: str) -> str:
    return f"lengths_{dataset}_{protocol}"


def key_of(run: Run) -> Key:
    return run.spec.dataset, run.spec.model, run.config


def names(runs: Sequence[Run], labels: Names, longest: int = LABEL) -> dict[Key, str]:
    """(data set, model, config) -> the model's name with the settings that tell it apart, but without its length.

    Configurations of a data set that have one name differ in their length alone: in their steps, and in schedules that
    follow from them. Where a model has no such configurations its names are the labels. labels: of `config_labels`.
    """
    series = _series(list({key_of(run): run for run in runs}.values()))
    longer = {key_of(run)[:2] for members in series for run in members if len(members) > 1}
    first = [replace(members[-1], spec=replace(members[-1].spec, steps=1)) for members in series]
    whole = config_labels(first, longest=sys.maxsize)
    found = dict(labels)
    for members, one in zip(series, first, strict=True):
        config, label = members[-1].config, whole[key_of(one)]
        short = f"{label[: longest - len(config) - 2]}… {config}"
        if key_of(one)[:2] in longer:
            found |= dict.fromkeys(map(key_of, members), label if len(label) <= longest else short)
    return found


def _series(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that differ in their length alone, the shortest first; one run stands for a configuration."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (key_of(run)[:2], run.spec.steps, run.config)):
        groups.setdefault(_without_length(run, schedules=False), []).append(run)
    found: list[list[Run]] = []
    for members in groups.values():
        alike: dict[str, list[Run]] = {}
        for run in members:
            alike.setdefault("" if _follow(members) else _without_length(run, schedules=True), []).append(run)
        found += alike.values()
    return found


def _without_length(run: Run, schedules: bool) -> str:
    """A run's settings less its seed and steps, and with or without its schedules."""
    settings = {**run.spec.to_json(), **run.spec.hparams, **run.variant}
    left = {"seed", "steps", "hparams"}
    kept = {name: v for name, v in settings.items() if name not in left and (schedules or not name.endswith(SCHEDULE))}
    return json.dumps(kept, sort_keys=True)


def _follow(runs: Sequence[Run]) -> bool:
    """Whether these are one run a length, and their schedules may follow from it."""
    names = {name for run in runs for name in run.spec.hparams if name.endswith(SCHEDULE)}
    shared = all(name in run.spec.hparams for name in names for run in runs)
    return (
        len({run.spec.steps for run in runs}) == len(runs)
        and shared
        and all(follows({(run.spec.steps, run.spec.hparams[name]) for run in runs}) for name in names)
    )


def shorter(scores: pd.DataFrame, named: Names) -> set[Scored]:
    """The configurations of which a longer training was scored under the same protocol. named: the result of
    `names`."""
    runs = scores.loc[scores["kind"] == "run", [*SCORED, "steps"]].drop_duplicates()
    name = [named[key] for key in zip(*(runs[column] for column in CONFIG), strict=True)]
    longest = runs["steps"].groupby([runs["dataset"], runs["protocol"], name]).transform("max")
    return set(runs.loc[runs["steps"] < longest, SCORED].itertuples(index=False, name=None))


def without(scores: pd.DataFrame, configurations: set[Scored]) -> pd.DataFrame:
    """The scores of all other configurations."""
    kept = [key not in configurations for key in zip(*(scores[name] for name in SCORED), strict=True)]
    return scores[np.array(kept, dtype=bool)]  # a list that is empty would choose columns


def table(comparisons: pd.DataFrame, named: Names) -> pd.DataFrame:
    """A row per length, pair of models that have two lengths or more in common, and score with a direction.

    Rows of `differences.comparisons` with the models' names: `better` is that of the model that is shown to be better,
    or empty; `stays` whether `better` is the same at every longer length of the pair, empty at the longest.
    """
    directed = comparisons[comparisons["better"] != "neither"].to_dict("records")
    found = pd.DataFrame([_named(row, named) for row in directed], columns=LENGTHS)
    found = found.sort_values([*PAIR, "steps"], kind="stable", ignore_index=True)
    found = found[found.groupby(PAIR)["steps"].transform("size") > 1].reset_index(drop=True)
    for _, rows in found.groupby(PAIR):
        said = rows["better"].tolist()
        stays = ["yes" if set(said[i:]) == {one} else "no" for i, one in enumerate(said)]
        found.loc[rows.index, "stays"] = [*stays[:-1], ""]
    return found


def turned(rows: pd.DataFrame) -> Iterator[str]:
    """The pairs of which each model is shown to be better at some length: `vae at 100, betavae at 5,000 steps`."""
    for _, pair in rows.groupby(PAIR):
        shown = pair[pair["better"] != ""].groupby("better", sort=False)["steps"].agg(list)
        if len(shown) > 1:
            yield ", ".join(f"{name} at {' and '.join(f'{n:,}' for n in at)}" for name, at in shown.items()) + " steps"


def _named(row: dict[Any, Any], named: Names) -> dict[str, Any]:
    """A comparison with the models' names, the first of which comes first."""
    of = {side: named[row["dataset"], row[f"model_{side}"], row[f"config_{side}"]] for side in "ab"}
    a, b = sorted("ab", key=lambda side: (row[f"model_{side}"], of[side]))
    sign = 1 if a == "a" else -1
    ends = sorted((sign * row["ci_low"], sign * row["ci_high"]))
    return {
        **row,
        **{f"{name}_a": row[f"{name}_{a}"] for name in ("n", "mean")},
        **{f"{name}_b": row[f"{name}_{b}"] for name in ("n", "mean")},
        "model_a": of[a],
        "model_b": of[b],
        "difference": sign * row["difference"],
        "ci_low": ends[0],
        "ci_high": ends[1],
        "better": of.get(row["verdict"], ""),
        "stays": "",
    }
