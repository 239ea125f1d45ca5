"""What is in the run folders of a results folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from pydantic import ConfigDict, TypeAdapter, ValidationError

from benchmark import plugins, sources, store
from benchmark.errors import UserError
from benchmark.sources import Stages
from benchmark.spec import EXACT, FASTEST, Spec, is_schedule, kind_of

Warn = Callable[[str], None]
COSTS = {"seconds": float | int, "peak_mb": float | int, "threads": int, "goes_on_from": int, "versions": dict,
         "stages": dict}  # fmt: skip
LABEL = 44  # characters that fit beside a figure; a longer one is cut and ends with its configuration


@dataclass(frozen=True)
class Record:
    """A run's spec.json: its settings, and what else decides its numbers.

    sources: the code of its stages. device: that it was trained on. origin: of its data set's images.
    """

    spec: Spec
    sources: dict[str, dict[str, str]]
    device: str = "cpu"
    origin: str = ""

    __pydantic_config__: ClassVar[ConfigDict] = EXACT

    @staticmethod
    def read(folder: Path) -> Record:
        """Raises UserError for a file that is no record of this version."""
        path = folder / "spec.json"
        try:
            record = TypeAdapter(Record).validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UserError(f"{path}: not a record of this version: {place} {first['msg']}") from error
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
        if record.spec.id() != folder.name:
            raise UserError(f"{path}: belongs to {record.spec.id()}")
        return record

    def write(self, folder: Path) -> None:
        store.write_json(folder / "spec.json", {**asdict(self), "spec": self.spec.to_json()})

    def variant(self, present: Stages | None) -> dict[str, str]:
        """What sets its numbers apart from those of the same settings, where that is unusual.

        present: the code of its stages now, None where that is not known.
        """
        images = "" if sources.is_content(self.origin) else self.origin
        found = {"device": self.device if self.device != "cpu" else "", "images": images}
        if present and self.sources and sources.differing(self.sources, present, sources.DECIDE_SCORES):
            found["code"] = f"former {sources.digest(self.sources)}"
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class Run:
    """A run's folder with what is in it.

    variant: what sets it apart from other runs of its settings, such as a GPU or former code.
    """

    folder: Path
    spec: Spec
    kind: str
    status: str
    reason: str
    facts: dict[str, Any]
    variant: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def config(self) -> str:
        """Runs that differ in it are never averaged: the digits of their settings, and of what sets them apart."""
        return "+".join([self.spec.config, *(value.replace(" ", "-") for value in self.variant.values())])

    @property
    def trained_steps(self) -> int:
        """Steps that its own seconds were spent on; the others are those of the shorter run that it goes on from."""
        return self.spec.steps - int(self.facts.get("goes_on_from", 0))


def read_runs(results: Path, warn: Warn, files: Sequence[Path] = ()) -> list[Run]:
    """Every run, floor and ceiling below a results folder; a folder that cannot be read is named and left out.

    files: the user's plugins, whose code tells which of their runs are by a former one.
    """
    runs: list[Run] = []
    versions: dict[Path, str] = {}
    origins: dict[Path, str] = {}
    present = _Present(files)
    for folder in [*store.run_folders(results / "runs"), *store.run_folders(results / "floors")]:
        try:
            record = Record.read(folder)
        except UserError as error:
            warn(f"{folder.name} is left out: {error}")
            continue
        status, reason = _status(folder)
        variant = record.variant(present.of(record.spec))
        facts = _facts(folder, warn)
        runs.append(Run(folder, record.spec, kind_of(record.spec.model), status, reason, facts, variant))
        origins[folder] = record.origin
        versions[folder] = sources.digest({s: record.sources.get(s, {}) for s in sources.DECIDE_SCORES})
    return [_apart(run, versions if present.of(run.spec) is None else {}, origins, runs) for run in runs]


def _apart(run: Run, versions: dict[Path, str], origins: dict[Path, str], runs: Sequence[Run]) -> Run:
    """A run that is set apart where runs of its settings were made by several versions of code that is not here, or on
    several contents of its data set.

    versions: by folder, of a run whose plugin is not here.
    """
    alike = [r.folder for r in runs if r.config == run.config and r.spec.dataset == run.spec.dataset]
    found = dict(run.variant)
    if len({origins[folder] for folder in alike}) > 1 and sources.is_content(origins[run.folder]):
        found["images"] = origins[run.folder]
    if versions and len({versions[folder] for folder in alike}) > 1:
        found["code"] = f"version {versions[run.folder]}"
    return replace(run, variant=found)


class _Present:
    """The code of the stages of runs as it is now."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.found = plugins.discover(files)
        self.known: dict[tuple[str, str], Stages | None] = {}

    def of(self, spec: Spec) -> Stages | None:
        """None where a plugin is not here."""
        key = (spec.dataset, spec.model)
        if key not in self.known:
            try:
                self.known[key] = sources.of_run(spec, self.found)
            except UserError:
                self.known[key] = None
        return self.known[key]


def _facts(folder: Path, warn: Warn) -> dict[str, Any]:
    """What a run cost; nothing where its file is damaged, as no score depends on it."""
    path = folder / "run.json"
    try:
        facts = store.read_json(path) if path.exists() else {}
    except UserError:
        facts = None
    if isinstance(facts, dict) and all(isinstance(facts[name], kind) for name, kind in COSTS.items() if name in facts):
        return facts
    warn(f"{path} is damaged: what {folder.name} cost is not known")
    return {}


def _status(folder: Path) -> tuple[str, str]:
    if (folder / "error.txt").exists():
        return "failed", (folder / "error.txt").read_text(errors="replace").partition("\n")[0]
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
    settings = {(run.spec.dataset, run.spec.model, run.config): _settings(run) for run in runs}
    labels = {}
    for (dataset, model, config), mine in settings.items():
        names = _differing([other for (d, m, _), other in settings.items() if (d, m) == (dataset, model)])
        label = ", ".join([model, *(f"{name}={mine[name]}" for name in names if name in mine)])
        short = f"{label[: longest - len(config) - 2]}… {config}"
        labels[dataset, model, config] = label if len(label) <= longest else short
    return labels


def _differing(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The settings that are not the same in all, less schedules that follow from the steps, as in `spec.resolve`."""
    most = max(settings, key=lambda one: one["steps"])

    def implied(name: str) -> bool:
        if not all(is_schedule(name, one.get(name)) for one in settings):
            return False
        pairs = {(one["steps"], one[name]) for one in settings}
        rounded = all(abs(value - most[name] * steps / most["steps"]) <= 1 for steps, value in pairs)  # the former rule
        return follows(pairs) or (rounded and len(pairs) == len({steps for steps, _ in pairs}))

    names = dict.fromkeys(name for one in settings for name in one)
    return [name for name in names if len({json.dumps(one.get(name)) for one in settings}) > 1 and not implied(name)]


def follows(pairs: Collection[tuple[int, int]]) -> bool:
    """Whether a schedule may follow from a run's steps, as in `spec.speed_up`: each length has one, and a longer run's
    is as long or longer, by a factor of `FASTEST` at most. pairs: (steps, schedule)."""
    values = [value for _, value in sorted(pairs)]
    one_each = len({steps for steps, _ in pairs}) == len(values)
    return one_each and values == sorted(values) and values[-1] <= FASTEST * (values[0] + 1)  # both are rounded


def _settings(run: Run) -> dict[str, Any]:
    spec = run.spec
    common = {"steps": spec.steps, "batch_size": spec.batch_size, "lr": spec.lr, "precision": spec.precision}
    content = {"content": spec.content} if spec.content else {}
    return {**common, **spec.hparams, **content, **run.variant}
