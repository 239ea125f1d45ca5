"""What figures show, and that they can be drawn where labels are long or runs have collapsed."""

import inspect
import io
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.testing import assert_allclose

from benchmark.reporting import canvas, pictures, plots
from benchmark.reporting.gallery import Gallery
from benchmark.runs import LABEL, Run, config_labels
from benchmark.spec import Spec, kind_of

LONG = {"class_weight": 0.25, "discrete_steps": 12000, "release_steps": 40000}
DPI = 80
FIGURES = ("scores", "lengths", "training", "elbo_training", "curve", "units", "elbo_parts", "tradeoff", "information",
           "information of one factor", "covariance", "confusion", "reconstructions", "samples",
           "traversals", "strips")  # fmt: skip
PARTS = [f"elbo_parts_{part}" for part in plots.KL_PARTS]
METRICS = {"reconstruction": "lower", "kl_total": "neither", "mig": "higher", "dci_hist_disentanglement": "higher",
           "discrete_accuracy": "higher", **dict.fromkeys(PARTS, "neither")}  # fmt: skip
LEVELS = {"constant": 0.0, "noise": 0.004, "untrained": 0.02, "pca": 0.021, "ica": 0.022, "kmeans": 0.05, "factors": 1}


@pytest.fixture(autouse=True)
def style():
    with canvas.style():
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
    canvas.close(figure)


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
    canvas.close(figure)


def test_matched_classes_lead_a_confusion_matrix_in_the_order_of_the_true_ones():
    counts = pd.DataFrame([[0, 9, 0, 1], [0, 0, 0, 8], [7, 0, 2, 0]])  # classes 0, 1, 2 hold true classes 1, 3, 0
    figure = plots.confusion({"jointvae": counts}, {"jointvae": "jointvae, seed 0"}, "mnist")
    true, latent = texts(figure.axes[0])
    assert (true, latent) == (["0", "1", "3", "2"], ["2", "0", "1"])
    shares = np.array(figure.axes[0].collections[0].get_array()).reshape(3, 4)
    assert_allclose(shares.diagonal(), [1, 1, 8 / 9])
    canvas.close(figure)


@pytest.mark.parametrize(("far", "scale"), [(570.0, "log"), (90.0, "linear")])
def test_a_dead_run_does_not_hide_the_others(far, scale):
    table = pd.DataFrame({"model": "vae", "label": ["vae, beta=1", "vae, beta=2", "vae, beta=4"], "steps": 100,
                          "score": 0.1, "kl": [20.0, 12.0, 7.0],
                          "reconstruction": [30.0, 60.0, far], "dead": [False, False, True]})  # fmt: skip
    figure = plots.tradeoff(table, "mig", levels(), "dsprites", "study")
    for axis, y in zip(figure.axes, (7.0, 0.1), strict=True):
        assert axis.get_xscale() == scale
        assert [points(line) for line in axis.lines if line.get_marker() == plots.DEAD] == [[(far, y)]]
    assert "a dead run" in texts_of_legend(figure.legends[0])
    canvas.close(figure)


def test_dead_runs_are_marked_among_the_seeds_and_along_training():
    table = score_table({"a": [0.1, 0.2, 0.3]})
    figure = plots.scores(table.assign(dead=table["seed"] == 1), "mnist", "study")
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == plots.DEAD]
    assert [list(line.get_ydata()) for line in crosses] == [[0.2]]
    assert "a dead run" in texts_of_legend(figure.legends[0])
    canvas.close(figure)
    rows = pd.DataFrame({"step": [100, 200], "recon": [5.0, 4.0], "kl": [1.0, 2.0]})
    for draw in (plots.training, lambda h, name, dead: plots.curve(h, "recon", name, dead)):
        figure = draw({("a", 0): rows, ("a", 1): rows}, "mnist", {("a", 1)})
        assert "a dead run" in texts_of_legend(figure.legends[0])
        canvas.close(figure)
        figure = draw({("a", 0): rows, ("a", 1): rows}, "mnist", {("b", 1)})
        assert "a dead run" not in texts_of_legend(figure.legends[0])
        canvas.close(figure)


