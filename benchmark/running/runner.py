"""The grid of runs, through joblib, one child process a run, here or on a Dask cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from benchmark import store
from benchmark.errors import of_the_machine
from benchmark.running import cluster, lengths
from benchmark.running.job import PROGRESS, Job, is_trained
from benchmark.running.lengths import Chain
from benchmark.running.supervisor import Servers

if TYPE_CHECKING:
    from distributed import Client


Work = Callable[[Job], tuple[str, list[str]]]


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
    """Run all jobs, `workers` at a time, in order, each for at most `minutes`; one that fails stops no other, but for
    those that go on from it.

    A thread of joblib's goes through the lengths of a run. client: of the Dask cluster that they run on.
    """
    if not jobs:
        return []
    parallel = joblib.Parallel(n_jobs=workers, backend="threading", batch_size=1, pre_dispatch=workers,
                               return_as="generator_unordered")  # fmt: skip
    failures: list[Failure] = []
    lock, over = threading.Lock(), threading.Event()

    def told(job: Job, reason: str, warnings: Sequence[str]) -> None:
        with lock:
            if over.is_set():  # the command was interrupted, and with it this run
                return
            display.finished(job.folder)
            for text in warnings:
                warn(text)
            if reason:
                failures.append(Failure(job.folder.name, reason))
                _keep_reason(job, reason)
                console.print(f"[red]failed[/] {job.folder.name}: {escape(reason)}", highlight=False)

    with _Display(jobs, console) as display, Servers(jobs[0].threads) as servers:
        work = partial(_supervise, minutes=minutes, client=client, servers=servers)
        try:
            for _ in parallel(joblib.delayed(_go_through)(chain, work, told) for chain in lengths.chains(jobs)):
                pass
        finally:
            over.set()
    return failures


def _supervise(job: Job, minutes: float | None, client: Client | None, servers: Servers) -> tuple[str, list[str]]:
    """Do one run; returns why it failed (or an empty text), and its warnings."""
    done = cluster.run(client, job, minutes) if client else servers.supervise(str(job.folder), job.to_json(), minutes)
    return done[1:]


def _go_through(chain: Chain, work: Work, told: Callable[[Job, str, Sequence[str]], None]) -> None:
    """The lengths of one run, each going on from the one before."""
    before: Job | None = None
    for job in chain:
        if before and not is_trained(before) and not lengths.is_begun(job):
            told(job, f"not begun: it goes on from {before.spec.id()}, which failed", [])
            continue
        seen: list[str] = []
        try:
            reason, warnings = work(lengths.go_on(job, before, seen.append))
        except OSError as error:
            reason, warnings = of_the_machine(error), []
        told(job, reason, [*seen, *warnings])
        before = replace(job, retrain=False)


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
