"""The grid on a Dask cluster, whose workers need share no disk with the command.

A run travels to a worker as bytes: its settings, the user's plugin files, and what its folder holds already (finished
stages, a checkpoint). The worker does it in a temporary folder, in a process of its own under the same supervisor as a
local run, with the data set in the worker's own cache; the folder's files come back as bytes, and the command that was
asked writes them, each checked against its sha256. A worker that dies loses what it did of its run, which Dask gives
to another. A scheduler that you connect to runs your code, and you unpickle its answers: connect to one that you trust.

The waiting for each run goes through joblib (see `runner`), the sending through Dask's own client: joblib's Dask
backend waits forever for a task whose workers keep dying, and runs in the command itself where a cluster has one
thread. Dask's workers load this file, so what is heavy is imported where the command needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from benchmark.errors import UserError
from benchmark.running.supervisor import PACKAGES, RETRAIN, ROOT, Servers, machine_here

if TYPE_CHECKING:
    from distributed import Client

    from benchmark.running.job import Job
    from benchmark.running.machine import Machine

SECONDS_TO_CONNECT = 5
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")
Files = dict[str, bytes]


@contextlib.contextmanager
def connect(address: str) -> Iterator[Client]:
    """A client of the scheduler at this address; closing it stops what it still has running."""
    try:
        from distributed import Client
    except ImportError:
        raise UserError("--backend dask needs Dask: pip install '.[dask]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is told by the runs
    warnings.filterwarnings("ignore", message="Sending large graph")
    try:
        client = Client(address, timeout=SECONDS_TO_CONNECT, set_as_default=False)
    except Exception as error:
        raise UserError(f"--scheduler {address}: no Dask scheduler answers there: {error}") from error
    with client:
        yield client


def machine_of(client: Client) -> Machine:
    """What all workers have; waits for the first where there is none yet. Raises UserError."""
    from benchmark.running import machine

    try:
        client.submit(abs, 0, pure=False).result()
        return machine.common([machine.read(text) for text in client.run(_machine_of_worker).values()])
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"the cluster's workers do not say which devices they have: {text}") from error


async def _machine_of_worker() -> str:
    """On a worker, beside its runs and without holding up its heartbeat."""
    return await asyncio.to_thread(machine_here)


def run(client: Client, job: Job, minutes: float | None) -> tuple[str, str, list[str]]:
    """Do a run on the cluster and write its files; returns what `Servers.supervise` returns."""
    from benchmark import store

    try:
        while True:
            before = store.sums(job.folder)
            here = files_of(job.folder)
            sent = {} if job.retrain else here
            answer = client.submit(compute, _task(job, sent, minutes), key=f"{job.folder.name}-{uuid4().hex}").result()
            if receive(job.folder, here, answer["files"], before):
                return str(job.folder), answer["reason"], answer["warnings"]
    except Exception as error:  # the run's workers died, the scheduler is gone, the disk is full
        return str(job.folder), " ".join(f"{type(error).__name__}: {error}".split()), []


def _task(job: Job, sent: Files, minutes: float | None) -> dict[str, Any]:
    """Everything that a worker needs, in plain types."""
    return {
        "run": job.folder.name,
        "job": job.to_json(),
        "threads": job.threads,
        "minutes": minutes,
        "files": sent,
        "plugins": [(file.name, file.read_bytes()) for file in job.files],
        "suite": suite(),
    }


def suite() -> dict[str, str]:
    """File -> sha256 of the four packages."""
    files = [file for name in PACKAGES for file in (ROOT / name).rglob("*.py")]
    return {f.relative_to(ROOT).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def files_of(folder: Path) -> Files:
    """Name -> content of a run's files, without locks, progress and what is half written."""
    if not folder.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def compute(task: Mapping[str, Any]) -> dict[str, Any]:
    """On a worker: do the run in a temporary folder; returns its files with their sha256, and why it failed."""
    from distributed import get_worker

    from data._cache import default_root

    differing = sorted({name for name, _ in suite().items() ^ task["suite"].items()})
    if differing:
        text = f"the worker has another version of {', '.join(differing[:3])} than the command; install the same one"
        return {"reason": text, "warnings": [], "files": _sealed(task["files"])}
    with tempfile.TemporaryDirectory(prefix="run-", dir=get_worker().local_directory) as temporary:
        base = Path(temporary)
        folder = _unpack(base / task["run"], task["files"])
        plugins = [_unpack(base / str(i), {name: code}) / name for i, (name, code) in enumerate(task["plugins"])]
        here = {"folder": str(folder), "data_dir": str(default_root()), "files": [str(file) for file in plugins]}
        job = json.dumps({**json.loads(task["job"]), **here})
        with Servers(task["threads"], forks=False) as servers:
            _, reason, warned = servers.supervise(str(folder), job, task["minutes"], wanted=_wanted())
        return {"reason": reason, "warnings": warned, "files": _sealed(files_of(folder))}


def _sealed(files: Files) -> dict[str, tuple[str, bytes]]:
    """Name -> sha256 and content."""
    return {name: (_sha256(content), content) for name, content in files.items()}


def _unpack(folder: Path, files: Files) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def _wanted() -> Callable[[], bool]:
    """Says whether anybody still waits for the task of this thread: Dask itself lets a running task go on."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    return lambda: key in worker.state.tasks and worker.state.tasks[key].state != "cancelled"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def receive(folder: Path, held: Files, files: Mapping[str, tuple[str, bytes]], before: Mapping[str, str]) -> bool:
    """Write a run's files as they came back and remove those that did not.

    held: the folder's files when the run was sent; before: those of them that were finished. Returns False, and writes
    nothing, where another command has changed these since. Raises CorruptFile for content that is not what was sent.
    """
    from filelock import FileLock

    from benchmark import store

    for name, (digest, content) in files.items():
        if not NAME.fullmatch(name):
            raise store.CorruptFile(f"{name!r} came from a worker: not the name of a run's file")
        if _sha256(content) != digest:
            raise store.CorruptFile(f"{folder.name}/{name}: came from a worker with other content than it had there")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if store.sums(folder) != before:
            return False
        store.sweep(folder)
        for name in sorted(files, key=lambda name: name == store.SUMS):  # the list of finished files last
            store.write_bytes(folder / name, files[name][1])
        for name in (held.keys() - files.keys()) | {".progress", RETRAIN}:  # of a local run that was killed
            (folder / name).unlink(missing_ok=True)
    return True
