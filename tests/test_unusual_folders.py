"""Results folders that are no tidy grid: dead classes, unequal seeds, mixed lengths and protocols, nothing scored."""

import re

import numpy as np
import pandas as pd
import pytest
from synthetic import write_run

from benchmark import command, load_results, store
from benchmark.reporting import changes, report
from benchmark.running import lengths
from benchmark.spec import Spec

BETTER = {"reconstruction": "lower", "kl_total": "neither", "active_units": "neither"}
CLASS = {"kl_categorical": 1.0, "discrete_accuracy": 0.4, "discrete_accuracy_used": 3.0}
DEAD_CLASS = {"kl_categorical": 0.0, "discrete_accuracy": 0.3, "discrete_accuracy_used": 1.0}


def write(results, model, mig, *, seeds=5, steps=5000, protocol="study", **more):
    """Live runs of about this MIG; returns their folders."""
    rng = np.random.default_rng(round(1000 * mig) + steps)
    folders = []
    for seed in range(seeds):
        value = mig + 0.01 * rng.normal()
        noisy = {key: x + 0.01 * rng.normal() if key == "discrete_accuracy" else x for key, x in more.items()}
        scores = {"mig": value, "reconstruction": 20 - 5 * value, "kl_total": 12.0, "active_units": 3.0, **noisy}
        spec = Spec("blobs", model, seed, steps, 64, 5e-4, hparams={"latents": 3})
        folders.append(write_run(results, spec, scores, protocol=protocol, better=BETTER))
    return folders


def build(results):
    """The screen, report.md and report.html."""
    screen = report.build(results, results / "data", (), lambda text: None, formats=())
    return screen.text(False), (results / "report.md").read_text(), (results / "report.html").read_text()


def test_a_model_that_lives_with_a_dead_class_may_win_but_not_by_its_class(tmp_path):
    write(tmp_path, "betavae", 0.2)
    write(tmp_path, "vae", 0.1)
    write(tmp_path, "jointvae", 0.4, **DEAD_CLASS)
    text, words, page = build(tmp_path)
    assert "Dead though its model lives: the class of 5 of 5 runs of jointvae." in text
    assert "Shown to be best: jointvae in MIG, recon." in text and "Not learned" not in text
    assert "jointvae: the class of 5 of 5 runs is dead: it uses one class" in words and "not learned yet" not in words
    assert "- mig: jointvae is better than" in words
    assert "jointvae is shown best in 2 scores" in re.sub(r"<[^>]+>", "", page)


def test_few_seeds_of_one_model_alone_can_show_a_difference(tmp_path):
    write(tmp_path, "betavae", 0.4, seeds=3)
    write(tmp_path, "vae", 0.1, seeds=10)
    text, words, _ = build(tmp_path)
    assert "Shown to be best: betavae in" in text and "no test can show" not in text
    assert "**Fewer than 5 seeds (n = 3): intervals are wide. Take" in words


def test_a_family_is_a_metrics_own(tmp_path):
    for model, mig in (("betavae", 0.4), ("vae", 0.1)):
        write(tmp_path, model, mig)
    for model, mig in (("jointvae", 0.2), ("cascadevae", 0.3)):
        write(tmp_path, model, mig, **CLASS)
    assert "## blobs, protocol study, 5000 steps (1 to 6 pairs a metric)" in build(tmp_path)[1]


def test_a_longer_run_of_another_protocol_hides_nothing(tmp_path):
    write(tmp_path, "vae", 0.25, steps=1000)
    write(tmp_path, "vae", 0.45, steps=2000, protocol="quick")
    text, _, page = build(tmp_path)
    tables = dict(re.findall(r"protocol (\w+).*?\nvae +\S+ \S+ +(0\.\d)", text, re.S))
    assert tables == {"study": "0.2", "quick": "0.4"} and "Also at" not in text
    assert {path.name for path in (tmp_path / "tables").glob("*.md")} == {"blobs_quick.md", "blobs_study.md"}
    assert page.count("Best models on blobs") == 2 and "vae, steps=1000" in page and "vae, steps=2000" in page


def test_models_of_other_lengths_have_them_beside_their_names_and_none_is_best(tmp_path):
    write(tmp_path, "betavae", 0.4, steps=5000)
    write(tmp_path, "vae", 0.2, steps=20_000)
    text, words, page = build(tmp_path)
    rows = [line for line in text.splitlines() if "±" in line and "/" in line]
    assert [re.split(r" +\d", row)[0] for row in rows[:2]] == ["betavae, steps=5000", "vae, steps=20000"]
    assert "no two models that have learned share a score at one number of steps" in words
    assert "Best models on blobs" not in page
    first = page[page.index('<table class="headline">') : page.index("</table>")]
    assert "steps=5000" in first and "steps=20000" in first


