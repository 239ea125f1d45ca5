"""Steps a second on a GPU: `python -m benchmark.timing.speed gpu`.

For the VAE, JointVAE and FactorVAE at 64×64 (dSprites) and 32×32 (MNIST), batch 64, in one run and in turns:

- plain: a loop as published trainers have it (float32, `DataLoader` over single samples that go through PIL
  transforms, an optimiser that is not fused, the loss read at every step), with this suite's model;
- eager: this suite's step, bfloat16 where the GPU has it; captured: the same as a CUDA graph; and several of the latter
  side by side, each in a process of its own, all their steps counted;
- busy: the share of its time for which the GPU computes. The kernels of some steps are timed by the profiler, which
  slows the host down, and compared with steps that it does not see.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from statistics import median
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmark.running import trainer
from benchmark.running.machine import same_bits_on_gpu
from benchmark.running.step import Captured, Step, recorded
from benchmark.running.supervisor import ROOT
from benchmark.spec import Spec
from benchmark.timing.speed import BATCH, DATA, LR, Samples, median_and_range
from data import Dataset
from data._cache import default_root
from models import Model
from models.factorvae import FactorVAE
from models.jointvae import JointVAE
from models.vae import VAE

MODELS: dict[str, type[Model]] = {"vae": VAE, "jointvae": JointVAE, "factorvae": FactorVAE}
FORMS = ("plain", "eager", "captured")
TOGETHER = (2, 4)


def plain_steps(model: Model, data: Dataset, device: str) -> Iterator[None]:
    """A published loop: a step each time it is asked."""
    optimizers = model.optimizers(LR)
    for name, optimizer in optimizers.items():
        group = optimizer.param_groups[0]
        optimizers[name] = torch.optim.Adam(group["params"], group["lr"], group["betas"])
    loader = torch.utils.data.DataLoader(Samples(data), batch_size=BATCH, shuffle=True, drop_last=True)
    rng, steps = torch.Generator(device), count()
    while True:
        for x in loader:
            losses = model.losses(x.to(device), next(steps), rng)
            for name, optimizer in optimizers.items():
                optimizer.zero_grad()
                losses[name].backward()
                optimizer.step()
            losses["loss"].item()
            yield


def stepper(form: str, name: str, side: int, device: str) -> Callable[[], object]:
    """Does a step of this form."""
    data = DATA[side](default_root())
    bf16 = device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    precision = "bf16" if bf16 and form != "plain" else "fp32"
    hparams = dict(MODELS[name].published[data.name].hparams)
    spec = Spec(data.name, name, 0, 10**9, BATCH, LR, precision, hparams)
    model = trainer.build(MODELS[name], spec, data, device).train()
    if form == "plain":
        steps = plain_steps(model.to(memory_format=torch.contiguous_format), data, device)
        return lambda: next(steps)
    if device == "cuda":
        same_bits_on_gpu(lambda text: None)
    parts = model, data, spec, model.optimizers(LR)
    again = recorded if device == "cuda" else lambda work, rng: work
    one, numbers = Step(*parts) if form == "eager" else Captured(*parts, record=again), count()
    return lambda: one(next(numbers))


def seconds_of(step: Callable[[], object], steps: int, device: str) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def computing(step: Callable[[], object], steps: int, device: str) -> float:
    """Seconds for which the GPU computes in so many steps."""
    with profile(activities=[ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU]) as found:
        seconds_of(step, steps, device)
    events = [e for e in found.events() or [] if e.device_type == DeviceType.CUDA and not e.is_user_annotation]
    return sum(event.time_range.elapsed_us() for event in events) / 1e6


def work(form: str, name: str, side: int, device: str) -> None:
    """A process that does steps to order: for each line `seconds_of N` or `computing N`, a number of seconds."""
    torch.set_num_threads(1)
    step = stepper(form, name, side, device)
    for line in sys.stdin:
        what, steps = line.split()
        print((seconds_of if what == "seconds_of" else computing)(step, int(steps), device), flush=True)


class Worker:
    """Such a process."""

    def __init__(self, form: str, name: str, side: int, device: str) -> None:
        task = json.dumps([form, name, side, device])
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-m", "benchmark.timing.speed_gpu", task]
        self.process = subprocess.Popen(command, cwd=ROOT, **pipes)

    def order(self, what: str, steps: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {steps}\n")
        self.process.stdin.flush()

    def result(self) -> float:
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(rounds: int, device: str, steps: int) -> None:
    """Print the table. Ends the command with a line where there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("gpu: there is no CUDA GPU here that torch can use")
    print(f"gpu: {torch.cuda.get_device_name() if device == 'cuda' else device}, batch {BATCH}, {rounds} rounds of "
          f"{steps} steps; steps a second")  # fmt: skip
    for side in DATA:
        for name in MODELS:
            _measure_model(name, side, device, rounds, steps)


def _measure_model(name: str, side: int, device: str, rounds: int, steps: int) -> None:
    groups = {form: [Worker(form, name, side, device)] for form in FORMS}
    more = [Worker("captured", name, side, device) for _ in range(max(TOGETHER) - 1)]
    groups |= {f"{n} side by side": [*groups["captured"], *more[: n - 1]] for n in TOGETHER}
    rates: dict[str, list[float]] = {form: [] for form in groups}
    try:
        for turn in range(rounds + 1):  # the first sets up
            for form, workers in groups.items():
                for worker in workers:
                    worker.order("seconds_of", steps)
                seconds = max([worker.result() for worker in workers])
                rates[form] += [len(workers) * steps / seconds] if turn else []
        busy = {}
        for form in FORMS:
            groups[form][0].order("computing", steps)
            busy[form] = 100 * groups[form][0].result() * median(rates[form]) / steps
    finally:
        for worker in {worker for workers in groups.values() for worker in workers}:
            worker.end()
    print(f"  {name}, {side}x{side}")
    for form, values in rates.items():
        ratios = [own / plain for own, plain in zip(values, rates["plain"], strict=True)]
        share = f"; the GPU computes for {busy[form]:.0f} % of the time" if form in busy and device == "cuda" else ""
        print(f"    {form:14} {median_and_range(values)}; this / plain {median_and_range(ratios, 2)}{share}")


if __name__ == "__main__":
    work(*json.loads(sys.argv[1]))
