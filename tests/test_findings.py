"""What the report step adds to a results folder, from synthetic runs: conclusions, tables, changes."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic import write_results

from benchmark import store
from benchmark.command import main
from benchmark.errors import UserError
from benchmark.reporting import canvas, changes, conclusions, findings, pictures, plots, report, tables
from benchmark.running import estimate
from benchmark.running.job import Job
from benchmark.spec import Spec
from benchmark.statistics.differences import comparisons

WRITTEN = [
    "agreement.csv",
    "comparisons.csv",
    "scores.csv",
    "selection.csv",
    "spread.csv",
    "summary.csv",
    "variance.csv",
]


def build(folder):
    said = []
    report.build(folder, folder / "data", (), said.append)
    return (folder / "report.md").read_text(), said


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = write_results(tmp_path_factory.mktemp("results"))
    return folder, *build(folder)


def test_conclusions_come_first_in_plain_words(built):
    _, page, _ = built
    assert page.startswith("# Conclusions\n\n## blobs, protocol study, 5000 steps (3 pairs a metric)\n\n")
    sentence = next(line for line in page.splitlines() if line.startswith("- mig:"))
    by = r"by 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] \(p = 0\.024, n = 5\)"
    assert re.fullmatch(rf"- mig: jointvae is better than betavae {by} and vae {by}\.", sentence)
    assert "Holm's correction" in page and "Seed noise against metric noise" in page and "Regret" in page
    assert page.index("# Scores") > page.index("# Conclusions")


def test_every_table_opens_in_pandas_and_a_spreadsheet(built):
    for path in built[0].glob("*.csv"):
        content = path.read_bytes()
        assert not content.startswith(b"\xef\xbb\xbf") and b"\r" not in content
        rows = list(csv.reader(content.decode("utf-8").splitlines()))
        assert len({len(row) for row in rows}) == 1 and "" not in rows[0] and len(set(rows[0])) == len(rows[0])
        assert len(pd.read_csv(path)) == len(rows) - 1
    scores = pd.read_csv(built[0] / "scores.csv")
    assert scores["value"].dtype == float and scores["seed"].dtype == np.int64
    assert not scores.columns.str.startswith("Unnamed").any()


def test_everything_is_rebuilt_bit_for_bit_without_codes_and_weights(built, tmp_path):
    folder = tmp_path / "published"
    shutil.copytree(built[0], folder)
    for path in [*folder.glob("*.csv"), *folder.glob("runs/*/codes.h5")]:
        path.unlink()
    shutil.rmtree(folder / "plots")
    _, said = build(folder)
    assert "15 runs have no codes.h5" in " ".join(said)
    for name in WRITTEN:
        if name != "agreement.csv":
            assert (folder / name).read_bytes() == (built[0] / name).read_bytes(), name
    assert set(pd.read_csv(folder / "runs.csv")["status"]) == {"ok"}
    assert set(pd.read_csv(folder / "agreement.csv")["kind"]) == {"metrics"}
    plots = sorted(path.name for path in (built[0] / "plots").iterdir())
    assert {name.rpartition(".")[2] for name in plots} == {"png", "svg", "pdf"}
    for name in plots:
        assert (folder / "plots" / name).read_bytes() == (built[0] / "plots" / name).read_bytes(), name
    assert not re.search(rb"CreationDate|<dc:date>", b"".join(p.read_bytes() for p in (folder / "plots").iterdir()))


def test_a_broken_file_does_not_count_as_an_absent_one(tmp_path):
    write_results(tmp_path, seeds=1)
    (next(tmp_path.glob("runs/*betavae*")) / "codes.h5").write_bytes(b"broken")
    (next(tmp_path.glob("runs/*jointvae*")) / "scores.csv").unlink()
    runs = {run.spec.model: run.status for run in report.read_runs(tmp_path, lambda text: None)}
    assert runs["betavae"] == runs["jointvae"] == "unfinished" and runs["vae"] == "ok"


def say(folder, **options):
    write_results(folder, **options)
    runs = report.read_runs(folder, print)
    scores = report.score_table(runs, (), print)
    failed = report.run_table([run for run in runs if run.status == "failed"])
    return findings.find(runs, scores, failed, report.config_labels(runs), lambda text: None)


def test_no_difference_is_said_with_the_seeds_that_it_would_take(tmp_path):
    found = say(tmp_path, models={"vae": 0.3, "betavae": 0.31}, spread=0.05)
    mig = next(c for c in found.conclusions if c.metric == "mig")
    assert mig.winner == "" and mig.shown == () and mig.open in (("vae",), ("betavae",)) and mig.family == 1
    by = r"0\.\d+ \[-0\.\d+, 0\.\d+\], p = [01]\.\d+; \d+ seeds needed \(\d+ to any number\)"
    assert re.fullmatch(rf"mig: no difference shown \(n = 5\) between \w+ and \w+ \({by}\)\.", mig.sentence)
    assert conclusions.warning(found.conclusions) == ""


def test_three_seeds_can_show_nothing_and_that_is_said(tmp_path):
    found = say(tmp_path, seeds=3)
    mig = next(c for c in found.conclusions if c.metric == "mig")
    assert mig.sentence.endswith(" No test of 3 seeds can show one among 3 pairs; it takes 5.") and not mig.winner
    assert "Fewer than 5 seeds (n = 3)" in conclusions.warning(found.conclusions)


@pytest.mark.slow
def test_many_models_that_are_not_told_apart_are_listed_in_short(tmp_path):
    found = say(tmp_path, models={name: 0.3 for name in "abcde"}, spread=0.05)
    sentence = next(c.sentence for c in found.conclusions if c.metric == "mig")
    assert (
        "(differences of 0." in sentence and "No test of 5 seeds can show one among 10 pairs; it takes 6." in sentence
    )
    assert len(sentence) < 300


@pytest.mark.parametrize("models", [{"jointvae": 0.4}, {"jointvae": 0.4, "vae": 0.3, "betavae": 0.35}])
def test_dead_runs_are_named_first_and_nothing_is_concluded_from_them(tmp_path, models):
    folder = write_results(tmp_path, models=models)
    for path in list(folder.glob("runs/blobs-jointvae-s[0-3]-*/scores.csv")):
        rows = [{**row, "value": 0.0} if row["metric"] == "active_units" else row for row in store.read_csv(path)]
        store.write_csv(path, rows)
        store.finish(path.parent, "scores.csv")
    text, _ = build(folder)
    first = next(line for line in text.splitlines() if line.startswith("- "))
    assert first.startswith("- blobs: **jointvae has not learned yet at this length (4 of 5 runs dead)")
    assert "no latent is in use (seeds 0, 1, 2, 3). Rate 0.80 [0.28, 0.99].**" in first
    assert "jointvae is better" not in text and "than jointvae" not in text and "and jointvae" not in text
    assert f"{5 * len(models)} runs, 0 of them failed or unfinished, 4 dead." in text
    row = next(line for line in text.splitlines() if line.startswith("| dead runs |"))
    assert "4/5 [0.28, 0.99]" in row and row.count("0/5 [0.00, 0.52]") == len(models) - 1
    rate = pd.read_csv(folder / "spread.csv").query("metric == 'dead_runs' and model == 'jointvae'").iloc[0]
    assert (rate["n"], rate["dead"], rate["mean"]) == (5, 4, 0.8)
    compared = pd.read_csv(folder / "comparisons.csv")
    if len(models) > 1:
        of_dead = compared[(compared["model_a"] == "jointvae") | (compared["model_b"] == "jointvae")]
        assert set(of_dead["verdict"]) == {"not learned"}
        assert "4 dead</a>" in (folder / "report.html").read_text()


def test_one_seed_of_several_models_is_compared_without_a_test(tmp_path):
    text, _ = build(write_results(tmp_path, seeds=1))
    assert "one run tells nothing about the spread between seeds" in text and "nan" not in text.lower()
    assert set(pd.read_csv(tmp_path / "comparisons.csv")["family"]) == {0}


def test_one_seed_and_one_model(tmp_path):
    found = say(tmp_path / "one", seeds=1)
    assert all("one run tells nothing" in c.sentence for c in found.conclusions)
    assert say(tmp_path / "alone", models={"vae": 0.3}).conclusions == []


def test_a_leader_at_the_floor_is_said(tmp_path):
    found = say(tmp_path, models={"vae": 0.2, "betavae": 0.19})
    sentence = next(c.sentence for c in found.conclusions if c.metric == "mig")
    assert "not shown to be better than the floor pca (0.200)" in sentence


def test_bold_follows_the_test(built):
    text = (built[0] / "tables" / "blobs_study.tex").read_text()
    assert text.count("{") == text.count("}") and "\\toprule" in text and "\\bottomrule" in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {line.count(" & ") for line in rows} == {4}
    mig = next(line for line in rows if line.startswith("mig"))
    assert mig.split(" & ")[2].startswith("$\\mathbf{0.4") and mig.count("mathbf") == 1
    assert mig.endswith(" & 0.200 (pca) \\\\") and "& best floor \\\\" in text  # there is no ceiling
    assert "reconstruction $\\downarrow$" in text and "kl\\_total &" in text
    page = (built[0] / "tables" / "blobs_study.md").read_text()
    assert "| mig ↑ | 0." in page and page.count("| 0.200 (pca) |") == 1 and "| best floor |" in page
    assert tables.bold(pd.read_csv(built[0] / "comparisons.csv").assign(verdict="not shown")) == set()


def test_compare_shows_what_changed_and_refuses_other_protocols(built, tmp_path, capsys):
    shifted = write_results(tmp_path / "b", shift=0.2)
    (shifted / "runs" / "extra").mkdir()
    shutil.rmtree(next(shifted.glob("runs/*vae-s4*")))
    page = changes.compare(built[0], shifted, (), print)
    assert "## Runs only in a" in page and "| mig | study | 5, 5 | 0." in page and "| changed |" in page
    assert "scores are identical, seed by seed" in page
    same = changes.compare(built[0], built[0], (), print)
    assert "18 of 18 scores are identical" in same and "Settings that differ" not in same
    other = write_results(tmp_path / "kim", protocol="kim")
    page = changes.compare(built[0], other, (), print)
    assert (
        "No score is in both folders." in page and "vae on blobs: protocol study in a, kim in b (active_units" in page
    )
    longer = write_results(tmp_path / "longer", steps=9000)
    page = changes.compare(built[0], longer, (), print)
    assert "- vae on blobs: steps 5000 → 9000" in page and "no change shown" in page
    with pytest.raises(UserError, match="holds no runs"):
        changes.compare(built[0], tmp_path / "empty", (), print)
    assert main(["--compare", str(built[0]), str(built[0])]) == 0 and "# What changed" in capsys.readouterr().out


@pytest.mark.parametrize("seeds", [5, 6])
def test_compare_tests_as_the_conclusions_do(seeds):
    """The same two samples, as two folders and as two settings of one model: one design, one p-value."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=seeds), rng.normal(0.5, size=seeds)
    rows = {"dataset": "blobs", "model": "vae", "metric": "mig", "protocol": "study", "steps": 10, "kind": "run",
            "better": "higher", "seed": range(seeds), "draw": 0, "run": [str(n) for n in range(seeds)],
            "note": "", "over_runs": False}  # fmt: skip
    a, b = (pd.DataFrame({**rows, "config": config, "value": v}) for config, v in (("x", one), ("y", other)))
    as_settings = comparisons(pd.concat([b, a]), failed=pd.DataFrame(columns=["dataset", "model", "config", "seed"]))
    as_folders = changes.changes(a, b.assign(config="x"), {("blobs", "vae", "x"): ("blobs", "vae", "x")})
    names = ["design", "p", "p_holm", "family"]
    assert as_folders[names].iloc[0].tolist() == as_settings[names].iloc[0].tolist()
    assert as_folders["design"].item() == ("paired" if seeds == 6 else "independent")


