"""The grid of runs, through joblib, one child process a run, here or on a Dask cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from benchmark import store
from benchmark.running import cluster
from benchmark.running.supervisor import Servers
from benchmark.running.worker import PROGRESS, Job

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Failure:
    """A run that did not end well, and why."""

    run: str
    reason: str


def run_grid(
    jobs: Sequence[Job],
    workers: int,
    console: Console,
    warn: Callable[[str], None],
    minutes: float | None = None,
    client: Client | None = None,
) -> list[Failure]:
    """Run all jobs, `workers` at a time, in order, each for at most `minutes`; one that fails stops no other.

    A thread of joblib's waits for each. client: of the Dask cluster that they run on.
    """
    if not jobs:
        return []
    parallel = joblib.Parallel(n_jobs=workers, backend="threading", batch_size=1, pre_dispatch=workers,
                               return_as="generator_unordered")  # fmt: skip
    failures = []
    with _Display(jobs, console) as display, Servers(jobs[0].threads) as servers:
        tasks = (_task(job, minutes, client, servers) for job in jobs)
        for folder, reason, warnings in parallel(tasks):
            display.finished(Path(folder))
            for text in warnings:
                warn(text)
            if reason:
                failures.append(Failure(Path(folder).name, reason))
                _keep_reason(next(job for job in jobs if str(job.folder) == folder), reason)
                console.print(f"[red]failed[/] {Path(folder).name}: {escape(reason)}", highlight=False)
    return failures


def _task(job: Job, minutes: float | None, client: Client | None, servers: Servers) -> Any:
    if client:
        return joblib.delayed(cluster.run)(client, job, minutes)
    return joblib.delayed(servers.supervise)(str(job.folder), job.to_json(), minutes)


def _keep_reason(job: Job, reason: str) -> None:
    """A process that was killed could not write its own error.txt, and perhaps nothing at all."""
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.folder / ".lock", timeout=1):  # what was killed may not have let go of it yet
            if not (job.folder / "spec.json").exists():
                job.record.write(job.folder)
            if not (job.folder / "error.txt").exists():
                store.write_bytes(job.folder / "error.txt", f"{reason}\n".encode())
    except Timeout:
        pass  # another command computes this run now, and knows better


class _Display:
    """One bar for the grid and one for each running job; plain lines where the output is no terminal."""

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self.jobs, self.console = jobs, console
        self.bars = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                             console=console, disable=not console.is_terminal)  # fmt: skip
        self.grid = self.bars.add_task("runs", total=len(jobs))
        self.running: dict[Path, TaskID] = {}
        self.done: set[Path] = set()
        self.ended = threading.Event()
        self.lock = threading.Lock()

    def __enter__(self) -> _Display:
        self.bars.start()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        self.bars.stop()

    def finished(self, folder: Path) -> None:
        with self.lock:
            self.done.add(folder)
            self.bars.advance(self.grid)
            if folder in self.running:
                self.bars.remove_task(self.running.pop(folder))
        if not self.console.is_terminal:
            self.console.print(f"[{len(self.done)}/{len(self.jobs)}] {folder.name}", highlight=False, markup=False)

    def _watch(self) -> None:
        while not self.ended.wait(0.5):
            for job in self.jobs:
                self._update(job.folder)

    def _update(self, folder: Path) -> None:
        try:
            done, total, stage = (folder / PROGRESS).read_text().split(maxsplit=2)
        except (OSError, ValueError):
            return
        with self.lock:
            if folder in self.done:
                return
            if folder not in self.running:
                self.running[folder] = self.bars.add_task("", total=None)
            text = f"{folder.name} {stage}"
            self.bars.update(self.running[folder], description=text, completed=int(done), total=int(total))
