"""What the terminal shows at the end."""

import re

import numpy as np
import pytest
from synthetic import write_results, write_run

from benchmark import command, store
from benchmark.messages import Warnings
from benchmark.reporting import changes, report
from benchmark.spec import Spec

CODE = re.compile("\x1b\\[[0-9;]*m")


def screen(folder, **options):
    return report.build(folder, folder / "data", (), lambda text: None, formats=["png"], **options)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = write_results(tmp_path_factory.mktemp("results"))
    return folder, screen(folder)


def test_a_row_a_model_with_marks_that_follow_the_tests(built):
    text = built[1].text(colours=False)
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert re.fullmatch(r"jointvae +\d+\.\d±\.\d\* +12\.0±\.0 +0\.4\d\d±\.0\d\d\* +5/0/0", rows["jointvae"])
    assert "*" not in rows["vae"] + rows["betavae"]
    lines = text.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("best floor"))
    assert re.search(r"0\.200\b", lines[at]).end() == re.search(r"\bpca\b", lines[at + 1]).end()  # its name below it
    assert "Shown to be best: jointvae in" in text
    drawn = built[1].text(colours=True)
    plain = [line.rstrip() for line in CODE.sub("", drawn).splitlines()]
    assert plain == text.splitlines() and "\x1b[1m0." in drawn


def test_a_mean_that_is_not_shown_to_beat_a_floor_has_a_mark(tmp_path):
    folder = write_results(tmp_path, models={"vae": 0.21, "betavae": 0.5})
    lines = {line.split()[0]: line for line in screen(folder).text(False).splitlines() if line.strip()}
    assert "°" in lines["vae"] and "°" not in lines["betavae"]


def test_other_scores_can_be_shown_first_and_an_unknown_one_is_refused(built, capsys):
    head = screen(built[0], headline=["sap"]).text(False).splitlines()[1]
    assert "sap ↑" in head and "MIG" not in head
    assert built[1].hidden(["sap", "mig", "absent"]) == {"sap": ["sap"]}
    assert command.main(["--report", str(built[0]), "--headline", "mgi"]) == 2
    assert "unknown score in --headline" in capsys.readouterr().err


def test_two_data_sets_fit_on_a_screen_of_100_columns_and_40_lines(tmp_path):
    """Also with long names, dead runs and few seeds."""
    for dataset in ("dsprites", "mnist"):
        for model in ("a_model_with_a_long_name_of_its_own", "jointvae", "betavae", "vae"):
            for seed in range(3):
                values = {"reconstruction": 123.456 + seed, "kl_total": 12.3456, "mig": 0.1 + seed / 10,
                          "dci_disentanglement": 0.2 + seed / 9, "factorvae_score": 0.5 + seed / 8,
                          "discrete_accuracy": 0.4 + seed / 7,
                          "active_units": float(model != "vae")}  # fmt: skip
                write_run(tmp_path, Spec(dataset, model, seed, 10, 64, 1e-3), values)
        write_run(tmp_path, Spec(dataset, "pca", 0, 0, 0, 0.0), {"mig": 0.1}, kind="floors")
    lines = screen(tmp_path).text(False).splitlines()
    assert len(lines) <= 36 and max(map(len, lines)) <= 100
    assert sum(line.startswith(("jointvae  ", "betavae  ", "vae  ")) for line in lines) == 6
    text = "\n".join(lines)
    assert text.count("Not learned yet at this length: vae (3 of 3 runs dead).") == 2 and "0/3/0" in text
    assert text.count("3 seeds: with fewer than 4 no test can show a difference.") == 2


def test_a_run_that_lives_with_a_dead_class_is_not_called_dead(tmp_path):
    values = {"reconstruction": 9.0, "kl_total": 5.0, "kl_categorical": 0.0, "active_units": 3.0, "mig": 0.2,
              "discrete_accuracy": 0.3, "discrete_accuracy_used": 1.0}  # fmt: skip
    write_run(tmp_path, Spec("blobs", "jointvae", 0, 10, 64, 1e-3), values)
    text = screen(tmp_path).text(False)
    assert "Dead though its model lives: the class of 1 of 1 runs of jointvae." in text


def test_a_protocol_without_a_headline_score_shows_what_it_has(tmp_path):
    for seed in range(2):
        one = Spec("blobs", "vae", seed, 10, 64, 1e-3)
        write_run(tmp_path, one, {"mig": 0.3 + seed / 9, "unsupervised_correlation": 0.1})
        write_run(tmp_path / "kim", one, {"factorvae_score_test": 0.7, "factorvae_score_train": 0.8}, protocol="kim")
    found = screen(tmp_path)
    assert found.hidden(["unsupervised", "mig"]) == {"unsupervised": ["unsupervised_correlation"]}
    other = next((tmp_path / "kim" / "runs").glob("*-s0-*"))
    rows = (other / "scores.csv").read_text().splitlines()[1:]
    with (tmp_path / "runs" / other.name / "scores.csv").open("a") as file:
        file.write("\n".join(rows) + "\n")
    store.finish(tmp_path / "runs" / other.name, "scores.csv")
    found = screen(tmp_path)
    assert found.columns("blobs", "study") == ["mig"] and found.columns("blobs", "kim") == ["factorvae_score_test"]
    assert "factorvae_score_test ↑" in found.text(False) and found.hidden(["factorvae_score", "mig"]) == {}


def test_the_widest_cells_leave_room_for_the_runs(tmp_path):
    wide = {"reconstruction": 104.2, "kl_total": 10.9, "mig": 0.08, "dci_disentanglement": 0.13, "factorvae_score": 0.6,
            "cluster_accuracy": 0.35}  # fmt: skip
    for seed in range(5):
        spread = {key: value + seed / 50 for key, value in wide.items()}
        write_run(tmp_path, Spec("dsprites", "betavae", seed, 10, 64, 1e-3), spread)
        worse = {key: value - 1 + seed / 50 for key, value in wide.items() if key != "cluster_accuracy"}
        worse |= {"reconstruction": 370.0 + seed, "discrete_accuracy": 0.3}
        write_run(tmp_path, Spec("dsprites", "jointvae", seed, 10, 64, 1e-3), worse)
    floors = {"constant": {"reconstruction": 568.25}, "ica": {"mig": 0.9, "factorvae_score": 0.96},
              "pca": {"dci_disentanglement": 0.95}, "kmeans": {"discrete_accuracy": 0.97}}  # fmt: skip
    for name, values in floors.items():
        write_run(tmp_path, Spec("dsprites", name, 0, 0, 0, 0.0), values, kind="floors")
    lines = screen(tmp_path).text(False).splitlines()
    assert max(map(len, lines)) <= 100 and sum(line.endswith(" 5/0/0") for line in lines) == 2, "\n".join(lines)


def test_what_changed_fits_on_a_screen(built, tmp_path):
    other = write_results(tmp_path / "b", shift=0.1)
    page = changes.compare(built[0], other, (), lambda text: None)
    assert len(page.splitlines()) <= 40 and np.all([row.count("|") in (0, 12) for row in page.splitlines()])


def test_warnings_of_one_kind_are_one_line_with_a_count(capsys):
    from rich.console import Console

    with Warnings(Console(stderr=True)) as warn:
        for seed in range(4):
            warn(f"blobs-vae-s{seed}-0123abcd: no pictures")
        warn("something else")
    said = capsys.readouterr().err.splitlines()
    assert said == ["warning: blobs-vae-s0-0123abcd: no pictures", "warning: something else",
                    "warning: 3 more like it: …: no pictures"]  # fmt: skip
