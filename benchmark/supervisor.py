"""Starts a run's process and waits for it. Imports nothing heavy: joblib's workers load it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from pathlib import Path

# glibc gives the memory of large tensors back to the system and asks for it again, at a page fault for every 4 kB:
# a third of a training step at 64×64. These settings keep it; other allocators do not read them.
KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
ROOT = Path(__file__).resolve().parent.parent


def supervise(folder: str, job: str, threads: int, command: int) -> tuple[str, str]:
    """Run one job (as JSON) in a child process; returns its folder and why it failed, or an empty text.

    The child has a session of its own, so an interrupt at the terminal reaches the command alone. It ends when this
    process does, and this process ends when the command does, even where that is killed.
    """
    if os.getpid() != command:  # joblib runs a single job at a time in the command itself
        _end_with(command)
    environment = {**KEEP_MEMORY, **os.environ}
    environment |= dict.fromkeys(THREADS, str(threads))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmark.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        return folder, _wait(child, job)
    finally:
        child.kill()
        child.wait()


@cache
def _end_with(command: int) -> None:
    """End this process when the command, its parent, is gone."""

    def watch() -> None:
        while os.getppid() == command:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _wait(child: subprocess.Popen[str], job: str) -> str:
    assert child.stdin is not None
    try:
        child.stdin.write(job + "\n")
        child.stdin.flush()
    except BrokenPipeError:
        pass  # it died at once; its exit status says why
    errors: list[str] = []
    reader = _drain(child, errors)
    child.wait()
    reader.join()
    return _outcome(child.returncode, errors)


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
