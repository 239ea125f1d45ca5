"""How long the runs that are left will take, judged by the finished ones of the same results folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from benchmark.running import lengths
from benchmark.running.job import Job, is_trained
from benchmark.runs import read_runs
from benchmark.spec import Spec, kind_of

Paces = dict[tuple[str, str], list[float]]


def say(pending: Sequence[Job], results: Path, workers: int) -> str:
    """`about 35 min with 2 jobs, judged by 3 finished runs and floors`.

    A run takes as long per step as finished ones of its data set and model, or else of its data set; one that goes on
    from a shorter run trains the rest. Runs that only lack scores are left out of the sum.
    """
    if not pending:
        return "nothing to do"
    trained = sum(map(is_trained, pending))
    left_out = f"; {trained} to score are not in it" if trained else ""
    pending = [job for job in pending if not is_trained(job)]
    if not pending:
        return f"time: no run to train; {trained} to score cannot be judged"
    finished = _paces(results)
    starts = lengths.starts(pending)
    chains = lengths.chains(pending)
    seconds = [
        [_seconds(job.spec, job.spec.steps - starts[job.spec.id()], finished) for job in chain] for chain in chains
    ]
    known = [sum(value for value in chain if value is not None) for chain in seconds]
    unknown = sum(value is None for chain in seconds for value in chain)
    if unknown == len(pending):
        return "time: no finished run to judge it by" + left_out
    judges = sum(len(finished[key]) for key in finished if key[0] in {job.spec.dataset for job in pending})
    text = f"time: about {_duration(max(sum(known) / workers, *known))} with {workers} job{'s' * (workers > 1)}"
    text += f", judged by {judges} finished runs and floors"
    text += f"; {unknown} more cannot be judged" if unknown else ""
    return text + left_out


def _seconds(spec: Spec, steps: int, finished: Paces) -> float | None:
    """Steps to train times the mean pace; a floor has no steps, and counts as one."""
    own = finished.get((spec.dataset, spec.model))
    if own is None:
        kind = kind_of(spec.model) == "run"
        same = [key for key in finished if key[0] == spec.dataset and (kind_of(key[1]) == "run") == kind]
        own = [pace for key in same for pace in finished[key]]
    return max(1, steps) * sum(own) / len(own) if own else None


def _paces(results: Path) -> Paces:
    """(data set, model) -> seconds per step of each finished run."""
    found: Paces = {}
    for run in read_runs(results, warn=lambda text: None):
        try:
            pace = float(run.facts["seconds"]) / max(1, run.trained_steps)
        except (KeyError, TypeError, ValueError):
            continue
        if run.status == "ok" and math.isfinite(pace):
            found.setdefault((run.spec.dataset, run.spec.model), []).append(pace)
    return found


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds > 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{math.ceil(seconds)} s"
