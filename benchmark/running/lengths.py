"""A run is the beginning of a longer one of its settings: which goes on from which, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmark import sources, store
from benchmark.errors import UserError
from benchmark.running.supervisor import CHECKPOINT
from benchmark.running.worker import Job, is_trained
from benchmark.runs import Record
from benchmark.spec import SCHEDULE, Spec

Chain = list[Job]
MAY_DIFFER = ("batch_size", "lr", "precision")  # settings that a preset or a machine changes, beside schedules


def chains(jobs: Sequence[Job]) -> list[Chain]:
    """The jobs in order, but those of one seed and one setting together, the shorter ones first."""
    found: dict[str, Chain] = {}
    for job in jobs:
        found.setdefault(replace(job.spec, steps=0).id(), []).append(job)
    return [sorted(chain, key=lambda job: job.spec.steps) for chain in found.values()]


def beginning(job: Job, warn: Callable[[str], None] = lambda text: None) -> Path | None:
    """The folder of the longest finished run that is the beginning of this one and has kept its state whole."""
    found = [
        (record.spec.steps, folder)
        for folder, record in _others(job)
        if replace(record.spec, steps=job.spec.steps) == job.spec
        and record.spec.steps < job.spec.steps
        and (record.device, record.origin) == (job.device, job.origin)
        and not sources.differing(record.sources, job.sources, (*sources.DECIDE_RUN, "watching"))
    ]
    for _, folder in sorted(found, reverse=True):
        if store.is_finished(folder, CHECKPOINT):
            return folder
        if store.is_listed(folder, CHECKPOINT):
            warn(f"{folder / CHECKPOINT}: its content is not what was written (sha256 differs); no run goes on from it")
    return None


def _others(job: Job) -> Iterator[tuple[Path, Record]]:
    """The runs of this data set, model and seed that have a state."""
    for path in job.folder.parent.glob(f"{job.spec.dataset}-{job.spec.model}-s{job.spec.seed}-*/{CHECKPOINT}"):
        try:
            yield path.parent, Record.read(path.parent)
        except UserError:
            continue


def is_begun(job: Job) -> bool:
    """Whether training would go on with what the run's own folder holds."""
    return not job.retrain and ((job.folder / CHECKPOINT).exists() or is_trained(job))


def go_on(job: Job, shorter: Job | None = None, warn: Callable[[str], None] = lambda text: None) -> Job:
    """Let a run that has not begun begin where a shorter one has ended; returns the job that is then left to do.

    shorter: the one that was trained just before, the only one that is taken where all is to be trained again.
    """
    if is_begun(job) or (job.retrain and shorter is None):
        return job
    source = shorter.folder if job.retrain and shorter else beginning(job, warn)
    if source is None or not store.is_finished(source, CHECKPOINT):
        return job
    job.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(job.folder / ".lock", timeout=0):
            if job.retrain:
                store.clear(job.folder)
            job.record.write(job.folder)
            store.write_json(job.folder / "run.json", {"goes_on_from": Record.read(source).spec.steps})
            store.write_bytes(job.folder / CHECKPOINT, (source / CHECKPOINT).read_bytes())
    except Timeout:  # another command computes it now
        return job
    return replace(job, retrain=False)


def drop_state(job: Job) -> None:
    """Remove what a longer run would go on from."""
    with FileLock(job.folder / ".lock"):
        if store.is_listed(job.folder, CHECKPOINT):
            store.discard(job.folder, CHECKPOINT)


def steps_left(jobs: Sequence[Job]) -> dict[str, tuple[int, int]]:
    """Run -> the steps that it goes on from, of a run done by then or before; and those that it has to train."""
    found: dict[str, tuple[int, int]] = {}
    for chain in chains(jobs):
        before = 0
        for job in chain:
            source = None if job.retrain or is_begun(job) else beginning(job)
            start = max(before, Record.read(source).spec.steps if source else 0)
            found[job.spec.id()] = (start, 0 if is_trained(job) else job.spec.steps - start)
            before = job.spec.steps
    return found


def notes(specs: Sequence[Spec], results: Path) -> Iterator[str]:
    """Which lengths are one training, and why one cannot go on from a shorter run that is there or asked for."""
    groups: dict[str, list[Spec]] = {}
    for one in specs:
        groups.setdefault(replace(one, steps=0).id(), []).append(one)
    for group in groups.values():
        if len(group) > 1:
            steps = _listed(sorted(one.steps for one in group))
            yield f"{group[0].model} on {group[0].dataset} is trained once for {steps} steps"
    known = [*specs, *_finished(results, specs)]
    for one in specs:
        shorter = sorted((o for o in known if _alike(o, one) and o.steps < one.steps), key=lambda o: -o.steps)
        if shorter and not any(replace(o, steps=one.steps, seed=one.seed) == one for o in shorter):
            yield (f"{one.model} on {one.dataset}: {one.steps:,} steps do not go on from {shorter[0].steps:,}: "
                   f"{_differences(shorter[0], one)}")  # fmt: skip


def _finished(results: Path, specs: Sequence[Spec]) -> list[Spec]:
    names = {(one.dataset, one.model) for one in specs}
    found = []
    for dataset, model in sorted(names):
        for path in (results / "runs").glob(f"{dataset}-{model}-s*/{CHECKPOINT}"):
            try:
                found.append(Record.read(path.parent).spec)
            except UserError:
                continue
    return found


def _alike(a: Spec, b: Spec) -> bool:
    """Whether two specs differ in nothing but length, seed, and what a preset or a machine changes."""
    return _fixed(a) == _fixed(b)


def _fixed(one: Spec) -> tuple[object, ...]:
    own = {name: value for name, value in one.hparams.items() if not name.endswith(SCHEDULE)}
    return one.dataset, one.model, sorted(own.items(), key=lambda item: item[0])


def _differences(shorter: Spec, longer: Spec) -> str:
    """`capacity_steps is 8,333 there and 25,000 here`."""
    return ", ".join(
        f"{name} is {_spelled(theirs)} there and {_spelled(mine)} here"
        for name, mine in _settings(longer).items()
        if (theirs := _settings(shorter)[name]) != mine
    )


def _settings(one: Spec) -> Mapping[str, Any]:
    return {**{name: getattr(one, name) for name in MAY_DIFFER}, **one.hparams}


def _spelled(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)


def _listed(steps: Sequence[int]) -> str:
    return f"{', '.join(f'{one:,}' for one in steps[:-1])} and {steps[-1]:,}"
