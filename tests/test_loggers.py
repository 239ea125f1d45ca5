"""`--log`: what can be watched while a run trains, and what is there once it is done."""

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from synthetic import write_results
from test_command import here  # noqa: F401
from test_faults import plugin

from benchmark import plan, plugins, sources, store
from benchmark.errors import UserError
from benchmark.options import parser
from benchmark.reporting import tensorboard
from benchmark.running import loggers
from benchmark.running.job import Job
from benchmark.running.supervisor import CHECKPOINT, Servers
from benchmark.runs import Record
from benchmark.spec import Spec

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
PARTS = ["1.history", "2.scores"]


def events_of(results: Path, run: str):
    """What TensorBoard reads of a run, every value of it."""
    everything = dict.fromkeys(("scalars", "images", "tensors"), 0)
    return accumulators.EventAccumulator(str(results / "tensorboard" / run), everything).Reload()


def logged(results: Path, run: str) -> dict[str, list[tuple[int, float]]]:
    """Column of history.csv -> steps and values, as TensorBoard reads them."""
    events = events_of(results, run)
    names = [name for name in events.Tags()["scalars"] if name.startswith("training/")]
    return {name.partition("/")[2]: [(e.step, e.value) for e in events.Scalars(name)] for name in names}


def written(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The same of a run's history.csv itself; event files hold single precision."""
    rows = store.read_csv(folder / "history.csv")
    columns = {
        name: [(int(row["step"]), float(np.float32(row[name]))) for row in rows if row[name]] for name in rows[0]
    }
    return {name: values for name, values in columns.items() if name != "step"}


def job_of(file: Path, results: Path, hang: str = "", log: str = "tensorboard") -> Job:
    """A run of the plugin of test_faults; with `hang`, it trains no further than step 150 while that file is there."""
    spec = Spec("blobs", file.stem, 0, 300, 16, 1e-3, hparams={"latents": 4, "beta": 2.0, "hang": hang})
    stages = sources.of_run(spec, plugins.discover([file]))
    return Job(spec, results / "runs" / spec.id(), ("kl",), "quick", results, (file,), sources=stages, log=log)


def do(servers: Servers, job: Job) -> tuple[str, list[str]]:
    return servers.supervise(str(job.folder), job.to_json())[1:]


def finished(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in store.sums(folder)}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("results"), seeds=2)


@pytest.fixture(scope="module")
def servers():
    with Servers(threads=1) as servers:
        yield servers


@pytest.mark.slow
def test_a_run_is_logged_while_it_trains_and_a_killed_one_has_every_step_once(servers, tmp_path):
    file, flag = plugin(tmp_path), tmp_path / "hang"
    job, plain = (job_of(file, tmp_path / name, str(flag), log) for name, log in (("r", "tensorboard"), ("plain", "")))
    results, folder = tmp_path / "r", job.folder
    flag.touch()
    with ThreadPoolExecutor() as pool:
        told = pool.submit(do, servers, job)
        while not (folder / CHECKPOINT).exists():
            assert not told.done(), told.result()
            time.sleep(0.1)
        assert {step for values in logged(results, folder.name).values() for step, _ in values} == {100}
        assert not (folder / "history.csv").exists() and not told.done()
        (server,) = servers.busy
        os.kill(server.run, signal.SIGKILL)
        assert "killed by SIGKILL" in told.result()[0]
    flag.unlink()
    assert do(servers, job) == do(servers, plain) == ("", [])
    assert logged(results, folder.name) == written(folder)
    assert {step for step, _ in written(folder)["loss"]} == {100, 200, 300}
    assert finished(folder) == finished(plain.folder) and "model.safetensors" in finished(folder)
    assert not (tmp_path / "plain" / "tensorboard").exists()
    before = {path: path.read_bytes() for path in (results / "tensorboard" / folder.name).iterdir()}
    tensorboard.write(results, tmp_path, [file], print)  # as the command does once the grid is done
    assert {path: path.read_bytes() for path in before} == before and len(before) == len(PARTS)
    events = events_of(results, folder.name)
    assert events.Tags()["images"] == ["reconstructions", "traversals"]
    assert events.Scalars("quick/kl_total")[0].value == pytest.approx(loggers.final(folder)["quick/kl_total"])


