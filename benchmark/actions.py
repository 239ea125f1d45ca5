"""What the command does: from its options to a grid of jobs, and back to tables."""

from __future__ import annotations

import argparse
import inspect
import itertools
import shlex
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import joblib
from rich.console import Console

import metrics
from benchmark import plan, plugins, spec, store
from benchmark.authoring import check
from benchmark.defaults import HEADLINE
from benchmark.errors import UserError, unknown
from benchmark.messages import Warnings, say
from benchmark.plugins import Found
from benchmark.reporting import changes, pictures, report, tensorboard
from benchmark.running import across, cluster, estimate, lengths, loggers, machine, runner
from benchmark.running.job import Job, check_folder, check_machine, is_done, is_trained
from benchmark.running.supervisor import RETRAIN
from benchmark.runs import Warn
from benchmark.spec import kind_of
from data import DataError
from data._cache import default_root

if TYPE_CHECKING:
    from distributed import Client


def run(options: argparse.Namespace, console: Console) -> int:
    """Do what these options say; returns 0 (all well) or 1 (some runs failed, or data cannot be had)."""
    warnings.filterwarnings("ignore", module="joblib")
    try:
        with Warnings(console) as warn:
            return _do(options, console, warn)
    except DataError as error:
        say(console, error, "error")
        return 1


def _do(options: argparse.Namespace, console: Console, warn: Warn) -> int:
    data_dir = _expanded(options.data_dir or default_root())
    if options.check:
        device = "cpu" if options.device == "auto" else plan.chosen_device(options.device, machine.here())
        return check.check_file(options.check, data_dir, device)
    found = plugins.discover(options.plugin)
    if options.list:
        return _list_protocol(found, options.protocol) if options.protocol else _list(found)
    if options.log:
        loggers.check(options.log)
    _check_headline(options.headline, found)
    if options.report:
        _finish(options, options.report, data_dir, warn)
        return 0
    if options.compare:
        print(changes.compare(options.compare[0], options.compare[1], options.plugin, warn))
        return 0
    if not options.models:
        raise UserError(f"--models is missing; available: {', '.join(sorted(found['model']))}")
    if (options.backend == "dask") != (options.scheduler is not None):
        raise UserError("--backend dask and --scheduler ADDRESS belong together; give both or neither")
    with cluster.connect(options.scheduler) if options.scheduler is not None else nullcontext() as client:
        options.machine = cluster.machine_of(client) if client else machine.here()
        if options.dry_run:
            return _dry_run(options, found, data_dir, warn)
        return _compute(options, found, data_dir, client, console, warn)


def _check_headline(keys: Sequence[str], found: Found) -> None:
    """Refuse a score that no metric gives: a key begins with its metric's name."""
    for key in keys:
        if not any(plugins.is_key_of(name, key) for name in found["metric"]):
            raise unknown("score in --headline", key, {*HEADLINE, *found["metric"]})


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except RuntimeError as error:  # no such user, or a circle of links
        raise UserError(f"{path}: {error}") from error


def _pending(jobs: Sequence[Job], found: Found, warn: Warn) -> list[Job]:
    """The jobs that something is missing of; refuses folders that hold another run."""
    chosen = [plugins.pick("metric", name, found) for name in jobs[0].metrics]
    for job in jobs:
        check_folder(job)
    pending = [job for job in jobs if not is_done(job, chosen, warn)]
    for job in pending:
        check_machine(job)
        listed = {} if job.retrain or kind_of(job.spec.model) != "run" else store.sums(job.folder)
        if "scores.csv" in listed and "model.safetensors" not in listed:
            warn(f"{job.spec.id()} was published without weights: it is trained again for the scores that it lacks")
        elif "scores.csv" in listed and "codes.h5" not in listed and store.is_rounded(job.folder / "model.safetensors"):
            warn(f"{job.spec.id()} was published with rounded weights: the scores that it lacks are off by thousandths")
    return pending


def _dry_run(options: argparse.Namespace, found: Found, data_dir: Path, warn: Warn) -> int:
    notes: list[str] = []
    jobs = plan.jobs_of(options, found, data_dir, notes.append)
    pending = _pending(jobs, found, warn)
    for text in notes:
        print(text)
    starts = lengths.starts(pending)
    for job in jobs:
        left = "done " if job not in pending else "to score" if is_trained(job) else "to do"
        start = starts.get(job.spec.id())
        print(f"{left}  {job.spec.id()}  {job.spec.steps} steps" + (f", on from {start}" if start else ""))
    workers = len(jobs[0].slots) or options.jobs or (1 if options.scheduler else joblib.cpu_count())
    print(estimate.say(pending, options.results, workers))
    return 0


