"""Where a run's losses can be watched while it trains: `--log NAME`.

A logger decides nothing of a run, and an error of one stops none. Another one is a class with the three methods, under
the name of its package (which is that of the extra to install), in LOGGERS.
"""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Protocol

from benchmark import store
from benchmark.errors import UserError, unknown
from benchmark.spec import Spec

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary


class Logger(Protocol):
    """Of one run, in the process that does it. May raise anything."""

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        """Begin the log of a run (its id); what there was of it goes. settings: numbers and texts."""

    def row(self, row: Mapping[str, float]) -> None:
        """A row of its history, `step` among it, to be seen from now on; nan where there is no value."""

    def finish(self, scores: Mapping[str, float]) -> None:
        """`protocol/metric` -> final score. The log is complete."""


class TensorBoard:
    """Event files in results/tensorboard/<run id>: history and final scores, each readable from its first record."""

    def __init__(self, results: Path) -> None:
        self.results = results

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        self.run, self.settings = run, dict(settings)
        shutil.rmtree(self.results / "tensorboard" / run, ignore_errors=True)
        self.events = Events(self.path(run, "1.history"))

    def row(self, row: Mapping[str, float]) -> None:
        self.events.add(int(row["step"]), _scalars(row, "training/"))

    def finish(self, scores: Mapping[str, float]) -> None:
        from torch.utils.tensorboard.summary import hparams

        self.events.close()
        with Events(self.path(self.run, "2.scores")) as events:
            events.add(self.settings["steps"], *hparams(self.settings, dict(scores)), _scalars(scores))

    def path(self, run: str, part: str) -> Path:
        """The file of a part of a run's log. TensorBoard reads them in the order of their names, and none again."""
        return self.results / "tensorboard" / run / f"events.out.tfevents.{run}.{part}"

    def is_current(self, folder: Path) -> bool:
        """Whether the log of the run in this folder was finished after its scores."""
        last = self.path(folder.name, "2.scores")
        return last.is_file() and last.stat().st_mtime_ns >= (folder / "scores.csv").stat().st_mtime_ns


def _scalars(values: Mapping[str, float], place: str = "") -> Summary:
    from tensorboard.compat.proto.summary_pb2 import Summary

    known = {name: value for name, value in values.items() if name != "step" and value == value}
    return Summary(value=[Summary.Value(tag=place + name, simple_value=value) for name, value in known.items()])


class Events:
    """An event file of a given name (the package's own writer puts the host's into it), written record by record."""

    def __init__(self, path: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        path.parent.mkdir(parents=True, exist_ok=True)
        self.records = RecordWriter(path.open("wb"))
        self._write(file_version="brain.Event:2")

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, step: int, *summaries: Summary) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(step=step, summary=Summary(value=[value for summary in summaries for value in summary.value]))

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.records.write(Event(wall_time=time.time(), **content).SerializeToString())
        self.records.flush()

    def close(self) -> None:
        self.records.close()


class Guarded:
    """A logger, or none; its first error is a warning, and its end: the run goes on without it."""

    def __init__(self, logger: Logger | None, warn: Callable[[str], None]) -> None:
        self.logger, self.warn = logger, warn

    def start(self, run: str, settings: Mapping[str, Any]) -> None:
        self.run = run
        self._tell(lambda logger: logger.start(run, settings))

    def row(self, row: Mapping[str, float]) -> None:
        self._tell(lambda logger: logger.row(row))

    def finish(self, folder: Path) -> None:
        """folder: of the run, whose scores are there."""
        self._tell(lambda logger: logger.finish(final(folder)))

    def _tell(self, say: Callable[[Logger], None]) -> None:
        try:
            if self.logger:
                say(self.logger)
        except Exception as error:
            self.warn(f"{self.run} is logged no further: {type(error).__name__}: {error}")
            self.logger = None


LOGGERS: dict[str, Callable[[Path], Logger]] = {"tensorboard": TensorBoard}


def check(name: str) -> None:
    """Raises a UserError, before any work, where there is no such logger or its package is missing."""
    if name not in LOGGERS:
        raise unknown("logger", name, LOGGERS)
    if importlib.util.find_spec(name) is None:
        raise UserError(f"--log {name}: the package is missing; pip install '.[{name}]'")


def guarded(name: str, results: Path, warn: Callable[[str], None]) -> Guarded:
    """The logger of this name, or none where it is empty."""
    return Guarded(LOGGERS[name](results) if name else None, warn)


def replay(log: Logger, folder: Path, spec: Spec) -> None:
    """Log a finished run from its folder."""
    log.start(folder.name, settings(spec))
    if store.is_finished(folder, "history.csv"):
        rows(log, folder)
    log.finish(final(folder))


def rows(log: Logger | Guarded, folder: Path) -> None:
    """Log the history of a trained run."""
    for row in store.read_csv(folder / "history.csv"):
        log.row({name: float(value or "nan") for name, value in row.items()})


def settings(spec: Spec) -> dict[str, bool | int | float | str]:
    """What a run was made with, hyper-parameters among it."""
    named: dict[str, Any] = {
        "dataset": spec.dataset,
        "model": spec.model,
        "seed": spec.seed,
        "steps": spec.steps,
        "lr": spec.lr,
        "batch_size": spec.batch_size,
        "precision": spec.precision,
        **spec.hparams,
    }
    return {name: v if isinstance(v, bool | int | float | str) else str(v) for name, v in named.items()}


def final(folder: Path) -> dict[str, float]:
    """`protocol/metric` -> mean over evaluation draws, of a run's scores that have a value."""
    draws: dict[str, list[float]] = {}
    for row in store.read_csv(folder / "scores.csv"):
        if row["value"]:
            draws.setdefault(f"{row['protocol']}/{row['metric']}", []).append(float(row["value"]))
    return {name: fmean(values) for name, values in sorted(draws.items())}