def test_a_finished_run_is_logged_from_its_folder_and_once(built, tmp_path):
    results = tmp_path / "r"
    shutil.copytree(built, results)
    tensorboard.write(results, tmp_path, (), print)
    folder = next(results.glob("runs/*-vae-s0*"))
    places = [loggers.TensorBoard(results).path(folder.name, part) for part in PARTS]
    assert sorted(places[0].parent.iterdir()) == places  # no name of the host; without weights, no pictures
    events = events_of(results, folder.name)
    assert logged(results, folder.name) == written(folder) and written(folder)["loss"] == [(1, 9), (2, 4.5)]
    draws = [float(row["value"]) for row in store.read_csv(folder / "scores.csv") if row["metric"] == "sap"]
    assert len(draws) == 2 and events.Scalars("study/sap")[0].value == pytest.approx(np.mean(draws))
    assert "_hparams_/session_start_info" in events.summary_metadata
    before = [place.stat().st_mtime_ns for place in places]
    tensorboard.write(results, tmp_path, (), print)
    assert [place.stat().st_mtime_ns for place in places] == before
    rows = store.read_csv(folder / "scores.csv")
    store.rewrite_csv(folder, "scores.csv", [{**row, "value": 0.5} for row in rows], list(rows[0]))  # scored again
    tensorboard.write(results, tmp_path, (), print)
    assert events_of(results, folder.name).Scalars("study/sap")[0].value == 0.5
    assert logged(results, folder.name) == written(folder)


def test_what_a_run_logged_before_it_was_killed_is_replaced_whoever_trains_it_to_its_end(built, tmp_path):
    results = tmp_path / "r"
    shutil.copytree(built, results)
    folder = next(results.glob("runs/*-vae-s0*"))
    log = loggers.TensorBoard(results)
    log.start(folder.name, loggers.settings(Record.read(folder).spec))
    log.row({"step": 1, "loss": 9.0})  # killed here, and then trained without --log
    log.events.close()
    tensorboard.write(results, tmp_path, (), print)
    assert logged(results, folder.name) == written(folder)


def test_an_error_of_a_logger_is_a_warning_and_its_end(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")  # so that no folder can be made below it
    said = []
    log = loggers.guarded("tensorboard", tmp_path, said.append)
    log.start("vae-s0", {"steps": 2})
    log.row({"step": 1, "loss": 9.0})
    log.finish(tmp_path)
    (text,) = said
    assert text.startswith("vae-s0 is logged no further: ") and str(tmp_path / "tensorboard") in text


def test_what_cannot_be_logged_is_done_all_the_same(servers, built, tmp_path):
    results = tmp_path / "r"
    shutil.copytree(built, results)
    (results / "tensorboard").write_text("a file")
    job = job_of(plugin(tmp_path), results)
    reason, (warning,) = do(servers, job)
    assert reason == "" and (job.folder / "scores.csv").exists()
    assert warning.startswith(f"{job.folder.name} is logged no further: ")
    said = []
    tensorboard.write(results, tmp_path, [tmp_path / "mine.py"], said.append)
    assert sum("is not logged: " in text for text in said) == len(list(results.glob("runs/*")))


def test_runs_of_the_command_log_but_those_of_a_cluster(tmp_path):
    line = ["--models", "vae", "--datasets", "blobs", "--log", "tensorboard", "--results", str(tmp_path)]
    for more, expected in (([], {"tensorboard"}), (["--backend", "dask", "--scheduler", "tcp://x:1"], {""})):
        jobs = plan.jobs_of(parser().parse_args([*line, *more]), plugins.discover(), tmp_path)
        assert {job.log for job in jobs} == expected


def test_a_missing_package_is_said_before_any_work(here, tmp_path, monkeypatch):  # noqa: F811
    real = loggers.importlib.util.find_spec
    monkeypatch.setattr(
        loggers.importlib.util, "find_spec", lambda name, *more: None if name == "tensorboard" else real(name, *more)
    )
    with pytest.raises(UserError, match=r"pip install '\.\[tensorboard\]'"):
        loggers.check("tensorboard")
    assert here("--models", "vae", "--datasets", "blobs", "--log", "tensorboard", "--results", tmp_path / "r")[0] == 2
    assert not (tmp_path / "r").exists()