def texts_of_legend(legend):
    return [text.get_text() for text in legend.get_texts()]


def levels(**floors):
    """Floors and the ceiling as the figures take them."""
    named = {(kind_of(name), name): level for name, level in floors.items()}
    return pd.Series(named, index=pd.MultiIndex.from_tuples(named, names=["kind", "model"]), dtype=float)


def points(line):
    return list(zip(line.get_xdata(), line.get_ydata(), strict=True))


def test_the_trade_off_joins_medians_of_one_length_and_has_a_panel_for_what_is_known():
    table = pd.DataFrame({"model": "vae", "label": ["vae, beta=1", "vae, beta=2", "vae, beta=4", "vae, beta=8"],
                          "steps": [100, 100, 100, 900], "score": [0.1, 0.2, 0.3, 0.4], "kl": [25.0, 12.0, 7.0, 7.1],
                          "reconstruction": [30.0, 60.0, 90.0, 95.0], "dead": False})  # fmt: skip
    figure = plots.tradeoff(table, "mig", levels(noise=0.15, factors=1), "dsprites", "study")
    kl, score = figure.axes
    joined = [points(line) for line in kl.lines if line.get_color() == "0.6"]
    assert joined == [[(30.0, 25.0), (60.0, 12.0), (90.0, 7.0)], [(95.0, 7.1)]]
    assert [[line.get_color(), line.get_marker()] for line in kl.lines if line.get_color() != "0.6"] == [
        [line.get_color(), line.get_marker()] for line in score.lines if line.get_color() != "0.6"
    ]
    assert {text.get_text() for text in score.texts} == {"noise", "factors"} and not kl.texts
    canvas.close(figure)
    for gone, label in (("kl", "mig (up is better)"), ("score", "KL, nats per image")):
        figure = plots.tradeoff(table.assign(**{gone: np.nan}), "mig", levels(), "dsprites", "study")
        assert [axis.get_ylabel() for axis in figure.axes] == [label]
        canvas.close(figure)


def test_a_label_names_the_settings_that_tell_configurations_apart():
    def labels(*settings):
        specs = [Spec("mnist", "jointvae", 0, steps, 64, 5e-4, hparams=hparams) for steps, hparams in settings]
        found = config_labels([Run(Path(spec.config), spec, "run", "ok", "", {}) for spec in specs])
        return [found["mnist", "jointvae", spec.config] for spec in specs]

    short, long = {"gamma": 30.0, "capacity_steps": 100}, {"gamma": 30.0, "capacity_steps": 901}
    assert labels((200, short)) == ["jointvae"]
    assert labels((200, short), (1800, long)) == ["jointvae, steps=200", "jointvae, steps=1800"]
    slower = {"gamma": 30.0, "capacity_steps": 299}  # of a run that is longer than a third of the published one
    assert labels((200, short), (1800, slower)) == ["jointvae, steps=200", "jointvae, steps=1800"]
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


def longest_labels(n):
    """As long as `config_labels` gives them, of n configurations of one model."""
    specs = [Spec("mnist", "invariantvae", 0, 60000, 64, 5e-4, hparams={**LONG, "class_weight": 0.25 + i,
                  "discrete_steps": 12000 + i, "release_steps": 40000 - i}) for i in range(max(n, 2))]  # fmt: skip
    made = [Run(Path(spec.config), spec, "run", "ok", "", {}) for spec in specs]
    found = [label for _, label in sorted(config_labels(made).items())]
    assert max(map(len, found)) == LABEL
    return found[:n]


