"""One training step: a batch, its noise, the losses and what minimises them."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from benchmark.spec import Spec
from data import Dataset
from models import Model


def derived_seed(*parts: object) -> int:
    """A 63-bit seed that is a pure function of the parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1


def batch_rows(rows: NDArray[np.integer], seed: int, step: int, batch_size: int) -> NDArray[np.integer]:
    """(batch_size,) rows of a step: epochs are permutations, and what is left of one is dropped."""
    epoch, index = divmod(step, len(rows) // batch_size)
    start = index * batch_size
    return rows[_permutation(len(rows), seed, epoch)[start : start + batch_size]]


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng(derived_seed("epoch", seed, epoch)).permutation(n)


class Step:
    """Trains a model by one step when it is called with the step's number, from 0.

    A batch and its noise are functions of seed and step alone. totals: name -> sum of a loss over the steps since this
    was last emptied (float64; float32 on Apple's GPUs, which know no other).
    """

    def __init__(self, model: Model, data: Dataset, spec: Spec, optimizers: dict[str, Optimizer]) -> None:
        self.model, self.data, self.spec, self.optimizers = model, data, spec, optimizers
        self.device = next(model.parameters()).device
        self.rng = torch.Generator(self.device)
        self.totals: dict[str, Tensor] = {}

    def __call__(self, step: int) -> None:
        self.rng.manual_seed(derived_seed("noise", self.spec.seed, step))
        self._train(self._batch(step), step)

    def _batch(self, step: int) -> Tensor:
        rows = batch_rows(self.data.train_rows, self.spec.seed, step, self.spec.batch_size)
        return self.data.batch(rows).to(self.device)

    def _train(self, x: Tensor, step: int) -> None:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.spec.precision == "bf16"):
            losses = self.model.losses(x, step, self.rng)
        for name, optimizer in self.optimizers.items():
            optimizer.zero_grad()
            losses[name].backward()
            if self.model.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(_parameters(optimizer), self.model.clip_norm)
            optimizer.step()
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        for name, loss in losses.items():
            value = loss.detach().to(exact)
            self.totals.setdefault(name, torch.zeros_like(value)).add_(value)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
