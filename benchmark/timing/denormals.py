"""What denormal numbers cost a long run: `python -m benchmark.timing.denormals RUN [--steps 300] [--rounds 3]`.

RUN is the folder of a run that kept its state. Training goes on from there, with numbers below 1e-38 as they are and,
as the command has it (`machine.denormals_as_zero`), as 0; the forms take turns, each in a process of its own. Prints
the share of the optimisers' state that is denormal, milliseconds a step, and whether both end with the same weights.
Nothing in the folder is changed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

from benchmark import plugins, store
from benchmark.errors import UserError, exit_status
from benchmark.running import machine, trainer
from benchmark.running.step import step_of
from benchmark.running.supervisor import CHECKPOINT, KEEP_MEMORY, ROOT, THREADS
from benchmark.runs import Record
from benchmark.timing.speed import median_and_range
from data._cache import default_root

FORMS = ("as they are", "as 0")
LEAST = torch.finfo(torch.float32).tiny


def measured(form: str, folder: Path, steps: int) -> dict[str, object]:
    """One form: the denormal share, milliseconds of the median step of the last two thirds, a digest of the weights."""
    with machine.denormals_as_zero() if form == "as 0" else contextlib.nullcontext():
        spec, found = Record.read(folder).spec, plugins.discover(())
        data = plugins.pick("data set", spec.dataset, found).load()(default_root())
        model = trainer.build(plugins.pick("model", spec.model, found).load(), spec, data)
        optimizers = model.optimizers(spec.lr)
        first, _, _ = store.load_checkpoint(folder / CHECKPOINT, model, optimizers)
        state = [tensor for o in optimizers.values() for s in o.state.values() for tensor in s.values() if tensor.dim()]
        denormal = sum(int(((tensor != 0) & (tensor.abs() < LEAST)).sum()) for tensor in state)
        model.train()
        one_step, times = step_of(model, data, spec, optimizers), []
        for step in range(first, first + steps):
            began = time.perf_counter()
            one_step(step)
            times.append(1e3 * (time.perf_counter() - began))
    digest = hashlib.sha256(b"".join(p.detach().contiguous().numpy().tobytes() for p in model.parameters()))
    share = denormal / sum(tensor.numel() for tensor in state)
    return {"share": share, "ms": median(times[steps // 3 :]), "weights": digest.hexdigest(), "step": first}


def compare(folder: Path, steps: int, rounds: int, threads: int) -> int:
    if not (folder / CHECKPOINT).exists():
        raise UserError(
            f"{folder}: has no {CHECKPOINT}, the state that a run keeps unless --keep-state no says otherwise"
        )
    found: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
    environment = {**os.environ, **KEEP_MEMORY, **dict.fromkeys(THREADS, str(threads))}
    command = [sys.executable, "-m", "benchmark.timing.denormals", str(folder), "--steps", str(steps)]
    for _ in range(rounds):
        for form in FORMS:
            work = subprocess.run([*command, "--work", form], env=environment, cwd=ROOT, stdout=subprocess.PIPE)
            if work.returncode:
                return work.returncode  # it has said why
            found[form].append(json.loads(work.stdout))
    kept, flushed = (found[form] for form in FORMS)
    print(f"{folder.name} from step {kept[0]['step']:,}: {kept[0]['share']:.0%} of the optimisers' state is denormal")
    for form in FORMS:
        print(f"  {form:11} {median_and_range([one['ms'] for one in found[form]])} ms a step")
    print(f"  ratio       {median_and_range([a['ms'] / b['ms'] for a, b in zip(kept, flushed, strict=True)], 2)}")
    same = len({one["weights"] for one in kept + flushed}) == 1
    print(f"  weights after {steps} steps: {'the same bits' if same else 'not the same'}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", choices=FORMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return exit_status(lambda: print(json.dumps(measured(options.work, options.run, options.steps))))
    return exit_status(lambda: compare(options.run.resolve(), options.steps, options.rounds, options.threads))


if __name__ == "__main__":
    sys.exit(main())
