"""The command as users run it: real processes, real files."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from benchmark import load_results, plan, plugins, store
from benchmark.command import main
from benchmark.evidence import publish
from benchmark.options import parser
from benchmark.reporting.report import DETAILS, RUNS, SCORES
from benchmark.running import across, floors
from benchmark.runs import Record
from benchmark.statistics.stats import SUMMARY
from data._cache import default_root

ROOT = Path(__file__).parent.parent
LEVELS = len(floors.FLOORS) + len(floors.CEILINGS)  # floors and ceilings of a data set
FAST = ["mig", "kl", "reconstruction", "discrete_accuracy", "factorvae_score"]
BASE = [
    "--models",
    "jointvae",
    "betavae",
    "--datasets",
    "blobs",
    "--steps",
    "120",
    "--batch-size",
    "16",
    "--jobs",
    "2",
    "--metrics",
    *FAST,
]


def start(*arguments, **options):
    # a script in the background has its interrupts ignored, which a child would inherit
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **options.pop("env", {})}
    return subprocess.Popen([sys.executable, str(ROOT / "run_benchmark.py"), *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options)  # fmt: skip


def run(*arguments, **options):
    process = start(*arguments, **options)
    out, err = process.communicate(timeout=900)
    assert "Traceback" not in out + err, out + err
    return process.returncode, out, err


def results_of(folder: Path) -> dict[str, bytes]:
    """Everything that must be equal bit for bit: what depends on the clock is in runs.csv and run.json alone."""
    files = sorted(path for pattern in ("*.csv", "*/*/*.csv", "*/*/*.safetensors") for path in folder.glob(pattern))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files if path.name != "runs.csv"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A grid of four runs that nothing disturbed."""
    folder = tmp_path_factory.mktemp("finished")
    status, out, err = run(*BASE, "--seeds", 2, "--results", folder)
    assert status == 0, err
    return folder, out, err


def report_of(folder: Path) -> str:
    return (folder / "report.md").read_text()


def test_outputs_are_the_contracts(finished):
    folder = finished[0]
    scores, runs = pd.read_csv(folder / "scores.csv"), pd.read_csv(folder / "runs.csv")
    summary, details = pd.read_csv(folder / "summary.csv"), pd.read_csv(folder / "details.csv")
    assert list(scores) == SCORES and list(runs) == RUNS and list(summary) == SUMMARY and list(details) == DETAILS
    assert len(runs) == 4 and set(runs["status"]) == {"ok"} and set(runs["seed"]) == {0, 1}
    assert set(scores["kind"]) == {"run", "floor", "ceiling"}
    assert {*floors.FLOORS, "factors", "jointvae", "betavae"} == set(scores["model"])
    mig = summary[(summary["metric"] == "mig") & (summary["model"] == "jointvae")].iloc[0]
    values = scores[(scores["metric"] == "mig") & (scores["model"] == "jointvae")]["value"]
    assert mig["n"] == 2 and mig["mean"] == pytest.approx(values.mean()) and mig["std"] == pytest.approx(values.std())
    assert mig["ci_low"] < mig["mean"] < mig["ci_high"]
    for name in runs["run"]:
        assert {"spec.json", "history.csv", "model.safetensors", "codes.h5", "scores.csv"} <= {
            path.name for path in (folder / "runs" / name).iterdir()
        }
    assert "| mig ↑ |" in report_of(folder) and "no scientific result" in report_of(folder)
    plots = {path.name for path in (folder / "plots").glob("*.png")}
    for start_of_name in ("scores", "training", "traversals", "samples", "reconstructions", "information", "confusion",
                          "covariance"):  # fmt: skip
        assert any(name.startswith(start_of_name) for name in plots), start_of_name
    page = (folder / "report.html").read_text()
    assert 'src="data:image/png' in page and "http://" not in page and "https://" not in page


def test_borrowed_settings_and_the_schedules_that_a_run_ends_within_are_said(finished):
    err = finished[2]
    assert "settings of mnist are used for blobs (jointvae)" in err
    assert "settings of dsprites are used for blobs (betavae)" in err
    assert "jointvae on blobs ends at 1.4 % of capacity_steps (8,333)" in err


