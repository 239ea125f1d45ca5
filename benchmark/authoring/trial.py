"""A user's models and metrics are tried before any work, so that a mistake in them costs no training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch

from benchmark import plugins
from benchmark.authoring import contract_metric, contract_model
from benchmark.authoring.contract import Fault
from benchmark.errors import UserError
from benchmark.plugins import Plugin
from benchmark.running import trainer
from benchmark.spec import Spec
from data import Dataset
from metrics import NotApplicable


def try_models(models: Mapping[str, Plugin], configurations: Sequence[Spec], data: Mapping[str, Dataset]) -> None:
    """A step's losses of the user's models on their data. Raises UserError, with the line of the mistake."""
    for one in (one for one in configurations if not models[one.model].builtin):
        plugin, d = models[one.model], data[one.dataset]
        what = f"model {one.model!r} on {one.dataset}"
        try:
            model = trainer.build(plugin.load(), one, d).train()
            x = d.batch(d.train_rows[: one.batch_size])
            contract_model.require_losses(model, x, torch.Generator().manual_seed(0))
        except Fault as error:
            raise UserError(f"{what}: {error}") from error
        except Exception as error:
            raise UserError(f"{what}: {plugins.where(error, plugin.file)}") from error


def try_metrics(chosen: Sequence[Plugin]) -> Iterator[str]:
    """What the user's metrics give on made-up codes; told is what may be their fault or that of these codes.

    Raises UserError for what would be a mistake on any codes.
    """
    for plugin in (plugin for plugin in chosen if not plugin.builtin):
        case = contract_metric.MetricCase(plugin.name, plugin.load(), plugin.module())
        what = f"metric {plugin.name!r}"
        try:
            contract_metric.declared(case)
            found = case.scores(contract_metric.example())
            contract_metric.require_keys(case, found, "made-up codes")
        except Fault as error:
            raise UserError(f"{what}: {error}") from error
        except Exception as error:
            text = plugins.where(error, plugin.file)
            if _is_misspelt(error):
                raise UserError(f"{what}: {text}") from error
            yield f"{what} fails on made-up codes, and may on those of runs: {text}"
            continue
        for key, value in found.items():
            if not isinstance(value, NotApplicable) and not math.isfinite(value):
                yield f"{what} gave {value} for {key!r} on made-up codes; a run would fail: give NotApplicable(reason)"


def _is_misspelt(error: Exception) -> bool:
    """A name that is nowhere; an attribute that is missing of None may be there in other codes."""
    return isinstance(error, NameError | ImportError) or (isinstance(error, AttributeError) and error.obj is not None)