def figures_of(n):
    """Name of the function -> what draws it, of n configurations with the longest names, three seeds each."""
    rng, labels = np.random.default_rng(0), longest_labels(n)
    runs = [(label, seed) for label in labels for seed in range(3)]
    titles = {label: f"{label}, seed {7 + i} (median of 12 live runs)" for i, label in enumerate(labels)}
    table = pd.concat([metric_rows(key, better, runs, rng) for key, better in METRICS.items()])
    history = {key: history_rows(rng) for key in runs}
    parts = {label: history[label, 0] for label in labels}
    latents = [*(f"z{i}" for i in range(10)), "c0"]

    def tables(rows, columns):
        return {
            label: pd.DataFrame(rng.normal(size=(len(rows), len(columns))) / 100, rows, columns) ** 2
            for label in labels
        }

    images = rng.random((10, 1, 16, 16), dtype=np.float32)
    factors, digits = ["shape", "scale", "orientation", "posX", "posY"], [str(digit) for digit in range(10)]
    found = pictures.tradeoff_table(table)
    signed = {label: t - 1e-4 for label, t in tables(latents[:10], latents[:10]).items()}  # some round to -0.00
    classes = {label: (1e6 * t).astype(int) for label, t in tables(digits, ["square", "ellipse", "heart"]).items()}
    return {
        "scores": lambda: plots.scores(table, "dsprites", "study", [*METRICS]),
        "lengths": lambda: plots.lengths(at_lengths(table), "dsprites", "study", [*METRICS]),
        "training": lambda: plots.training(history, "dsprites", {runs[0]}),
        "elbo_training": lambda: plots.elbo_training(parts, titles, "dsprites"),
        "curve": lambda: plots.curve(history, "recon", "dsprites: reconstruction", {runs[0]}),
        "units": lambda: plots.units(history[runs[0]], titles[labels[0]]),
        "elbo_parts": lambda: plots.elbo_parts(table[table["kind"] == "run"], "dsprites", "study"),
        "tradeoff": lambda: plots.tradeoff(*found, "dsprites", "study"),
        "information": lambda: plots.information(tables(latents, factors), titles, "dsprites"),
        "information of one factor": lambda: plots.information(tables(latents, ["digit"]), titles, "mnist"),
        "covariance": lambda: plots.covariance(signed, titles, "dsprites"),
        "confusion": lambda: plots.confusion(classes, titles, "dsprites"),
        "reconstructions": lambda: plots.reconstructions(images, {titles[k]: images for k in labels}, "dsprites"),
        "samples": lambda: plots.samples({titles[k]: images for k in labels}, "dsprites"),
        "strips": lambda: plots.strips({k: images for k in latents}, "digits: each row changes one factor"),
        "traversals": lambda: plots.traversals({f"{k} (0.00 nats)": images for k in latents}, titles[labels[0]]),
    }  # fmt: skip


def at_lengths(table):
    """The same runs at several lengths, two of them near each other."""
    runs = table["kind"] == "run"
    return pd.concat([table[~runs], *(table[runs].assign(steps=n) for n in (1000, 1200, 5000, 28140, 345600))])


def metric_rows(key, better, runs, rng):
    """Rows of one metric: a run each, the first dead; floors near each other and a ceiling."""
    scale = 100 if better == "lower" else 5 if better == "neither" else 0.3
    rows = [{"label": label, "model": "invariantvae", "kind": "run", "seed": seed, "run": f"{label} {seed}",
             "steps": 60000, "value": scale * (1 + rng.random()), "dead": i == 0}
            for i, (label, seed) in enumerate(runs)]  # fmt: skip
    rows += [{"label": name, "model": name, "kind": kind_of(name), "seed": 0, "run": name, "steps": 0, "value": value,
              "dead": False} for name, value in LEVELS.items() if better == "higher"]  # fmt: skip
    return pd.DataFrame(rows).assign(metric=key, plugin=key, better=better)


def history_rows(rng):
    step = np.arange(100, 60001, 6000)
    own = ["critic", "class_entropy", "cov_offdiag", "cov_diag", "mutual_information", "dimension_kl", "mmd", "tc"]
    names = ["recon", "kl", *(f"kl_z{i}" for i in range(10)), *(f"elbo_{part}" for part in plots.KL_PARTS), *own]
    columns = {name: 2.3016 + 0.001 * rng.random(len(step)) for name in names}
    return pd.DataFrame({"step": step, "loss": 1.0, **columns, "capacity_z": 5.0, "capacity_c": 5.0})