def test_what_tells_dead_runs_is_always_scored_and_their_rate_is_in_every_table(finished):
    folder = finished[0]
    assert {"active_units", "reconstruction", "kl_total", "discrete_accuracy"} <= set(
        pd.read_csv(folder / "scores.csv")["metric"]
    )
    spread = pd.read_csv(folder / "spread.csv").query("metric == 'dead_runs'").set_index("model")
    assert set(spread.index) == {"jointvae", "betavae"} and (spread["n"] == 2).all()
    dead = spread.loc["jointvae", "dead"]
    low, high = spread.loc["jointvae", ["mean_low", "mean_high"]]
    cell = f"{dead}/2 [{low:.2f}, {high:.2f}]"
    row = next(line for line in report_of(folder).splitlines() if line.startswith("| dead runs |"))
    assert cell in row and cell in (folder / "tables" / "blobs_quick.md").read_text()
    assert cell in (folder / "tables" / "blobs_quick.tex").read_text()


def test_a_class_that_has_not_begun_is_not_applicable_and_not_dead(tmp_path):
    status, _, err = run("--models", "cascadevae", "--datasets", "blobs", "--steps", 30, "--batch-size", 16,
                           "--metrics", "mig", "--results", tmp_path)  # fmt: skip
    assert status == 0 and "its class has not begun" in err
    scores = pd.read_csv(tmp_path / "scores.csv").query("kind == 'run'")
    accuracy = scores.query("metric == 'discrete_accuracy'")
    assert accuracy["value"].isna().all()
    assert accuracy["note"].str.contains("the class has not begun: discrete_steps is 33,333").all()
    assert "uses one class" not in report_of(tmp_path)


def test_what_does_not_apply_is_empty_with_a_reason(finished):
    scores = pd.read_csv(finished[0] / "scores.csv")
    empty = scores[(scores["model"] == "betavae") & (scores["metric"] == "discrete_accuracy")]
    assert len(empty) == 2 and empty["value"].isna().all() and empty["note"].str.contains("categorical").all()


def test_run_folders_verify_with_standard_tools(finished):
    for folder in (finished[0] / "runs").iterdir():
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def weighed(published):
    return {path.parent.name for path in published.glob("*/*/model.safetensors")}


def test_published_runs_are_small_and_count_as_done(finished, tmp_path, here):
    published, said = tmp_path / "published", []
    assert publish.main([str(finished[0]), str(published)]) == 0
    assert publish.publish(finished[0], published, said.append) == [] == said
    names = {path.parent.name: {p.name for p in path.parent.iterdir()} for path in published.glob("*/*/spec.json")}
    assert len(names) == 4 + LEVELS and not any("codes.h5" in files for files in names.values())
    assert {name.split("-")[2] for name, files in names.items() if "model.safetensors" in files} == {"s0"}
    for folder in published.glob("*/*"):
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    for model in ("betavae", "jointvae"):  # what is no longer chosen goes
        assert publish.main([str(finished[0]), str(tmp_path / "few"), "--weights", model]) == 0
        assert {name.split("-")[1] for name in weighed(tmp_path / "few")} == {model}
    assert publish.main([str(finished[0]), str(tmp_path / "few"), "--weights", "jointave"]) == 2
    status, _, err = run(*BASE, "--seeds", 2, "--results", published)
    assert status == 0 and "to do: 0 and 0" in err
    assert (published / "scores.csv").read_bytes() == (finished[0] / "scores.csv").read_bytes()
    assert report_of(published).partition("## Agreement")[0] == report_of(finished[0]).partition("## Agreement")[0]
    status, out, err = here(*BASE, "cluster_accuracy", "--seeds", 2, "--results", published, "--dry-run")
    assert status == 0 and err.count("-s1-") == 1 and "1 more like it: … was published without weights" in err
    assert "published with rounded weights" in err
    assert out.count("to score  blobs-") == 2 and "to do  blobs-jointvae-s1" in out


def test_published_weights_are_the_runs_to_three_digits_in_half_the_bytes(finished, tmp_path):
    publish.publish(finished[0], tmp_path, print)
    for path in tmp_path.glob("*/*/model.safetensors"):
        whole = finished[0] / path.relative_to(tmp_path)
        assert path.stat().st_size < 0.51 * whole.stat().st_size
        halves, tensors = store.load_tensors(path), store.load_tensors(whole)
        assert halves.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert (halves[name].float() - tensor).abs().max() <= 1e-3 * tensor.abs().max()