@pytest.mark.parametrize("seeds", [2, 5])
def test_dead_seeds_that_do_not_go_on_are_not_forgotten(tmp_path, seeds):
    for folder in write(tmp_path, "jointvae", 0.3, steps=1000)[:3]:
        rows = [{**row, "value": 0.0} if row["metric"] == "active_units" else row
                for row in store.read_csv(folder / "scores.csv")]  # fmt: skip
        store.write_csv(folder / "scores.csv", rows)
        store.finish(folder, "scores.csv")
    write(tmp_path, "jointvae", 0.3, steps=2000, seeds=seeds)
    said = "Not all seeds went on from: jointvae, steps=1000 (3 of 5 runs dead)." in build(tmp_path)[0]
    assert said == (seeds == 2)


def test_a_run_that_failed_in_one_metric_counts_once(tmp_path):
    write(tmp_path, "betavae", 0.4)
    for folder in write(tmp_path, "vae", 0.1)[:2]:
        (folder / "error.txt").write_text("metric reach: ValueError: x\n")
    row = next(line for line in build(tmp_path)[0].splitlines() if line.startswith("vae"))
    assert row.endswith(" 5/0/0")


@pytest.mark.parametrize("content", ["[]", "{", '{"seconds": "a"}', '{"versions": []}'])
def test_a_damaged_file_of_costs_loses_no_score(tmp_path, content):
    folders = write(tmp_path, "vae", 0.1)
    (folders[0] / "run.json").write_text(content)
    (folders[1] / "error.txt").write_bytes(b"broken \xff pipe\n")
    with pytest.warns(UserWarning, match=f"run.json is damaged: what {folders[0].name} cost is not known"):
        found = load_results(tmp_path)
    assert found.scores.query("metric == 'mig'")["seed"].nunique() == 5
    assert found.runs.query("status == 'failed'")["reason"].tolist() == ["broken \N{REPLACEMENT CHARACTER} pipe"]
    assert len(found.runs) == 5


def test_two_protocols_have_a_command_each_and_are_not_ranked_against_each_other(tmp_path):
    for folder in write(tmp_path, "vae", 0.2, seeds=5, udr=0.5):
        rows = store.read_csv(folder / "scores.csv")
        store.write_csv(folder / "scores.csv", rows + [{**row, "protocol": "quick"} for row in rows])
        store.finish(folder, "scores.csv")
    page = build(tmp_path)[2]
    lines = set(re.findall(r"python run_benchmark[^<]*", page))
    assert sorted(re.findall(r"--protocol (\w+)", " ".join(lines))) == ["quick", "study"]
    chosen = pd.read_csv(tmp_path / "selection.csv")
    assert len(chosen) == 4 and not chosen.duplicated(["criterion", "metric", "protocol"]).any()
    agreed = pd.read_csv(tmp_path / "agreement.csv").query("kind == 'metrics'")
    assert len(agreed) and (agreed["protocol_a"] == agreed["protocol_b"]).all() and (agreed["a"] != agreed["b"]).all()


@pytest.fixture
def unscored(tmp_path):
    for seed in range(2):
        spec = Spec("blobs", "vae", seed, 50, 64, 5e-4, hparams={"latents": 3})
        folder = tmp_path / "runs" / spec.id()
        folder.mkdir(parents=True)
        store.write_json(folder / "spec.json", {"spec": spec.to_json(), "sources": {}})
        (folder / "error.txt").write_text("boom\n")
    return tmp_path


def test_a_folder_without_scores_is_reported_and_compared(unscored):
    text, words, _ = build(unscored)
    assert text.startswith("No run has scores yet.\n") and "2 of them failed" in words
    assert changes.compare(unscored, unscored, (), print).endswith("No score is in both folders.\n")


def test_a_setting_that_a_plugin_has_gained_is_told(tmp_path):
    (folder,) = write(tmp_path, "mymodel", 0.2, seeds=1, steps=50)
    (folder / "checkpoint.safetensors").write_bytes(b"x")
    store.finish(folder, "checkpoint.safetensors")
    longer = Spec("blobs", "mymodel", 0, 100, 64, 5e-4, hparams={"latents": 3, "warm_steps": 10})
    (said,) = lengths.notes([longer], tmp_path)
    assert said.endswith("100 steps do not go on from 50: warm_steps is absent there and 10 here")


def test_a_folder_that_is_not_ours_is_left_as_it_was(tmp_path, capsys):
    for name in (".draft.tmp", "plots/.figure.tmp", ".thesis.coming"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    assert command.main(["--report", str(tmp_path)]) == 2 and "holds no runs" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_notebook_is_warned_of_a_run_that_is_left_out(tmp_path):
    write(tmp_path, "vae", 0.2, seeds=2)
    next(tmp_path.glob("runs/*-s1-*/spec.json")).write_text("{")
    with pytest.warns(UserWarning, match="vae-s1-.* is left out"):
        assert load_results(tmp_path).summary.query("metric == 'mig'")["n"].tolist() == [1]
