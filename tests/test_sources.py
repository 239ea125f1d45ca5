"""Which code decides what: fingerprints of stages, and what follows when they change."""

import ast
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_command import here, run  # noqa: F401

from benchmark import load_results, load_run, plugins, runs, sources, store
from benchmark.errors import UserError
from benchmark.running import worker
from benchmark.running.job import Job, check_machine
from benchmark.spec import Spec

ROOT = Path(__file__).parent.parent
FOUND = plugins.discover()
VAE, FLOOR = Spec("blobs", "vae", 0, 1, 16, 1e-3, hparams={"latents": 10}), Spec("blobs", "pca", 0, 0, 0, 0.0)


def test_a_stage_has_the_files_that_it_runs_and_no_others():
    stages = sources.of_run(replace(VAE, dataset="mnist_dev", model="dipvae2"), FOUND)
    assert {"data/mnist_dev.py", "data/mnist.py", "data/_cache.py"} <= stages["data"].keys()
    assert {"models/dipvae2.py", "models/dipvae1.py", "models/_model.py", "models/_nets.py",
            "benchmark/running/trainer.py"} <= stages["training"].keys()  # fmt: skip
    assert "models/vae.py" not in stages["training"] and "data/mnist.py" not in stages["training"]
    assert not [name for name in stages["training"] if name.startswith("metrics")]
    assert "metrics/_tables.py" in stages["details"] and "metrics/mig.py" not in stages["details"]
    assert "benchmark/running/encoder.py" in stages["encoding"]
    assert set(sources.of_run(FLOOR, FOUND)) == {"data", "encoding", "details"}


def test_what_begins_late_decides_codes_and_no_training(monkeypatch):
    found = plugins.discover()

    def stages(model):
        return sources.of_run(Spec("mnist", model, 0, 1, 1, 1.0), found)

    before = stages("cascadevae")
    monkeypatch.setattr(found["model"]["cascadevae"].load(), "begins", {"capacity_steps": "class"})
    after = stages("cascadevae")
    assert sources.differing(before, after, sources.CHECKED) == ["begins of cascadevae"]
    assert sources.differing(before, after, sources.DECIDE_RUN) == []
    assert stages("vae")["encoding"].keys() == sources.closure([sources.RUNNING / "encoder.py"]).keys()


def test_a_metric_does_not_depend_on_another_or_on_the_details():
    files = sources.closure([ROOT / "metrics" / "kl.py"])
    assert "metrics/_information.py" in files and not files.keys() & {"metrics/_tables.py", "metrics/_boosting.py"}


