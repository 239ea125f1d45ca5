"""A run is the beginning of a longer one: several lengths, and runs that go on from finished ones."""

import json
import shutil
import signal
from argparse import Namespace
from dataclasses import replace

import pytest
from test_command import here, run  # noqa: F401
from test_faults import contents, plugin, start, wait_for

from benchmark import plan, plugins, store
from benchmark.options import parser
from benchmark.running import lengths, runner
from benchmark.running.clock import Clock
from benchmark.running.job import listed_files
from benchmark.running.supervisor import CHECKPOINT

BASE = ["--models", "jointvae", "--datasets", "blobs", "--metrics", "mig", "--batch-size", 16, "--precision", "fp32"]


def folder_of(results, steps):
    (found,) = (f for f in store.run_folders(results / "runs") if json_of(f, "spec.json")["spec"]["steps"] == steps)
    return found


def json_of(folder, name):
    return json.loads((folder / name).read_text())


def jobs(results, *more):
    options = parser().parse_args(
        [str(word) for word in (*BASE, "--results", results, *more)], Namespace(retrain=False, machine=None)
    )
    return [job for job in plan.jobs_of(options, plugins.discover(), results) if job.spec.model == "jointvae"]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Three lengths in one command."""
    results = tmp_path_factory.mktemp("grown")
    status, _, err = run(*BASE, "--steps", 250, 60, 130, 60, "--results", results)
    assert status == 0, err
    return results, err


def test_lengths_in_any_order_are_one_training(grown):
    results, err = grown
    assert "jointvae on blobs is trained once, and scored at 60, 130, 250 steps" in err and "3 runs and" in err
    assert {n: json_of(folder_of(results, n), "run.json")["goes_on_from"] for n in (60, 130, 250)} == {
        60: 0, 130: 60, 250: 130,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("steps", [130, 250])
def test_a_length_has_the_bits_of_a_run_of_that_length(grown, tmp_path, steps):
    results, _ = grown
    assert run(*BASE, "--steps", steps, "--results", tmp_path)[0] == 0
    grown_files, single = contents(folder_of(results, steps)), contents(folder_of(tmp_path, steps))
    assert grown_files == single and {"history.csv", "model.safetensors", CHECKPOINT, "scores.csv"} <= single.keys()


@pytest.mark.slow
def test_a_longer_run_goes_on_from_the_longest_finished_one_and_is_trained_again_with_the_same_bits(grown, tmp_path):
    results = shutil.copytree(grown[0], tmp_path / "r")
    out = run(*BASE, "--steps", 400, "--results", results, "--dry-run")[1]
    assert "400 steps, on from 250" in out
    status, _, err = run(*BASE, "--steps", 400, "--results", results)
    assert status == 0, err
    assert json_of(folder_of(results, 400), "run.json")["goes_on_from"] == 250
    first = {steps: contents(folder_of(results, steps)) for steps in (60, 400)}
    status, _, err = run(*BASE, "--steps", 400, 60, "--results", results, "--retrain")
    assert status == 0, err
    assert json_of(folder_of(results, 400), "run.json")["goes_on_from"] == 60
    assert first == {steps: contents(folder_of(results, steps)) for steps in (60, 400)}


def test_a_state_that_is_damaged_is_named_and_the_next_one_taken(grown, tmp_path):
    results = shutil.copytree(grown[0], tmp_path / "r")
    state = folder_of(results, 250) / CHECKPOINT
    state.write_bytes(state.read_bytes()[:-1])
    (job,) = jobs(results, "--steps", 300)
    said: list[str] = []
    assert lengths.beginning(job, said.append) == folder_of(results, 130)
    assert len(said) == 1 and str(state) in said[0]


def test_a_run_may_be_without_its_state(grown, tmp_path):
    """Removed by hand, or of a published folder: it is done, and nothing goes on from it."""
    results = shutil.copytree(grown[0], tmp_path / "r")
    for path in results.glob(f"runs/*/{CHECKPOINT}"):
        path.unlink()
    out = run(*BASE, "--steps", 60, 130, 400, "--results", results, "--dry-run")[1]
    ours = [line.split() for line in out.splitlines() if " blobs-jointvae-" in line]
    assert [(words[0], words[-2]) for words in ours] == [("done", "60"), ("done", "130"), ("to", "400")]
    assert "on from" not in out
    assert all(store.is_finished(f, *listed_files(f)) for f in store.run_folders(results / "runs"))


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"lr": 1e-3}, {"batch_size": 32}, {"precision": "bf16"}, {"steps": 200}]
)
def test_only_a_run_of_the_same_settings_is_a_beginning(grown, changed):
    results, _ = grown
    (job,) = jobs(results, "--steps", 300)
    assert lengths.beginning(job) == folder_of(results, 250)
    other = replace(job, spec=replace(job.spec, **changed), folder=job.folder.parent / "other")
    assert lengths.beginning(other) == (folder_of(results, 130) if "steps" in changed else None)


def test_a_run_of_other_code_or_device_is_no_beginning(grown):
    (job,) = jobs(grown[0], "--steps", 300)
    assert lengths.beginning(replace(job, device="cuda")) is None
    assert lengths.beginning(replace(job, origin="others")) is None
    training = {**job.sources["training"], "models/jointvae.py": "0"}
    assert lengths.beginning(replace(job, sources={**job.sources, "training": training})) is None


def test_a_schedule_that_is_slower_in_the_longer_run_is_said_to_start_anew(grown):
    out = run(*BASE, "--steps", 300, 50_000, "--results", grown[0], "--dry-run")[1]
    assert "300 steps, on from 250" in out
    assert "jointvae on blobs: 50,000 steps do not go on from 300: capacity_steps is 8,333 there and 13," in out
    assert "trained once" not in out


@pytest.mark.slow
def test_without_states_the_lengths_are_still_one_training(grown, tmp_path):
    status, _, err = run(*BASE, "--steps", 60, 130, "--results", tmp_path, "--keep-state", "no")
    assert status == 0, err
    assert json_of(folder_of(tmp_path, 130), "run.json")["goes_on_from"] == 60
    assert not list(tmp_path.rglob(CHECKPOINT))
    for steps in (60, 130):
        mine, theirs = contents(folder_of(tmp_path, steps)), contents(folder_of(grown[0], steps))
        assert {n: c for n, c in theirs.items() if n not in (CHECKPOINT, store.SUMS)} == {
            n: c for n, c in mine.items() if n != store.SUMS
        }


@pytest.mark.parametrize("words", [["0"], ["ten"], ["100", "-5"], ["1.5"]])
def test_a_length_that_is_none_is_refused(words, tmp_path, here):  # noqa: F811
    status, _, err = here(*BASE, "--results", tmp_path, "--steps", *words)
    assert status == 2 and "--steps" in err and words[-1] in err and len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_lengths_beyond_one_that_fails_are_failed_and_not_begun(tmp_path):
    line = ["--models", "vae", "--datasets", "blobs", "--metrics", "mig", "--lr", 1e30, "--results", tmp_path]
    status, _, err = run(*line, "--steps", 100, 200, 300)
    assert status == 1 and "training diverged by step 100" in err, err
    reasons = {n: (folder_of(tmp_path, n) / "error.txt").read_text() for n in (100, 200, 300)}
    said = f"not begun: it goes on from {folder_of(tmp_path, 100).name}, which failed\n"
    assert "diverged" in reasons[100] and reasons[200] == reasons[300] == said


def test_what_a_run_would_go_on_from_is_forgotten_with_its_state(grown, tmp_path):
    shutil.copytree(grown[0], tmp_path / "r")
    (job,) = jobs(tmp_path / "r", "--steps", 400)
    lengths.go_on(job)
    assert Clock(job).start == json_of(job.folder, "run.json")["goes_on_from"] == 250
    (job.folder / CHECKPOINT).unlink()
    assert Clock(job).start == 0


def test_a_length_that_is_trained_is_scored_though_a_shorter_one_fails(grown, tmp_path):
    shutil.copytree(grown[0], tmp_path / "r")
    store.discard(folder_of(tmp_path / "r", 60), "model.safetensors")
    tried, told = [], []

    def work(job):
        tried.append(job.spec.steps)
        return ("out of memory" if job.spec.steps == 60 else ""), []

    (chain,) = lengths.chains(jobs(tmp_path / "r", "--steps", 60, 130, 250))
    runner._go_through(chain, work, lambda job, reason, warnings: told.append(reason))
    assert tried == [60, 130, 250] and told == ["out of memory", "", ""]


@pytest.mark.slow
def test_kills_between_and_within_lengths_change_no_bit(tmp_path):
    """The command is killed as soon as each of its files is there, one more at a time; then it runs to its end."""
    file = plugin(tmp_path)
    line = ["--models", "mine", "vae", "--plugin", file, "--datasets", "blobs", "--steps", 90, 250, 330, "--batch-size",
            16, "--metrics", "mig", "--jobs", 2]  # fmt: skip
    assert run(*line, "--results", tmp_path / "whole")[0] == 0
    results, kills = tmp_path / "r", 0
    for steps in (90, 250, 330):
        for name in (CHECKPOINT, "model.safetensors", "scores.csv"):
            process = start(*line, "--results", results, cwd=tmp_path, start_new_session=True)

            def there(steps=steps, name=name):
                found = [f for f in store.run_folders(results / "runs") if "mine-s0-" in f.name]
                return any(json_of(f, "spec.json")["spec"]["steps"] == steps and (f / name).exists() for f in found)

            wait_for(there, process)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
    status, _, err = run(*line, "--results", results)
    assert status == 0, err
    assert kills == 9 and contents(results) == contents(tmp_path / "whole")
    for steps in (90, 250, 330):
        alone = tmp_path / str(steps)
        assert run(*line, "--steps", steps, "--results", alone)[0] == 0
        runs = {name: content for name, content in contents(alone).items() if name.startswith("runs/")}
        assert runs.items() <= contents(results).items() and len(runs) > 10
