"""One run in a process of its own: train, encode, score. Writes only inside the run's folder, but for its log.

Started by the supervisor as `python -m benchmark.running.worker forks`, it imports what runs need and forks a process
for each job, a line of JSON on standard input, which stays open for as long as the supervisor lives; with `once` it
does a single job itself. A job's exit status is 0, or 1 with the reason as the first line of error.txt.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import BaseFileLock, FileLock, Timeout

import metrics
from benchmark import plugins, sources, store
from benchmark.errors import UserError
from benchmark.plugins import Plugin
from benchmark.running import encoder, floors, loggers, machine, trainer
from benchmark.running.clock import Clock, Progress
from benchmark.running.job import (
    CODES,
    PROGRESS,
    Job,
    check_folder,
    check_machine,
    in_words,
    is_done,
    missing_metrics,
    protocol_of,
    read_scores,
    stage_files,
)
from benchmark.running.loggers import Guarded
from benchmark.running.supervisor import CHECKPOINT, ENDED, FAILED, GOES_ON, STARTED, WAITING, WARNING
from benchmark.running.watch import watch
from benchmark.runs import Record
from benchmark.spec import Spec, kind_of, not_begun
from data import DataError, Dataset
from data._attributes import attributes_of
from metrics import Codes, Scores
from metrics._tables import tables
from models import Model

SCORE_COLUMNS = ("plugin", "metric", "protocol", "draw", "value", "note", "sampled", "better", "source")
DETAIL_COLUMNS = ("table", "row", "column", "value")


def run_one(
    job: Job, warn: Callable[[str], None] = lambda text: None, tell: Callable[[str], None] = lambda line: None
) -> None:
    """Do what is missing of a run. A stage whose file is complete is skipped, so a killed run goes on.

    tell: is told when another command works on the run, and when it does no longer.
    """
    found = plugins.discover(job.files)
    chosen = [plugins.pick("metric", name, found) for name in job.metrics]
    job.folder.mkdir(parents=True, exist_ok=True)
    with _held(FileLock(job.folder / ".lock"), tell):
        store.sweep(job.folder)
        if job.retrain:
            store.clear(job.folder)
        model = None if kind_of(job.spec.model) != "run" else plugins.pick("model", job.spec.model, found)
        check_folder(job)
        here = sources.of_run(job.spec, found)
        if changed := sources.differing(here, job.sources, here):
            raise UserError(f"{', '.join(changed)}: here is not what the command saw")
        if not is_done(job, chosen, warn):
            check_machine(job)
            _begin(job)
            _stages(job, model, chosen, found, warn, tell)
        (job.folder / PROGRESS).unlink(missing_ok=True)


@contextlib.contextmanager
def _held(lock: BaseFileLock, tell: Callable[[str], None]) -> Iterator[None]:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tell(WAITING)
        lock.acquire()
        tell(GOES_ON)
    try:
        yield
    finally:
        lock.release()


def _begin(job: Job) -> None:
    """Remove what other code made, and record what the run is made by now; the device stays that of its training."""
    record = job.record
    if (job.folder / "spec.json").exists():
        earlier = Record.read(job.folder)
        if sources.differing(earlier.sources, job.sources, sources.DECIDE_RUN):
            store.discard(job.folder, *stage_files(job.spec), *CODES, CHECKPOINT)
        elif earlier.origin != job.origin or sources.differing(earlier.sources, job.sources, sources.DECIDE_CODES):
            store.discard(job.folder, *CODES)
        if store.is_finished(job.folder, *stage_files(job.spec)):
            record = replace(record, device=earlier.device)
    record.write(job.folder)
    (job.folder / "error.txt").unlink(missing_ok=True)


def _stages(
    job: Job, model: Plugin | None, chosen: Sequence[Plugin], found: dict[str, dict[str, Plugin]],
    warn: Callable[[str], None], tell: Callable[[str], None],
) -> None:  # fmt: skip
    clock = Clock(job)
    log = loggers.guarded(job.log if model else "", job.folder.parents[1], warn)
    torch.set_num_threads(job.threads)
    if job.device != "cpu":
        machine.same_bits_on_gpu(warn)
    try:
        with machine.denormals_as_zero():  # as torch has no threads yet
            clock.enter("data")
            plugin = plugins.pick("data set", job.spec.dataset, found)
            data = plugin.load()(job.data_dir)
            if (origin := sources.images_of(plugin, data)) != job.origin:
                raise UserError(f"{data.name}: {in_words(origin)} here, {in_words(job.origin)} with the command")
            clock.record()  # what a run waits for its turn on a GPU is not what it costs
            with machine.training(job.slots, tell, clock.waited):
                clock.enter("training")
                trained = _trained(job, model.load(), data, clock, log, warn) if model else None
                clock.enter("encoding")
                codes = _encoded(job, trained, data, warn)
                del trained  # what it holds of a GPU is another run's now
                data.forget()
        _score(job, codes, data, chosen, clock.enter, warn, _waiting(job.spec, model))
        log.finish(job.folder)
    finally:
        clock.record()


def _trained(
    job: Job, cls: type[Model], data: Dataset, clock: Clock, log: Guarded, warn: Callable[[str], None]
) -> Model:
    """The trained model, from its file or by training it now."""
    model = trainer.build(cls, job.spec, data, job.device)
    files = stage_files(job.spec)
    checkpoint = job.folder / CHECKPOINT
    log.start(job.folder.name, loggers.settings(job.spec))
    if store.is_finished(job.folder, *files, warn=warn):
        _keep_state(job)
        model.load_state_dict(store.load_tensors(job.folder / "model.safetensors"))
        loggers.rows(log, job.folder)
        return model
    store.discard(job.folder, *CODES, *files)
    progress = Progress(job, "training", job.spec.steps, clock.record)
    parts = watch(data, job.spec)
    parts = replace(parts, note=clock.timed("watching", parts.note))
    history = trainer.train(
        model, data, job.spec, checkpoint=checkpoint, progress=progress, watch=parts, log=log.row, warn=warn
    )  # fmt: skip
    store.save_tensors(job.folder / "model.safetensors", model.state_dict())
    store.write_csv(job.folder / "history.csv", history)
    store.finish(job.folder, *files)
    _keep_state(job)
    return model


def _keep_state(job: Job) -> None:
    """Keep the last checkpoint for a longer run to go on from, or remove it."""
    if not job.keep_state:
        store.discard(job.folder, CHECKPOINT)
    elif (job.folder / CHECKPOINT).exists() and not store.is_listed(job.folder, CHECKPOINT):
        store.finish(job.folder, CHECKPOINT)


def _encoded(job: Job, model: Model | None, data: Dataset, warn: Callable[[str], None]) -> Codes:
    """The codes that the protocol scores, from their file or encoded now."""
    selection = encoder.select(data, job.protocol)
    path = job.folder / "codes.h5"
    if store.is_finished(job.folder, path.name, "details.csv", warn=warn):
        codes, rows = store.load_codes(path)
        if rows == selection.name:
            return codes
    Progress(job, "encoding", 1)(0)
    if model is not None:
        codes = encoder.encode(model, data, selection)
        if "class" in not_begun(job.spec, type(model)):
            codes = replace(codes, probs=())
    else:
        codes = {**floors.FLOORS, **floors.CEILINGS}[job.spec.model](data, selection, job.spec.seed)
    store.save_codes(path, codes, selection.name)
    store.write_csv(job.folder / "details.csv", _details(codes), DETAIL_COLUMNS)
    store.finish(job.folder, path.name, "details.csv")
    return codes


def _with_attributes(job: Job, codes: Codes, data: Dataset) -> Codes:
    """The codes for a metric that asks for attributes; those of a ceiling are the attributes themselves."""
    table, names = attributes_of(data, encoder.select(data, job.protocol).rows, job.data_dir)
    codes = replace(codes, attributes=table, attribute_names=names)
    return codes if table is None or job.spec.model not in floors.CEILINGS else replace(codes, mean=table, logvar=None)


def _details(codes: Codes) -> list[store.Row]:
    return [
        {"table": name, "row": row, "column": column, "value": float(matrix[i, j])}
        for name, (rows, columns, matrix) in tables(codes).items()
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    ]


def _score(
    job: Job, codes: Codes, data: Dataset, chosen: Sequence[Plugin], enter: Callable[[str], None],
    warn: Callable[[str], None], waiting: str = "",
) -> None:  # fmt: skip
    """Add what is missing to scores.csv, a metric at a time; an error of one metric does not stop the others."""
    scores: list[Any] = read_scores(job, warn)
    missing = missing_metrics(job, chosen, scores)
    if not scores:
        store.write_csv(job.folder / "scores.csv", scores, SCORE_COLUMNS)
        store.finish(job.folder, "scores.csv")
    problems = []
    for index, plugin in enumerate(missing):
        enter(f"scoring {plugin.name}")
        Progress(job, f"scoring {plugin.name}", len(missing))(index)
        protocol = protocol_of(job, plugin)
        try:
            seen = _with_attributes(job, codes, data) if sources.sees_attributes(plugin) else codes
            new = _draws(job, seen, plugin, protocol, waiting)
            _require_own_keys(plugin, new, scores)
        except Exception as error:
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            problems.append(f"metric {plugin.name}: {kind}{error}")
            traceback.print_exc()
            continue
        kept = [row for row in scores if (row["plugin"], row["protocol"]) != (plugin.name, protocol)]
        scores = sorted(kept + new, key=lambda row: (row["plugin"], row["protocol"], row["metric"], int(row["draw"])))
        store.rewrite_csv(job.folder, "scores.csv", scores, SCORE_COLUMNS)
    if problems:
        raise UserError(f"{'scored, but for ' if scores else 'not scored: '}{'; '.join(problems)}")


def _waiting(spec: Spec, model: Plugin | None) -> str:
    """What a model's run is too short for, in words."""
    parts = not_begun(spec, model.load()) if model else {}
    return "".join(f"; the {part} has not begun: {name} is {spec.hparams[name]:,}" for part, name in parts.items())


