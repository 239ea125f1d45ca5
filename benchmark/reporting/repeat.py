"""How runs were made, and the commands that make them again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmark import plugins, spec
from benchmark.defaults import ARRAYS
from benchmark.errors import UserError
from benchmark.reporting.gallery import Gallery
from benchmark.runs import Run
from benchmark.spec import Spec

STEPS = "@steps@"  # stands for the lengths that share a command


def setting_rows(runs: Sequence[Run], labels: dict[tuple[str, str, str], str]) -> list[dict[str, Any]]:
    """A row per data set and configuration: settings, versions, hardware, time, memory."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if run.kind == "run":
            groups.setdefault((run.spec.dataset, run.spec.model, run.config), []).append(run)
    return [_setting(group, labels[key]) for key, group in sorted(groups.items())]


def _setting(group: Sequence[Run], label: str) -> dict[str, Any]:
    first = group[0].spec
    facts = pd.DataFrame([run.facts for run in group])
    seconds = facts.get("seconds", pd.Series(dtype=float)).dropna()
    peak = facts.get("peak_mb", pd.Series(dtype=float)).dropna()
    versions = {json.dumps(run.facts.get("versions", {}), sort_keys=True) for run in group}
    return {
        "dataset": first.dataset,
        "label": label,
        "config": first.config,
        "seeds": " ".join(str(seed) for seed in sorted(run.spec.seed for run in group)),
        "training": f"{first.steps} steps of {first.batch_size} images, learning rate {first.lr}, {first.precision}"
        + (f"; file of sha256 {first.content}…" if first.content else ""),
        "hparams": ", ".join(f"{name}={_as_word(value)}" for name, value in first.hparams.items()),
        "seconds": f"{seconds.mean():.0f} ({seconds.min():.0f} to {seconds.max():.0f})" if len(seconds) else "",
        "peak": f"{peak.max():.0f}" if len(peak) else "",
        "machine": "; ".join(
            _each(facts, "platform", "{}")
            + _each(facts, "processor", "{}")
            + _each(facts, "device", "{}")
            + _each(facts, "threads", "threads: {}")
        ),
        "software": "; ".join(
            _each(facts, "python", "Python {}")
            + [f"{name} {number}" for text in sorted(versions) for name, number in json.loads(text).items()]
        ),
        "commit": ", ".join(_each(facts, "commit", "{}")),
    }  # fmt: skip


def _each(facts: pd.DataFrame, name: str, text: str) -> list[str]:
    values = facts[name].dropna() if name in facts else []
    spelled = {str(int(value)) if name == "threads" else str(value) for value in values}
    return [text.format(value) for value in sorted(spelled) if value]


def commands(runs: Sequence[Run], scores: pd.DataFrame, gallery: Gallery) -> list[str]:
    """Commands that do every run again: one for all configurations and lengths that can share one."""
    groups: dict[tuple[Any, ...], list[tuple[Spec, list[str]]]] = {}
    trained = [run for run in runs if run.kind == "run"]
    for key in sorted({(r.spec.dataset, r.spec.model, r.config) for r in trained}):
        mine = [r for r in trained if (r.spec.dataset, r.spec.model, r.config) == key]
        seeds = tuple(sorted(run.spec.seed for run in mine))
        one = mine[0].spec
        same = (seeds, one.steps, one.batch_size, one.lr, one.precision)
        for scoring in _scorings(mine, scores):
            shared = (*same, scoring, _device(mine), _files(mine, scores, gallery))
            groups.setdefault(shared, []).append((one, _sets(one, gallery)))
    lengths: dict[tuple[str, ...], set[int]] = {}
    for shared, members in groups.items():
        for line in _lines(shared, members):
            lengths.setdefault(tuple(line), set()).add(shared[1])
    return [" ".join(line).replace(STEPS, " ".join(map(str, sorted(steps)))) for line, steps in lengths.items()]


def _lines(shared: tuple[Any, ...], members: Sequence[tuple[Spec, list[str]]]) -> list[list[str]]:
    """A command per data set; data sets with the same models and settings share one, a second configuration of a
    model has its own."""
    by_dataset: dict[str, list[dict[str, list[str]]]] = {}
    for one, sets in members:
        layers = by_dataset.setdefault(one.dataset, [])
        free = next((layer for layer in layers if one.model not in layer), None)
        if free is None:
            layers.append(free := {})
        free[one.model] = sets
    merged: dict[str, tuple[list[str], dict[str, list[str]]]] = {}
    for dataset, layers in by_dataset.items():
        for layer in layers:
            merged.setdefault(json.dumps(layer), ([], layer))[0].append(dataset)
    return [_line(datasets, layer, *shared) for datasets, layer in merged.values()]