def _compute(
    options: argparse.Namespace, found: Found, data_dir: Path, client: Client | None, console: Console, warn: Warn
) -> int:
    """Do what is missing, here or on a cluster; then score over runs, and write the tables."""
    notes: list[str] = []
    jobs = plan.jobs_of(options, found, data_dir, notes.append)
    pending = _pending(jobs, found, warn)
    for text in notes:
        say(console, text)
    options.results.mkdir(parents=True, exist_ok=True)
    for job in pending:
        if job.retrain and job.folder.is_dir():  # where this is interrupted, the command without --retrain goes on
            (job.folder / RETRAIN).touch()
    _announce(console, jobs, pending)
    at_a_time = plan.at_a_time(jobs[0].slots, options.jobs)
    workers = options.jobs or _cluster_size(client, len(pending), console) if client else at_a_time
    failures = runner.run_grid(pending, workers, console, warn, options.time_limit, client)
    runs = [job for job in jobs if kind_of(job.spec.model) == "run"]
    lengths.drop_states(runs)
    names = plan.metric_names(options.metrics, found)
    over_runs = [found["metric"][name] for name in names if plan.is_across(found, name)]
    unscored = across.score(options.results, runs, over_runs, warn)
    _finish(options, options.results, data_dir, warn)
    if failures:
        how = "to try only them again, leave out --retrain" if options.retrain else "the same command tries them again"
        say(console, f"{len(failures)} of {len(jobs)} runs failed; {how}")
    if longer := _longer(options, found, data_dir, len(jobs[0].slots) or workers):
        print(longer)
    return 1 if failures or unscored else 0


def _cluster_size(client: Client, runs: int, console: Console) -> int:
    """Threads of the cluster; all runs where its workers are still to come."""
    threads = sum(client.nthreads().values())
    text = f"{threads} thread(s)" if threads else "no worker yet; waiting"
    say(console, f"Dask cluster: {text}")
    return threads or max(1, runs)


def _finish(options: argparse.Namespace, results: Path, data_dir: Path, warn: Warn) -> None:
    """Tables, figures and page; the answer on one screen."""
    formats = tuple(pictures.FORMATS) if options.report else ("png",)
    headline = options.headline or HEADLINE
    screen = report.build(results, data_dir, options.plugin, warn, formats=formats, headline=headline)
    if options.log:
        tensorboard.write(results, data_dir, options.plugin, warn)
    print(screen.text(colours=sys.stdout.isatty()))
    if hidden := screen.hidden(options.metrics):
        keys = " ".join(itertools.chain.from_iterable(hidden.values()))
        print(f"Not on this screen: {', '.join(hidden)} (in summary.csv; --headline {keys} shows it here)")
    print(f"All scores, figures and a page: {results / 'report.html'}")


def _longer(options: argparse.Namespace, found: Found, data_dir: Path, workers: int) -> str:
    """The command that trains the same models long enough, and how long that takes; nothing where it was this one."""
    if options.preset != "quick" or options.steps:
        return ""
    standard = argparse.Namespace(**{**vars(options), "preset": "standard", "retrain": False})
    try:
        pending = _pending(plan.jobs_of(standard, found, data_dir), found, lambda text: None)
    except (UserError, DataError):  # what is there of it was made by other code, or elsewhere: it would say so itself
        return ""
    line = ["run_benchmark.py", *(word for word in options.line if word != "--retrain"), "--preset", "standard"]
    return f"Next: {shlex.join(line)} ({estimate.say(pending, options.results, workers)})"


def _announce(console: Console, jobs: Sequence[Job], pending: Sequence[Job]) -> None:
    runs = [job for job in jobs if kind_of(job.spec.model) == "run"]
    left = [job for job in pending if kind_of(job.spec.model) == "run"]
    text = f"{len(runs)} runs and {len(jobs) - len(runs)} floors; to do: {len(left)} and {len(pending) - len(left)}"
    say(console, f"{text}. Protocol {jobs[0].protocol}, {jobs[0].threads} thread(s) a run.")


def _list(found: Found) -> int:
    for kind, group in found.items():
        for name, plugin in sorted(group.items()):
            try:
                text = (inspect.getdoc(plugin.load()) or "").partition("\n")[0]
            except UserError as error:
                text = f"BROKEN: {error}"
            print(f"{kind:9} {name:20} {text}")
    print(spec.RULE)
    return 0


def _list_protocol(found: Found, protocol: str) -> int:
    """What a protocol fixes: every metric's settings, and the protocol's name that is recorded."""
    plan.known_protocol(protocol, list(found["metric"].values()))
    for name, plugin in sorted(found["metric"].items()):
        parameters = inspect.signature(plugin.load()).parameters.values()
        fixed = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        fixed |= metrics.settings(plugin.module(), protocol)
        recorded = metrics.effective_protocol(plugin.module(), protocol)
        print(f"{name:20} {recorded:8} {', '.join(f'{key}={value}' for key, value in fixed.items())}")
    return 0
