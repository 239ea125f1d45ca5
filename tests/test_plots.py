"""What figures show, and that they can be drawn where labels are long or runs have collapsed."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from benchmark.reporting import plots
from benchmark.runs import Run, config_labels
from benchmark.spec import Spec


@pytest.fixture(autouse=True)
def style():
    with plots.style():
        yield


def texts(axis):
    return [text.get_text() for text in axis.get_xticklabels()], [text.get_text() for text in axis.get_yticklabels()]


def score_table(values, floors=()):
    """A row a run or floor of one metric."""
    rows = [{"label": label, "model": label, "kind": "run", "seed": seed, "value": value}
            for label, of in values.items() for seed, value in enumerate(of)]  # fmt: skip
    rows += [{"label": name, "model": name, "kind": "floor", "seed": 0, "value": value} for name, value in floors]
    return pd.DataFrame(rows).assign(metric="mig", plugin="mig", better="higher", dead=False)


def test_labels_of_sweeps_leave_room_for_the_scores():
    labels = [f"cascadevae, discrete_steps={n}, release_steps=12…" for n in range(9)]
    figure = plots.scores(score_table({label: [0.1, 0.2] for label in labels}), "mnist", "study")
    figure.savefig(io.BytesIO(), format="png")  # matplotlib warns where nothing is left of the panels: an error here
    assert figure.axes[0].get_position().height * figure.get_figheight() > 0.8
    plots.close(figure)


@pytest.mark.parametrize(
    ("runs", "named"),
    [([0.1, 0.2, 0.3], "untrained"), ([0.0, 0.0, 0.0, 0.0, 0.6], "untrained"), ([30.0, 40.0, 50.0, 60.0, 570.0], "")],
)
def test_floors_far_from_the_runs_are_named_and_not_drawn(runs, named):
    table = score_table({"vae": runs}, [("noise", 0.9), ("untrained", 100.0)])
    figure = plots.scores(table, "mnist", "study")
    title = figure.axes[0].get_title()
    assert ("untrained 100" in title) == bool(named) and "noise" not in title
    drawn = {float(line.get_ydata()[0]) for line in figure.axes[0].lines if line.get_ydata()[0] in (0.9, 100.0)}
    assert drawn == ({0.9} if named else {0.9, 100.0})
    bottom, top = figure.axes[0].get_ylim()
    assert bottom < 0.9 < top and (top < 100) == bool(named)
    plots.close(figure)


def test_matched_classes_lead_a_confusion_matrix_in_the_order_of_the_true_ones():
    counts = pd.DataFrame([[0, 9, 0, 1], [0, 0, 0, 8], [7, 0, 2, 0]])  # classes 0, 1, 2 hold true classes 1, 3, 0
    figure = plots.confusion({"jointvae": counts}, {"jointvae": "jointvae, seed 0"}, "mnist")
    true, latent = texts(figure.axes[0])
    assert (true, latent) == (["0", "1", "3", "2"], ["2", "0", "1"])
    shares = np.array(figure.axes[0].collections[0].get_array()).reshape(3, 4)
    assert_allclose(shares.diagonal(), [1, 1, 8 / 9])
    plots.close(figure)


@pytest.mark.parametrize(("far", "scale"), [(570.0, "log"), (90.0, "linear")])
def test_a_dead_run_does_not_hide_the_others(far, scale):
    table = pd.DataFrame({"model": "vae", "label": ["vae, beta=1", "vae, beta=2", "vae, beta=4"], "steps": 100,
                          "score": 0.1, "kl": [20.0, 12.0, 7.0],
                          "reconstruction": [30.0, 60.0, far], "dead": [False, False, True]})  # fmt: skip
    figure = plots.rate_distortion(table, "mig", "dsprites", "study")
    assert figure.axes[0].get_yscale() == scale
    marked = figure.axes[0].collections[-1].get_offsets()
    assert marked.tolist() == [[7.0, far]] and "a dead run" in texts_of_legend(figure.axes[0].get_legend())
    plots.close(figure)


def test_dead_runs_are_marked_among_the_seeds_and_along_training():
    table = score_table({"a": [0.1, 0.2, 0.3]})
    figure = plots.scores(table.assign(dead=table["seed"] == 1), "mnist", "study")
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == plots.DEAD]
    assert [list(line.get_ydata()) for line in crosses] == [[0.2]]
    assert "a dead run" in texts_of_legend(figure.legends[0])
    plots.close(figure)
    rows = pd.DataFrame({"step": [100, 200], "recon": [5.0, 4.0], "kl": [1.0, 2.0]})
    for draw in (plots.training, lambda h, name, dead: plots.curve(h, "recon", name, dead)):
        figure = draw({("a", 0): rows, ("a", 1): rows}, "mnist", {("a", 1)})
        assert "a dead run" in texts_of_legend(figure.legends[0])
        plots.close(figure)
        figure = draw({("a", 0): rows, ("a", 1): rows}, "mnist", {("b", 1)})
        assert "a dead run" not in texts_of_legend(figure.legends[0])
        plots.close(figure)


def texts_of_legend(legend):
    return [text.get_text() for text in legend.get_texts()]


def test_lines_of_rate_and_distortion_join_one_length_and_labels_of_neighbours_part():
    table = pd.DataFrame({"model": "vae", "label": ["vae, beta=1", "vae, beta=2", "vae, beta=4", "vae, beta=8"],
                          "steps": [100, 100, 100, 900], "score": 0.1, "kl": [25.0, 12.0, 7.0, 7.1],
                          "reconstruction": [30.0, 60.0, 90.0, 95.0], "dead": False})  # fmt: skip
    figure = plots.rate_distortion(table, "mig", "dsprites", "study")
    axis = figure.axes[0]
    assert sorted(sorted(line.get_xdata()) for line in axis.lines) == [[7.0, 12.0, 25.0], [7.1]]
    side = {text.get_text(): text.get_va() for text in axis.texts}
    assert side["beta=8"] == "bottom" and side["beta=4"] == "top" and len(side) == 4
    plots.close(figure)


def test_a_label_names_the_settings_that_tell_configurations_apart():
    def labels(*settings):
        specs = [Spec("mnist", "jointvae", 0, steps, 64, 5e-4, hparams=hparams) for steps, hparams in settings]
        found = config_labels([Run(Path(spec.config), spec, "run", "ok", "", {}) for spec in specs])
        return [found["mnist", "jointvae", spec.config] for spec in specs]

    short, long = {"gamma": 30.0, "capacity_steps": 100}, {"gamma": 30.0, "capacity_steps": 901}
    assert labels((200, short)) == ["jointvae"]
    assert labels((200, short), (1800, long)) == ["jointvae, steps=200", "jointvae, steps=1800"]
    assert labels((200, short), (200, long)) == ["jointvae, capacity_steps=100", "jointvae, capacity_steps=901"]
    assert labels((200, short), (200, {**short, "capacity_steps": 101})) == [
        "jointvae, capacity_steps=100", "jointvae, capacity_steps=101"
    ]  # fmt: skip
    assert labels((200, short), (400, long)) == [
        "jointvae, steps=200, capacity_steps=100", "jointvae, steps=400, capacity_steps=901"
    ]  # fmt: skip
    assert labels((200, short), (1800, {**long, "gamma": 2.0})) == [
        "jointvae, steps=200, gamma=30.0", "jointvae, steps=1800, gamma=2.0"
    ]  # fmt: skip
    assert labels((200, {}), (200, {"width": 3})) == ["jointvae", "jointvae, width=3"]
