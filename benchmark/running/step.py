"""One training step: a batch, its noise, the losses and what minimises them."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from benchmark.errors import UserError
from benchmark.spec import Spec
from data import Dataset
from models import Model


def derived_seed(*parts: object) -> int:
    """A 63-bit seed that is a pure function of the parts."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8]) >> 1


def epoch_rows(rows: NDArray[np.integer], seed: int, epoch: int) -> NDArray[np.integer]:
    """The rows in the order in which an epoch sees them."""
    return rows[np.random.default_rng(derived_seed("epoch", seed, epoch)).permutation(len(rows))]


class Step:
    """Trains a model by one step when it is called with the step's number, from 0.

    A batch, what is drawn in its images and its noise are functions of seed and step alone. totals: name -> sum of a
    loss over the steps since this was last emptied (float64; float32 on Apple's GPUs, which know no other).
    """

    def __init__(self, model: Model, data: Dataset, spec: Spec, optimizers: dict[str, Optimizer]) -> None:
        self.model, self.data, self.spec, self.optimizers = model, data, spec, optimizers
        self.device = next(model.parameters()).device
        self.rng = torch.Generator(self.device)
        self.totals: dict[str, Tensor] = {}
        self.epoch: int | None = None
        self.read: Callable[[slice], Tensor]

    def __call__(self, step: int) -> None:
        self.rng.manual_seed(derived_seed("noise", self.spec.seed, step))
        self._train(self._batch(step), step)

    def _batch(self, step: int) -> Tensor:
        """The images of a step: what is left of an epoch beyond its last full batch is dropped."""
        rows, size = self.data.train_rows, self.spec.batch_size
        epoch, index = divmod(step, len(rows) // size)
        if epoch != self.epoch:
            ordered, visit = epoch_rows(rows, self.spec.seed, epoch), derived_seed("visit", self.spec.seed, epoch)
            self.epoch, self.read = epoch, self.data.reader(ordered, self.device, visit)
        return self.read(slice(index * size, (index + 1) * size))

    def _train(self, x: Tensor, step: int | Tensor) -> None:
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
            if name not in self.totals:
                self.totals[name] = torch.zeros_like(value)
            self.totals[name] += value


Record = Callable[[Callable[[], None], torch.Generator], Callable[[], None]]


def recorded(work: Callable[[], None], rng: torch.Generator) -> Callable[[], None]:
    """Does again, as one CUDA graph, what this work does on the GPU; its noise is drawn from rng."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(rng)
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class Captured(Step):
    """A step that is recorded once, forward, backward and optimisers, and then replayed without Python's part in it.

    Images and the step's number are copied to where the recording reads them, the generator is seeded before every
    replay, and the losses are summed within it, so `totals` holds until the next step. The first steps are done one by
    one, on a stream of their own as CUDA graphs ask for: by then libraries and optimisers have set themselves up.
    """

    FIRST = 3

    def __init__(
        self, model: Model, data: Dataset, spec: Spec, optimizers: dict[str, Optimizer], record: Record = recorded
    ) -> None:
        super().__init__(model, data, spec, optimizers)
        self.record, self.replay, self.left = record, self._train_here, self.FIRST
        self.x = torch.empty(spec.batch_size, *data.shape, device=self.device)
        self.number = torch.zeros((), dtype=torch.float64, device=self.device)
        self.summed: dict[str, Tensor] = {}
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                if "capturable" in group:
                    group["capturable"] = True
            optimizer.load_state_dict(optimizer.state_dict())  # what it counted on the host is counted on the device

    def __call__(self, step: int) -> None:
        self.x.copy_(self._batch(step))
        self.number.fill_(step)
        self.rng.manual_seed(derived_seed("noise", self.spec.seed, step))
        if self.left:
            with _aside(self.device):
                self._train_here()
            self.left -= 1
            if not self.left:
                self._record()
        else:
            self._sum_here()
            self.replay()

    def _train_here(self) -> None:
        self._train(self.x, self.number)

    def _record(self) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        self.summed = dict(self.totals)
        try:
            self.replay = self.record(self._train_here, self.rng)
        except RuntimeError as error:
            text = f"{type(self.model).__name__} has captures = True, but its step cannot be captured"
            raise UserError(f"{text}: {str(error).partition(chr(10))[0]}") from error

    def _sum_here(self) -> None:
        """Put the totals back to where the recording adds to them, if they were emptied or set."""
        if all(self.totals.get(name) is total for name, total in self.summed.items()):
            return
        for name, total in self.summed.items():
            total.copy_(self.totals[name]) if name in self.totals else total.zero_()
        self.totals = dict(self.summed)


@contextlib.contextmanager
def _aside(device: torch.device) -> Iterator[None]:
    """Work on a stream of its own, in turn with the usual one."""
    if device.type != "cuda":
        yield
        return
    usual, other = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    other.wait_stream(usual)
    with torch.cuda.stream(other), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*capturable=True")  # its recording is about to come
        yield
    usual.wait_stream(other)


def step_of(model: Model, data: Dataset, spec: Spec, optimizers: dict[str, Optimizer]) -> Step:
    """The step of a training: captured on a CUDA GPU, where the model's class itself says that it can be."""
    on_gpu = next(model.parameters()).device.type == "cuda"
    kind = Captured if on_gpu and captures(type(model)) and all(map(_capturable, optimizers.values())) else Step
    return kind(model, data, spec, optimizers)


def captures(cls: type[Model]) -> bool:
    """Whether a model's step can be captured: a class that extends one that can be has to say so for itself."""
    return bool(cls.__dict__.get("captures", False))


def _capturable(optimizer: Optimizer) -> bool:
    """Whether it counts its steps on the device, or not at all."""
    return isinstance(optimizer, torch.optim.SGD) or all("capturable" in group for group in optimizer.param_groups)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
