"""Results read back in a notebook."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from test_command import run as command

from benchmark import load_results, load_run
from benchmark.errors import UserError
from benchmark.reporting.report import SCORES


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library") / "results"
    status, _, err = command("--models", "jointvae", "--datasets", "blobs", "--steps", 5, "--batch-size", 16,
                             "--metrics", "kl", "--results", folder)  # fmt: skip
    assert status == 0, err
    return folder


def test_a_run_comes_back_with_its_model_codes_and_scores(results):
    run = load_run(next((results / "runs").iterdir()))
    x = run.data.batch(run.data.score_rows[:4]).numpy()
    z = run.encode(x)
    assert z.shape == (4, run.model.latents + sum(run.model.categories))
    assert np.allclose(z[:, : run.model.latents], run.codes.mean[:4], atol=1e-5)
    assert np.array_equal(z, run.encode((x * 255).round().astype(np.uint8)))
    images = run.decode(z)
    assert images.shape == x.shape and 0 <= images.min() <= images.max() <= 1
    assert isinstance(run.traversals(x), Figure)
    with pytest.raises(UserError, match="no images: a traversal needs one or more"):
        run.traversals(x[:0])
    assert list(run.scores) == SCORES and "kl_total" in set(run.scores["metric"]) and len(run.history) == 1


def test_the_documented_lines_do_what_they_say(results, monkeypatch):
    """With the run and the folder that are here in the place of those that are named."""
    text = (Path(__file__).parent.parent / "docs" / "library.md").read_text()
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    folder = next((results / "runs").iterdir())
    block = block.replace("results/runs/mnist-jointvae-s0-1f3a9c2e", str(folder)).replace(
        '"results"', repr(str(results))
    )
    monkeypatch.chdir(results.parent)
    space: dict[str, object] = {}
    exec(compile(block, "library.md", "exec"), space)
    assert space["z"].shape == (8, 20) and len(space["tables"].summary)


def test_tables_are_those_of_the_files(results):
    tables = load_results(results)
    for name in ("scores", "summary", "runs", "comparisons"):
        stored, found = pd.read_csv(results / f"{name}.csv"), getattr(tables, name)
        assert list(stored) == list(found) and len(stored) == len(found)
    assert tables.scores["value"].tolist() == pytest.approx(pd.read_csv(results / "scores.csv")["value"], nan_ok=True)


def test_what_is_not_there_or_does_not_fit_is_said(results, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        load_run(tmp_path / "runs" / "x")
    with pytest.raises(UserError, match="holds no runs"):
        load_results(tmp_path)
    run = load_run(next((results / "runs").iterdir()))
    with pytest.raises(UserError, match=r"images have shape \(3, 32, 32\), needed \(b, 1, 32, 32\)"):
        run.encode(np.zeros((3, 32, 32)))
    for images in (np.full((1, 1, 32, 32), 255.0), np.full((1, 1, 32, 32), 255), np.full((1, 1, 32, 32), np.nan)):
        with pytest.raises(UserError, match=r"needed bytes or \[0, 1\]"):
            run.encode(images)
    (bare := tmp_path / "runs" / run.run.id).mkdir(parents=True)
    shutil.copy(run.run.folder / "spec.json", bare)
    with pytest.raises(UserError, match=rf"{run.run.id}: its weights are not here"):
        load_run(bare).model  # noqa: B018
    with pytest.raises(UserError, match=r"latents have shape \(2, 3\), needed \(b, 20\)"):
        run.decode(np.zeros((2, 3)))