def test_a_number_too_large_for_half_precision_is_published_whole(tmp_path):
    whole = {"large": torch.tensor([1.0, 7e4]), "small": torch.tensor([1.5, -2.0]), "count": torch.tensor([70_000])}
    store.save_tensors(tmp_path / "whole.safetensors", whole)
    publish.halve(tmp_path / "whole.safetensors", tmp_path / "half.safetensors")
    halves = store.load_tensors(tmp_path / "half.safetensors")
    assert all(torch.equal(halves[name], tensor) for name, tensor in whole.items())
    assert {name: tensor.dtype for name, tensor in halves.items()} == {
        "large": torch.float32, "small": torch.float16, "count": torch.int64}  # fmt: skip


@pytest.mark.slow
def test_a_metric_that_is_added_does_not_change_what_the_training_was(finished, tmp_path):
    results = tmp_path / "results"
    shutil.copytree(finished[0], results)
    facts = {path: store.read_json(path) for path in results.glob("*/*/run.json")}
    status, _, err = run(*BASE[: BASE.index("--jobs")], "--seeds", 2, "--jobs", 1, "--threads", 2, "--metrics", "sap",
                         "--results", results)  # fmt: skip
    assert status == 0, err
    for path, before in facts.items():
        now = store.read_json(path)
        assert {name for name in now if now[name] != before[name]} <= {"seconds", "stages", "peak_mb"}
        assert now["seconds"] >= before["seconds"] and now["peak_mb"] >= before["peak_mb"]
        assert now["threads"] == 1 and now["stages"].keys() - before["stages"].keys() == {"scoring sap"}


def test_published_weights_go_only_when_others_take_their_place(finished, tmp_path, capsys):
    results, published, light = tmp_path / "results", tmp_path / "published", tmp_path / "light"
    shutil.copytree(finished[0], results)
    first, second = sorted(path.name for path in (results / "runs").iterdir() if "betavae" in path.name)
    shutil.move(results / "runs" / first, tmp_path / first)
    publish.publish(results, published, print)
    before = weighed(published)
    assert second in before
    shutil.copytree(tmp_path / first, results / "runs" / first)
    (results / "runs" / first / "model.safetensors").write_bytes(b"damaged")
    assert publish.publish(results, published, print) == [] and weighed(published) == before
    shutil.rmtree(results / "runs" / first)
    shutil.copytree(tmp_path / first, results / "runs" / first)
    store.discard(results / "runs" / first, "model.safetensors")
    assert publish.publish(results, published, print) == [first] and weighed(published) == before
    publish.publish(results, light, print, weights=["jointvae"])
    facts = light / "runs" / second / "run.json"
    facts.write_text(facts.read_text().replace('"seconds"', '"other": 1, "seconds"'))
    assert publish.publish(light, published, print) == [second] and weighed(published) == before
    capsys.readouterr()
    publish.publish(finished[0], published, print)
    assert weighed(published) == before - {second} | {first} and f"{second} is now without" in capsys.readouterr().out


def test_publishing_a_run_again_takes_its_error_away_and_says_what_is_wrong(finished, tmp_path, capsys):
    results, published = tmp_path / "results", tmp_path / "published"
    shutil.copytree(finished[0], results)
    first = min((results / "runs").iterdir())
    (first / "error.txt").write_text("the machine went down\n")
    assert first.name in publish.publish(results, published, print)
    assert (published / "runs" / first.name / "error.txt").exists()
    (first / "error.txt").unlink()
    assert publish.publish(results, published, print) == [first.name]
    assert not (published / "runs" / first.name / "error.txt").exists()
    (first / "scores.csv").write_text("nonsense")
    assert publish.main([str(results), str(tmp_path / "other")]) == 0
    assert (
        f"{first.name} is left out" in capsys.readouterr().err and not (tmp_path / "other/runs" / first.name).exists()
    )
    assert publish.main([str(tmp_path / "none"), str(published)]) == 2


def test_floors_are_the_same_for_all_seeds(finished, here):
    status, out, err = here(*BASE, "--seeds", "7:8", "--results", finished[0], "--dry-run")
    lines = (out + err).splitlines()
    assert status == 0 and sum(line.startswith("to do") for line in lines) == 2, out + err
    assert sum(line.startswith("done") for line in lines) == LEVELS


