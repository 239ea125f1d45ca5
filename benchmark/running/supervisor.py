"""Starts a run's process and waits for it. Imports nothing heavy: joblib's workers load it."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

# glibc gives the memory of large tensors back to the system and asks for it again, at a page fault for every 4 kB:
# a third of a training step at 64×64. These settings keep it; other allocators do not read them. They win over the
# environment, since Dask's workers set the first one to 64 kB for themselves.
KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = "checkpoint.safetensors"
WARNING = "warning: "
# Lines of a worker: another command holds the run's folder; it does no longer.
WAITING, GOES_ON = "waiting for another command\n", "going on\n"


def supervise(
    folder: str,
    job: str,
    threads: int,
    minutes: float | None = None,
    command: int | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> tuple[str, str, list[str]]:
    """Run one job (as JSON) in a child process; returns its folder, why it failed (or an empty text), and its warnings.

    The child is killed after `minutes`, in which waiting for another command's lock does not count, or once it is no
    longer `wanted`. It has a session of its own, so an interrupt at the terminal reaches the command alone. It ends
    when this process does, and this process ends when the one
    numbered `command` does, even where that is killed.
    """
    if command is not None and command != os.getpid():  # joblib runs a single job at a time in the command itself
        _end_with(command)
    environment = {**os.environ, **KEEP_MEMORY, **dict.fromkeys(THREADS, str(threads))}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "benchmark.running.worker"],  # -P: the working directory holds no modules
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        return folder, *_wait(child, Path(folder), job, minutes, wanted)
    finally:
        _kill(child)


def _kill(child: subprocess.Popen[str]) -> None:
    """The child and all that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


@cache
def _end_with(command: int) -> None:
    """End this process when the command, its parent, is gone."""

    def watch() -> None:
        while os.getppid() == command:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _wait(
    child: subprocess.Popen[str], folder: Path, job: str, minutes: float | None, wanted: Callable[[], bool]
) -> tuple[str, list[str]]:
    assert child.stdin is not None
    try:
        child.stdin.write(job + "\n")
        child.stdin.flush()
    except BrokenPipeError:
        pass  # it died at once; its exit status says why
    errors: list[str] = []
    reader = _drain(child, errors)
    stopped = _stopped(child, folder, minutes, wanted, errors)
    status = child.poll()
    _kill(child)  # what it started may still hold its standard error open
    reader.join()
    warnings = [line.removeprefix(WARNING).strip() for line in errors if line.startswith(WARNING)]
    said = [line for line in errors if line not in (WAITING, GOES_ON)]
    return stopped or _outcome(status or 0, said), warnings


def _stopped(
    child: subprocess.Popen[str], folder: Path, minutes: float | None, wanted: Callable[[], bool], errors: list[str]
) -> str:
    """Wait for the child; why it must be stopped before its end, or an empty text where it has ended.

    errors: the lines of its standard error so far.
    """
    limit = math.inf if minutes is None else 60 * minutes
    deadline, waited = time.monotonic() + limit, False
    while True:
        if waited != (WAITING in errors and GOES_ON not in errors):
            waited = not waited
            deadline = math.inf if waited else time.monotonic() + limit
        try:
            child.wait(timeout=max(0.0, min(1.0, deadline - time.monotonic())))
            return ""
        except subprocess.TimeoutExpired:
            pass
        if not wanted():
            return "stopped: the command that asked for it is gone"
        if time.monotonic() >= deadline:
            return f"stopped after its time limit of {minutes:g} min; {_what_is_kept(folder)}"


def _what_is_kept(folder: Path) -> str:
    if (folder / "model.safetensors").exists():
        return "it is trained, and the same command goes on with its scores"
    if (folder / CHECKPOINT).exists():
        return "the same command goes on from its checkpoint"
    return "it had no checkpoint yet: allow more"


def _drain(child: subprocess.Popen[str], errors: list[str]) -> threading.Thread:
    thread = threading.Thread(target=lambda: errors.extend(child.stderr or []), daemon=True)
    thread.start()
    return thread


def _outcome(status: int, errors: list[str]) -> str:
    if status == 0:
        return ""
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return errors[-1].strip() if errors else f"ended with exit status {status}"
