"""What `--log tensorboard` adds once a grid is done: logs that no run wrote while it trained, and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.reporting import pictures
from benchmark.reporting.gallery import Gallery
from benchmark.running import encoder, loggers
from benchmark.running.loggers import Events
from benchmark.runs import Run, read_runs


def write(results: Path, data_dir: Path, files: Sequence[Path], warn: Callable[[str], None]) -> None:
    """Event files of every finished run of a results folder; of one that was logged as it trained, pictures alone."""
    log = loggers.TensorBoard(results)
    gallery = Gallery(data_dir, files, warn)
    for run in (run for run in read_runs(results, warn, files) if run.kind == "run" and run.status == "ok"):
        try:
            if not log.is_current(run.folder):
                loggers.replay(log, run.folder, run.spec)
            _pictures(log.path(run.id, "3.pictures"), run, gallery)
        except Exception as error:  # of the package or the disk: not the end of a grid
            warn(f"{run.id} is not logged: {type(error).__name__}: {error}")


def _pictures(path: Path, run: Run, gallery: Gallery) -> None:
    """Reconstructions and traversals of a run, where its weights are there."""
    from torch.utils.tensorboard.summary import image, text

    model = gallery.model(run)
    x = gallery.images(run.spec.dataset) if model else None
    if model is None or x is None:
        return
    made = encoder.images_of(model, encoder.posterior(model, x).mode())
    rows = pictures.traversals(model, x[:1], pictures.kl_of(run))
    with Events(path) as events:
        events.add(
            run.spec.steps,
            image("reconstructions", _sheet([x.numpy(), made]), dataformats="CHW"),
            image("traversals", _sheet([encoder.images_of(model, z) for z in rows.values()]), dataformats="CHW"),
            text("traversals", ", ".join(rows)),
        )


def _sheet(rows: Sequence[Any]) -> torch.Tensor:
    """(channels, height, width) of all images, a line a row; shorter lines end black."""
    images = [torch.as_tensor(np.asarray(row)) for row in rows]
    longest = max(len(row) for row in images)
    lines = [
        torch.cat(list(torch.cat([row, row.new_zeros(longest - len(row), *row.shape[1:])])), dim=2) for row in images
    ]
    return torch.cat(lines, dim=1)
