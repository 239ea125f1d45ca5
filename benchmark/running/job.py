"""A run to do: all that its process must know, what its folder has of it, and what must not be gone on with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

import metrics
from benchmark import sources, store
from benchmark.errors import UserError
from benchmark.plugins import Plugin
from benchmark.running.machine import Slot
from benchmark.running.supervisor import CHECKPOINT
from benchmark.runs import Record
from benchmark.spec import Spec, kind_of

PROGRESS = ".progress"
TRAINED = ("model.safetensors", "history.csv")
CODES = ("codes.h5", "scores.csv", "details.csv")  # what follows from the weights


@dataclass(frozen=True)
class Job:
    """A run to do, and all that its process must know."""

    spec: Spec
    folder: Path
    metrics: tuple[str, ...]
    protocol: str
    data_dir: Path
    files: tuple[Path, ...] = ()
    device: str = "cpu"
    slots: tuple[Slot, ...] = ()
    threads: int = 1
    draws: int = 1
    retrain: bool = False
    commit: str = ""
    sources: dict[str, dict[str, str]] = field(default_factory=dict)
    origin: str = ""
    log: str = ""
    keep_state: bool = True
    over_runs: bool = False  # whether a metric over runs reads its codes

    @property
    def record(self) -> Record:
        return Record(self.spec, self.sources, self.device, self.origin)

    def to_json(self) -> str:
        return TypeAdapter(Job).dump_json(self).decode()

    @staticmethod
    def from_json(text: str) -> Job:
        return TypeAdapter(Job).validate_json(text)


def is_done(job: Job, chosen: Sequence[Plugin], warn: Callable[[str], None] = lambda text: None) -> bool:
    """Whether the run needs nothing more: trained, encoded for this protocol, and scored by these metrics.

    The run's list of finished files decides: one that was published does not list its codes (nor, often, its weights),
    and is done without them if it has the scores.
    """
    listed = listed_files(job.folder)
    return (
        not job.retrain
        and not (job.folder / "error.txt").exists()
        and not (job.folder / PROGRESS).exists()  # removed last: what was killed before that left files to clear up
        and {"details.csv", "scores.csv"} <= listed
        and store.is_finished(job.folder, *listed, warn=warn)
        and not _differs(job, Record.read(job.folder))
        and not (job.over_runs and "codes.h5" in listed and not has_codes(job))
        and not missing_metrics(job, chosen, read_scores(job, warn))
    )


def is_trained(job: Job) -> bool:
    """Whether a run only lacks scores."""
    return not job.retrain and store.is_finished(job.folder, *TRAINED)


def listed_files(folder: Path) -> set[str]:
    """The finished files of a run, but for the state that a longer run goes on from, which may be removed."""
    return store.sums(folder).keys() - {CHECKPOINT}


def has_codes(job: Job) -> bool:
    """Whether the codes that a run has are of the images that its protocol scores."""
    rows, grid = store.rows_of_codes(job.folder / "codes.h5")
    return rows == ("thin" if job.protocol == "quick" and grid else "all")


def _differs(job: Job, made: Record) -> bool:
    """Whether it was made by other code, or (of a floor, which is made again) of other images."""
    other_images = kind_of(job.spec.model) != "run" and made.origin != job.origin
    return other_images or bool(sources.differing(made.sources, job.sources, sources.CHECKED))


def missing_metrics(job: Job, chosen: Sequence[Plugin], scores: Sequence[dict[str, str]]) -> list[Plugin]:
    """The metrics that lack a draw by their present source under this protocol; one that draws nothing needs one."""
    draws: dict[tuple[str, str, str], set[int]] = {}
    for row in scores:
        key = (row["plugin"], row["protocol"], row["source"])
        draws.setdefault(key, set()).update(range(job.draws) if row["sampled"] == "no" else [int(row["draw"])])
    wanted = set(range(job.draws))
    return [p for p in chosen if not wanted <= draws.get((p.name, protocol_of(job, p), sources.of_metric(p)), set())]


def protocol_of(job: Job, plugin: Plugin) -> str:
    return metrics.effective_protocol(plugin.module(), job.protocol)


def read_scores(job: Job, warn: Callable[[str], None]) -> list[dict[str, str]]:
    if not store.is_finished(job.folder, "scores.csv", warn=warn):
        return []
    return store.read_csv(job.folder / "scores.csv")


def stage_files(spec: Spec) -> tuple[str, ...]:
    return TRAINED if kind_of(spec.model) == "run" else ()


def check_folder(job: Job) -> None:
    """Refuse a folder that holds another run, or one that other code trained or began to, or on other data of yours. A
    floor costs nothing: it is made again.

    Raises UserError.
    """
    if job.retrain or not ((job.folder / "spec.json").exists() or store.sums(job.folder)):
        return
    try:
        record = Record.read(job.folder)
    except UserError as error:
        raise UserError(f"{error}; remove the folder {job.folder.name} or pass --retrain") from error
    changed = sources.differing(record.sources, job.sources, sources.DECIDE_RUN)
    begun = store.sums(job.folder) or (job.folder / CHECKPOINT).exists()
    if changed and begun and kind_of(job.spec.model) == "run":
        names = ", ".join(changed)
        raise UserError(f"{names} changed since {job.folder.name} was trained; pass --retrain to train it again")
    of_content = sources.is_content(record.origin) and sources.is_content(job.origin)
    if of_content and record.origin != job.origin and begun and kind_of(job.spec.model) == "run":
        text = f"images, factors, attributes or rows of {job.spec.dataset} changed since {job.folder.name} was trained"
        raise UserError(f"{text}; pass --retrain to train it again, or --results for another folder")


def check_machine(job: Job) -> None:
    """Refuse to go on with a run on another device, or with other images of its data set. Raises UserError."""
    if job.retrain or kind_of(job.spec.model) != "run" or not (job.folder / "spec.json").exists():
        return
    record, trained = Record.read(job.folder), store.is_finished(job.folder, *stage_files(job.spec))
    if record.origin != job.origin and (trained or (job.folder / CHECKPOINT).exists()):
        text = f"was trained on {in_words(record.origin)} of {job.spec.dataset}, and here are {in_words(job.origin)}"
    elif record.device != job.device and not trained and (job.folder / CHECKPOINT).exists():
        text = f"was begun on {record.device}: pass --device {record.device} to go on with it"
    else:
        return
    raise UserError(f"{job.folder.name} {text}, or --retrain to train it again")


def in_words(origin: str) -> str:
    if sources.is_content(origin):
        return f"images ({origin})"
    return f"images of the {origin}" if origin else "the usual images"
