"""Published runs and a change of code: what would be made again is recorded as the present code's, and nothing else."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from test_command import run
from test_sources import LINE

from benchmark import runs, sources, store
from benchmark.evidence import restamp

ROOT = Path(__file__).parent.parent
TRAINER = "benchmark/running/trainer.py"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A run and a floor."""
    results = tmp_path_factory.mktemp("published") / "r"
    status, _, err = run(*LINE, "--results", results)
    assert status == 0, err
    for floor in (results / "floors").iterdir():
        if "noise" not in floor.name:
            shutil.rmtree(floor)
    return results


def folders(results: Path) -> list[Path]:
    return sorted(path.parent for path in results.glob("*/*/spec.json"))


@pytest.mark.slow
def test_what_is_equal_is_stamped_and_what_differs_keeps_its_own(published, tmp_path, capsys):
    """The former code has another trainer with the same numbers, and another `reconstruction` with other numbers."""
    results, former = tmp_path / "r", tmp_path / "former"
    shutil.copytree(published, results)
    for package in ("benchmark", "models", "metrics", "data"):
        shutil.copytree(ROOT / package, former / package, ignore=shutil.ignore_patterns("__pycache__"))
    (former / TRAINER).write_text((former / TRAINER).read_text() + "\n\nUNUSED = 1\n")
    metric = former / "metrics" / "reconstruction.py"
    other = "\n\n\ndef reconstruction(codes, rng, **settings):\n    return {'reconstruction': 1.0}\n"
    metric.write_text(metric.read_text() + other)
    present = {folder: runs.Record.read(folder) for folder in folders(results)}
    digest = sources.closure([former / TRAINER])["trainer.py"]
    for folder, record in present.items():
        stages = {s: {n: digest if n == TRAINER else d for n, d in f.items()} for s, f in record.sources.items()}
        replace(record, sources=stages).write(folder)
        rows = [{**row, "source": "0"} if row["plugin"] == "reconstruction" else row
                for row in store.read_csv(folder / "scores.csv")]  # fmt: skip
        store.rewrite_csv(folder, "scores.csv", rows, list(rows[0]))
    assert any(runs.Record.read(folder) != record for folder, record in present.items())
    scores = [store.read_csv(folder / "scores.csv") for folder in present]
    assert restamp.main([str(results), "--former", str(former), "--steps", "2", "--data-dir", str(tmp_path)]) == 0
    assert "0 runs are by former code" in capsys.readouterr().out
    assert {folder: runs.Record.read(folder) for folder in present} == present
    assert [store.read_csv(folder / "scores.csv") for folder in present] == scores  # of which one stays by former code


@pytest.mark.slow
def test_a_folder_that_is_no_checkout_is_refused(published, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert restamp.main([str(published), "--former", str(tmp_path / "empty"), "--data-dir", str(tmp_path)]) == 2
    assert str(tmp_path / "empty") in capsys.readouterr().err
