"""What is in the run folders of a results folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark import store
from benchmark.errors import UserError
from benchmark.spec import SCHEDULE, Spec, kind_of

Warn = Callable[[str], None]
LABEL = 44  # characters that fit beside a figure; a longer one is cut and ends with its configuration


@dataclass(frozen=True)
class Run:
    """A run's folder with what is in it."""

    folder: Path
    spec: Spec
    kind: str
    status: str
    reason: str
    facts: dict[str, Any]

    @property
    def id(self) -> str:
        return self.folder.name


def read_runs(results: Path, warn: Warn) -> list[Run]:
    """Every run, floor and ceiling below a results folder; a folder that cannot be read is named and left out."""
    runs = []
    for folder in [*store.run_folders(results / "runs"), *store.run_folders(results / "floors")]:
        try:
            spec = Spec.from_json(store.read_json(folder / "spec.json")["spec"])
            if spec.id() != folder.name:
                raise UserError(f"{folder / 'spec.json'}: belongs to {spec.id()}")
            facts = store.read_json(folder / "run.json") if (folder / "run.json").exists() else {}
        except (UserError, KeyError, TypeError, AttributeError) as error:
            warn(f"{folder.name} is left out: {error}")
            continue
        status, reason = _status(folder)
        runs.append(Run(folder, spec, kind_of(spec.model), status, reason, facts))
    return runs


def _status(folder: Path) -> tuple[str, str]:
    if (folder / "error.txt").exists():
        return "failed", (folder / "error.txt").read_text().partition("\n")[0]
    if is_scored(folder):
        return "ok", ""
    return "unfinished", "stopped before its end; the same command goes on with it"


def is_scored(folder: Path) -> bool:
    """Whether a run's scores are complete. Codes and history may be absent, as in published results, but not broken."""
    present = [name for name in ("codes.h5", "history.csv") if (folder / name).exists()]
    return store.is_finished(folder, "scores.csv", *present)


def details_of(run: Run) -> list[dict[str, str]]:
    return store.read_csv(run.folder / "details.csv") if store.is_finished(run.folder, "details.csv") else []


def tables_of(run: Run) -> dict[str, pd.DataFrame]:
    rows = pd.DataFrame(details_of(run), columns=["table", "row", "column", "value"]).astype({"value": float})
    return {
        str(name): part.pivot(index="row", columns="column", values="value").reindex(
            index=part["row"].unique(), columns=part["column"].unique()
        )
        for name, part in rows.groupby("table")
    }


def config_labels(runs: Sequence[Run], longest: int = LABEL) -> dict[tuple[str, str, str], str]:
    """(data set, model, config) -> the model's name, with the settings that tell its configurations apart."""
    specs = {(run.spec.dataset, run.spec.model, run.spec.config): run.spec for run in runs}
    labels = {}
    for key, spec in specs.items():
        mine = _settings(spec)
        names = _differing([_settings(other) for (d, m, _), other in specs.items() if (d, m) == key[:2]])
        label = ", ".join([spec.model, *(f"{name}={mine[name]}" for name in names if name in mine)])
        labels[key] = label if len(label) <= longest else f"{label[: longest - 10]}… {spec.config}"
    return labels


def _differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The settings that are not the same in all, less schedules that follow from the steps, as in `spec.resolve`."""
    most = max(settings, key=lambda one: one["steps"])

    def follows(name: str) -> bool:
        if not name.endswith(SCHEDULE) or any(name not in one for one in settings):
            return False
        pairs = {(one["steps"], one[name]) for one in settings}
        rounded = all(abs(value - most[name] * steps / most["steps"]) <= 1 for steps, value in pairs)
        return rounded and len(pairs) == len({steps for steps, _ in pairs})

    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len({json.dumps(one.get(name)) for one in settings}) > 1 and not follows(name)]


def _settings(spec: Spec) -> dict[str, Any]:
    common = {"steps": spec.steps, "batch_size": spec.batch_size, "lr": spec.lr, "precision": spec.precision}
    return {**common, **spec.hparams}