def test_what_a_users_file_imports_of_the_suite_counts(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text('"""Mine."""\nfrom metrics._votes import groups\n\n\ndef mine(codes, rng):\n    return {}\n')
    assert {"mine.py", "metrics/_votes.py", "metrics/_codes.py"} <= sources.closure([path]).keys()


def recorded(results: Path) -> Path:
    (folder,) = (results / "runs").iterdir()
    return folder


def change(folder: Path, stage: str) -> None:
    """Record the run as made by other code of a stage."""
    record = runs.Record.read(folder)
    name = next(iter(record.sources[stage]))
    replace(record, sources={**record.sources, stage: {**record.sources[stage], name: "0" * 64}}).write(folder)


LINE = ["--models", "vae", "--datasets", "blobs", "--steps", "2", "--batch-size", "16", "--metrics", "kl"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    results = tmp_path_factory.mktemp("finished") / "r"
    status, _, err = run(*LINE, "--results", results)
    assert status == 0, err
    return results


@pytest.mark.parametrize("stage", ["data", "training"])
def test_a_run_by_other_code_is_refused_by_name(finished, tmp_path, here, stage):  # noqa: F811
    shutil.copytree(finished, tmp_path / "r")
    folder = recorded(tmp_path / "r")
    name = next(iter(runs.Record.read(folder).sources[stage]))
    change(folder, stage)
    status, out, err = here(*LINE, "--results", tmp_path / "r")
    assert status == 2 and not out and name in err and "--retrain" in err and len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("stage", ["encoding", pytest.param("details", marks=pytest.mark.slow)])
def test_codes_by_other_code_are_made_again_and_the_weights_stay(finished, tmp_path, stage):
    shutil.copytree(finished, tmp_path / "r")
    folder = recorded(tmp_path / "r")
    weights = (folder / "model.safetensors").stat().st_mtime_ns
    change(folder, stage)
    store.rewrite_csv(folder, "details.csv", [], worker.DETAIL_COLUMNS)
    status, _, err = run(*LINE, "--results", tmp_path / "r")
    assert status == 0 and "to do: 1 and 0" in err, err
    assert (folder / "details.csv").read_bytes() == (recorded(finished) / "details.csv").read_bytes()
    assert (folder / "model.safetensors").stat().st_mtime_ns == weights
    assert runs.Record.read(folder) == runs.Record.read(recorded(finished))


@pytest.mark.slow
def test_a_floor_by_other_code_is_made_again(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "r")
    change(tmp_path / "r" / "floors" / Spec("blobs", "pca", 0, 0, 0, 0.0).id(), "data")
    status, _, err = run(*LINE, "--results", tmp_path / "r")
    assert status == 0 and "to do: 0 and 1" in err, err


def test_runs_by_former_code_and_of_another_device_are_never_averaged(finished, tmp_path, here):  # noqa: F811
    shutil.copytree(finished, tmp_path / "r")
    first = recorded(tmp_path / "r")
    record = runs.Record.read(first)
    for seed, other in ((1, {}), (2, {"device": "cuda"}), (3, {"origin": "archive"}), (4, {})):
        spec = replace(record.spec, seed=seed)
        shutil.copytree(first, first.parent / spec.id())
        replace(record, spec=spec, **other).write(first.parent / spec.id())
    change(first.parent / replace(record.spec, seed=4).id(), "training")
    assert here("--report", tmp_path / "r")[0] == 0
    summary = pd.read_csv(tmp_path / "r" / "summary.csv")
    own = summary[(summary["kind"] == "run") & (summary["metric"] == "kl_total")]
    assert sorted(own["n"]) == [1, 1, 1, 2]
    page = (tmp_path / "r" / "report.md").read_text()
    assert all(text in page for text in ("device=cuda", "images=archive", "code=former"))


def job(tmp_path: Path, **changes) -> Job:
    return Job(VAE, tmp_path / VAE.id(), ("kl",), "quick", tmp_path, sources=sources.of_run(VAE, FOUND), **changes)


@pytest.mark.parametrize(
    ("begun", "now", "text"),
    [
        ({}, {"device": "cuda"}, "was begun on cpu: pass --device cpu"),
        ({"device": "mps"}, {}, "was begun on mps: pass --device mps"),
        ({}, {"origin": "archive"}, "was trained on the usual images of blobs, and here are images of the archive"),
    ],
)
def test_a_run_does_not_go_on_elsewhere(tmp_path, begun, now, text):
    first = job(tmp_path, **begun)
    first.folder.mkdir()
    first.record.write(first.folder)
    check_machine(job(tmp_path, **now))  # nothing is begun yet
    (first.folder / "checkpoint.safetensors").touch()
    check_machine(first)
    with pytest.raises(UserError, match=re.escape(text)):
        check_machine(job(tmp_path, **now))


def test_other_images_than_the_commands_are_refused(tmp_path):
    with pytest.raises(UserError, match="blobs: the usual images here, images of the archive with the command"):
        worker.run_one(job(tmp_path, origin="archive"))


def test_a_digest_is_of_images_factors_and_rows(small):
    own = plugins.Plugin("data set", "own", Path("own.py"))
    first = sources.images_of(own, small)
    assert sources.is_content(first) and first == sources.images_of(own, replace(small, images=small.images.copy()))
    others = [
        replace(small, images=255 - small.images),
        replace(small, factors=small.factors[::-1]),
        replace(small, score_rows=small.score_rows[::-1]),
        replace(small, factors=np.zeros((len(small.images), 0), int), factor_names=(), factor_sizes=()),
    ]
    assert len({first, *(sources.images_of(own, other) for other in others)}) == 5
    assert sources.images_of(own, replace(small, origin="second edition")) == "second edition"
    assert sources.images_of(plugins.discover()["data set"]["blobs"], small) == ""


@pytest.mark.slow
def test_changed_data_of_a_user_are_refused_and_never_averaged(tmp_path):
    """The file of the data set stays the same; what it reads changes."""
    np.savez(tmp_path / "bars.npz", images=np.random.default_rng(0).integers(0, 256, (60, 1, 32, 32), dtype=np.uint8))
    (tmp_path / "bars.py").write_text(BARS)
    line = ["--models", "vae", "--datasets", "bars", "--plugin", tmp_path / "bars.py", "--steps", 3, "--batch-size", 8,
            "--metrics", "kl", "--results", tmp_path / "r"]  # fmt: skip
    assert run(*line)[0] == 0
    folder = next((tmp_path / "r" / "runs").iterdir())
    assert runs.Record.read(folder).origin.startswith("content ")
    assert not load_run(folder, plugin_files=[tmp_path / "bars.py"]).run.variant
    assert "nothing to do" in run(*line, "--dry-run")[1]
    np.savez(tmp_path / "bars.npz", images=255 - np.load(tmp_path / "bars.npz")["images"])
    status, _, err = run(*line, "--seeds", 2)
    assert status == 2 and "images, factors, attributes or rows of bars changed since bars-vae-s0" in err, err
    assert run(*line, "--seeds", "1:2")[0] == 0  # another seed, on the images of now
    summary = load_results(tmp_path / "r", plugin_files=[tmp_path / "bars.py"]).summary
    assert summary.loc[(summary["kind"] == "run") & (summary["metric"] == "kl_total"), "n"].tolist() == [1, 1]
    with pytest.raises(UserError, match="was trained on other images of bars"):
        load_run(folder, plugin_files=[tmp_path / "bars.py"]).data  # noqa: B018
    with pytest.raises(UserError, match="plugin_files"):
        load_run(folder).data  # noqa: B018


BARS = '''"""Bars from a file."""

from pathlib import Path

import numpy as np

from data import Dataset


def bars(root):
    """60 images."""
    images = np.load(Path(__file__).parent / "bars.npz")["images"]
    rows = np.arange(60)
    return Dataset(name="bars", shape=(1, 32, 32), images=images, factors=rows[:, None] // 30, factor_names=("half",),
                   factor_sizes=(2,), class_factor="half", train_rows=rows, score_rows=rows, grid=False)
'''


def test_names_of_classes_and_declarations_decide_nothing():
    named = 'A = 1\nCLASS_NAMES = ("a", "b")\n'
    assert sources.code(named) == sources.code(named.replace('"a"', '"c"')) == "A = 1"
    read = named + "print(CLASS_NAMES)\n"
    assert sources.code(read) != sources.code(read.replace('"a"', '"c"'))
    assert sources.code("published = 1\n") != sources.code("published = 2\n")  # of no class


# Compiled code


def test_files_with_compiled_code_import_nothing_of_the_suite():
    """numba keeps compiled code until the function's own file changes, whatever else it was compiled from."""
    compiled = [file for file in sorted((ROOT / "metrics").glob("*.py")) if "njit(" in file.read_text()]
    assert compiled
    for file in compiled:
        nodes = list(ast.walk(ast.parse(file.read_text())))
        names = {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
        names |= {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        assert not [name for name in names if name.partition(".")[0] in ("metrics", "models", "data", "benchmark")]


SCRIPT = """
import numpy as np
from metrics._boosting import histogram_trees
x = np.random.default_rng(0).normal(size=(300, 3))
print(histogram_trees(x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0), x, 0)[0])
"""


@pytest.mark.slow
def test_no_compiled_code_outlives_its_source(tmp_path):
    shutil.copytree(ROOT / "metrics", tmp_path / "metrics", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "metrics" / "_boosting.py"

    def importance() -> str:
        done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, text=True, capture_output=True, check=True)
        return done.stdout

    before = importance()
    head = re.search(r"def _leaf_values\(.*\n", file.read_text())
    assert head
    file.write_text(file.read_text().replace(head[0], head[0] + "    r = r * 3.0\n"))
    after = importance()
    shutil.rmtree(tmp_path / "metrics" / "__pycache__")
    assert before != after == importance()
