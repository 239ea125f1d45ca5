"""What a run costs, and how far it is."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Callable
from functools import cache
from importlib.metadata import version

from benchmark import store
from benchmark.errors import UserError
from benchmark.running import machine, trainer
from benchmark.running.job import CODES, PROGRESS, Job, stage_files
from benchmark.running.supervisor import CHECKPOINT
from models import Model

RECORDED = ("torch", "numpy", "scikit-learn", "scipy")


class Clock:
    """Seconds that a run costs by stage, kept in run.json, where one that was stopped goes on."""

    def __init__(self, job: Job) -> None:
        self.job, self.stage, self.since = job, "imports", time.monotonic()
        try:
            earlier = dict(store.read_json(job.folder / "run.json"))
            self.stages = {str(stage): float(seconds) for stage, seconds in earlier.get("stages", {}).items()}
            self.start, self.peak = int(earlier.get("goes_on_from", 0)), int(earlier.get("peak_mb", 0))
        except (UserError, AttributeError, TypeError, ValueError):
            earlier, self.stages, self.start, self.peak = {}, {}, 0, 0
        made = store.is_finished(job.folder, *(stage_files(job.spec) or CODES[:1]))
        self.made = earlier if made else {}  # what is only scored was made as it was
        if not made and not (job.folder / CHECKPOINT).exists():
            self.start = 0  # what it would have gone on from is gone
        self._add(time.process_time())  # all that this process has done so far

    def enter(self, stage: str) -> None:
        self._turn(stage)
        self.record()

    def waited(self) -> None:
        """Leave out the time since the last record."""
        self.since = time.monotonic()

    def timed(self, stage: str, work: Callable[[Model, int], store.Row]) -> Callable[[Model, int], store.Row]:
        """The same work, its time counted as a stage of its own within the present one."""

        def timed(model: Model, step: int) -> store.Row:
            within = self.stage
            self._turn(stage)
            try:
                return work(model, step)
            finally:
                self._turn(within)

        return timed

    def _turn(self, stage: str) -> None:
        now = time.monotonic()
        self._add(now - self.since)
        self.stage, self.since = stage, now

    def record(self) -> None:
        """How the run was made: everything that is not part of its result."""
        self._turn(self.stage)
        facts = {
            "device": self.job.device,
            "threads": self.job.threads,
            "commit": self.job.commit,
            "goes_on_from": self.start,
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            **({} if self.made else {"processor": machine.processor()}),  # one that is only scored may be of another
            "versions": versions(),
            **machine.gpu_facts(),
            **self.made,
            "seconds": round(sum(self.stages.values()), 1),
            "stages": {stage: round(seconds, 2) for stage, seconds in self.stages.items()},
            "peak_mb": max(round(peak_mb()), self.peak),
        }
        store.write_json(self.job.folder / "run.json", facts)

    def _add(self, seconds: float) -> None:
        self.stages[self.stage] = self.stages.get(self.stage, 0.0) + seconds


class Progress:
    """Tells the display, at most twice a second, how far a job is, and calls `record` as often as a checkpoint."""

    def __init__(self, job: Job, stage: str, total: int, record: Callable[[], None] = lambda: None) -> None:
        self.path, self.stage, self.total, self.last = job.folder / PROGRESS, stage, total, -1.0
        self.record, self.recorded = record, time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if self.last < 0 or now - self.last > 0.5:
            self.last = now
            self.path.write_text(f"{done} {self.total} {self.stage}")
        if now - self.recorded > trainer.CHECKPOINT_SECONDS:  # what a run has cost is not lost where it is killed
            self.recorded = now
            self.record()


def peak_mb() -> float:
    """The most memory that this process has had; the kernel counts in bytes on a Mac, in kilobytes elsewhere."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@cache
def versions() -> dict[str, str]:
    return {name: version(name) for name in RECORDED}
