"""RESULTS.md, docs/results/ and README.md say what the published runs say."""

from dataclasses import replace
from functools import partial

import pytest
from synthetic import write_run

from benchmark import store
from benchmark.errors import UserError
from benchmark.evidence import claims, evidence, publish
from benchmark.evidence.evidence import ROOT, blocks, fill, markdown
from benchmark.evidence.published import PublishedRuns
from benchmark.spec import Overrides, resolve
from models.cascadevae import CascadeVAE
from models.jointvae import JointVAE
from models.vae import VAE

PUBLISHED = ROOT / "results/published"
OF_MNIST = ("attributes", "handwriting leakage", "handwriting ceiling")


@pytest.fixture(scope="module")
def published():
    return PublishedRuns.read(PUBLISHED)


def test_every_table_of_the_pages_is_that_of_the_published_runs(published):
    tables = {**blocks(published), **{name: partial(table_of, name) for name in OF_MNIST}}
    for page in evidence.PAGES:
        text = page.read_text()
        assert fill(text, tables) == text, f"{page.name}: run python -m benchmark.evidence"
        assert "@@" not in text, f"{page.name}: a number is not filled in"


def test_every_table_is_on_one_page(published):
    named = [name for page in evidence.PAGES for _, name, _ in evidence.BLOCK.findall(page.read_text())]
    assert sorted(named) == sorted(blocks(published))


@pytest.mark.network
@pytest.mark.parametrize("name", OF_MNIST)
def test_tables_of_mnists_images_are_those_of_the_page(published, name):
    assert blocks(published)[name]() == table_of(name)


def table_of(name):
    [text] = [text for page in evidence.PAGES if f"<!-- begin {name} -->" in (text := page.read_text())]
    return text.partition(f"<!-- begin {name} -->\n")[2].partition(f"<!-- end {name} -->")[0]


def test_every_figure_of_the_pages_exists_and_no_other():
    shown = evidence.figures_shown()
    assert set(evidence.FIGURES.glob("*.png")) == {path for path in shown if path.parent == evidence.FIGURES}
    assert all(path.exists() for path in shown)


def test_published_runs_fit_and_hold_no_codes(published):
    assert publish.size(PUBLISHED) < publish.MOST
    assert not list(PUBLISHED.glob("*/*/codes.h5"))
    for run in published.trained:
        assert (run.folder / "history.csv").exists() or run.status == "failed", run.id


def test_a_page_is_filled_between_its_marks():
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
    table = markdown(["k"], [["v"]])
    assert fill(page, {"x": lambda: table}) == f"a\n<!-- begin x -->\n{table}<!-- end x -->\nb\n"
    with pytest.raises(UserError, match="there is no table 'x'; there are: y"):
        fill(page, {"y": lambda: table})


def test_a_figure_that_there_is_not_is_named(published, monkeypatch, tmp_path):
    (tmp_path / "README.md").write_text("![x](docs/results/nothing.png)\n")
    monkeypatch.setattr(evidence, "ROOT", tmp_path)
    monkeypatch.setattr(evidence, "FIGURES", tmp_path / "docs/results")
    monkeypatch.setattr(evidence, "PAGES", [tmp_path / "README.md"])
    with pytest.raises(UserError, match="there is no figure nothing; there are: handwriting, scores_dsprites"):
        evidence.write(published)


def test_standard_runs_of_two_precisions_are_two_rows(tmp_path):
    """A machine with bfloat16 and one without publish into one folder."""
    for precision in ("fp32", "bf16"):
        for seed in (0, 1):
            spec = resolve("mnist", 32, "vae", VAE, preset="standard", overrides=Overrides(precision=precision))
            write_run(tmp_path, replace(spec, seed=seed), {"mig": 0.1 + seed, "reconstruction": 120.0 - seed})
    found = PublishedRuns.read(tmp_path)
    assert sorted({found.name(run) for run in found.standard}) == ["vae, bf16", "vae, fp32"]
    rows = [line for line in blocks(found)["scores mnist"]().splitlines() if "vae" in line]
    assert [row.split(" | ")[:2] for row in rows] == [["| `vae`, bf16", "2"], ["| `vae`, fp32", "2"]]
    assert all(row.endswith(" | 119.0 and 120.0 |") for row in rows), "two seeds have no interval that says a thing"


def test_a_class_that_begins_after_the_run_is_no_number(tmp_path):
    for cls in (CascadeVAE, JointVAE):
        spec = resolve("dsprites", 64, cls.__name__.lower(), cls, preset="standard", overrides=Overrides())
        write_run(tmp_path, spec, {"mig": 0.1} if cls is CascadeVAE else {"mig": 0.1, "discrete_accuracy": 0.4})
    found = PublishedRuns.read(tmp_path)
    rows = blocks(found)["classes"]().splitlines()[2:]
    assert rows == ["| dsprites | `jointvae` | 0.400 (nan) | 0.400 |"]
    assert claims.rows(found)[0][4] == "its class begins later than these runs end"


def test_the_dead_runs_of_a_claim_are_those_without_an_active_latent(published):
    def dead(model):
        mine = [run for run in published.standard if (run.spec.dataset, run.spec.model) == ("dsprites", model)]
        return f"{sum(published.value(run, 'active_units') == 0 for run in mine)} of {len(mine)}"

    [measured] = [row[4] for row in claims.rows(published) if row[0] == "`meanstartjointvae`"]
    assert measured == f"{dead('meanstartjointvae')} are dead, {dead('jointvae')} of `jointvae`"
    assert dead("jointvae") == "8 of 10"  # or nothing would be counted


def test_a_run_that_went_on_costs_only_the_steps_that_it_trained(tmp_path):
    for steps, seconds, start in ((5000, 3600, 0), (15000, 7200, 5000)):
        spec = resolve("dsprites", 64, "vae", VAE, preset="standard", overrides=Overrides(steps=steps))
        folder = write_run(tmp_path, spec, {"mig": 0.1})
        store.write_json(folder / "run.json", {"seconds": seconds, "threads": 1, "goes_on_from": start})
    row = next(line for line in blocks(PublishedRuns.read(tmp_path))["costs"]().splitlines() if "`vae`" in line)
    assert row == "| dsprites | `vae` | 2 | 3.00 | 300,000 | 120.0 |"  # 1 h by 60 and 2 h by 30


def test_metrics_that_few_runs_have_are_not_in_the_table_of_agreement(tmp_path):
    for seed in range(4):
        scores = {"mig": 0.1 * seed, "sap": 0.2 * seed}
        rare = {"infomec_modularity": 0.5} if seed < 2 else {"modularity": 0.5}
        common = {"dci_disentanglement": 0.1 * seed} if seed else {}
        spec = resolve("dsprites", 64, "vae", VAE, preset="standard", overrides=Overrides())
        write_run(tmp_path, replace(spec, seed=seed), {**scores, **rare, **common})
    header = blocks(PublishedRuns.read(tmp_path))["metrics"]().splitlines()[0]
    assert header == "|  | mig | sap | dci_disentanglement |"
