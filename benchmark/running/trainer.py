"""The only optimisation loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmark import store
from benchmark.running.step import derived_seed, step_of
from benchmark.spec import Spec
from data import Dataset
from models import Model

__all__ = ["Diverged", "build", "derived_seed", "train"]
HISTORY_EVERY = 100
CHECKPOINT_SECONDS = 60.0


class Diverged(Exception):
    """A loss or a weight is not finite."""


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
    watch: Callable[[Model, int], store.Row] = lambda model, step: {},
    log: Callable[[store.Row], None] = lambda row: None,
    warn: Callable[[str], None] = lambda text: None,
) -> list[store.Row]:
    """Train for spec.steps steps, going on from the checkpoint if there is one; returns the history.

    The history has a row per 100 steps: the mean of every loss over them, and what `watch` says of the model then, with
    the same columns at every step. `log` is told each row, those of a checkpoint first. A batch and its noise are
    functions of seed and step alone, so a run that is killed and resumed ends with the same bits.

    Raises Diverged where a loss or weight is not finite.
    """
    optimizers = model.optimizers(spec.lr)
    one_step = step_of(model, data, spec, optimizers)
    step, history = _resume(checkpoint, model, optimizers, warn)
    for row in history:
        log(row)
    model.train()
    last, saved = step, time.monotonic()
    while step < spec.steps:
        one_step(step)
        step += 1
        progress(step)
        if step % HISTORY_EVERY == 0 or step == spec.steps:
            means = {"step": step, **_means(one_step.totals, step - last)}
            _require_finite(model, means)
            history.append({**means, **watch(model, step)})
            log(history[-1])
            one_step.totals, last = {}, step
            if checkpoint and (step == spec.steps or time.monotonic() - saved > CHECKPOINT_SECONDS):
                store.save_checkpoint(checkpoint, model, optimizers, step, history)
                saved = time.monotonic()
    return history


def _resume(
    checkpoint: Path | None, model: Model, optimizers: dict[str, torch.optim.Optimizer], warn: Callable[[str], None]
) -> tuple[int, list[store.Row]]:
    if checkpoint is None or not checkpoint.exists():
        return 0, []
    try:
        return store.load_checkpoint(checkpoint, model, optimizers)
    except store.CorruptFile as error:
        warn(f"{error}; training starts anew")
        return 0, []


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
