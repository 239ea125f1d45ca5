"""How fast the suite is: ratios taken in one run, against a plain training loop and against itself.

`python -m benchmark.timing.speed [train encode draw jobs growth command gpu] [--rounds 7]` prints, as medians with
their range,

- train: milliseconds a training step at 64×64 (dSprites) and 32×32 (MNIST), one thread: a plain loop as published
  trainers have it (float32, `DataLoader` over single samples that go through PIL transforms, the same network, batch
  and optimiser); this suite's trainer, float32 and bfloat16; and the latter's forward, backward and optimiser step
  alone, on one batch, so that the rest is what batches, logging and checkpoints cost. Peak memory of each process.
- encode: seconds for the whole dSprites grid, on one and on all cores; draw: for drawing that data set.
- jobs: steps a second of one job on all threads against one job a core.
- growth: seconds of the whole command as steps, seeds and jobs grow.
- command: core-seconds by part of the README's command from empty caches, once, or of the command whose arguments
  follow `--` (`command -- --models vae --datasets blobs --steps 100`); `command --from FOLDER` prints those that the
  runs of a finished results folder recorded.
- gpu, only where it is named: steps a second on a CUDA GPU (`benchmark.timing.speed_gpu`).

Forms take turns, each in a process of its own that waits while another works, since machines speed up and slow down.

What was tried, with its outcome: docs/speed.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor, nn

from benchmark.running import encoder, trainer
from benchmark.running.clock import peak_mb
from benchmark.running.supervisor import KEEP_MEMORY, ROOT, THREADS
from benchmark.spec import Spec
from benchmark.timing import stages
from data import Dataset
from data._cache import default_root
from data.dsprites import draw, dsprites
from data.mnist import mnist
from models.vae import VAE

BATCH = 64
LR = 5e-4
DATA: dict[int, Callable[[Path], Dataset]] = {64: dsprites, 32: mnist}
FORMS = ("plain", "suite fp32", "suite bf16", "arithmetic")


class PlainVAE(nn.Module):
    """The network of `models._nets`, written as the papers' code has it."""

    def __init__(self, side: int, latents: int = 10) -> None:
        super().__init__()
        down, up = ((32, 32, 64, 64), (64, 64, 32, 32)) if side == 64 else ((32, 64, 64), (64, 32, 32))
        layers: list[nn.Module] = []
        for inputs, width in zip((1, *down), down, strict=False):
            layers += [nn.Conv2d(inputs, width, 4, 2, 1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 2 * latents))
        self.body = nn.Sequential(nn.Linear(latents, 256), nn.ReLU(), nn.Linear(256, 1024), nn.ReLU())
        layers = []
        for inputs, width in zip(up, (*up[1:], 1), strict=True):
            layers += [nn.ConvTranspose2d(inputs, width, 4, 2, 1), nn.ReLU()]
        self.pixels = nn.Sequential(*layers[:-1])

    def loss(self, x: Tensor) -> Tensor:
        mean, logvar = self.head(self.features(x).flatten(1)).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        logits = self.pixels(self.body(z).view(len(x), 64, 4, 4))
        recon = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        return recon + 0.5 * (mean**2 + logvar.exp() - logvar - 1).sum() / len(x)