def _draws(job: Job, codes: Codes, plugin: Plugin, protocol: str, waiting: str) -> list[store.Row]:
    """A row a number and evaluation draw. A metric that leaves its generator as it was is computed once.

    waiting: what to add where a categorical latent is missed.
    """
    rows: list[store.Row] = []
    for draw in range(job.draws):
        rng = metrics.metric_rng(job.spec.seed, plugin.name, draw)
        before = rng.bit_generator.state
        found = metrics.run_metric(plugin.load(), codes, rng, metrics.settings(plugin.module(), protocol))
        found.notes.update({key: note + waiting for key, note in found.notes.items() if "categorical" in note})
        sampled = rng.bit_generator.state != before
        rows += score_rows(found, plugin, {"protocol": protocol, "draw": draw, "sampled": "yes" if sampled else "no"})
        if not sampled:
            break
    return rows


def _require_own_keys(plugin: Plugin, rows: Sequence[store.Row], scores: Sequence[store.Row]) -> None:
    """Scores of one key are averaged, so no two metrics may share one."""
    others = {row["metric"]: row["plugin"] for row in scores if row["plugin"] != plugin.name}
    for key in {row["metric"]: None for row in rows}:
        if not plugins.is_key_of(plugin.name, key):
            raise UserError(f"gave the key {key!r}, needed {plugin.name!r} or a name that starts with '{plugin.name}_'")
        if key in others:
            raise UserError(f"gave the key {key!r}, which is one of metric {others[key]}; rename the file")