def test_failed_floors_are_no_failed_runs_and_the_page_names_no_private_folder(tmp_path):
    folder = write_results(tmp_path, seeds=2, models={"betavae": 0.4, "vae": 0.3})
    for kind in ("runs", "floors"):
        text = f"cannot read {Path.home()}/a and {tmp_path}/data/b"
        (sorted((folder / kind).iterdir())[0] / "error.txt").write_text(text)
    report.build(folder, tmp_path / "data", (), print)
    text = (folder / "report.md").read_text()
    assert "4 runs, 1 of them failed or unfinished; of the floors, 1, 0 dead." in text
    page = (folder / "report.html").read_text()
    for name in ("report.md", "runs.csv", "report.html"):
        assert str(tmp_path) not in (folder / name).read_text() and str(Path.home()) not in (folder / name).read_text()
    assert page.count("cannot read ~/a and &lt;data&gt;/b") == 2 and str(tmp_path) not in page
    assert not pd.read_csv(folder / "summary.csv")["failed"].any()  # the failed run has its scores


def test_versions_of_a_metric_without_its_file_are_left_out():
    rows = pd.DataFrame({"plugin": ["gone", "gone", "mig"], "source": ["a", "b", "c"]})
    said = []
    assert list(report._one_version(rows, (), said.append)["plugin"]) == ["mig"] and "2 scores" in said[0]