class Samples(torch.utils.data.Dataset[Tensor]):
    """Single images, each through PIL and torchvision's transforms."""

    def __init__(self, data: Dataset) -> None:
        from torchvision import transforms  # type: ignore[import-untyped]  # at need: this takes seconds

        images = (data.batch(data.train_rows[: 100 * BATCH])[:, 0] * 255).numpy().astype(np.uint8)
        resize = [transforms.Resize(32)] if data.name == "mnist" else []
        self.images = images[:, 2:-2, 2:-2].copy() if data.name == "mnist" else images
        self.transform = transforms.Compose([transforms.ToPILImage(), *resize, transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(self.images[index])


def plain_steps(data: Dataset) -> Iterator[None]:
    """Today's published loop: a step each time it is asked."""
    torch.manual_seed(0)
    model = PlainVAE(data.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    loader = torch.utils.data.DataLoader(Samples(data), batch_size=BATCH, shuffle=True, drop_last=True)
    while True:
        for x in loader:
            optimizer.zero_grad()
            loss = model.loss(x)
            loss.backward()
            optimizer.step()
            loss.item()
            yield


def spec_of(data: Dataset, precision: str) -> Spec:
    return Spec(data.name, "vae", 0, 10**9, BATCH, LR, precision, {"latents": 10})


def arithmetic_steps(data: Dataset, precision: str = "bf16") -> Iterator[None]:
    """Forward, backward and optimiser step of the suite's model, on one batch."""
    model = trainer.build(VAE, spec_of(data, precision), data)
    optimizer, rng = model.optimizers(LR)["loss"], torch.Generator()
    x = data.batch(data.train_rows[:BATCH])
    for step in count():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model.losses(x, step, rng)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield


def wait_for_orders(step: Callable[[], object]) -> None:
    """For each number that comes in, do as many steps and print the seconds that they took and the peak memory."""
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(time.perf_counter() - start, peak_mb(), flush=True)


def work(form: str, side: int, threads: int) -> None:
    """A process that trains when told to."""
    torch.set_num_threads(threads)
    data = DATA[side](default_root())
    if form.startswith("suite"):
        _trainer_to_order(data, form.removeprefix("suite "))
    else:
        steps = plain_steps(data) if form == "plain" else arithmetic_steps(data)
        wait_for_orders(lambda: next(steps))


def _trainer_to_order(data: Dataset, precision: str) -> None:
    """The suite's own loop, with its history and checkpoints; it stops where the orders do."""
    spec = spec_of(data, precision)
    left, started = 0, 0.0

    def progress(step: int) -> None:
        nonlocal left, started
        left -= 1
        if left <= 0:
            if started:
                print(time.perf_counter() - started, peak_mb(), flush=True)
            line = sys.stdin.readline()
            if not line:
                os._exit(0)
            left, started = int(line), time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        progress(0)
        trainer.train(trainer.build(VAE, spec, data), data, spec, checkpoint=Path(folder) / "c", progress=progress)


class Worker:
    """A process that does steps to order."""

    def __init__(self, form: str, side: int, threads: int = 1) -> None:
        environment = dict(os.environ) if form == "plain" else {**os.environ, **KEEP_MEMORY}
        environment |= dict.fromkeys(THREADS, str(threads))
        command = [sys.executable, "-m", "benchmark.timing.speed", "--work", form, str(side), str(threads)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, cwd=ROOT, **pipes)

    def order(self, steps: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()

    def result(self) -> tuple[float, float]:
        """Seconds, and peak memory in MB."""
        assert self.process.stdout is not None
        seconds, peak = self.process.stdout.readline().split()
        return float(seconds), float(peak)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def median_and_range(values: Sequence[float], digits: int = 1) -> str:
    """`median (lowest-highest)`."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def measure_training(rounds: int) -> None:
    for side in DATA:
        workers = {form: Worker(form, side) for form in FORMS}
        steps = 20 if side == 64 else 60
        times: dict[str, list[float]] = {form: [] for form in FORMS}
        peaks = dict.fromkeys(FORMS, 0.0)
        for turn in range(rounds + 1):  # the first compiles, and touches memory
            for form, worker in workers.items():
                worker.order(steps)
                seconds, peaks[form] = worker.result()
                if turn:
                    times[form].append(1e3 * seconds / steps)
        for worker in workers.values():
            worker.end()
        print(f"training, {side}x{side}, batch {BATCH}, one thread, {rounds} rounds of {steps} steps")
        for form in FORMS:
            ratios = [plain / own for plain, own in zip(times["plain"], times[form], strict=True)]
            print(f"  {form:11} {median_and_range(times[form])} ms a step; plain / this {median_and_range(ratios, 2)}; "
                  f"{peaks[form]:.0f} MB at most")  # fmt: skip
        rest = [100 * (1 - a / b) for a, b in zip(times["arithmetic"], times["suite bf16"], strict=True)]
        print(f"  outside forward, backward and step: {median_and_range(rest)} % of a bf16 step")


def measure_jobs(rounds: int) -> None:
    """Steps a second of all cores."""
    cores = joblib.cpu_count()
    for side in DATA:
        steps = 20 if side == 64 else 60
        one, many, wide = Worker("suite bf16", side), [Worker("suite bf16", side) for _ in range(cores)], Worker(
            "suite bf16", side, cores
        )  # fmt: skip
        rates: dict[str, list[float]] = {"one": [], "many": [], "wide": []}
        for turn in range(rounds + 1):
            for name, group in (("one", [one]), ("many", many), ("wide", [wide])):
                for worker in group:
                    worker.order(steps)
                seconds = max(worker.result()[0] for worker in group)
                if turn:
                    rates[name].append(len(group) * steps / seconds)
        for worker in (one, wide, *many):
            worker.end()
        many_ratio, wide_ratio = (
            [a / b for a, b in zip(rates[k], rates["one"], strict=True)] for k in ("many", "wide")
        )
        print(f"jobs, {side}x{side}: one job of one thread does {median_and_range(rates['one'])} steps a second")
        print(f"  {cores} such jobs: {median_and_range(many_ratio, 2)} times that")
        print(f"  one job of {cores} threads: {median_and_range(wide_ratio, 2)} times")


def measure_encoding(rounds: int) -> None:
    data = dsprites(default_root())
    selection, model = encoder.select(data, "study"), trainer.build(VAE, spec_of(data, "fp32"), data)
    for threads in sorted({1, joblib.cpu_count()}):
        torch.set_num_threads(threads)
        times = []
        for _ in range(max(1, rounds // 3)):
            start = time.perf_counter()
            encoder.encode(model, data, selection)
            times.append(time.perf_counter() - start)
        print(f"encoding {len(selection.rows)} images of dSprites, {threads} thread(s): {median_and_range(times)} s")


def measure_drawing(rounds: int) -> None:
    times = []
    for _ in range(max(1, rounds // 2)):
        start = time.perf_counter()
        images = sum(len(block) for block in draw())
        times.append(time.perf_counter() - start)
    print(f"drawing {images} images of dSprites, one thread: {median_and_range(times, 2)} s")


def measure_growth(rounds: int) -> None:
    """Whole commands, start-up and tables included."""
    cases = [(n, 1, 1) for n in (500, 1000, 2000)] + [(500, seeds, 1) for seeds in (2, 4)] + [(500, 4, 2)]
    print("growth: seconds of `--models vae --datasets mnist`, floors done before")
    for steps, seeds, jobs in cases:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "run_benchmark.py", "--models", "vae", "--datasets", "mnist", "--metrics", "kl"]
            command += ["--results", folder, "--jobs", str(jobs)]
            seconds = []
            for grid in (["--steps", "1"], ["--steps", str(steps), "--seeds", str(seeds)]):
                start = time.perf_counter()
                subprocess.run([*command, *grid], cwd=ROOT, check=True, capture_output=True)
                seconds.append(time.perf_counter() - start)
        print(f"  {steps:5} steps, {seeds} seed(s), {jobs} job(s): {seconds[1]:.1f}")


MEASURES = {
    "train": measure_training,
    "encode": measure_encoding,
    "draw": measure_drawing,
    "jobs": measure_jobs,
    "growth": measure_growth,
}


def measure_command(arguments: Sequence[str], finished: Path | None) -> None:
    if finished:
        stages.show(f"runs and floors of {finished}, without the command's own time", stages.of_runs(finished))
    else:
        stages.measure(arguments or stages.MAIN)


def main() -> None:
    names = [*MEASURES, "command"]
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {' '.join(names)} gpu; default: all but gpu")
    parser.add_argument("--rounds", type=int, default=7, help="times that the forms take turns")
    parser.add_argument("--from", dest="finished", type=Path, metavar="FOLDER", help="command: read, do not run")
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)  # of gpu, to see on a CPU that it runs
    parser.add_argument("--steps", type=int, default=500, help=argparse.SUPPRESS)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    line = sys.argv[1:]
    end = line.index("--") if "--" in line else len(line)
    options, arguments = parser.parse_args(line[:end]), line[end + 1 :]
    if options.work:
        work(options.work[0], int(options.work[1]), int(options.work[2]))
        return
    if unknown := set(options.parts) - {*names, "gpu"}:
        parser.error(f"no part {sorted(unknown)[0]!r}; parts: {', '.join(names)}, gpu")
    if (arguments or options.finished) and options.parts != ["command"]:
        parser.error("--from, and what follows --, are for the part command alone")
    able = {k: v for k, v in torch.cpu.get_capabilities().items() if k in ("cpu_name", "amx_bf16", "avx512_bf16")}
    print(f"{joblib.cpu_count()} cores, torch {torch.__version__}, {able}")
    for part in options.parts or names:
        if part == "command":
            measure_command(arguments, options.finished)
        elif part == "gpu":
            from benchmark.timing import speed_gpu  # which takes from this file

            speed_gpu.measure(options.rounds, options.device, options.steps)
        else:
            MEASURES[part](options.rounds)


if __name__ == "__main__":
    main()
