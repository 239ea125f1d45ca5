"""Starts the processes of runs and waits for them. Imports nothing heavy: Dask's workers load it.

A run has a process of its own. Imports would take longer than scoring it, so a `Server` does them once and forks a
process for every run; as many servers as runs at a time are kept in `Servers`.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
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
PACKAGES = ("benchmark", "models", "metrics", "data")
CHECKPOINT = "checkpoint.safetensors"
RETRAIN = ".retrain"  # in the folder of a run that is to be trained again, until that begins
# What a run or its server tells the supervisor, in its standard error behind a mark that no other text has: a warning
# for the user; the process that it is in; another command holds the run's folder; it does no longer; why it failed; and
# the status that its process ended with.
WARNING, STARTED, WAITING, GOES_ON, FAILED, ENDED = "warning ", "started ", "waiting ", "goes on ", "failed ", "ended "
TEXT = "text "  # what else it wrote there
STOPPED = "stopped: the command that asked for it is gone"
FORKS = sys.platform == "linux"  # a fork loses Metal and Accelerate on a Mac


class Server:
    """A process that has imported what runs need and forks one for each (or does one itself), on so many threads.

    It has a session of its own, and so has every run, so an interrupt at the terminal reaches the command alone. All of
    them end when the process that started the server does, even where that is killed.
    """

    def __init__(self, threads: int, forks: bool) -> None:
        self.code, self.run, self.mark = _code(), 0, f"<{secrets.token_hex(8)}>"
        environment = {**os.environ, **KEEP_MEMORY, **dict.fromkeys(THREADS, str(threads))}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
        self.process = subprocess.Popen(  # -P: the working directory holds no modules
            [sys.executable, "-P", "-m", "benchmark.running.worker", "forks" if forks else "once", self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        )
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stderr or []:
            text, _, told = line.rstrip("\n").partition(self.mark)
            for one in (f"{TEXT}{text.strip()}" if text.strip() else "", told):
                if one:
                    self.lines.put(one)
        self.lines.put(None)

    def current(self) -> bool:
        """Whether it is alive and the suite's files are as they were when it imported them."""
        return self.process.poll() is None and self.code == _code()

    def do(self, folder: Path, job: str, minutes: float | None, wanted: Callable[[], bool]) -> tuple[str, list[str]]:
        """Do a job (as JSON); returns why it failed (or an empty text), and its warnings."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):  # it died or was closed; its exit status says why
            self.process.stdin.write(job + "\n")
            self.process.stdin.flush()
        said, warnings, reason = "", [], ""
        limit = math.inf if minutes is None else 60 * minutes
        deadline, stopped = time.monotonic() + limit, ""
        while True:
            line = self._line(max(0.1, min(1.0, deadline - time.monotonic())))
            if line is None or line.startswith(ENDED):
                break
            if line.startswith(STARTED):
                self.run = int(line.removeprefix(STARTED))
            elif line.startswith(WAITING):
                deadline = math.inf
            elif line.startswith(GOES_ON):
                deadline = time.monotonic() + limit
            elif line.startswith(WARNING):
                warnings.append(line.removeprefix(WARNING))
            elif line.startswith(FAILED):
                reason = line.removeprefix(FAILED)
            elif line.startswith(TEXT):
                said = line.removeprefix(TEXT)
            if not stopped and not wanted():
                stopped = STOPPED
            elif not stopped and time.monotonic() >= deadline:
                stopped = _over(folder, minutes)
            if stopped:
                _kill(self.run or self.process.pid)
        if line is None:  # it did the job itself, or died before its run
            _kill(self.run)
        status = self.process.wait() if line is None else int(line.removeprefix(ENDED))
        self.run = 0
        return stopped or _outcome(status, reason or said), warnings

    def _line(self, seconds: float) -> str | None:
        """What a run or the server said; an empty text where that was nothing, None where the server is dead."""
        try:
            return self.lines.get(timeout=seconds)
        except queue.Empty:
            return "" if self.process.poll() is None else None

    def close(self) -> None:
        """End the server and its run at once."""
        _kill(self.process.pid)
        _kill(self.run)
        self.process.wait()
        assert self.process.stdin is not None and self.process.stderr is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # ends a run that has not said yet that it started
        self.reader.join()
        self.process.stderr.close()


class Servers:
    """Servers of so many threads, one for each run at a time; one that is idle takes the next run.

    forks: where False, a server does one job itself and ends.
    """

    def __init__(self, threads: int, forks: bool = FORKS) -> None:
        self.threads, self.forks = threads, forks
        self.lock, self.closed = threading.Lock(), False
        self.idle: list[Server] = []
        self.busy: set[Server] = set()

    def __enter__(self) -> Servers:
        return self

    def __exit__(self, *_: object) -> None:
        """End all servers and their runs at once."""
        with self.lock:
            self.closed = True
            servers = [*self.idle, *self.busy]
        for server in servers:
            server.close()

    def supervise(
        self, folder: str, job: str, minutes: float | None = None, wanted: Callable[[], bool] = lambda: True
    ) -> tuple[str, str, list[str]]:
        """Run one job (as JSON); returns its folder, why it failed (or an empty text), and its warnings.

        It is killed after `minutes`, in which waiting for another command's lock does not count, or once it is no
        longer `wanted`.
        """
        with self.lock:
            if self.closed:
                return folder, STOPPED, []
            server = self.idle.pop() if self.idle else None
            if server and not server.current():
                server.close()
                server = None
            server = server or Server(self.threads, self.forks)
            self.busy.add(server)
        reason, warnings = server.do(Path(folder), job, minutes, wanted)
        with self.lock:
            self.busy.remove(server)
            self.idle.append(server)
        return folder, reason, warnings


def machine_here() -> str:
    """What this machine has, as JSON, as a process of its own sees it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-P", "-m", "benchmark.running.machine"]
    return subprocess.run(line, env=environment, check=True, capture_output=True, text=True).stdout


def _code() -> tuple[tuple[str, int, int], ...]:
    """Name, time and size of the suite's files."""
    files = (file for name in PACKAGES for file in (ROOT / name).rglob("*.py"))
    return tuple(sorted((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files))


def _kill(group: int) -> None:
    """A process and all that it started."""
    if group:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def _over(folder: Path, minutes: float | None) -> str:
    return f"stopped after its time limit of {minutes:g} min; {_what_is_kept(folder)}"


def _what_is_kept(folder: Path) -> str:
    if (folder / "model.safetensors").exists():
        return "it is trained, and the same command goes on with its scores"
    if (folder / CHECKPOINT).exists():
        return "the same command goes on from its checkpoint"
    return "it had no checkpoint yet: allow more"


def _outcome(status: int, said: str) -> str:
    """said: why it failed, or the last line of what it wrote."""
    if status == 0:
        return ""
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return said or f"ended with exit status {status}"
