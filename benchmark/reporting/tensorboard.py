"""Runs for TensorBoard: `--log tensorboard`, written from the run folders once the grid is done.

A run is results/tensorboard/<run id>: the scalars of its history at their steps, its hyper-parameters with the final
scores (means over evaluation draws), and pictures of reconstructions and traversals where its weights are there.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from benchmark import store
from benchmark.errors import UserError
from benchmark.reporting import pictures, report
from benchmark.reporting.gallery import Gallery
from benchmark.running import encoder
from benchmark.runs import Run, read_runs

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

FOLDER = "tensorboard"


def check() -> None:
    """Raises a UserError, before any work, where the package is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("--log tensorboard: the package is missing; pip install 'disentangle-bench[tensorboard]'")


def write(results: Path, data_dir: Path, files: Sequence[Path], warn: Callable[[str], None]) -> None:
    """Event files of every finished run of a results folder; those of before are replaced."""
    from torch.utils.tensorboard.writer import SummaryWriter

    runs = [run for run in read_runs(results, warn, files) if run.kind == "run" and run.status == "ok"]
    scores = report.score_table(runs, files, warn)
    gallery = Gallery(data_dir, files, warn)
    for run in runs:
        folder = results / FOLDER / run.id
        shutil.rmtree(folder, ignore_errors=True)
        with SummaryWriter(str(folder)) as writer:
            _scalars(writer, run)
            _settings(writer, run, scores[scores["run"] == run.id])
            _pictures(writer, run, gallery)
        for number, path in enumerate(sorted(folder.iterdir())):  # the package's own names hold the host's
            path.rename(folder / f"events.out.tfevents.{run.id}.{number}")


def _scalars(writer: SummaryWriter, run: Run) -> None:
    if not store.is_finished(run.folder, "history.csv"):
        return
    for row in pd.read_csv(run.folder / "history.csv").to_dict("records"):
        for name, value in row.items():
            if name != "step" and value == value:
                writer.add_scalar(f"training/{name}", value, int(row["step"]))


def _settings(writer: SummaryWriter, run: Run, scores: pd.DataFrame) -> None:
    spec = run.spec
    settings: dict[str, Any] = {
        "dataset": spec.dataset,
        "model": spec.model,
        "seed": spec.seed,
        "steps": spec.steps,
        "lr": spec.lr,
        "batch_size": spec.batch_size,
        "precision": spec.precision,
        **spec.hparams,
    }
    plain = {k: v if isinstance(v, bool | int | float | str) else str(v) for k, v in settings.items()}
    known = scores.dropna(subset=["value"])
    means = known.groupby(["protocol", "metric"], sort=True)["value"].mean()
    final = {f"{protocol}/{metric}": float(value) for (protocol, metric), value in means.items()}
    writer.add_hparams(plain, final, run_name=".", global_step=spec.steps)


def _pictures(writer: SummaryWriter, run: Run, gallery: Gallery) -> None:
    model = gallery.model(run)
    x = gallery.images(run.spec.dataset) if model else None
    if model is None or x is None:
        return
    made = encoder.images_of(model, encoder.posterior(model, x).mode())
    writer.add_image("reconstructions", _sheet([x.numpy(), made]), run.spec.steps)
    rows = pictures.traversals(model, x[:1], pictures.kl_of(run))
    writer.add_image("traversals", _sheet([encoder.images_of(model, z) for z in rows.values()]), run.spec.steps)
    writer.add_text("traversals", ", ".join(rows), run.spec.steps)


def _sheet(rows: Sequence[Any]) -> torch.Tensor:
    """(channels, height, width) of all images, a line a row; shorter lines end black."""
    images = [torch.as_tensor(np.asarray(row)) for row in rows]
    longest = max(len(row) for row in images)
    lines = [
        torch.cat(list(torch.cat([row, row.new_zeros(longest - len(row), *row.shape[1:])])), dim=2) for row in images
    ]
    return torch.cat(lines, dim=1)
