"""The only optimisation loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmark import store
from benchmark.running.step import derived_seed, step_of
from benchmark.spec import Spec
from data import Dataset
from models import Model

__all__ = ["Diverged", "Watch", "build", "derived_seed", "train"]
HISTORY_EVERY = 100
CHECKPOINT_SECONDS = 60.0


class Diverged(Exception):
    """A loss or a weight is not finite."""


@dataclass(frozen=True)
class Watch:
    """What is noted of a model while it trains: at the steps that are `due`, and at the last one of its run.

    columns: of what is noted; nan where it is not due. due: is asked at multiples of 100, and knows nothing of a run's
    length: a run is the beginning of a longer one.
    """

    columns: tuple[str, ...] = ()
    due: Callable[[int], bool] = lambda step: False
    note: Callable[[Model, int], store.Row] = lambda model, step: {}


def build(cls: type[Model], spec: Spec, data: Dataset, device: str = "cpu") -> Model:
    """A model with the first weights of this seed. Leaves the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed("weights", spec.seed))
        model = cls(data.shape, len(data.train_rows), **spec.hparams)
    return model.to(device).to(memory_format=torch.channels_last)


def train(
    model: Model,
    data: Dataset,
    spec: Spec,
    *,
    checkpoint: Path | None = None,
    progress: Callable[[int], None] = lambda step: None,
    watch: Watch = Watch(),
    log: Callable[[store.Row], None] = lambda row: None,
    warn: Callable[[str], None] = lambda text: None,
) -> list[store.Row]:
    """Train for spec.steps steps, going on from the checkpoint if there is one; returns the history.

    The history has a row per 100 steps, and one of the last step: the mean of every loss over the steps since the last
    multiple of 100, and what is noted of the model then, with the same columns at every step. `log` is told each row,
    those of a checkpoint first. A batch and its noise are functions of seed and step alone, so a run that is killed and
    resumed, or goes on from the checkpoint at the end of a shorter one, ends with the same bits.

    Raises Diverged where a loss or weight is not finite.
    """
    optimizers = model.optimizers(spec.lr)
    one_step = step_of(model, data, spec, optimizers)
    step, history, one_step.totals = _resume(checkpoint, model, optimizers, warn)
    for row in _before(spec.steps, history):
        log(row)
    model.train()
    saved = time.monotonic()
    while step < spec.steps:
        one_step(step)
        step += 1
        progress(step)
        if step % HISTORY_EVERY == 0:
            history.append(_row(model, step, one_step.totals, watch, watch.due(step)))
            one_step.totals = {}
            if step < spec.steps:
                log(history[-1])
        overdue = step % HISTORY_EVERY == 0 and time.monotonic() - saved > CHECKPOINT_SECONDS
        if checkpoint and (step == spec.steps or overdue):
            store.save_checkpoint(checkpoint, model, optimizers, step, history, one_step.totals)
            saved = time.monotonic()
    last = _last_row(model, spec.steps, history, one_step.totals, watch)
    log(last)
    return [*_before(spec.steps, history), last]


def _before(steps: int, history: list[store.Row]) -> list[store.Row]:
    return [row for row in history if row["step"] < steps]


def _row(model: Model, step: int, totals: dict[str, Tensor], watch: Watch, noted: bool) -> store.Row:
    """A row of the history; raises Diverged."""
    means = {"step": step, **_means(totals, step % HISTORY_EVERY or HISTORY_EVERY)}
    _require_finite(model, means)
    return {**means, **(watch.note(model, step) if noted else dict.fromkeys(watch.columns, math.nan))}


def _last_row(model: Model, step: int, history: list[store.Row], totals: dict[str, Tensor], watch: Watch) -> store.Row:
    """The row at the end, where the model is looked at in any case; a longer run may have another there, or none."""
    if step % HISTORY_EVERY:
        return _row(model, step, totals, watch, noted=True)
    return history[-1] if watch.due(step) else {**history[-1], **watch.note(model, step)}


def _resume(
    checkpoint: Path | None, model: Model, optimizers: dict[str, torch.optim.Optimizer], warn: Callable[[str], None]
) -> tuple[int, list[store.Row], dict[str, Tensor]]:
    if checkpoint is None or not checkpoint.exists():
        return 0, [], {}
    try:
        return store.load_checkpoint(checkpoint, model, optimizers)
    except store.CorruptFile as error:
        warn(f"{error}; training starts anew")
        return 0, [], {}


def _means(totals: dict[str, Tensor], steps: int) -> dict[str, float]:
    """Name -> mean; a vector's entries are numbered."""
    row: dict[str, float] = {}
    for name, total in totals.items():
        values = (total / steps).tolist()
        row.update({f"{name}{i}": v for i, v in enumerate(values)} if isinstance(values, list) else {name: values})
    return row


def _require_finite(model: Model, row: store.Row) -> None:
    bad = [f"{name}={value}" for name, value in row.items() if not math.isfinite(value)]
    bad = bad or [f"weights {name}" for name, value in model.named_parameters() if not value.isfinite().all()]
    if bad:
        raise Diverged(f"training diverged by step {row['step']}: {', '.join(bad[:4])} not finite")
