"""What a run's process tells the command, and what it takes from where it is started."""

import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from benchmark import errors, plan, plugins, sources, store
from benchmark.running import machine
from benchmark.running.job import Job
from benchmark.running.supervisor import Servers
from benchmark.spec import Spec

ROOT = Path(__file__).parent.parent
SHADOWS = ("metrics.py", "models/__init__.py", "data/__init__.py", "benchmark/__init__.py", "platformdirs.py")
COMMANDS = (
    ["--models", "vae", "--datasets", "blobs", "--steps", "2", "--metrics", "kl"],
    ["--check", str(ROOT / "metrics" / "kl.py")],
)


def shadow(folder: Path) -> None:
    """Put modules with names of the suite's, and of what it imports, into a folder."""
    for name in SHADOWS:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise RuntimeError('the wrong file')\n")


SCRIPT = "import sys\nfrom run_benchmark import main\nsys.exit(main())\n"  # as pip makes it for `run-benchmark`


@pytest.mark.parametrize("installed", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("arguments", COMMANDS, ids=["run", "check"])
def test_the_suites_own_packages_win_in_any_folder(tmp_path, arguments, installed):
    folder, script = tmp_path / "here", tmp_path / "bin" / "run-benchmark"
    script.parent.mkdir()
    script.write_text(SCRIPT)
    folder.mkdir()
    shadow(folder)
    start = script if installed else ROOT / "run_benchmark.py"
    path = {**os.environ, "PYTHONPATH": str(ROOT)} if installed else None
    done = subprocess.run([sys.executable, str(start), *arguments], cwd=folder, text=True, capture_output=True,
                          env=path)  # fmt: skip
    assert "wrong file" not in done.stdout + done.stderr
    assert done.returncode in (0, 2) if "--check" in arguments else done.returncode == 0, done.stderr


def job_in(folder: Path) -> Job:
    spec = Spec("blobs", "noise", 0, 0, 0, 0.0)
    stages = sources.of_run(spec, plugins.discover())
    return Job(spec, folder / spec.id(), ("kl",), "quick", folder, sources=stages)


@pytest.mark.slow
def test_waiting_for_another_commands_lock_is_not_in_the_time_limit(tmp_path):
    job = job_in(tmp_path)
    job.folder.mkdir()
    lock = FileLock(job.folder / ".lock", thread_local=False)  # it is released by another thread
    lock.acquire()
    threading.Timer(35, lock.release).start()
    with Servers(threads=1) as servers:
        folder, reason, _ = servers.supervise(str(job.folder), job.to_json(), minutes=0.4)
    assert reason == "" and (Path(folder) / "scores.csv").exists()


def test_an_operation_without_a_deterministic_form_is_told(monkeypatch):
    said = []
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        try:
            machine.same_bits_on_gpu(said.append)
            torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
            warnings.warn("something else", stacklevel=1)
        finally:
            torch.use_deterministic_algorithms(False)
    assert len(said) == 1 and said[0].startswith("bits may differ between runs: put_ does not have a deterministic")


def test_the_commit_of_an_enclosing_repository_is_not_the_suites(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q",
                    "--allow-empty", "-m", "theirs"], check=True)  # fmt: skip
    installed = tmp_path / "site-packages" / "benchmark" / "plan.py"
    installed.parent.mkdir(parents=True)
    monkeypatch.setattr(plan, "__file__", str(installed))
    assert plan._commit() == ""


def test_texts_that_leave_the_machine_name_no_folder_of_it(tmp_path):
    text = f"cannot read {tmp_path}/r/a.csv, {ROOT}/models/vae.py, {Path.home()}/x and {sys.prefix}/lib"
    public = errors.anonymous(text, {tmp_path / "r": "<results>"})
    assert public == "cannot read <results>/a.csv, <suite>/models/vae.py, ~/x and <python>/lib"


NOISY = '''
"""A user's metric that writes as it likes."""
import os, sys, time


def noisy(codes, rng):
    os.write(2, b"started epoch 1\\nended epoch 1\\nwaiting for another command\\n\\xff\\n")
    print("and no end of the line", end="", file=sys.stderr, flush=True)
    if os.environ.get("HANG"):
        time.sleep(600)
    return {"noisy": 1.0}
'''


@pytest.mark.slow
def test_what_a_plugin_writes_is_not_taken_for_what_its_run_tells(tmp_path, monkeypatch):
    (tmp_path / "noisy.py").write_text(NOISY)
    spec = Spec("blobs", "noise", 0, 0, 0, 0.0)
    found = plugins.discover([tmp_path / "noisy.py"])
    job = Job(spec, tmp_path / spec.id(), ("noisy",), "quick", tmp_path, (tmp_path / "noisy.py",),
              sources=sources.of_run(spec, found))  # fmt: skip
    with Servers(threads=1) as servers:
        assert servers.supervise(str(job.folder), job.to_json(), minutes=2)[1:] == ("", [])
    monkeypatch.setenv("HANG", "yes")
    (job.folder / "scores.csv").unlink()
    with Servers(threads=1) as servers:
        began = time.monotonic()
        _, reason, _ = servers.supervise(str(job.folder), job.to_json(), minutes=0.5)
        assert "time limit of 0.5 min" in reason and time.monotonic() - began < 60


def test_a_server_that_hangs_before_its_run_is_stopped_too(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import sys, time\ntime.sleep(600 * ('-m' in sys.orig_argv))\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    job = job_in(tmp_path)
    with Servers(threads=1) as servers:
        began = time.monotonic()
        assert "time limit" in servers.supervise(str(job.folder), job.to_json(), minutes=0.1)[1]
        assert time.monotonic() - began < 30


SEES = '''
"""A VAE that notes how many of a million denormal numbers are not 0."""

import torch
from models.vae import VAE


class Sees(VAE):
    """As its file says."""

    def losses(self, x, step, rng):
        numbers = torch.full((10**6,), 1e-30) * 1e-9
        return {**super().losses(x, step, rng), "denormal": numbers.view(torch.int32).count_nonzero().float()}
'''
KEPT = '''
"""Whether a denormal number is one where metrics are computed."""

import numpy as np


def kept(codes, rng):
    return {"kept": float(np.float32(1e-30) * np.float32(1e-9) > 0)}
'''


def test_denormal_numbers_are_0_in_training_and_not_in_metrics(tmp_path):
    files = [tmp_path / "sees.py", tmp_path / "kept.py"]
    for file, text in zip(files, (SEES, KEPT), strict=True):
        file.write_text(text)
    line = ["run_benchmark.py", "--models", "sees", "--datasets", "blobs", "--metrics", "kept", "--seeds", "1"]
    size = ["--steps", "3", "--batch-size", "16", "--threads", "2", "--results", str(tmp_path / "results")]
    done = subprocess.run([sys.executable, *line, *size, "--plugin", *map(str, files)], cwd=ROOT, text=True,
                          capture_output=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / "results" / "runs").glob("blobs-sees-*")
    assert [float(row["denormal"]) for row in store.read_csv(run / "history.csv")] == [0]
    assert [float(row["value"]) for row in store.read_csv(run / "scores.csv") if row["metric"] == "kept"] == [1]
