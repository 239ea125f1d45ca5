"""A results folder in a notebook: `from benchmark import load_run, load_results`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from benchmark import plugins, sources, store
from benchmark.errors import UserError
from benchmark.reporting import canvas, pictures, report
from benchmark.reporting.gallery import load_model
from benchmark.running import encoder
from benchmark.runs import Record, Run, read_runs
from benchmark.statistics import differences, stats
from data import Dataset
from data._cache import default_root
from metrics import Codes
from models import Model


@dataclass(frozen=True)
class LoadedRun:
    """A run read back: `load_run(FOLDER)`. What is not in its folder raises UserError, and says what is missing."""

    run: Run
    data_dir: Path
    files: tuple[Path, ...]

    @cached_property
    def data(self) -> Dataset:
        """Its data set, made where it is not there yet."""
        plugin, origin = self._plugin("data set", self.run.spec.dataset), Record.read(self.run.folder).origin
        if sources.is_content(origin) and sources.images_of(plugin, self._dataset) != origin:
            raise UserError(f"{self.run.id} was trained on other images of {plugin.name} than those that are here")
        return self._dataset

    @cached_property
    def _dataset(self) -> Dataset:
        dataset: Dataset = self._plugin("data set", self.run.spec.dataset).load()(self.data_dir)
        return dataset

    @cached_property
    def model(self) -> Model:
        """The trained model, ready to be asked."""
        self._plugin("model", self.run.spec.model)
        try:
            return load_model(self.run, self._dataset, plugins.discover(self.files))
        except UserError as error:
            raise UserError(f"{self.run.folder}: {error}") from error

    @cached_property
    def codes(self) -> Codes:
        """The table of posteriors that its scores are of; attributes are only given to the metric of them."""
        path = self.run.folder / "codes.h5"
        if not store.is_finished(self.run.folder, path.name):
            raise UserError(f"{path}: not here, as of a published run; `run.encode(images)` needs the weights alone")
        return store.load_codes(path)[0]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row a number, with the columns of the results folder's scores.csv."""
        return report.score_table([self.run], self.files, warn=lambda text: None)[report.SCORES]

    @cached_property
    def history(self) -> pd.DataFrame:
        """Losses along training: a row per 100 steps."""
        if not store.is_finished(self.run.folder, "history.csv"):
            raise UserError(f"{self.run.folder / 'history.csv'}: not here")
        return pd.read_csv(self.run.folder / "history.csv")

    def encode(self, images: ArrayLike) -> NDArray[np.float32]:
        """(b, c + Σk) latents of (b, channels, h, w) images, bytes or in [0, 1]: means, then one-hot classes.

        `decode` takes them.
        """
        return encoder.posterior(self.model, self._images(images)).mode().numpy()

    def decode(self, latents: ArrayLike) -> NDArray[np.float32]:
        """(b, channels, h, w) images in [0, 1] of (b, c + Σk) latents."""
        z = torch.as_tensor(np.asarray(latents), dtype=torch.float32)
        width = self.model.latents + sum(self.model.categories)
        if z.ndim != 2 or z.shape[1] != width:
            raise UserError(f"latents have shape {tuple(z.shape)}, needed (b, {width})")
        return encoder.images_of(self.model, z)

    def traversals(self, images: ArrayLike) -> Figure:
        """What every latent changes in the first of these images."""
        x = self._images(images)
        if not len(x):
            raise UserError("no images: a traversal needs one or more")
        with canvas.style():
            figure = pictures.traversal_figure(self.run, self.run.id, self.model, x)
        canvas.close(figure)  # a notebook shows what a cell returns, and would show an open figure once more
        return figure

    def _images(self, images: ArrayLike) -> torch.Tensor:
        given = np.asarray(images)
        if given.ndim != 4 or given.shape[1:] != self.data.shape:
            needed = ", ".join(map(str, self.data.shape))
            raise UserError(f"images have shape {given.shape}, needed (b, {needed})")
        x = given.astype(np.float32) / (255 if given.dtype == np.uint8 else 1)
        if x.size and not (0 <= x.min() and x.max() <= 1):  # nan is neither
            raise UserError(f"images of {given.dtype} hold {given.min()} to {given.max()}, needed bytes or [0, 1]")
        return torch.from_numpy(x)

    def _plugin(self, kind: str, name: str) -> plugins.Plugin:
        found = plugins.discover(self.files)
        if name not in found[kind]:
            how = "load_run(…, plugin_files=[…]) takes your models and data sets (.py, .npz)"
            raise UserError(f"{kind} {name!r} is not here: {how}")
        return found[kind][name]


@dataclass(frozen=True)
class Results:
    """Tidy tables of a results folder, with the columns of the files of the same names: a row a number (`scores`), a
    configuration and score (`summary`), a run (`runs`), and a pair of configurations and score (`comparisons`)."""

    score_table: pd.DataFrame = field(repr=False)  # `scores` with the columns better, plugin, source and over_runs
    runs: pd.DataFrame

    @property
    def scores(self) -> pd.DataFrame:
        return self.score_table[report.SCORES]

    @cached_property
    def summary(self) -> pd.DataFrame:
        return stats.summarise(self.score_table, self._failed)

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        return differences.comparisons(self.score_table, self._failed)

    @property
    def _failed(self) -> pd.DataFrame:
        return self.runs[self.runs["status"] == "failed"]


def load_run(
    folder: str | Path, *, data_dir: str | Path | None = None, plugin_files: Sequence[str | Path] = ()
) -> LoadedRun:
    """The run in `results/runs/…`. Raises UserError where there is none.

    data_dir: where data sets are cached; plugin_files: your own models and data sets (.py, .npz) that it needs.
    """
    path = Path(folder).absolute()
    files = tuple(Path(file) for file in plugin_files)
    said: list[str] = []
    for run in read_runs(path.parent.parent, said.append, files):
        if run.folder == path:
            return LoadedRun(run, Path(data_dir or default_root()), files)
    one = next(
        (f": it is a results folder, so give one of its runs, like {run}" for run in (path / "runs").glob("*-*")), ""
    )
    raise UserError(next((text for text in said if path.name in text), f"{folder}: holds no run{one}"))


def load_results(folder: str | Path, *, plugin_files: Sequence[str | Path] = ()) -> Results:
    """The tables of a results folder, from its run folders alone. Raises UserError where it holds no runs.

    A folder that cannot be read, and scores by another version of a metric, are left out with a Python warning.
    """
    files = tuple(Path(file) for file in plugin_files)
    runs = read_runs(Path(folder).absolute(), _warn, files)
    if not runs:
        raise UserError(f"{folder}: holds no runs")
    table = report.run_table([run for run in runs if run.kind == "run"])
    return Results(report.score_table(runs, files, _warn), table)


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)
