"""A run is the beginning of a longer one of its settings: which goes on from which, and how."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmark import sources, store
from benchmark.errors import UserError
from benchmark.running.job import Job, is_trained
from benchmark.running.supervisor import CHECKPOINT
from benchmark.runs import Record
from benchmark.spec import SCHEDULE, Spec

Chain = list[Job]
MAY_DIFFER = ("batch_size", "lr", "precision")  # settings that a preset or a machine changes, beside schedules


def chains(jobs: Sequence[Job]) -> list[Chain]:
    """The jobs in order, but those of one seed and one setting together, the shorter ones first. These keep their state
    for the next one."""
    found: dict[str, Chain] = {}
    for job in jobs:
        found.setdefault(replace(job.spec, steps=0).id(), []).append(job)
    ordered = [sorted(chain, key=lambda job: job.spec.steps) for chain in found.values()]
    return [[*(replace(job, keep_state=True) for job in chain[:-1]), chain[-1]] for chain in ordered]


def beginning(job: Job, warn: Callable[[str], None] = lambda text: None) -> Path | None:
    """The folder of the longest finished run that is the beginning of this one and has kept its state whole."""
    found = [
        (record.spec.steps, folder)
        for folder, record in _with_state(job.folder.parent, f"{job.spec.dataset}-{job.spec.model}-s{job.spec.seed}")
        if replace(record.spec, steps=job.spec.steps) == job.spec
        and record.spec.steps < job.spec.steps
        and (record.device, record.origin) == (job.device, job.origin)
        and not sources.differing(record.sources, job.sources, (*sources.DECIDE_RUN, "watching"))
    ]
    for _, folder in sorted(found, reverse=True):
        if store.is_finished(folder, CHECKPOINT):
            return folder
        warn(f"{folder / CHECKPOINT}: its content is not what was written (sha256 differs); no run goes on from it")
    return None


def _with_state(runs: Path, begins: str) -> Iterator[tuple[Path, Record]]:
    """The finished runs whose names begin so and that have kept a state, whole or not."""
    for path in runs.glob(f"{begins}*/{CHECKPOINT}"):
        if store.is_listed(path.parent, CHECKPOINT):
            with contextlib.suppress(UserError):  # a folder that is damaged is told where it is reported
                yield path.parent, Record.read(path.parent)


def is_begun(job: Job) -> bool:
    """Whether training would go on with what the run's own folder holds."""
    return not job.retrain and ((job.folder / CHECKPOINT).exists() or is_trained(job))


def go_on(job: Job, shorter: Job | None = None, warn: Callable[[str], None] = lambda text: None) -> Job:
    """Let a run that has not begun begin where a shorter one has ended; returns the job that is then left to do.

    shorter: the one that was trained just before, the only one that is taken where all is to be trained again.
    """
    if is_begun(job):
        return job
    if job.retrain:
        source = shorter.folder if shorter and store.is_finished(shorter.folder, CHECKPOINT) else None
    else:
        source = beginning(job, warn)
    if source is None:
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


def drop_states(jobs: Sequence[Job]) -> None:
    """Remove what longer runs would go on from, of those that are not to keep it."""
    for job in jobs:
        if not job.keep_state and store.is_listed(job.folder, CHECKPOINT):
            with FileLock(job.folder / ".lock"):
                store.discard(job.folder, CHECKPOINT)


def starts(jobs: Sequence[Job]) -> dict[str, int]:
    """Run -> the steps of the run that it goes on from, one of these jobs or a finished one; 0 where there is none."""
    found: dict[str, int] = {}
    for chain in chains(jobs):
        before = 0
        for job in chain:
            begun = is_begun(job)
            source = None if begun or job.retrain else beginning(job)
            known = Record.read(source).spec.steps if source else 0
            found[job.spec.id()] = 0 if begun else max(before, known)
            before = job.spec.steps
    return found


def notes(specs: Sequence[Spec], results: Path) -> Iterator[str]:
    """Which lengths are one training, and why one cannot go on from a shorter run that is there or asked for."""
    groups: dict[str, list[Spec]] = {}
    for one in specs:
        groups.setdefault(replace(one, steps=0).id(), []).append(one)
    for group in groups.values():
        if len(group) > 1:
            steps = ", ".join(f"{one.steps:,}" for one in sorted(group, key=lambda one: one.steps))
            yield f"{group[0].model} on {group[0].dataset} is trained once, and scored at {steps} steps"
    names = sorted({f"{one.dataset}-{one.model}-s" for one in specs})
    known = [*specs, *(record.spec for name in names for _, record in _with_state(results / "runs", name))]
    for one in specs:
        shorter = sorted((o for o in known if _alike(o, one) and o.steps < one.steps), key=lambda o: -o.steps)
        if shorter and not any(replace(o, steps=one.steps, seed=one.seed) == one for o in shorter):
            yield (f"{one.model} on {one.dataset}: {one.steps:,} steps do not go on from {shorter[0].steps:,}: "
                   f"{_differences(shorter[0], one)}")  # fmt: skip


def _alike(a: Spec, b: Spec) -> bool:
    """Whether two specs differ in nothing but length, seed, and what a preset or a machine changes."""
    return _fixed(a) == _fixed(b)


def _fixed(one: Spec) -> tuple[object, ...]:
    own = {name: value for name, value in one.hparams.items() if not name.endswith(SCHEDULE)}
    return one.dataset, one.content, one.model, sorted(own.items(), key=lambda item: item[0])


def _differences(shorter: Spec, longer: Spec) -> str:
    """`capacity_steps is 8,333 there and 25,000 here`."""
    return ", ".join(
        f"{name} is {_spelled(theirs)} there and {_spelled(mine)} here"
        for name, mine in _settings(longer).items()
        if (theirs := _settings(shorter).get(name, "absent")) != mine
    )


def _settings(one: Spec) -> Mapping[str, Any]:
    return {**{name: getattr(one, name) for name in MAY_DIFFER}, **one.hparams}


def _spelled(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