def drawn_texts(figure, monkeypatch):
    """(text, (x0, y0, x1, y1) in pixels) of all that is written when the figure is drawn as PNG."""
    found = {}
    draw = Text.draw
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", lambda self, renderer: (found.update({self: None}), draw(self, renderer)))
        figure.set_dpi(DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    shown = [text for text in found if text.get_visible() and text.get_text().strip()]
    return [text.get_text() for text in shown], np.array(
        [Text.get_window_extent(text, canvas.get_renderer()).extents for text in shown]
    )


def clashes(texts, boxes):
    """Pairs of texts that overlap by more than a pixel each way."""
    low = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    both = ((high - low) > 1).all(axis=2)
    return [(texts[i], texts[j]) for i, j in np.argwhere(np.triu(both, 1))]


def test_every_figure_is_looked_at():
    public = {
        name
        for name, f in vars(plots).items()
        if inspect.isfunction(f) and f.__module__ == plots.__name__ and not name.startswith("_")
    }
    drawing = {name for name in public if get_type_hints(getattr(plots, name)).get("return") is Figure}
    assert drawing == {name.partition(" ")[0] for name in figures_of(1)}


@pytest.mark.parametrize("n", [1, 3, pytest.param(17, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FIGURES)
def test_every_text_lies_on_the_canvas_and_apart_from_others(name, n, monkeypatch):
    figure = figures_of(n)[name]()
    texts, boxes = drawn_texts(figure, monkeypatch)
    width, height = DPI * figure.get_size_inches()
    inside = (boxes[:, :2] >= -1).all(axis=1) & (boxes[:, 2] <= width + 1) & (boxes[:, 3] <= height + 1)
    canvas.close(figure)
    assert not [text for text, fits in zip(texts, inside, strict=True) if not fits]
    assert not clashes(texts, boxes)
    assert "-0.00" not in texts and "−0.00" not in texts


@pytest.mark.parametrize(("steps", "scale"), [((1000, 5000, 8000), "linear"), ((100, 110, 28140), "log")])
def test_scores_against_steps_have_every_seed_and_a_line_through_means(steps, scale):
    seeds = {n: [0.1 * i + seed / 50 for seed in range(3)] for i, n in enumerate(steps)}
    table = pd.concat([score_table({"vae": values}).assign(steps=n) for n, values in seeds.items()])
    figure = plots.lengths(table.assign(dead=table["seed"] == 1), "mnist", "study")
    axis = figure.axes[0]
    live, dead, line = axis.lines
    assert axis.get_xscale() == scale and [line.get_marker() for line in (live, dead)] == ["o", plots.DEAD]
    assert points(line) == [(n, pytest.approx(np.mean(values))) for n, values in seeds.items()]
    assert sorted(points(live) + points(dead)) == [(n, value) for n, values in seeds.items() for value in values]
    (band,) = axis.collections
    low, high = plots.t_interval(seeds[steps[-1]])
    heights = band.get_paths()[0].vertices
    assert_allclose(sorted({*heights[heights[:, 0] == steps[-1], 1]}), [low, high])
    assert [n for n in axis.get_xticks() if n in steps] == [n for n in axis.get_xticks()]
    assert texts(axis)[0][0] == "28,140" if scale == "log" else "8,000"
    canvas.close(figure)


def test_more_than_six_models_against_steps_have_no_bands():
    table = pd.concat([score_table({f"m{i}": [0.1, 0.2] for i in range(7)}).assign(steps=n) for n in (10, 20)])
    figure = plots.lengths(table, "mnist", "study")
    assert not figure.axes[0].collections and texts_of_legend(figure.legends[0])[-1] == "one seed"
    canvas.close(figure)


def test_intervals_end_where_a_score_does():
    drawn = {}
    for better, values in {"higher": [0.0, 0.9, 1.0], "lower": [0.0, 0.9, 1.0]}.items():
        figure = plots.scores(score_table({"vae": values}).assign(better=better), "mnist", "study")
        drawn[better] = [line.get_ydata() for line in figure.axes[0].lines][-1]
        canvas.close(figure)
    low, high = plots.t_interval([0.0, 0.9, 1.0])
    assert low < 0 and high > 1
    assert_allclose(drawn["higher"], [0, 1])
    assert_allclose(drawn["lower"], [0, high])  # of nats, say, nothing is known above


def test_no_axis_tells_differences_of_digits():
    rows = pd.DataFrame({"step": [100, 200, 300], "recon": [2.3016, 2.3021, 2.3026]})
    figure = plots.curve({("vae", 0): rows}, "recon", "reconstruction")
    low, high = figure.axes[0].get_ylim()
    assert low < 2.3016 and high > 2.3026 and high - low == pytest.approx(0.023, rel=0.02)
    canvas.close(figure)


def test_own_losses_are_what_the_suite_does_not_know():
    rows = history_rows(np.random.default_rng(0)).assign(beta_z0=1.0, beta_z1=1.0, kl_c0=0.1)
    own = plots.own_losses({("vae", 0): rows[["step", "recon", "kl"]], ("factorvae", 0): rows})
    assert own == [
        "critic",
        "class_entropy",
        "cov_offdiag",
        "cov_diag",
        "mutual_information",
        "dimension_kl",
        "mmd",
        "tc",
    ]
    figure = plots.training({("factorvae", 0): rows}, "mnist")
    assert [axis.get_title() for axis in figure.axes if axis.get_visible()][2:] == own[: plots.OWN]
    assert "not drawn: mmd, tc" in figure.get_suptitle()
    canvas.close(figure)


def test_classes_have_the_names_that_the_data_set_says(tmp_path):
    for name, names in {"fruit": ("apple", "pear"), "plain": None, "odd": 3}.items():
        said = f"CLASS_NAMES = {names!r}\n" if names else ""
        (tmp_path / f"{name}.py").write_text(f"{said}def {name}(root):\n    raise OSError('is not built')\n")
    gallery = Gallery(tmp_path, [tmp_path / f"{name}.py" for name in ("fruit", "plain", "odd")], print)
    found = [gallery.class_names(name) for name in ("fruit", "plain", "odd", "gone")]
    assert found == [("apple", "pear"), (), (), ()] and not gallery.notes
    two, three = pd.DataFrame(np.eye(2)), pd.DataFrame(np.eye(3))
    assert list(gallery.with_class_names("fruit", two)) == ["apple", "pear"]
    assert gallery.with_class_names("fruit", three) is three  # another number of classes


def test_a_floor_without_the_score_has_no_line_in_the_trade_off():
    rows = [("vae", "run", "a", "reconstruction", 100.0), ("vae", "run", "a", "mig", 0.1),
            ("constant", "floor", "b", "mig", np.nan), ("pca", "floor", "c", "mig", 0.2)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["model", "kind", "run", "metric", "value"])
    table = table.assign(label=table["model"], steps=10, dead=False)
    assert pictures.tradeoff_table(table)[2].to_dict() == {("floor", "pca"): 0.2}
    for _, figure in pictures.tradeoff(table, "mnist", "study"):
        figure.savefig(io.BytesIO(), format="png")
        canvas.close(figure)


def test_scores_of_other_runs_than_the_reconstruction_draw_no_trade_off():
    rows = [("vae", "run", "a", "reconstruction", 100.0), ("betavae", "run", "b", "mig", 0.1)]
    table = pd.DataFrame(rows, columns=["model", "kind", "run", "metric", "value"])
    assert pictures.tradeoff_table(table.assign(label=table["model"], steps=10, dead=False)) is None
