"""The grid on a real Dask cluster: a scheduler and two workers, each a process with a folder of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from test_command import LEVELS, ROOT, here, run, start  # noqa: F401
from test_faults import command, contents, hangs, plugin, wait_for, workers
from test_worker import shadow

from benchmark import store
from benchmark.running import cluster

# A data set that leaves a mark in the data folder that it is made in.
DATA = '''
import dataclasses, os
from data.blobs import blobs


def marked(root):
    """Blobs, and a file that says where they were made."""
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{os.getpid()}.txt").touch()
    return dataclasses.replace(blobs(root), name="marked")
'''


class Cluster:
    """A scheduler, and workers whose only common ground with the command is the network and the suite's code.

    They run in folders with modules of the suite's names.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, {}
        self._start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", folder / "s")
        wait_for(lambda: (folder / "s").exists() and (folder / "s").stat().st_size, self.processes["scheduler"])

    def add(self, name: str) -> Path:
        self._start(name, "worker", "--scheduler-file", self.folder / "s", "--nthreads", "1", "--no-nanny",
                    "--local-directory", self.folder / name)  # fmt: skip
        return self.folder / name

    def _start(self, name: str, *arguments) -> None:
        own = self.folder / name
        own.mkdir()
        shadow(own)
        env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(own / "cache")}
        line = [sys.executable, "-P", "-m", "dask", *map(str, arguments), "--no-dashboard"]
        log = (own / "log").open("w")
        self.processes[name] = subprocess.Popen(line, cwd=own, env=env, stdout=log, stderr=log)
        log.close()

    @property
    def address(self) -> str:
        return json.loads((self.folder / "s").read_text())["address"]

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()


@pytest.fixture
def dask(tmp_path):
    made = Cluster(tmp_path)
    yield made
    for name in list(made.processes):
        made.kill(name)


def on(cluster: Cluster) -> list[object]:
    return ["--backend", "dask", "--scheduler", cluster.address]


def named(name: str, folder: Path) -> list[Path]:
    """The files of this name below a folder in which a dying worker removes others meanwhile, on which glob fails."""
    return [Path(place) / name for place, _, files in os.walk(folder) if name in files]


@pytest.mark.slow
def test_a_grid_on_a_cluster_that_loses_a_worker_has_the_bits_of_a_local_grid(dask, tmp_path):
    file, flag = plugin(tmp_path), tmp_path / "hang"
    (tmp_path / "marked.py").write_text(DATA)
    options = ["--seeds", 2, "--set", f"mine.hang={flag}", "--datasets", "marked", "--threads", 1]
    options += ["--plugin", tmp_path / "marked.py", "--data-dir", tmp_path / "data", "--steps", 200, 300]
    folders = [dask.add("one"), dask.add("two")]
    flag.touch()
    process = start(*command(file, tmp_path / "r", *options, *on(dask)))
    wait_for(lambda: named("checkpoint.safetensors", tmp_path / "one"), process)
    dask.kill("one")
    flag.unlink()
    _, err = process.communicate(timeout=900)
    assert process.returncode == 0, err
    assert len(list((folders[1] / "cache").rglob("*.txt"))) >= 4  # made by the workers' runs, in their own cache
    assert not list(folders[1].rglob("run-*")) and not workers(tmp_path)
    status, _, err = run(*command(file, tmp_path / "local", *options))
    assert status == 0, err
    assert contents(tmp_path / "r") == contents(tmp_path / "local")
    runs = pd.read_csv(tmp_path / "r" / "runs.csv")
    assert set(runs["status"]) == {"ok"} and set(runs["threads"]) == {1}
    status, _, err = run(*command(file, tmp_path / "r", *options, *on(dask)))
    assert status == 0 and "to do: 0 and 0" in err, err