def test_the_estimate_leaves_out_what_is_trained(tmp_path):
    folder = write_results(tmp_path, seeds=1, models={"vae": 0.3}) / "runs"
    run = next(folder.iterdir())
    (run / "model.safetensors").write_text("")
    store.finish(run, "model.safetensors", "history.csv")
    spec = Spec.from_json(store.read_json(run / "spec.json")["spec"])
    done, new = (Job(spec, path, (), "quick", tmp_path) for path in (run, tmp_path / "new"))
    assert estimate.say([done], tmp_path, 1) == "time: no run to train; 1 to score cannot be judged"
    assert "; 1 to score" in estimate.say([done, new], tmp_path, 1)


def test_the_parts_along_training_are_drawn_of_the_first_seed_that_has_them():
    whole = pd.DataFrame({"step": [100, 200, 300], "kl": [1.0, 2.0, 3.0], "elbo_information": [0.5, np.nan, 2.0],
                          "elbo_total_correlation": [0.3, np.nan, 0.6], "elbo_dimension_kl": [0.2, np.nan, -0.1],
                          "capacity": [1.0, 2.0, 3.0]})  # fmt: skip
    once = whole.assign(elbo_information=[np.nan, np.nan, 2.0])
    history = {("a", 0): whole[["step", "kl"]], ("a", 1): whole, ("a", 2): whole, ("b", 0): once}
    assert pictures.watched(history) == {"a": 1}
    figure = plots.elbo_training({"a": whole}, {"a": 1}, "blobs")
    areas = [axis.get_paths()[0].vertices for axis in figure.axes[0].collections]
    assert len(areas) == 3 and areas[2][:, 1].max() == pytest.approx(2.6)  # negative estimates add nothing
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "capacity"
    canvas.close(figure)