def score_rows(found: Scores, plugin: Plugin, same: store.Row) -> list[store.Row]:
    """A metric's numbers as rows of scores.csv; `same` says how they were computed."""
    lower = getattr(plugin.module(), "LOWER_IS_BETTER", ())
    neither = getattr(plugin.module(), "DESCRIPTIVE", ())
    same = {**same, "plugin": plugin.name, "source": sources.of_metric(plugin)}
    return [
        {
            **same,
            "metric": key,
            "value": value,
            "note": found.notes.get(key, ""),
            "better": "lower" if key in lower else "neither" if key in neither else "higher",
        }
        for key, value in found.items()
    ]


def _die_with_supervisor() -> None:
    """End when standard input ends, which is when the supervisor has died."""
    sys.stdin.read()
    os._exit(1)


def _tell(line: str) -> None:
    """Tell the supervisor, in one piece: what a plugin left unfinished on its line stays apart."""
    os.write(2, f"{sys.argv[2]}{line}\n".encode())


def _warn(text: str) -> None:
    _tell(WARNING + " ".join(text.split()))


def do(text: str) -> int:
    """The job of this process; returns its exit status."""
    _tell(f"{STARTED}{os.getpid()}")
    job = Job.from_json(text)
    threading.Thread(target=_die_with_supervisor, daemon=True).start()
    reason, trace = "", ""
    try:
        run_one(job, _warn, _tell)
        return 0
    except (UserError, DataError, trainer.Diverged, store.CorruptFile) as error:
        reason = str(error)
    except OSError as error:
        reason = f"{error.filename or job.folder}: {error.strerror or error}"
    except Exception as error:
        reason, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
    reason = " ".join(reason.split())
    _tell(FAILED + reason)
    try:
        store.write_bytes(job.folder / "error.txt", f"{reason}\n{trace}".encode())
    except OSError:
        pass  # the supervisor has the reason from standard error
    return 1


def serve() -> int:
    """Fork a process for each line of standard input, one after another, and tell how it ended."""
    _import_built_ins()
    while text := sys.stdin.readline():
        run = os.fork()
        if run == 0:
            os.setsid()
            status = do(text)
            sys.stderr.flush()
            os._exit(status)  # to take down an interpreter with all that it shares takes longer than to score a run
        os.waitid(os.P_PID, run, os.WEXITED | os.WNOWAIT)  # its group is its own until it is waited for
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run, signal.SIGKILL)  # what it started
        _tell(f"{ENDED}{os.waitstatus_to_exitcode(os.waitpid(run, 0)[1])}")
    return 0


def _import_built_ins() -> None:
    """What every run would import, and the digests of the files that decide its numbers."""
    for plugin in (plugin for group in plugins.discover().values() for plugin in group.values()):
        with contextlib.suppress(UserError):  # told by the run that needs it
            sources.closure([Path(str(plugin.module().__file__))])


if __name__ == "__main__":
    sys.exit(serve() if sys.argv[1] == "forks" else do(sys.stdin.readline()))
