"""Data sets and trained models of a results folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmark import plugins, sources, store
from benchmark.errors import UserError, anonymous
from benchmark.plugins import Found
from benchmark.running import trainer
from benchmark.runs import Record, Run, Warn
from data import Dataset
from models import Model


class Gallery:
    """Data sets and trained models of a results folder; what cannot be had is warned of once and kept in `notes`."""

    def __init__(self, data_dir: Path, files: Sequence[Path], warn: Warn) -> None:
        self.found = plugins.discover(files)
        self.data_dir, self.warn = data_dir, warn
        self.notes: dict[str, str] = {}
        self._data: dict[str, Dataset | None] = {}
        self._origins: dict[str, str] = {}

    def data(self, name: str) -> Dataset | None:
        """The data set, or None."""
        if name not in self._data:
            self._data[name] = None
            try:
                self._data[name] = plugins.pick("data set", name, self.found).load()(self.data_dir)
            except Exception as error:  # a plugin can fail in any way
                self._note(name, str(error) or type(error).__name__)
        return self._data[name]

    def loaded(self, name: str) -> Dataset | None:
        """The data set if something else has needed it."""
        return self._data.get(name)

    def class_names(self, name: str) -> tuple[str, ...]:
        """`CLASS_NAMES` in the data set's file: what the values of its class factor are called; () where it has none.

        The data set is not built.
        """
        try:
            names = getattr(plugins.pick("data set", name, self.found).module(), "CLASS_NAMES", ())
        except UserError:
            return ()
        return tuple(map(str, names)) if isinstance(names, tuple | list) else ()

    def with_class_names(self, dataset: str, confusion: pd.DataFrame) -> pd.DataFrame:
        """A table with a column a true class, named where the data set has as many names."""
        names = self.class_names(dataset)
        return confusion.set_axis(names, axis=1) if len(names) == confusion.shape[1] else confusion

    def model(self, run: Run) -> Model | None:
        """A run's trained model, or None."""
        if run.id in self.notes:
            return None
        if not (run.folder / "model.safetensors").exists():  # asked first: without it no data set is needed
            self._note(run.id, "its weights are not here")
            return None
        data = self.data(run.spec.dataset)
        if data is None:
            return None
        try:
            self._check_images(run, data)
            model = load_model(run, data, self.found)
            _try_declarations(model)
            return model
        except Exception as error:  # a plugin can fail in any way
            self._note(run.id, str(error) or type(error).__name__)
            return None

    def _check_images(self, run: Run, data: Dataset) -> None:
        """Refuse to show a run of other images of the user's than those that are here."""
        origin, name = Record.read(run.folder).origin, data.name
        if sources.is_content(origin):
            self._origins[name] = self._origins.get(name) or sources.images_of(self.found["data set"][name], data)
            if self._origins[name] != origin:
                raise UserError(f"it was trained on other images of {name} than those that are here")

    def images(self, dataset: str, n: int = 10) -> Tensor | None:
        """(n, channels, h, w) scored images, the same at every call, of as many classes as there are; or None."""
        data = self.data(dataset)
        return None if data is None else data.batch(varied(data, n))

    def public(self, text: str) -> str:
        """A text for the page: nothing tells where data and home are on this machine."""
        return anonymous(text, {self.data_dir.absolute(): "<data>"})

    def _note(self, name: str, text: str) -> None:
        self.notes[name] = self.public(text)
        self.warn(f"{name}: no pictures: {text}")


def _try_declarations(model: Model) -> None:
    """What a figure asks of a model is there: raises whatever a plugin's code raises, and UserError."""
    drawn, (low, high) = model.prior(2, torch.Generator().manual_seed(0)), model.traversal
    if drawn.shape != (2, model.latents + sum(model.categories)) or not low < high:
        raise UserError(
            f"its prior gives {tuple(drawn.shape)} latents for 2 images, or its traversal {low, high} is empty"
        )


def load_model(run: Run, data: Dataset, found: Found) -> Model:
    """A run's trained model; raises UserError or CorruptFile where its weights or its code cannot be had."""
    path = run.folder / "model.safetensors"
    if not path.exists():
        raise UserError("its weights are not here")
    plugin = plugins.pick("model", run.spec.model, found)
    if not sources.of_model(plugin).items() <= Record.read(run.folder).sources.get("training", {}).items():
        raise UserError("its model's code has changed since")
    model = trainer.build(plugin.load(), run.spec, data)
    model.load_state_dict(store.load_tensors(path))
    return model.eval()


def varied(data: Dataset, n: int) -> np.ndarray:
    """Up to n scored rows drawn at random, taking the values of the class factor in turn."""
    rows = np.random.default_rng(0).permutation(data.score_rows)[:2000]
    if data.class_factor is not None:
        kind = pd.Series(data.factors[rows, data.factor_names.index(data.class_factor)])
        rows = rows[np.lexsort((kind, kind.groupby(kind).cumcount()))]
    return rows[:n]
