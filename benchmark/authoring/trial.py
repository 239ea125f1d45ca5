"""A user's models and metrics are tried before any work, so that a mistake in them costs no training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from benchmark import plugins
from benchmark.authoring import contract_metric, contract_model
from benchmark.authoring.check import place
from benchmark.authoring.contract import Fault
from benchmark.errors import UserError
from benchmark.plugins import Plugin
from benchmark.running import trainer
from benchmark.spec import Spec
from data import Dataset
from metrics import NotApplicable, settings


def try_models(models: Mapping[str, Plugin], configurations: Sequence[Spec], data: Mapping[str, Dataset]) -> None:
    """A step's losses of the user's models on their data. Raises UserError, with the line of the mistake."""
    for one in (one for one in configurations if not models[one.model].builtin):
        plugin, d = models[one.model], data[one.dataset]
        try:
            model = trainer.build(plugin.load(), one, d).train()
            x = d.batch(d.train_rows[: one.batch_size])
            contract_model.require_losses(model, x, torch.Generator().manual_seed(0))
        except Exception as error:
            raise UserError(f"model {one.model!r} on {one.dataset}: {_said(error, plugin)}") from error


def check_declared(metrics: Sequence[Plugin]) -> None:
    """What the files of the user's metrics declare. Raises UserError, with the line of the mistake."""
    for plugin in _own(metrics):
        try:
            contract_metric.declared(_case(plugin))
        except Fault as error:
            raise UserError(f"metric {plugin.name!r}: {_said(error, plugin)}") from error


def try_metrics(metrics: Sequence[Plugin], protocol: str) -> Iterator[str]:
    """What the user's metrics give on made-up codes; told is what may be their fault or that of these codes.

    Raises UserError, with the line, for what would be a mistake on any codes.
    """
    for plugin in _own(metrics):
        case, what = _case(plugin), f"metric {plugin.name!r}"
        try:
            found = case.scores(contract_metric.example(), settings(case.module, protocol))
            contract_metric.require_keys(case, found, "made-up codes")
        except Exception as error:
            if isinstance(error, Fault) or _is_misspelt(error):
                raise UserError(f"{what}: {_said(error, plugin)}") from error
            yield f"{what} fails on made-up codes, and may on those of runs: {_said(error, plugin)}"
            continue
        for key, value in found.items():
            if not isinstance(value, NotApplicable) and not math.isfinite(value):
                yield f"{what} gave {value} for {key!r} on made-up codes; a run would fail: give NotApplicable(reason)"


def _own(chosen: Sequence[Plugin]) -> list[Plugin]:
    return [plugin for plugin in chosen if not plugin.builtin]


def _case(plugin: Plugin) -> contract_metric.MetricCase:
    return contract_metric.MetricCase(plugin.name, plugin.load(), plugin.module())


def _said(error: Exception, plugin: Plugin) -> str:
    """The error with the line of the plugin's file that it comes from."""
    file = plugin.file or Path(str(plugin.module().__file__))
    return f"{error} ({place(error, file)})" if isinstance(error, Fault) else plugins.where(error, file)


def _is_misspelt(error: Exception) -> bool:
    """A name that is nowhere, whatever the codes; an attribute that None lacks may be there in other codes."""
    if isinstance(error, AttributeError):
        return error.obj is not None
    return isinstance(error, NameError | ImportError) and not isinstance(error, UnboundLocalError)