@pytest.mark.slow
def test_the_same_command_again_does_nothing_and_one_more_seed_or_metric_only_what_is_missing(finished, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(finished[0], folder)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/model.safetensors")}
    status, _, err = run(*BASE, "--seeds", 2, "--results", folder)
    assert status == 0 and "to do: 0 and 0" in err
    assert results_of(folder) == results_of(finished[0])
    status, _, err = run(*BASE, "cluster_accuracy", "--seeds", 3, "--results", folder)
    assert status == 0 and f"to do: 6 and {LEVELS}" in err
    assert {path: path.stat().st_mtime_ns for path in before} == before
    scores = pd.read_csv(folder / "scores.csv")
    assert len(scores[(scores["metric"] == "cluster_accuracy") & (scores["kind"] == "run")]) == 6


@pytest.mark.slow
def test_sampled_metrics_are_repeated_with_other_draws_and_the_table_shows_their_noise(finished, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(finished[0], folder)
    status, _, err = run(*BASE, "--seeds", 2, "--results", folder, "--draws", 3)
    assert status == 0 and "(draws ±" in report_of(folder), err
    scores = pd.read_csv(folder / "scores.csv")
    one = scores[(scores["model"] == "noise") & (scores["seed"] == 0)].set_index("metric")
    assert list(one.loc["factorvae_score", "draw"]) == [0, 1, 2]
    assert one.loc["factorvae_score", "value"].nunique() > 1
    assert list(scores.loc[scores["metric"] == "kl_total", "draw"].unique()) == [0]
    before = pd.read_csv(finished[0] / "scores.csv")
    merged = scores.merge(before, on=["run", "metric", "draw"], suffixes=("", "_before"))
    assert len(merged) == len(before) and merged["value"].equals(merged["value_before"])


def test_metrics_over_runs_score_every_finished_seed(finished, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(finished[0], folder)
    status, _, err = run(*BASE[: BASE.index("--metrics")], "--metrics", "udr", "--seeds", 2, "--results", folder)
    assert status == 0 and "to do: 0 and 0" in err, err
    summary = pd.read_csv(folder / "summary.csv").set_index(["metric", "model"])
    assert summary.loc[("udr", "jointvae"), "n"] == summary.loc[("udr", "betavae"), "n"] == 2
    assert set(summary.loc["mig"].index) == set(pd.read_csv(finished[0] / "scores.csv")["model"])
    tested = set(load_results(folder).comparisons["metric"])
    assert tested == set(pd.read_csv(folder / "comparisons.csv")["metric"]) and "mig" in tested
    assert not any(key.startswith("udr") for key in tested), "its seeds are not independent"


@pytest.mark.slow
def test_metrics_over_runs_come_back_under_a_protocol_that_scored_other_images(finished, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(finished[0], folder)
    udr = [*BASE[: BASE.index("--metrics")], "--metrics", "udr", "--seeds", 2, "--results", folder]

    def scored(*more) -> dict[str, float]:
        status, _, err = run(*udr, *more)
        assert status == 0 and "left out" not in err, err
        found = pd.read_csv(folder / "scores.csv").query("metric == 'udr'")
        return dict(zip(found["run"], found["value"], strict=True))

    first, other = scored(), scored("--protocol", "study")
    assert first.keys() == other.keys() and len(first) == 4
    assert scored() == first
    assert "to do: 0 and 0" in run(*udr)[2]


def test_metrics_over_runs_score_the_others_where_one_seed_is_missing(finished, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(finished[0], folder)
    for one in folder.glob("runs/*"):  # as they are on a GPU: set apart from those on a CPU
        replace(Record.read(one), device="cuda").write(one)
    udr = [*BASE[: BASE.index("--metrics")], "--metrics", "udr", "--seeds", 3, "--results", folder]
    options = parser().parse_args(list(map(str, udr)), Namespace(retrain=False))
    found = plugins.discover()
    jobs = [job for job in plan.jobs_of(options, found, default_root()) if job.folder.parent.name == "runs"]
    assert len(jobs) == 6 and not any(job.folder.exists() for job in jobs[-2:])
    assert across.score(folder, jobs, [found["metric"]["udr"]], lambda text: None) == 0
    rows = [row for path in folder.glob("across/*.csv") for row in store.read_csv(path) if row["metric"] == "udr"]
    assert len(rows) == 4 and all(row["value"] for row in rows)


def test_a_metric_over_runs_that_fails_is_a_failure_of_the_command(finished, tmp_path):
    folder, file = tmp_path / "results", tmp_path / "broken.py"
    shutil.copytree(finished[0], folder)
    file.write_text(
        '"""Never anything."""\n\nACROSS_RUNS = True\nPROTOCOLS = {"study": {}}\n\n\n'
        'def broken(codes, rng):\n    """Never anything."""\n    raise ValueError("of four runs")\n'
    )
    wanted = [*BASE[: BASE.index("--metrics")], "--metrics", "broken", "mig", "--plugin", file]
    status, _, err = run(*wanted, "--seeds", 2, "--results", folder)
    assert status == 1 and "to do: 0 and 0" in err, err
    assert "broken of blobs-" in err and "ValueError: of four runs" in err


@pytest.mark.slow
def test_metrics_over_runs_name_the_runs_that_were_published_without_codes(finished, tmp_path):
    folder = tmp_path / "results"
    names = publish.publish(finished[0], folder, print)
    udr = [*BASE[: BASE.index("--metrics")], "--metrics", "udr", "--seeds", 2, "--results", folder]
    status, _, err = run(*udr)
    assert status == 0 and "to do: 0 and 0" in err, err
    said = " ".join(err.split())
    mine = [name for name in names if "jointvae" in name]
    text = ": its codes are not here, as of a published run; left out of udr"
    assert len(mine) == 2 and any(f"{name}{text}" in said for name in mine) and f"more like it: …{text}" in said, err


def test_report_rebuilds_every_table_from_the_run_folders(finished, tmp_path, here):
    folder = tmp_path / "results"
    shutil.copytree(finished[0], folder)
    for path in folder.glob("*.csv"):
        path.unlink()
    shutil.rmtree(folder / "plots")
    status, _, err = here("--report", folder)
    assert status == 0, err
    assert results_of(folder) == results_of(finished[0])
    assert len(list((folder / "plots").glob("*.png"))) == len(list((finished[0] / "plots").glob("*.png")))


def kill_at_random(process: subprocess.Popen, seconds: float) -> None:
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_command_that_is_killed_ends_with_the_same_bits(finished, tmp_path, kills):
    moments = random.Random(7)
    for _ in range(kills):
        kill_at_random(start(*BASE, "--seeds", 2, "--results", tmp_path), moments.uniform(6, 20))
    status, _, err = run(*BASE, "--seeds", 2, "--results", tmp_path)
    assert status == 0, err
    assert results_of(tmp_path) == results_of(finished[0])


PLUGIN = '''
"""A model of a user."""
from models import Model, reconstruction_loss


class Mine(Model):
    """Fails where it is told to."""

    def __init__(self, shape, n_images, latents: int = 3, fail: str = ""):
        super().__init__(shape, n_images, latents)
        self.fail = fail

    def losses(self, x, step, rng):
        if step == 30 and self.fail == "crash":
            raise RuntimeError("something [/broke]\\non two lines")
        if step == 30 and self.fail == "kill":
            import os
            os.kill(os.getpid(), 9)
        q = self.encode(x)
        loss = reconstruction_loss(self.decode(q.sample(rng, 1.0)), x) + q.kl_normal().sum()
        return {"loss": loss * (float("nan") if step == 30 and self.fail == "nan" else 1), "recon": loss}
'''


@pytest.mark.slow
def test_a_failing_run_is_a_row_and_stops_no_other(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    results = tmp_path / "results"
    command = ["--models", "mine", "--plugin", plugin, "--datasets", "blobs", "--steps", 40, "--metrics", "mig",
               "--results", results]  # fmt: skip
    status, _, err = run(*command, "--set", "mine.fail=,crash,kill,nan")
    assert status == 1 and f"3 of {4 + LEVELS} runs failed" in err
    runs = pd.read_csv(results / "runs.csv").set_index("run")
    assert sorted(runs["status"]) == ["failed", "failed", "failed", "ok"]
    reasons = "\n".join(runs["reason"].dropna())
    assert "something [/broke] on two lines" in reasons
    assert "SIGKILL" in reasons
    assert "diverged by step 40: loss=nan" in reasons
    summary = pd.read_csv(results / "summary.csv")
    assert len(summary[(summary["model"] == "mine") & (summary["metric"] == "mig")]) == 1
    none = summary[summary["metric"] == "none"]
    assert len(none) == 3 and set(none["n"]) == {0} and set(none["failed"]) == {1}
    status, _, err = run(*command, "--set", "mine.fail=,crash,kill,nan", "--jobs", 1)
    assert status == 1 and "to do: 3 and 0" in err


@pytest.mark.slow
def test_a_changed_model_file_is_an_error_that_names_it_unless_retrained(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    command = ["--models", "mine", "--plugin", plugin, "--datasets", "blobs", "--steps", 20, "--metrics", "mig",
               "--results", tmp_path / "results"]  # fmt: skip
    assert run(*command)[0] == 0
    plugin.write_text(PLUGIN + "\nTHING = 1\n")
    status, _, err = run(*command)
    assert status == 2 and "mine.py changed" in err and "--retrain" in err
    assert run(*command, "--retrain")[0] == 0
    assert run(*command)[0] == 0


@pytest.mark.slow
def test_a_metric_and_a_data_set_from_files(tmp_path):
    (tmp_path / "spread.py").write_text(
        '"""Mean spread of the codes."""\n\nfrom metrics import NotApplicable\n\n'
        'def spread(codes, rng, *, scale=1.0):\n    """Standard deviation of the means."""\n'
        '    if codes.mean.shape[1] == 0:\n        raise NotApplicable("there is no continuous latent")\n'
        '    return {"spread": scale * float(codes.mean.std())}\n'
    )
    (tmp_path / "tiny.py").write_text(
        'import dataclasses\nimport numpy as np\nfrom data.blobs import blobs\n\ndef tiny(root):\n    """Blobs."""\n'
        "    d = blobs(root)\n    sizes = tuple(np.array(d.factor_sizes))\n"
        '    return dataclasses.replace(d, name="tiny", factor_sizes=sizes)\n'
    )
    status, _, err = run("--models", "vae", "--datasets", "tiny", "--metrics", "spread", "--steps", 10, "--results",
                           tmp_path / "r", "--plugin", tmp_path / "spread.py", tmp_path / "tiny.py")  # fmt: skip
    assert status == 0 and "| spread ↑ |" in report_of(tmp_path / "r"), err


@pytest.mark.slow
def test_an_installed_entry_point_is_found_and_a_broken_one_harms_nobody(tmp_path):
    site = tmp_path / "site"
    info = site / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[disentangle_bench.models]\ntheirs = their_models\nworn = their_broken_module\n"
    )
    (site / "their_models.py").write_text(PLUGIN)
    (site / "their_broken_module.py").write_text("import no_such_module\n")
    env = {"PYTHONPATH": str(site)}
    status, out, _ = run("--list", env=env)
    assert status == 0 and "theirs" in out and "BROKEN" in out
    status, _, err = run("--models", "theirs", "--datasets", "blobs", "--steps", 10, "--metrics", "mig", "--results",
                         tmp_path / "r", env=env)  # fmt: skip
    assert status == 0, err


MISTAKES = [
    (["--models", "jointvea"], "unknown model 'jointvea'; did you mean 'jointvae'?"),
    (["--models", "betaVAE"], "did you mean 'betavae'?"),
    (["--models", "vae", "--datasets", "dsprite"], "did you mean 'dsprites'?"),
    (["--models", "vae", "--datasets", "blobs", "--metrics", "mgi"], "did you mean 'mig'?"),
    (["--models", "vae", "--datasets", "blobs", "--set", "vae.latent=3"], "did you mean 'latents'?"),
    (["--models", "vae", "--datasets", "blobs", "--set", "vae.latents=-3"], "latents=-3 is out of range"),
    (["--models", "vae", "--datasets", "blobs", "--seeds", "0"], "--seeds 0: names no seed (0:1 is seed 0 alone)"),
    (["--models", "vae", "--datasets", "blobs", "--steps", "0"], "--steps"),
    (["--models", "vae", "--datasets", "blobs", "--lr", "nan"], "--lr"),
    (["--models", "vae", "--datasets", "blobs", "--batch-size", "9999"], "batch size 9999"),
    (["--models", "vae", "--datasets", "blobs", "--protocol", "studdy"], "did you mean 'study'?"),
    (["--models", "vae", "--datasets", "blobs", "--results", "/dev/null/x"], "/dev/null/x"),
    (["--models", "vae", "--data-dir", "/dev/null/x"], "/dev/null/x"),
    (["--models", "vae", "--plugin", "no_such_file.py"], "no_such_file.py"),
    (["--model", "vae"], "--model"),
    ([], "--models is missing"),
    (["--models", "vae", "--log", "tensorbord"], "did you mean 'tensorboard'?"),
    (["--report", "no_such_folder"], "no_such_folder"),
    (["--models", "vae", "--report", "results"], "--models and --report are tasks of their own; give one of them"),
    (["--list", "--compare", "a", "b"], "--list and --compare are tasks of their own; give one of them"),
]


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """The command called in this process and an empty folder, which saves seconds of imports a call."""
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    yield call
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_is_one_clear_line(arguments, message, tmp_path, here):
    status, out, err = here(*arguments)
    assert status in (1, 2) and message in err
    assert len(err.strip().splitlines()) == 1 and not out
    assert not list(tmp_path.iterdir())


def test_a_users_file_in_this_folder_is_hinted_at(here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mymodel.py").touch()
    status, out, err = here("--models", "mymodel")
    assert status == 2 and not out and "for your file, add --plugin mymodel.py" in " ".join(err.split())


OWN_MODEL = """
from models import Model, reconstruction_loss

class Mine(Model):
    def __init__(self, shape, n_images):
        super().__init__(shape, n_images, 3)

    def losses(self, x, step, rng):
        loss = reconstruction_loss(self.decode(self.encode(x).mean), x)
        return {}
"""
OWN_METRIC = """
def mine(codes, rng):
    return {}
"""


@pytest.mark.parametrize(
    ("code", "given", "message"),
    [
        (OWN_MODEL, '{"recon": loss}', "model 'mine' on blobs: losses() gave no 'loss'"),
        (OWN_MODEL, "loss", "model 'mine' on blobs: losses() gave no 'loss', needed a dict"),
        (OWN_MODEL, '{"loss": loss.item()}', "losses() gave 'loss' as float, needed a tensor"),
        (OWN_MODEL, '{"loss": loss.repeat(3)}', "'loss' as a tensor of shape (3,), needed one number: it is minimised"),
        (OWN_MODEL, '{"loss": loss * lost}', "model 'mine' on blobs: mine.py, line 10: NameError: name 'lost'"),
        (OWN_METRIC, "1.0", "metric 'mine': on made-up codes: mine() gave float, needed a dict"),
        (OWN_METRIC, '{"kl_total": 1.0}', "key 'kl_total', needed 'mine' or a name that starts with 'mine_'"),
        ("import sys\nsys.exit(0)", "", "plugin 'mine' cannot be imported: mine.py, line 2: SystemExit"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_users_code_is_one_line_before_any_work(here, tmp_path, code, given, message):
    (tmp_path / "mine.py").write_text(code.replace("{}", given))
    what = ["--models", "mine"] if code is OWN_MODEL else ["--models", "vae", "--metrics", "mine", "kl"]
    status, out, err = here(*what, "--datasets", "blobs", "--plugin", tmp_path / "mine.py", "--results", tmp_path / "r")
    assert status == 2 and not out and message in err and len(err.strip().splitlines()) == 1, err
    assert not (tmp_path / "r").exists()


@pytest.mark.slow
def test_two_metrics_cannot_give_one_score(finished, tmp_path):
    folder, file = tmp_path / "results", tmp_path / "kl_total.py"
    shutil.copytree(finished[0], folder)
    file.write_text('def kl_total(codes, rng):\n    """Of every image."""\n    return {"kl_total": 1.0}\n')
    wanted = [*BASE[: BASE.index("--metrics")], "--metrics", "kl_total", "--plugin", file]
    status, _, err = run(*wanted, "--results", folder)
    assert (
        status == 1
        and "scored, but for metric kl_total: gave the key 'kl_total', which is one of metric kl; rename the file"
        in err
    )
    assert "1.0" not in [row["value"] for row in store.read_csv(next(folder.glob("runs/*/scores.csv")))]


def test_an_option_that_is_repeated_adds_and_a_file_that_is_not_used_is_said(here, tmp_path):
    (tmp_path / "mine.py").write_text(OWN_MODEL.replace("{}", '{"loss": loss}'))
    twice = ["--models", "vae", "--models", "betavae", "--steps", 10, "--steps", 20, "--seeds", "3", "--seeds", "7:8"]
    status, out, err = here(*twice, "--datasets", "blobs", "--plugin", tmp_path / "mine.py", "--dry-run")
    assert status == 0, err
    named = {tuple(line.split()[2].split("-")[1:3]) for line in out.splitlines() if line.startswith("to do  blobs-")}
    assert {(model, seed) for model in ("vae", "betavae") for seed in ("s3", "s7")} <= named
    assert sum("-vae-s3-" in line for line in out.splitlines()) == 2
    assert f"{tmp_path / 'mine.py'} is not used: no option names mine" in out


def test_images_with_channels_last_are_refused_before_any_work(here, tmp_path):
    (tmp_path / "late.py").write_text(
        'import dataclasses\nimport numpy as np\nfrom data.blobs import blobs\n\ndef late(root):\n    """Blobs."""\n'
        "    d = blobs(root)\n    images = np.zeros((len(d.images), *d.shape[1:], 1), np.uint8)\n"
        '    return dataclasses.replace(d, name="late", images=images)\n'
    )
    status, out, err = here("--models", "vae", "--datasets", "late", "--plugin", tmp_path / "late.py", "--results",
                            tmp_path / "r")  # fmt: skip
    assert status == 2 and not out and "transpose to (n, c, h, w)" in " ".join(err.split())
    assert not (tmp_path / "r").exists()


def test_a_grid_that_is_none_is_refused_before_any_work(here, tmp_path):
    (tmp_path / "mixed.py").write_text(
        'import dataclasses\nfrom data.blobs import blobs\n\ndef mixed(root):\n    """Blobs."""\n    d = blobs(root)\n'
        '    return dataclasses.replace(d, name="mixed", score_rows=d.score_rows[::-1].copy())\n'
    )
    status, out, err = here("--models", "vae", "--datasets", "mixed", "--plugin", tmp_path / "mixed.py", "--results",
                            tmp_path / "r")  # fmt: skip
    assert status == 2 and not out and "grid is True, but" in err and not (tmp_path / "r").exists()


def test_all_models_are_every_model(here, tmp_path):
    for misspelt in (["--models", "all", "vea"], ["--models", "vae", "--metrics", "all", "mgi"]):
        status, _, err = here(*misspelt, "--datasets", "blobs", "--dry-run")
        assert status == 2 and "did you mean" in err
    status, out, err = here("--models", "vae", "all", "--datasets", "blobs", "--results", tmp_path / "r", "--dry-run")
    assert status == 0, err
    named = {line.split("-")[1] for line in out.splitlines() if line.startswith("to do  blobs-")}
    assert {path.stem for path in (ROOT / "models").glob("[a-z]*.py")} <= named


def test_a_mistake_of_a_real_process_ends_with_status_2():
    status, out, err = run("--models", "jointvea")
    assert status == 2 and len(err.strip().splitlines()) == 1 and not out


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["--modles", "vae"], 2)])
def test_help_and_a_misspelt_option_wait_for_no_large_library(arguments, status):
    code = f"import sys; from benchmark.command import main\ntry: status = main({arguments})\n"
    code += "except SystemExit as end: status = end.code\n"
    code += "print(status, *{'torch', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert process.stderr.splitlines()[-1] == str(status), process.stderr


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import os\n\nx = 1 / 0\n", "broken.py, line 3: ZeroDivisionError"),
        ("def broken(:\n    pass\n", "broken.py, line 1: SyntaxError"),
        ("import nowhere_to_be_found\n", "broken.py, line 1: ModuleNotFoundError"),
        ("x = 3\n", "neither a subclass of Model nor a function named 'broken'"),
        ("from models import Model\nclass A(Model):\n    pass\n", "must define exactly one complete subclass"),
    ],
)
def test_a_broken_plugin_is_named_with_its_line(tmp_path, here, code, message):
    (tmp_path / "broken.py").write_text(code)
    status, _, err = here("--models", "vae", "--plugin", tmp_path / "broken.py")
    assert status == 2 and message in err and len(err.strip().splitlines()) == 1


def test_a_plugin_cannot_take_a_built_in_name(tmp_path, here):
    (tmp_path / "vae.py").write_text(PLUGIN)
    status, _, err = here("--models", "vae", "--plugin", tmp_path / "vae.py")
    assert status == 2 and "exists already" in err


def test_a_folder_of_another_run_is_refused(finished, tmp_path, here):
    folder = tmp_path / "results"
    shutil.copytree(finished[0], folder)
    victim = sorted((folder / "runs").iterdir())[0]
    fields = json.loads((victim / "spec.json").read_text())
    fields["spec"]["lr"] = 0.5
    (victim / "spec.json").write_text(json.dumps(fields))
    status, _, err = here(*BASE, "--seeds", 2, "--results", folder)
    assert status == 2 and victim.name in err
    assert store.is_finished(victim, "model.safetensors")


@pytest.mark.parametrize("arguments", [["--list"], ["--list", "--protocol", "kim"]])
def test_a_reader_that_has_read_enough(arguments):
    process = start(*arguments)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(60) == 1
    process.stderr.close()


def test_dry_run_and_list_do_no_work(tmp_path, here):
    status, out, _ = here(*BASE, "--seeds", 2, "--results", tmp_path, "--dry-run")
    assert status == 0 and out.count("to do") == 4 + LEVELS and not list(tmp_path.iterdir())
    status, out, _ = here("--list", "--protocol", "kim")
    assert status == 0 and "kim" in out and "study" in out
    status, out, _ = here("--list")
    assert status == 0 and "jointvae" in out and "dsprites" in out and "mig" in out
