"""Models at several lengths of training: never mixed, told apart, and readable."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from synthetic import write_results, write_run

from benchmark.defaults import HEADLINE
from benchmark.reporting import canvas, findings, lengths, pictures, report
from benchmark.reporting.gallery import Gallery
from benchmark.reporting.screen import Screen
from benchmark.runs import Run, config_labels
from benchmark.spec import Spec
from benchmark.statistics import stats

AT = {100: {"betavae": 0.3, "jointvae": 0.45, "vae": 0.6}, 5000: {"betavae": 0.6, "jointvae": 0.45, "vae": 0.2}}


def build(folder):
    return report.build(folder, folder / "data", (), lambda text: None, formats=())


def first(folder):
    """What is shown first, without pages and figures."""
    runs = report.read_runs(folder, print)
    scores, failed, labels = report.score_table(runs, (), print), report.run_table([]), config_labels(runs)
    found = findings.find(runs, scores, failed, labels, print)
    return Screen(scores, failed, found, labels, stats.headline(scores[scores["kind"] == "run"]))


def of_lengths(folder, by_steps, seeds=5):
    """A results folder with the runs of several lengths, as one command leaves them."""
    for steps, models in by_steps.items():
        alone = write_results(folder / "alone" / str(steps), models=models, steps=steps, seed=steps, seeds=seeds)
        shutil.copytree(alone, folder / "all", dirs_exist_ok=True)
    return folder / "all"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = of_lengths(tmp_path_factory.mktemp("lengths"), AT)
    return folder, build(folder)


def test_no_row_of_the_comparisons_mixes_lengths(built):
    """Each length has the rows, p-values and families that it has in a folder of its own."""
    table = pd.read_csv(built[0] / "comparisons.csv")
    steps = {run.spec.config: run.spec.steps for run in report.read_runs(built[0], print)}
    for side in "ab":
        assert (table[f"config_{side}"].map(steps) == table["steps"]).all()
    assert set(table["steps"]) == {100, 5000} and len(table) == 2 * 3 * 6
    both, alone = (first(folder).found.comparisons for folder in (built[0], built[0].parent / "alone" / "100"))
    pd.testing.assert_frame_equal(alone, both[both["steps"] == 100].reset_index(drop=True))


def test_a_verdict_that_turns_is_told(built):
    table = pd.read_csv(built[0] / "lengths.csv", keep_default_na=False)
    mig = table[table["metric"] == "mig"].set_index(["model_a", "model_b", "steps"])
    assert list(table) == lengths.LENGTHS and set(table["metric"]) == {"mig", "sap", "reconstruction", "udr"}
    found = {pair: tuple(row) for pair, row in mig[["better", "stays"]].iterrows()}
    assert found == {
        ("betavae", "jointvae", 100): ("jointvae", "no"), ("betavae", "jointvae", 5000): ("betavae", ""),
        ("betavae", "vae", 100): ("vae", "no"), ("betavae", "vae", 5000): ("betavae", ""),
        ("jointvae", "vae", 100): ("vae", "no"), ("jointvae", "vae", 5000): ("jointvae", ""),
    }  # fmt: skip
    row = mig.loc["betavae", "vae", 100]
    assert row["difference"] == row["mean_a"] - row["mean_b"] < 0 and row["ci_low"] < row["difference"] < row["ci_high"]
    recon = table[table["metric"] == "reconstruction"].set_index(["model_a", "model_b", "steps"])
    assert recon.loc[("betavae", "vae", 100), "better"] == "vae" and recon.loc["betavae", "vae", 100]["difference"] > 0


def test_a_verdict_that_stays_is_told_at_every_length():
    def row(steps, a, b, verdict):
        return {"dataset": "blobs", "metric": "mig", "protocol": "study", "steps": steps, "better": "higher",
                "model_a": "betavae", "config_a": a, "model_b": "betavae", "config_b": b, "verdict": verdict,
                "difference": 1.0, "ci_low": 0.5, "ci_high": 2.0, "n_a": 4, "n_b": 5, "mean_a": 2.0,
                "mean_b": 1.0}  # fmt: skip

    names = {("blobs", "betavae", c): f"betavae, beta={c[0]}" for c in ("1x", "4x", "1y", "4y", "1z", "4z", "8z")}
    rows = [row(1, "1x", "4x", "not shown"), row(2, "4y", "1y", "b"), row(3, "1z", "4z", "a"), row(3, "1z", "8z", "a")]
    table = lengths.table(pd.DataFrame(rows), names)
    assert table["stays"].tolist() == ["no", "yes", ""] and table["steps"].tolist() == [1, 2, 3]
    assert table["better"].tolist() == ["", "betavae, beta=1", "betavae, beta=1"]
    turned = table.iloc[1]  # its configurations are in the other order
    assert (turned["difference"], turned["ci_low"], turned["ci_high"], turned["n_a"], turned["mean_a"]) == (
        -1, -2, -0.5, 5, 1
    )  # fmt: skip


def test_the_table_is_there_where_models_share_two_lengths_and_goes_with_them(built, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(built[0], copy)
    assert (copy / "lengths.csv").exists()
    for run in report.read_runs(copy, print):
        if run.spec.steps == 100:
            shutil.rmtree(run.folder)
    build(copy)
    assert not (copy / "lengths.csv").exists()


def named(*settings):
    """The names of configurations of jointvae with these (steps, hyper-parameters)."""
    runs = [Run(Path(spec.id()), spec, "run", "ok", "", {}) for steps, hparams in settings
            for spec in [Spec("mnist", "jointvae", 0, steps, 64, 5e-4, hparams=hparams)]]  # fmt: skip
    names = lengths.names(runs, config_labels(runs))
    return [names[lengths.key_of(run)] for run in runs]


def test_one_name_differs_in_its_length_alone():
    short, long = {"gamma": 30.0, "capacity_steps": 100}, {"gamma": 30.0, "capacity_steps": 300}
    other = {**short, "gamma": 2.0}
    assert named((200, short)) == ["jointvae"]
    assert named((400, long), (100, short), (200, short)) == ["jointvae"] * 3  # slower, as `spec.speed_up` has it
    assert named((200, short), (400, short), (200, other), (400, other)) == [
        "jointvae, gamma=30.0", "jointvae, gamma=30.0", "jointvae, gamma=2.0", "jointvae, gamma=2.0"
    ]  # fmt: skip
    swept = [(steps, hparams) for steps in (200, 400) for hparams in (short, long)]  # a length has both
    assert named(*swept) == ["jointvae, capacity_steps=100", "jointvae, capacity_steps=300"] * 2
    faster = {**short, "capacity_steps": 99}
    much = {**short, "capacity_steps": 400}
    for one, two in ((short, faster), (short, much), (short, {"gamma": 30.0})):
        assert named((200, one), (400, two)) == list(labels_of((200, one), (400, two)))
    wide = {name: 1.0 for name in ("a_rather_long_setting", "another_long_setting", "one_more")}
    first, _, second, _ = named(*((n, {**wide, **more}) for more in ({}, dict.fromkeys(wide, 2.0)) for n in (1, 2)))
    assert first != second and len(first) == len(second) == 44


def labels_of(*settings):
    specs = [Spec("mnist", "jointvae", 0, steps, 64, 5e-4, hparams=hparams) for steps, hparams in settings]
    return config_labels([Run(Path(spec.id()), spec, "run", "ok", "", {}) for spec in specs]).values()


def test_models_each_of_a_length_of_its_own_are_all_shown(tmp_path):
    """As with `--preset paper`: nothing is longer than anything, and none are compared."""
    folder = of_lengths(tmp_path, {100: {"vae": 0.3}, 300: {"betavae": 0.4}})
    screen = first(folder)
    assert [label for label, _, _ in screen.rows("blobs", "study")] == ["vae", "betavae"]
    assert "Also at" not in screen.text(False)
    assert screen.found.comparisons.empty and screen.found.lengths.empty and not screen.found.shorter


def test_the_answer_is_that_of_the_longest_common_length(built):
    screen = built[1]
    text = screen.text(False)
    assert text.startswith("blobs, protocol study, at 5,000 steps\n")
    assert [line.split()[0] for line in text.splitlines()[2:5]] == ["betavae", "jointvae", "vae"]
    assert "Shown to be best at 5,000 steps: betavae in" in text
    assert "Also at 100 steps: lengths.csv, plots/lengths_blobs_study.png." in text
    page = (built[0] / "report.md").read_text()
    assert "- mig at 5,000 steps: betavae is better than" in page and "at 100 steps: " not in page
    assert {c.steps for c in screen.found.conclusions} == {5000}
    turned = ["jointvae at 100, betavae", "vae at 100, betavae", "vae at 100, jointvae"]
    assert f"| blobs | mig | study | 3 | 0 | {'; '.join(f'{one} at 5,000 steps' for one in turned)} |" in page
    head = next(line for line in page.splitlines() if line.startswith("| metric |"))
    assert head.startswith("| metric | betavae, steps=100 | betavae, steps=5000 | jointvae, steps=100 |")


def test_figures_and_page_are_of_the_longest_length_and_one_is_of_all(built):
    folder = built[0]
    runs = report.read_runs(folder, print)
    scores, gallery = report.score_table(runs, (), print), Gallery(folder, (), print)
    with canvas.style():
        found = dict(pictures.figures(runs, scores, gallery))
    assert next(iter(found)) == "lengths_blobs_study" and {"scores_blobs_study", "training_blobs"} <= {*found}
    ticks = [text.get_text() for text in found["scores_blobs_study"].axes[0].get_xticklabels()]
    assert [" ".join(text.split()) for text in ticks] == [f"{name}, steps=5000" for name in AT[100]]
    assert [text.get_text() for text in found["lengths_blobs_study"].legends[0].get_texts()][:3] == [*AT[100]]
    for figure in found.values():
        canvas.close(figure)
    page = (folder / "report.html").read_text()
    assert (
        page.index('<section id="tradeoff"') < page.index('<section id="lengths"') < page.index('<section id="classes"')
    )
    first = page[page.index('<table class="headline">') : page.index("</table>")]
    assert first.count("steps=5000") == 3 and "steps=100" not in first
    every = page[page.index('id="scores-1"') :]
    assert ">vae, steps=100<" in every and ">vae, steps=5000<" in every


def test_a_folder_of_one_length_has_no_figure_of_lengths(built):
    runs = report.read_runs(built[0].parent / "alone" / "100", print)
    scores = report.score_table(runs, (), print)
    named = lengths.names(runs, config_labels(runs))
    assert not [*pictures.lengths_figures(scores.assign(dead=False), "blobs", named, HEADLINE)]


def test_a_model_without_the_longest_length_is_spoken_of_where_it_is_compared(tmp_path):
    """The longest length of some says nothing of the others: both lengths have their sentences."""
    at = {100: {"betavae": 0.3, "jointvae": 0.45, "vae": 0.6}, 200: {"betavae": 0.3, "vae": 0.6},
          300: {"betavae": 0.6, "vae": 0.3}}  # fmt: skip
    screen = first(of_lengths(tmp_path, at))
    assert {c.steps for c in screen.found.conclusions} == {100, 300}
    rows = [label for label, _, _ in screen.rows("blobs", "study")]
    assert sorted(rows) == ["betavae, steps=300", "jointvae", "vae, steps=300"]
    text = screen.text(False)
    assert "Shown to be best at 300 steps: betavae in" in text and "Shown to be best at 100 steps: vae in" in text


def test_a_run_at_two_lengths_counts_once_where_runs_are_ranked(built):
    agreed = pd.read_csv(built[0] / "agreement.csv").query("kind == 'metrics'")
    assert set(agreed["n"]) == {15}  # three models, five seeds
    chosen = pd.read_csv(built[0] / "selection.csv")
    longest = {run.config for run in report.read_runs(built[0], print) if run.spec.steps == 5000}
    assert set(chosen["n"]) == {5} and set(chosen["chosen"].str.split().str[0]) <= longest


def test_three_lengths_of_four_models_on_two_data_sets_fit_on_a_screen(tmp_path):
    for dataset in ("dsprites", "mnist"):
        for model in ("a_model_with_a_long_name_of_its_own", "jointvae", "betavae", "vae"):
            for steps in (1000, 5000, 28140):
                for seed in range(3):
                    values = {"reconstruction": 123.456 + seed, "kl_total": 12.3456, "mig": 0.1 + seed / 10,
                              "dci_disentanglement": 0.2 + seed / 9, "factorvae_score": 0.5 + seed / 8,
                              "discrete_accuracy": 0.4 + seed / 7, "active_units": float(model != "vae")}  # fmt: skip
                    write_run(tmp_path, Spec(dataset, model, seed, steps, 64, 1e-3), values)
        write_run(tmp_path, Spec(dataset, "pca", 0, 0, 0, 0.0), {"mig": 0.1}, kind="floors")
    lines = first(tmp_path).text(False).splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 100
    assert sum(line.startswith(("jointvae  ", "betavae  ", "vae  ")) for line in lines) == 6
    assert sum(line.startswith("  Also at 1,000 and 5,000 steps: ") for line in lines) == 2
