"""The published runs: which are the standard ones, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from benchmark import plugins, runs, spec
from benchmark.errors import UserError
from benchmark.reporting import report
from benchmark.running import floors
from benchmark.runs import Run
from benchmark.spec import Spec
from benchmark.statistics import stats
from models import Model


@dataclass(frozen=True)
class Shown:
    """A data set whose runs are published.

    side: of its images, in pixels. like: the data set whose settings it takes. steps: of a standard run; None: the
    preset's.
    """

    side: int
    like: str = ""
    steps: int | None = None


SHOWN = {"dsprites": Shown(64), "mnist": Shown(32), "digits": Shown(32, "mnist", 10_000)}


def is_standard(s: Spec, cls: type[Model]) -> bool:
    """Whether these are the settings of a standard run, in any precision, on one of these data sets."""
    return _settings(s) == _settings(_standard(s, cls))


def grouped(some: Sequence[Run], key: Callable[[Run], tuple[str, ...]]) -> Iterator[tuple[tuple[str, ...], list[Run]]]:
    """The runs of each key, in its order, by configuration and seed."""
    for name in sorted({key(run) for run in some}):
        yield name, sorted((run for run in some if key(run) == name), key=lambda run: (run.config, run.spec.seed))


def at_published_length(s: Spec, cls: type[Model]) -> Spec:
    """The settings of `--preset paper` on this data set."""
    return _resolved(s, cls, "paper", None)


def _standard(s: Spec, cls: type[Model]) -> Spec:
    return _resolved(s, cls, "standard", SHOWN[s.dataset].steps)


def _resolved(s: Spec, cls: type[Model], preset: str, steps: int | None) -> Spec:
    shown, overrides = SHOWN[s.dataset], spec.Overrides(steps=steps)
    return spec.resolve(s.dataset, shown.side, s.model, cls, preset=preset, like=shown.like, overrides=overrides)


def _settings(s: Spec) -> tuple[object, ...]:
    return s.hparams, s.steps, s.batch_size, s.lr


@dataclass(frozen=True)
class PublishedRuns:
    """The runs of a results folder, and their scores."""

    runs: list[Run]
    scores: pd.DataFrame

    @staticmethod
    def read(results: Path) -> PublishedRuns:
        """The runs on the suite's data sets by its models, scored under `study`. Raises UserError."""
        said: list[str] = []
        found = runs.read_runs(results, said.append)
        if not found:
            raise UserError(f"{results}: holds no runs")
        scores = report.score_table(found, (), said.append)
        known = {*plugins.discover(())["model"], *floors.FLOORS, *floors.CEILINGS}
        strange = [run.id for run in found if run.spec.dataset not in SHOWN or run.spec.model not in known]
        if said or strange:
            raise UserError("; ".join(said) or f"{strange[0]}: not one of the suite's models and data sets")
        return PublishedRuns(found, scores[scores["protocol"] == "study"])

    @cached_property
    def classes(self) -> dict[str, type[Model]]:
        found = plugins.discover(())["model"]
        return {name: found[name].load() for name in {run.spec.model for run in self.trained}}

    @cached_property
    def datasets(self) -> list[str]:
        """Those that runs were trained on."""
        there = {run.spec.dataset for run in self.trained}
        return [name for name in SHOWN if name in there]

    @cached_property
    def trained(self) -> list[Run]:
        return [run for run in self.runs if run.kind == "run"]

    @cached_property
    def standard(self) -> list[Run]:
        """The runs with the settings of `--preset standard`; the rest are sweeps."""
        return [run for run in self.trained if is_standard(run.spec, self.classes[run.spec.model])]

    def name(self, run: Run) -> str:
        """The model, with the precision where its standard runs have several (`auto` follows the machine)."""
        s = run.spec
        alike = [r.spec for r in self.standard if (r.spec.dataset, r.spec.model) == (s.dataset, s.model)]
        precision = f", {s.precision}" if len({other.precision for other in alike}) > 1 else ""
        return s.model + precision

    def summary(self, dataset: str, some: Sequence[Run]) -> pd.DataFrame:
        """Rows of summary.csv of these runs, with floors and ceiling, on a data set."""
        ids = {run.id for run in some}
        part = self.scores[self.scores["dataset"] == dataset]
        part = part[part["run"].isin(ids) | (part["kind"] != "run")]
        failed = report.run_table([run for run in some if run.status == "failed" and run.spec.dataset == dataset])
        summary = stats.summarise(part, failed)
        labels = runs.config_labels(some, longest=200)  # a table has room
        if ids <= {run.id for run in self.standard}:
            labels = {(r.spec.dataset, r.spec.model, r.config): self.name(r) for r in some}
        keys = zip(summary["model"], summary["config"], strict=True)
        return summary.assign(label=[labels.get((dataset, model, config), model) for model, config in keys])

    def firsts(self, dataset: str) -> dict[str, Run]:
        """Model -> its standard run of the lowest seed, of those that were scored."""
        mine = [run for run in self.standard if run.spec.dataset == dataset and run.status == "ok"]
        return {run.spec.model: run for run in sorted(mine, key=lambda r: (r.spec.model, -r.spec.seed))}

    @cached_property
    def states(self) -> dict[str, str]:
        """The id of each trained run that was scored -> live, dead or unknown (`stats.states`)."""
        found = self.scores[["run", *stats.RUN]].drop_duplicates().merge(stats.states(self.scores), on=stats.RUN)
        return dict(zip(found["run"], found["state"], strict=True))

    def history(self, run: Run) -> pd.DataFrame:
        return pd.read_csv(run.folder / "history.csv")

    def value(self, run: Run, metric: str) -> float:
        """A run's score, nan where it has none."""
        found = self.scores[(self.scores["run"] == run.id) & (self.scores["metric"] == metric)]["value"]
        return float(found.mean()) if len(found) else float("nan")