@pytest.mark.slow
def test_a_checkpoint_comes_back_from_a_cluster_and_an_interrupt_stops_what_runs_there(dask, tmp_path):
    file, flag = plugin(tmp_path), tmp_path / "hang"
    dask.add("one")
    flag.touch()
    options = ["--set", f"mine.hang={flag}", "--threads", 1]
    status, _, err = run(*command(file, tmp_path / "r", *options, "--time-limit", 0.5, *on(dask)))
    assert status == 1 and "goes on from its checkpoint" in err, err
    (folder,) = (tmp_path / "r" / "runs").iterdir()
    assert (folder / "checkpoint.safetensors").exists() and "time limit" in (folder / "error.txt").read_text()

    process = start(*command(file, tmp_path / "r", *options, *on(dask)))
    wait_for(lambda: named(".progress", tmp_path / "one"), process)
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and "the same command goes on" in err, err
    deadline = time.monotonic() + 20
    while workers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not workers(tmp_path)

    flag.unlink()
    assert run(*command(file, tmp_path / "r", *options, *on(dask)))[0] == 0
    assert run(*command(file, tmp_path / "local", *options))[0] == 0
    assert contents(tmp_path / "r") == contents(tmp_path / "local")


@pytest.mark.slow
def test_a_run_whose_workers_keep_dying_is_a_failed_run(dask, tmp_path):
    """Dask gives a run up after its fourth worker died."""
    file, flag = plugin(tmp_path), tmp_path / "hang"
    flag.touch()
    process = start(*command(file, tmp_path / "r", "--set", f"mine.hang=,{flag}", "--jobs", 1, *on(dask)))
    for name in ("one", "two", "three", "four"):
        dask.add(name)
        found = wait_for(lambda name=name: list(filter(hangs, named(".progress", tmp_path / name))), process)
        assert len(found) == 1
        dask.kill(name)
    dask.add("last")
    _, err = process.communicate(timeout=900)
    assert process.returncode == 1 and "KilledWorker" in err and f"1 of {2 + LEVELS} runs failed" in err, err


def test_a_wrong_address_is_one_line(tmp_path):
    started = time.monotonic()
    status, out, err = run(*command(plugin(tmp_path), tmp_path / "r", "--backend", "dask", "--scheduler",
                                    "tcp://127.0.0.1:1"))  # fmt: skip
    assert status == 2 and not out and len(err.strip().splitlines()) == 1, err
    assert "--scheduler tcp://127.0.0.1:1: no Dask scheduler answers there" in err
    assert time.monotonic() - started < 40 and not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--backend", "dask"], "--scheduler"), (["--scheduler", "tcp://x:1"], "--backend dask")],
)
def test_backend_and_scheduler_belong_together(here, arguments, message):  # noqa: F811
    status, _, err = here("--models", "vae", "--datasets", "blobs", *arguments)
    assert status == 2 and message in err and len(err.strip().splitlines()) == 1


def test_without_dask_the_extra_is_named(here, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "distributed", None)
    status, _, err = here("--models", "vae", "--datasets", "blobs", "--backend", "dask", "--scheduler", "tcp://x:1")
    assert status == 2 and "pip install '.[dask]'" in err and len(err.strip().splitlines()) == 1


def answer(**files: bytes) -> dict[str, tuple[str, bytes]]:
    return {name.replace("_", "."): (cluster._sha256(data), data) for name, data in files.items()}


def test_files_from_a_worker_are_checked_and_what_it_removed_is_removed(tmp_path):
    (tmp_path / "error.txt").write_text("before")
    sent = cluster.files_of(tmp_path)
    assert cluster.receive(tmp_path, sent, answer(a_csv=b"1"), {})
    assert cluster.files_of(tmp_path) == {"a.csv": b"1"}
    damaged = {"a.csv": (cluster._sha256(b"1"), b"2")}
    with pytest.raises(store.CorruptFile, match=r"a\.csv"):
        cluster.receive(tmp_path, {}, damaged, {})
    for name in ("../a.csv", "/etc/a", ".lock", ""):
        with pytest.raises(store.CorruptFile, match="not the name"):
            cluster.receive(tmp_path, {}, {name: (cluster._sha256(b""), b"")}, {})
    assert cluster.files_of(tmp_path) == {"a.csv": b"1"}


def test_files_that_another_command_finished_meanwhile_are_not_overwritten(tmp_path):
    before = store.sums(tmp_path)
    (tmp_path / "a.csv").write_bytes(b"1")
    store.finish(tmp_path, "a.csv")
    assert not cluster.receive(tmp_path, {}, answer(a_csv=b"2"), before)
    assert cluster.files_of(tmp_path)["a.csv"] == b"1"
