"""`--log`: what can be watched while a run trains, and what is there once it is done."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from synthetic import write_results
from test_command import here, run, start  # noqa: F401
from test_faults import command, contents, plugin, wait_for, workers

from benchmark import store
from benchmark.errors import UserError
from benchmark.reporting import tensorboard
from benchmark.running import loggers
from benchmark.runs import Record

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


def only_run(results: Path) -> Path:
    (folder,) = results.glob("runs/*")
    return folder


def without_log(results: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(results).items() if not name.startswith("tensorboard")}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return write_results(tmp_path_factory.mktemp("results"), seeds=2)


def test_a_run_is_logged_while_it_trains_and_a_killed_one_has_every_step_once(tmp_path):
    file, flag, results = plugin(tmp_path), tmp_path / "hang", tmp_path / "r"
    plain = command(file, results, "--set", f"mine.hang={flag}")
    flag.touch()  # it trains no further than step 150
    process = start(*plain, "--log", "tensorboard", cwd=tmp_path, start_new_session=True)
    wait_for(lambda: list(results.glob("runs/*/checkpoint.safetensors")), process)
    folder = only_run(results)
    assert {step for values in logged(results, folder.name).values() for step, _ in values} == {100}
    assert not (folder / "history.csv").exists() and process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    flag.unlink()
    status, _, err = run(*plain, "--log", "tensorboard", cwd=tmp_path)
    assert status == 0 and "warning" not in err, err
    assert logged(results, folder.name) == written(folder)
    last = events_of(results, folder.name).Scalars("training/loss")[-1]
    assert last.step == 300 and last.wall_time < (folder / "scores.csv").stat().st_mtime  # not written afterwards
    assert run(*command(file, tmp_path / "plain", *plain[-2:]), cwd=tmp_path)[0] == 0
    assert without_log(results) == contents(tmp_path / "plain")  # weights, history, scores: the same bits
    assert not workers(tmp_path)


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
    log.finish({})
    (text,) = said
    assert text.startswith("vae-s0 is logged no further: ") and str(tmp_path / "tensorboard") in text


def test_a_grid_whose_log_cannot_be_written_is_done_all_the_same(tmp_path):
    results = tmp_path / "r"
    results.mkdir()
    (results / "tensorboard").write_text("a file")
    status, out, err = run("--models", "vae", "--datasets", "blobs", "--steps", 2, "--metrics", "kl", "--jobs", 1,
                           "--results", results, "--log", "tensorboard")  # fmt: skip
    assert status == 0 and "logged no further" in err and "is not logged" in err and "report.html" in out, err


def test_a_missing_package_is_said_before_any_work(here, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(loggers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'disentangle-bench\[tensorboard\]'"):
        loggers.check("tensorboard")
    assert here("--models", "vae", "--datasets", "blobs", "--log", "tensorboard", "--results", tmp_path / "r")[0] == 2
    assert not (tmp_path / "r").exists()
