"""What a machine has to train on, and who trains on its GPUs at a time, and what makes their bits repeat.

`python -m benchmark.running.machine` prints it: to look at a GPU takes memory of it, so a process of its own does.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from benchmark.errors import UserError
from benchmark.running.supervisor import GOES_ON, WAITING, machine_here

RUN_BYTES = 3 * 2**30  # of a GPU that a run is counted with: CUDA itself, the images, a model and its step
MOST_RUNS = 4  # that share a GPU unless --jobs says otherwise
DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Machine:
    """devices: that can be named; bfloat16: those that have instructions for it; gpus: id -> free bytes, in order."""

    devices: tuple[str, ...]
    bfloat16: tuple[str, ...]
    gpus: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Slot:
    """The right to train on a GPU: `number` is its place among those that a process sees, `name` the lock's."""

    number: int
    name: str


def here() -> Machine:
    """This machine."""
    return asked() if torch.cuda.is_available() else look()


def asked() -> Machine:
    """This machine, as a process of its own sees it. Raises UserError where its GPUs cannot be looked at."""
    try:
        return read(machine_here())
    except subprocess.CalledProcessError as error:
        why = (error.stderr.strip().splitlines() or [""])[-1]
        raise UserError(f"a GPU cannot be looked at: {why}; CUDA_VISIBLE_DEVICES= hides it") from error


def read(text: str) -> Machine:
    return TypeAdapter(Machine).validate_json(text)


def look() -> Machine:
    cuda, able = torch.cuda.is_available(), torch.cpu.get_capabilities()
    there = {"cpu": True, "cuda": cuda, "mps": torch.backends.mps.is_available()}
    bfloat16 = {"cpu": able.get("avx512_bf16") or able.get("amx_bf16"),
                "cuda": cuda and torch.cuda.is_bf16_supported(including_emulation=False)}  # fmt: skip
    gpus = tuple((_id(i), torch.cuda.mem_get_info(i)[0]) for i in range(torch.cuda.device_count() if cuda else 0))
    return Machine(tuple(k for k, v in there.items() if v), tuple(k for k, v in bfloat16.items() if v), gpus)


def _id(number: int) -> str:
    return str(getattr(torch.cuda.get_device_properties(number), "uuid", number))


def common(machines: Sequence[Machine]) -> Machine:
    """What all of them can do; their GPUs are for themselves to share out."""
    first, *others = machines
    return Machine(
        tuple(d for d in first.devices if all(d in m.devices for m in others)),
        tuple(d for d in first.bfloat16 if all(d in m.bfloat16 for m in others)),
    )


def slots(machine: Machine, jobs: int | None) -> tuple[Slot, ...]:
    """So many rights to train on the GPUs in turn; by default as many as their free memory has room for, one at least.

    Their order spreads runs over the GPUs.
    """
    if not machine.gpus:
        return ()
    room = [max(1, min(MOST_RUNS, free // RUN_BYTES)) for _, free in machine.gpus]
    rounds = max(room) if jobs is None else -(-jobs // len(room))
    places = [(k, i) for k in range(rounds) for i in range(len(room)) if jobs is not None or k < room[i]]
    return tuple(Slot(i, f"{machine.gpus[i][0]}.{k}") for k, i in places[:jobs])


@contextlib.contextmanager
def training(choice: Sequence[Slot], tell: Callable[[str], None], waited: Callable[[], None]) -> Iterator[None]:
    """Train in the first slot that is free; without slots at once. Other commands on this machine heed them too.

    tell: is told while none is free; waited: is called once there is one. A process that dies lets go of its slot.
    """
    if not choice:
        yield
        return
    slot, lock = _free(choice, tell)
    waited()
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(slot.number)
        yield
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
    finally:
        lock.release()


def _free(choice: Sequence[Slot], tell: Callable[[str], None]) -> tuple[Slot, FileLock]:
    folder = Path(tempfile.gettempdir()) / f"disentangle-bench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    waiting = False
    while True:
        for slot in choice:
            lock = FileLock(folder / f"{slot.name}.lock")
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0)
                if waiting:
                    tell(GOES_ON)
                return slot, lock
        if not waiting:
            tell(WAITING)
        waiting = True
        time.sleep(0.1)


def processor() -> str:
    """Its name and its widest instructions: on another kind of processor a seed is another draw."""
    able = torch.cpu.get_capabilities()
    names = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "neon", "bf16", "sve")
    return " ".join([str(able.get("cpu_name", "")), *(name for name in names if able.get(name))]).strip()


def gpu_facts() -> dict[str, Any]:
    """Of a process that has used a GPU: its name, the driver's version, and the most MB that were set aside there."""
    if not torch.cuda.is_initialized():
        return {}
    text = DRIVER.read_text() if DRIVER.exists() else ""
    return {"gpu": torch.cuda.get_device_name(), "driver": driver_version(text),
            "gpu_peak_mb": round(torch.cuda.max_memory_reserved() / 2**20)}  # fmt: skip


def driver_version(text: str) -> str:
    """The version in what the kernel module says of itself; empty where there is none."""
    found = re.search(r"NVRM version:.*?\s(\d+\.[\d.]+)", text)
    return found[1] if found else ""


@contextlib.contextmanager
def denormals_as_zero() -> Iterator[None]:
    """Numbers below 1e-38 count as 0, here and in the threads that torch starts meanwhile.

    Adam's moments of units that fell silent decay to such numbers, which a processor is slow with; no weight sees them.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def same_bits_on_gpu(warn: Callable[[str], None]) -> None:
    """Deterministic algorithms where there are any; an operation that has none is told, once."""

    def tell(message: Warning | str, *_: object, **__: object) -> None:
        if "deterministic" in str(message):
            warn(f"bits may differ between runs: {str(message).partition('. ')[0]}")

    warnings.showwarning = tell
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it
    torch.backends.cudnn.allow_tf32 = False


if __name__ == "__main__":
    print(TypeAdapter(Machine).dump_json(look()).decode())