def _line(
    datasets: Sequence[str], models: dict[str, list[str]], seeds: tuple[int, ...], _: int, batch: int, lr: float,
    precision: str, scoring: tuple[str, ...], device: tuple[str, ...], files: tuple[str, ...],
) -> list[str]:  # fmt: skip
    sets = [text for texts in models.values() for text in texts]
    count = str(len(seeds))
    words = ["python", "run_benchmark.py", "--models", *models, "--datasets", *datasets]
    words += ["--seeds", *([count] if seeds == tuple(range(len(seeds))) else [f"{s}:{s + 1}" for s in seeds])]
    words += ["--steps", STEPS, "--batch-size", str(batch), "--lr", repr(lr), "--precision", precision]
    words += [*(["--set", *sets] if sets else []), *scoring, *device]
    return [shlex.quote(word) for word in [*words, *files]]


def _sets(one: Spec, gallery: Gallery) -> list[str]:
    """`--set` words for what differs from the model's published settings."""
    expected: dict[str, Any] = {}
    try:
        cls = plugins.pick("model", one.model, gallery.found).load()
        overrides = spec.Overrides(one.steps, one.batch_size, one.lr, one.precision)
        data = gallery.loaded(one.dataset)
        expected = spec.resolve(
            one.dataset, 0, one.model, cls, preset="quick", overrides=overrides, like=data.like if data else ""
        ).hparams
    except UserError:
        pass  # its file is not here: every setting is spelled out
    differing = {name: v for name, v in one.hparams.items() if name not in expected or expected[name] != v}
    return [f"{one.model}.{name}={_as_word(value)}" for name, value in differing.items()]


def _as_word(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple | list) else str(value)


def _scorings(runs: Sequence[Run], scores: pd.DataFrame) -> list[tuple[str, ...]]:
    """`--protocol`, `--metrics` and `--draws` of the scores that these runs have, once a protocol.

    A metric that lacks a protocol is recorded under `study`, by that protocol's command. `study` has a command of its
    own where a metric was scored under both, or under nothing else.
    """
    mine = scores[scores["run"].isin([run.id for run in runs]) & scores["plugin"].notna()]
    if mine.empty:
        return [()]
    others = sorted(set(mine["protocol"]) - {"study"})
    found = {name: mine[mine["protocol"].isin([name, "study"])] for name in others}
    of_study = mine[mine["protocol"] == "study"]
    twice = of_study["plugin"].isin(mine.loc[mine["protocol"] != "study", "plugin"])
    if twice.any() or not others:
        found["study"] = of_study
    return [_scoring(name, part) for name, part in found.items()]


def _scoring(protocol: str, scores: pd.DataFrame) -> tuple[str, ...]:
    draws = int(scores["draw"].max()) + 1
    words = ["--protocol", protocol, "--metrics", *sorted(set(scores["plugin"]))]
    return (*words, *(["--draws", str(draws)] if draws > 1 else []))


def _device(runs: Sequence[Run]) -> tuple[str, ...]:
    devices = {str(run.facts["device"]) for run in runs if run.facts.get("device")}
    return ("--device", devices.pop()) if len(devices) == 1 else ()


def _files(runs: Sequence[Run], scores: pd.DataFrame, gallery: Gallery) -> tuple[str, ...]:
    """`--plugin` and `--dataset-file` with the names of the files of a configuration that are not the suite's."""
    metrics = scores.loc[scores["run"].isin([run.id for run in runs]), "plugin"].dropna()
    spec = runs[0].spec
    used = [("model", spec.model), ("data set", spec.dataset), *(("metric", name) for name in sorted(set(metrics)))]
    used = [one for one in used if not (spec.content and one[0] == "data set")]
    found = [(name, gallery.found[kind].get(name)) for kind, name in used]
    code = [f"{name}.py" for name, plugin in found if plugin is None or not (plugin.builtin or plugin.entry)]
    arrays = ["--dataset-file", f"{spec.dataset}{ARRAYS}"] if spec.content else []
    return (*(["--plugin", *code] if code else []), *arrays)
