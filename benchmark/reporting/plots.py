"""Figures: numbers in, a matplotlib figure out. Each answers one question and can be read on its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, linear_sum_assignment

from benchmark.defaults import HEADLINE
from benchmark.reporting import canvas
from benchmark.running.watch import COLUMNS, ROWS
from benchmark.statistics import stats
from benchmark.statistics.stats import t_interval

Images = NDArray[np.float32]
Colour = tuple[float, float, float]
History = Mapping[tuple[str, int], pd.DataFrame]
KL_PARTS = {
    "information": "information I(x; z)",
    "total_correlation": "total correlation",
    "dimension_kl": "dimension-wise KL",
}
FAR = 25  # times the span of the runs
SMALL_TEXT = 7  # points, of labels inside panels
LUMINANCE = (0.2126, 0.7152, 0.0722)  # of red, green and blue
END_GAP = 0.12  # inches from one label at the end of a line to the next
DEAD = "x"  # how dead runs are told apart
DEAD_LOOK: dict[str, dict[str, Any]] = {"a dead run": {"color": "0.35", "marker": DEAD, "ls": ""}}
SEED_LOOKS: dict[str, dict[str, Any]] = {
    "one seed": {"color": "0.35", "marker": "o", "ls": ""},
    "mean, 95 % interval (t)": {"color": "k", "marker": "_", "ms": 12, "lw": 2},
    "a floor": {"color": "0.6", "lw": 0.9, "ls": "--"},
    "the ceiling": {"color": "0.6", "lw": 0.9},
}
LENGTH_LOOKS: dict[str, dict[str, Any]] = {
    "one seed": {"color": "0.35", "marker": "o", "ls": "", "ms": 2.5},
    "95 % interval of the mean (t)": {"color": "0.35", "lw": 7, "alpha": 0.2},
}
CAPACITY_LOOK: dict[str, dict[str, Any]] = {"capacity": {"color": "0.35", "ls": "--", "lw": 1}}
SMALL = (4.6, 3.0)
GAP = 2  # pixels between images of a strip
LATENT = re.compile(r"kl_[zc][0-9]+")  # columns of history.csv
POINTS = 150  # of a line: more cannot be seen
NAMED = 6
TRAINED = {"recon": "reconstruction", "kl": "KL (all latents)"}
CAPACITIES = ("capacity", "capacity_z", "capacity_c")
OWN = 6  # a model's own losses that are drawn at most


def scores(table: pd.DataFrame, dataset: str, protocol: str, headline: Sequence[str] = HEADLINE) -> Figure:
    """A panel a headline score: every seed, the mean with its 95 % interval, floors and ceiling as lines.

    table: long table with label, kind, metric, plugin, model, seed, value, better, dead. Intervals end where a score
    does, see `_bounds`.
    """
    runs = table[(table["kind"] == "run") & table["value"].notna()]
    keys = stats.headline(runs, headline)
    labels = sorted(runs["label"].unique())
    slot = max(3.4, 1.5 + 0.15 * len(labels))
    room = (slot - 1.6) / len(labels)
    upright = any(canvas.width_of(word) > room for label in labels for word in label.split())
    names = labels if upright else [canvas.wrapped(label, room) for label in labels]
    below = max(map(canvas.width_of, labels)) if upright else canvas.LINE * max(name.count("\n") + 1 for name in names)
    tall = 1.8
    figure, axes = canvas.panels(len(keys), 4, slot, tall + 0.5 + below)
    for axis, key in zip(axes, keys, strict=True):
        part = table[(table["metric"] == key) & table["value"].notna()]
        bounds = _bounds(part["value"], str(part["better"].iloc[0]))
        _seeds(axis, part[part["kind"] == "run"], labels, upright, bounds)
        axis.set_xticks(range(len(labels)), names, rotation=90 if upright else 0)
        axis.set_xlim(-0.6, len(labels) - 0.4)
        _framed(axis, part, tall)
    canvas.legend(figure, SEED_LOOKS | (DEAD_LOOK if runs["dead"].any() else {}))
    canvas.title(figure, f"Scores on {dataset}, protocol {protocol}; ↑ higher is better, ↓ lower is better")
    return figure


def lengths(table: pd.DataFrame, dataset: str, protocol: str, headline: Sequence[str] = HEADLINE) -> Figure:
    """A panel a headline score against steps: every seed, a line of a model's means with their 95 % intervals as a band
    (of up to six models: more bands hide each other), floors and ceiling as lines.

    table: as for `scores`, with steps, where runs of one label differ in their seeds and steps alone.
    """
    runs = table[(table["kind"] == "run") & table["value"].notna()]
    keys = stats.headline(runs, headline)
    looks = canvas.looks(sorted(runs["label"].unique(), key=numbers_in_order))
    banded = len(looks) <= NAMED and runs.groupby(["label", "steps"])["seed"].nunique().max() > 1
    marks = {name: look for name, look in LENGTH_LOOKS.items() if banded or name == "one seed"}
    wide, tall = 3.4, 1.8
    figure, axes = canvas.panels(len(keys), 4, wide, tall + 1.0)
    for axis, key in zip(axes, keys, strict=True):
        part = table[(table["metric"] == key) & table["value"].notna()]
        mine, bounds = part[part["kind"] == "run"], _bounds(part["value"], str(part["better"].iloc[0]))
        for label, of in mine.groupby("label"):
            _against_steps(axis, of, looks[str(label)], bounds, banded)
        _at_lengths(axis, sorted(mine["steps"].unique()), wide - 1.4)
        _framed(axis, part, tall)
    canvas.legend(figure, looks | marks | (DEAD_LOOK if runs["dead"].any() else {}))
    canvas.title(figure, f"Scores against steps on {dataset}, protocol {protocol}: a line a model's means; "
                         "↑ higher is better, ↓ lower is better")  # fmt: skip
    return figure


def _against_steps(
    axis: Axes, runs: pd.DataFrame, look: Mapping[str, Any], bounds: tuple[float, float], banded: bool
) -> None:
    """One model: its seeds, means and intervals at each number of steps."""
    seeds = runs.groupby(["steps", "seed"])[["value", "dead"]].mean().reset_index()
    for marker, which in (("o", seeds["dead"] == 0), (DEAD, seeds["dead"] > 0)):
        size = 4.5 if marker == DEAD else 2.5
        axis.plot(seeds.loc[which, "steps"], seeds.loc[which, "value"], ls="", marker=marker, ms=size, alpha=0.6,
                  color=look["color"])  # fmt: skip
    by_steps = seeds.groupby("steps")["value"]
    means = by_steps.mean()
    if banded:
        low, high = np.clip(np.stack([t_interval(values) for _, values in by_steps]), *bounds).T
        axis.fill_between(means.index, low, high, color=look["color"], alpha=0.15, lw=0)
    axis.plot(means.index, means, lw=1.4, ms=4.5, **look)


def _at_lengths(axis: Axes, steps: Sequence[int], inches: float) -> None:
    """Ticks at these numbers of steps, the longest first, as far as there is room for them on so many inches; a
    logarithmic axis where they span more than a factor of 10."""
    places = np.array(steps, dtype=float)
    if steps[-1] > 10 * steps[0]:
        axis.set_xscale("log")
        places = np.log(places)
    places = inches * (places - places[0]) / max(places[-1] - places[0], 1e-9)
    named: list[int] = []
    for i in reversed(range(len(steps))):
        half = [canvas.width_of(f"{steps[j]:,}") / 2 + 0.04 for j in (i, *named[-1:])]
        if not named or places[named[-1]] - places[i] > sum(half):
            named.append(i)
    axis.set_xticks([steps[i] for i in named], [f"{steps[i]:,}" for i in named])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("steps")


def _framed(axis: Axes, part: pd.DataFrame, tall: float) -> None:
    """A panel's title, floors, ceiling and limits. part: a score's rows, as for `scores`; tall: inches of the axis."""
    values = part.loc[part["kind"] == "run", "value"]
    levels = part[part["kind"] != "run"].groupby(["kind", "model"])["value"].mean()
    far = _far(levels, values)
    canvas.head(axis, f"{part['metric'].iloc[0]} {stats.ARROW[str(part['better'].iloc[0])]}{_off(levels[far])}")
    _levels(axis, levels[~far], values, tall)


def _bounds(values: pd.Series, better: str) -> tuple[float, float]:
    """What a score's intervals are cut to when drawn, from all values of its runs, floors and ceiling.

    No metric says its range. Where nothing is below 0 the score is taken to end there; where besides nothing is above 1
    and higher is better, there: a score in nats (lower is better, or neither) has no such end.
    """
    low = 0.0 if values.min() >= 0 else -np.inf
    return low, 1.0 if low == 0 and better == "higher" and values.max() <= 1 else np.inf


def _levels(axis: Axes, levels: pd.Series, values: pd.Series, tall: float) -> None:
    """Floors (kind, model) and the ceiling as thin lines, named at their right ends, with room for the runs' values.

    tall: inches of the axis.
    """
    for (kind, _), level in levels.items():
        axis.axhline(level, color="0.6", lw=0.9, ls="-" if kind == "ceiling" else "--", zorder=1)
    axis.margins(y=0.1)
    _limit(axis, pd.concat([values, levels]))
    _name_ends(axis, {str(name): level for (_, name), level in levels.items()}, tall)


def _name_ends(axis: Axes, ends: Mapping[str, float], tall: float) -> None:
    """Names right of the axis at these heights, pushed apart as little as can be, with a thin line to what has moved.

    tall: inches of the axis, or fewer.
    """
    low, high = axis.get_ylim()
    names = sorted(ends, key=lambda name: (ends[name], name))
    heights = np.array([(ends[name] - low) / (high - low) for name in names])
    gap = END_GAP / tall
    steps = gap * np.arange(len(names))
    apart = steps + np.clip(isotonic_regression(heights - steps).x, 0, 1 - gap * (len(names) - 1)) if names else steps
    for name, height, place in zip(names, heights, apart, strict=True):
        axis.annotate(name, (1, height), (9, place), "axes fraction", ("offset points", "axes fraction"),
                      {"arrowstyle": "-", "color": "0.6", "lw": 0.5, "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)},
                      fontsize=SMALL_TEXT, color="0.35", va="center")  # fmt: skip


def _off(levels: pd.Series) -> str:
    """Of floors that are too far away to be drawn: what a title says."""
    return "; off the scale: " + ", ".join(f"{name} {v:.4g}" for (_, name), v in levels.items()) if len(levels) else ""


def _far(levels: pd.Series, values: pd.Series) -> pd.Series:
    """Which floors are so far from the middle half of the runs that a line there would squeeze these into one."""
    low, middle, high = values.quantile([0.25, 0.5, 0.75])
    span = max(high - low, 0.1 * abs(middle)) or values.max() - values.min()
    return (levels - middle).abs() > FAR * span


def _limit(axis: Axes, values: pd.Series) -> None:
    """Room for every value; an interval of few seeds may run out of the panel instead of squeezing it."""
    low, high = values.min(), values.max()
    room = 0.35 * (high - low) or 0.1 * abs(high) or 0.1
    bottom, top = axis.get_ylim()
    axis.set_ylim(max(bottom, low - room), min(top, high + room))
    canvas.widen(axis)


def _seeds(axis: Axes, part: pd.DataFrame, labels: list[str], upright: bool, bounds: tuple[float, float]) -> None:
    colours = sns.color_palette("colorblind", len(labels))
    for x, label in enumerate(labels):
        seeds = part.loc[part["label"] == label].groupby("seed")[["value", "dead"]].mean()
        values, dead = seeds["value"].to_numpy(), seeds["dead"].to_numpy() > 0
        if not len(values):
            axis.text(x, 0.5, "n/a", transform=axis.get_xaxis_transform(), ha="center", color="0.4",
                      rotation=90 if upright else 0)  # fmt: skip
            continue
        spread = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        for marker, which in (("o", ~dead), (DEAD, dead)):
            if which.any():
                axis.plot((x + spread)[which], values[which], marker, color=colours[x], ms=4.5, alpha=0.75)
        axis.plot([x - 0.28, x + 0.28], [values.mean()] * 2, color="k", lw=2)
        axis.plot([x, x], np.clip(t_interval(values), *bounds), color="k", lw=1.2)
    axis.grid(axis="x", visible=False)


def _lines(axis: Axes, history: History, column: str, title: str, dead: Collection[tuple[str, int]]) -> None:
    """A line a seed; dashed beside the KL: the capacity that it is drawn to."""
    looks = canvas.looks(sorted({label for label, _ in history}, key=numbers_in_order))
    for (label, seed), rows in sorted(history.items()):
        if column in rows:
            if column == "kl":
                _capacity(axis, rows, looks[label]["color"])
            rows = rows.iloc[:: max(1, len(rows) // POINTS)]
            look = looks[label] | ({"marker": DEAD} if (label, seed) in dead else {})
            axis.plot(rows["step"], rows[column], lw=1, ms=3.5, markevery=max(1, len(rows) // 8), alpha=0.85, **look)
    _along_steps(axis, title, "nats per image" if column in TRAINED else "")


def _along_steps(axis: Axes, title: str, unit: str) -> None:
    axis.set(xlabel="step", ylabel=unit)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    canvas.head(axis, title)
    canvas.widen(axis)


def own_losses(history: History) -> list[str]:
    """Columns of the histories that are a model's own: numbers that are neither the suite's nor one of each latent."""
    columns = dict.fromkeys(str(column) for _, rows in sorted(history.items()) for column in rows)
    suites = {"step", "loss", *TRAINED, *CAPACITIES, *COLUMNS}
    vectors = {column[:-1] for column in columns if column.endswith("0")}
    return [c for c in columns if c not in suites and c.rstrip("0123456789") not in vectors]


def training(history: History, dataset: str, dead: Collection[tuple[str, int]] = ()) -> Figure:
    """Reconstruction, KL and up to six of the models' own losses against steps, a line a seed; `dead` runs are marked.

    history: (label, seed) -> rows of history.csv; dead: (label, seed). Own losses beyond six are named in the title.
    """
    own = own_losses(history)
    panels = TRAINED | {column: column for column in own[:OWN]}
    figure, axes = canvas.panels(len(panels), 2 if len(panels) < 3 else 3, 4.4, 2.8)
    for axis, (column, title) in zip(axes, panels.items(), strict=True):
        _lines(axis, history, column, title, dead)
    canvas.legend(figure, _marks(history, dead, capacity=True))
    spare = f"; not drawn: {', '.join(own[OWN:])}" if own[OWN:] else ""
    canvas.title(figure, f"Training on {dataset}, a line a seed (means over 100 steps){spare}")
    return figure


def _marks(history: History, dead: Collection[tuple[str, int]], capacity: bool) -> dict[str, dict[str, Any]]:
    """What a legend of lines says."""
    looks = canvas.looks(sorted({label for label, _ in history}, key=numbers_in_order))
    if capacity and any(_capacities(rows) for rows in history.values()):
        looks |= CAPACITY_LOOK
    return looks | (DEAD_LOOK if set(dead) & set(history) else {})


def elbo_training(history: Mapping[str, pd.DataFrame], titles: Mapping[str, str], dataset: str) -> Figure:
    """The parts of the KL stacked along training, a panel a model, with the capacity where there is one.

    history: label -> rows of history.csv; those without the parts (`watch.COLUMNS`) are between two measurements.
    """
    figure, axes = canvas.panels(len(history), 4, 3.2, 2.8)
    colours = dict(zip(KL_PARTS, sns.color_palette("colorblind"), strict=False))
    for axis, (label, rows) in zip(axes, history.items(), strict=True):
        known = rows.dropna(subset=[f"elbo_{part}" for part in KL_PARTS])
        top = np.zeros(len(known))
        for part, colour in colours.items():
            height = known[f"elbo_{part}"].clip(lower=0).to_numpy()  # an estimate may fall below 0
            axis.fill_between(known["step"], top, top + height, color=colour, lw=0, alpha=0.85)
            top = top + height
        if "kl" in rows:
            axis.plot(rows["step"], rows["kl"], color="k", lw=1)
        _capacity(axis, rows, (0.35, 0.35, 0.35))
        axis.set_ylim(0, 1.1 * max(top.max(initial=0), 0.1))
        _along_steps(axis, str(titles[label]), "nats per image")
    looks: dict[str, dict[str, Any]] = {title: {"color": colours[part], "lw": 6} for part, title in KL_PARTS.items()}
    looks["KL as trained"] = {"color": "k", "lw": 1}
    canvas.legend(figure, looks | (CAPACITY_LOOK if any(_capacities(rows) for rows in history.values()) else {}))
    seen = f"of {ROWS:,} images or fewer, so at most {np.log(ROWS):.1f} nats of information are seen"
    canvas.title(figure, f"What the KL is made of on {dataset}, along training ({seen})")
    return figure


def curve(history: History, column: str, title: str, dead: Collection[tuple[str, int]] = ()) -> Figure:
    """One column of the history against steps, a line a seed, dead runs marked; small enough for a phone."""
    figure, axis = plt.subplots(figsize=SMALL)
    _lines(axis, history, column, title, dead)
    canvas.legend(figure, _marks(history, dead, capacity=column == "kl"))
    return figure


def units(rows: pd.DataFrame, title: str) -> Figure:
    """KL of every latent against steps, of one run, the strongest named; capacities (the model's aims) dashed."""
    columns = [c for c in rows if LATENT.fullmatch(str(c))]
    columns.sort(key=lambda c: -float(rows[c].iloc[-1]))
    figure, axis = plt.subplots(figsize=SMALL)
    rows = rows.iloc[:: max(1, len(rows) // POINTS)]
    looks = canvas.looks(columns[:NAMED])
    for column in columns[NAMED:]:
        axis.plot(rows["step"], rows[column], color="0.6", lw=0.8)
    for column in columns[:NAMED]:
        axis.plot(rows["step"], rows[column], lw=1.2, ms=3.5, markevery=max(1, len(rows) // 8), **looks[column])
    for column in _capacities(rows):
        axis.plot(rows["step"], rows[column], **CAPACITY_LOOK["capacity"])
    _along_steps(axis, title, "nats per image")
    _name_ends(axis, {column: rows[column].iloc[-1] for column in _capacities(rows)}, 2.0)
    canvas.legend(figure, {c.removeprefix("kl_"): look for c, look in looks.items()})
    return figure


def _capacities(rows: pd.DataFrame) -> list[str]:
    return [name for name in CAPACITIES if name in rows]


def _capacity(axis: Axes, rows: pd.DataFrame, colour: Colour) -> None:
    """The sum of the capacities, which the whole KL is drawn to."""
    if names := _capacities(rows):
        axis.plot(rows["step"], rows[names].sum(axis=1), color=colour, lw=1, ls="--")


def elbo_parts(table: pd.DataFrame, dataset: str, protocol: str) -> Figure:
    """A stacked bar a configuration: what the KL is spent on, means over seeds. table: as for `scores`."""
    names = [f"elbo_parts_{key}" for key in KL_PARTS]
    means = table.groupby(["label", "metric"])["value"].mean().unstack().reindex(columns=names).dropna()
    means = means.loc[sorted(means.index, key=numbers_in_order)]
    figure, axis = plt.subplots(figsize=(8.0, 0.8 + 0.36 * len(means)))
    right, left = np.zeros(len(means)), np.zeros(len(means))
    looks = {}
    for (key, title), colour in zip(KL_PARTS.items(), sns.color_palette("colorblind"), strict=False):
        width = means[f"elbo_parts_{key}"].to_numpy()
        start = np.where(width >= 0, right, left)  # an estimate may fall below 0
        axis.barh(range(len(means)), width, 0.7, left=start, color=colour)
        for y, (low, value) in enumerate(zip(start, width, strict=True)):
            if abs(value) > 0.1 * means.sum(axis=1).max():
                axis.text(low + value / 2, y, canvas.number(value), ha="center", va="center", fontsize=8, color="w")
        right, left = np.maximum(right, start + width), np.minimum(left, start + width)
        looks[title] = {"color": colour, "lw": 6}
    axis.set_yticks(range(len(means)), means.index)
    axis.grid(axis="y", visible=False)
    axis.set(
        xlabel="nats per image", xlim=(min(0.0, left.min()), 1.04 * right.max() or 1), ylim=(len(means) - 0.4, -0.6)
    )
    canvas.legend(figure, looks)
    canvas.title(figure, f"What the KL is made of on {dataset}, protocol {protocol} (means over seeds)")
    return figure


def numbers_in_order(label: str) -> list[tuple[bool, float, str]]:
    """A key by which beta=4 comes before beta=16."""
    parts = re.split(r"(\d+\.?\d*)", label)
    return [(True, float(part), "") if i % 2 else (False, 0.0, part) for i, part in enumerate(parts)]


def tradeoff(table: pd.DataFrame, score: str, levels: pd.Series, dataset: str, protocol: str) -> Figure:
    """What reconstruction costs: KL, and a score, against the reconstruction error, a point a run in both panels.

    table: a row a run with model, label, steps, reconstruction, kl, score (nan: not measured), dead; a panel of which
    nothing is known is left out. score: its name; levels: of its floors and ceiling, by kind and model. A line joins
    the live runs' medians of a model's configurations of one length.
    """
    panels = {"kl": "KL, nats per image", "score": f"{score} (up is better)"}
    panels = {column: name for column, name in panels.items() if table[column].notna().any()}
    figure, axes = canvas.panels(len(panels), 2, 5.2, 3.4)
    looks = canvas.looks(sorted(table["label"].unique(), key=numbers_in_order))
    for axis, (column, name) in zip(axes, panels.items(), strict=True):
        if axis is not axes[0]:
            axis.sharex(axes[0])
        _points(axis, table.dropna(subset=[column]), column, looks)
        axis.set(xlabel="reconstruction error, nats per image (left is better)", ylabel=name)
        canvas.widen(axis)
    if table["reconstruction"].max() > 5 * table["reconstruction"].min() > 0:  # a dead run hides the others
        axes[0].set_xscale("log")
        axes[0].xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes[0].xaxis.set_major_formatter("{x:g}")
        axes[0].xaxis.set_minor_formatter("")
    if "score" in panels:
        far = _far(levels, table["score"])
        _levels(axes[-1], levels[~far], table["score"].dropna(), 2.6)
        canvas.head(axes[-1], _off(levels[far]).removeprefix("; "))
    canvas.legend(
        figure, {k: look | {"ls": ""} for k, look in looks.items()} | (DEAD_LOOK if table["dead"].any() else {})
    )
    what = " and ".join(name for name in ("KL" if "kl" in panels else "", score) if name)
    swept = table.groupby("model")["label"].nunique().max() > 1
    points = "a point a run" + (", a line joins medians of live runs of a model's settings" if swept else "")
    canvas.title(figure, f"{what} against reconstruction on {dataset}, protocol {protocol}: {points}")
    return figure


def _points(axis: Axes, table: pd.DataFrame, column: str, looks: Mapping[str, Mapping[str, Any]]) -> None:
    middles = table[~table["dead"]].groupby(["model", "steps", "label"])[["reconstruction", column]].median()
    for _, line in middles.sort_values("reconstruction").groupby(["model", "steps"]):
        axis.plot(line["reconstruction"], line[column], color="0.6", lw=1, zorder=1)
    for (label, dead), runs in table.groupby(["label", "dead"]):
        axis.plot(runs["reconstruction"], runs[column], ls="", ms=6, alpha=0.8, color=looks[label]["color"],
                  marker=DEAD if dead else looks[label]["marker"])  # fmt: skip


def _heat(axis: Axes, table: pd.DataFrame, norm: Normalize, cmap: str, apart: NDArray[np.bool_] | None = None) -> None:
    """A heat map with its numbers, those of the cells `apart` in grey on white."""
    values = table.to_numpy(dtype=float)
    blank = np.zeros(values.shape, dtype=bool) if apart is None else apart
    mesh = axis.pcolormesh(np.ma.masked_array(values, blank), norm=norm, cmap=cmap)
    light = mesh.to_rgba(values)[..., :3] @ LUMINANCE > 0.5
    for (i, j), value in np.ndenumerate(values):
        ink = "0.35" if blank[i, j] else "0.15" if light[i, j] else "w"
        axis.text(j + 0.5, i + 0.5, canvas.number(value), ha="center", va="center", fontsize=SMALL_TEXT, color=ink,
                  in_layout=False)  # fmt: skip
    axis.set_xticks(np.arange(table.shape[1]) + 0.5, table.columns.astype(str),
                    rotation=90 if max(len(str(c)) for c in table.columns) > 4 else 0)  # fmt: skip
    axis.set_yticks(np.arange(len(table)) + 0.5, table.index.astype(str))
    axis.set_ylim(len(table), 0)
    axis.grid(visible=False)


def _scale(figure: Figure, axes: Sequence[Axes], norm: Normalize, cmap: str) -> None:
    """One bar of colours for all panels, as tall as one of them."""
    figure.colorbar(ScalarMappable(norm, cmap), ax=axes, shrink=1 / canvas.grid(axes[0])[0], anchor=(0, 1), aspect=20)


def _bars(axis: Axes, values: pd.Series, top: float) -> None:
    """A bar a latent, its value at the end."""
    axis.barh(range(len(values)), values, 0.7)
    for y, value in enumerate(values):
        axis.annotate(canvas.number(value), (max(value, 0), y), (3, 0), textcoords="offset points", va="center",
                      fontsize=SMALL_TEXT)  # fmt: skip
    axis.set_yticks(range(len(values)), values.index)
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.set(xlim=(0, 1.15 * top), ylim=(len(values) - 0.4, -0.6), xlabel="nats")
    axis.grid(axis="y", visible=False)


def information(tables: Mapping[str, pd.DataFrame], titles: Mapping[str, str], dataset: str) -> Figure:
    """Mutual information latents × factors in nats, a panel a model, on one scale; of one factor as bars."""
    single = all(table.shape[1] == 1 for table in tables.values())
    figure, axes = canvas.panels(len(tables), 3, 4.2, _tall(tables) - 0.5 * single)
    top = max(float(table.to_numpy().max()) for table in tables.values()) or 1.0
    for axis, (label, table) in zip(axes, tables.items(), strict=True):
        if single:
            _bars(axis, table.iloc[:, 0], top)
        else:
            _heat(axis, table, Normalize(0, top), "viridis")
        canvas.head(axis, titles[label])
    if not single:
        _scale(figure, axes, Normalize(0, top), "viridis")
    what = f"latents and {next(iter(tables.values())).columns[0]}" if single else "latents and factors"
    canvas.title(figure, f"Mutual information of {what} on {dataset} (nats)")
    return figure


def _tall(tables: Mapping[str, pd.DataFrame]) -> float:
    """Inches of a panel in which no row's number touches the next one's."""
    return 1.6 + 0.24 * max(8, *(len(table) for table in tables.values()))


def covariance(tables: Mapping[str, pd.DataFrame], titles: Mapping[str, str], dataset: str) -> Figure:
    """Covariance of the aggregate posterior q(z); the colours span the off-diagonal entries alone."""
    widest = max(len(table) for table in tables.values())
    figure, axes = canvas.panels(len(tables), 3, max(4.4, 1.6 + 0.32 * widest), _tall(tables))
    off = [table.to_numpy()[~np.eye(len(table), dtype=bool)] for table in tables.values()]
    span = max((float(np.abs(values).max()) for values in off if values.size), default=1.0) or 1.0
    for axis, (label, table) in zip(axes, tables.items(), strict=True):
        _heat(axis, table, Normalize(-span, span), "RdBu_r", np.eye(len(table), dtype=bool))
        canvas.head(axis, titles[label])
    _scale(figure, axes, Normalize(-span, span), "RdBu_r")
    canvas.title(figure, f"Covariance of q(z) on {dataset}: means' covariance + mean variances (diagonal in grey)")
    return figure


def confusion(tables: Mapping[str, pd.DataFrame], titles: Mapping[str, str], dataset: str) -> Figure:
    """Share of every true class (column) that a latent class (row) holds; the matched ones lead, on the diagonal."""
    figure, axes = canvas.panels(len(tables), 3, 4.4, _tall(tables))
    for axis, (label, table) in zip(axes, tables.items(), strict=True):
        rows, columns = linear_sum_assignment(table, maximize=True)
        rows, columns = rows[np.argsort(columns)], np.sort(columns)
        share = table / np.maximum(table.sum(axis=0), 1)
        share = share.iloc[_leading(rows, len(table)), _leading(columns, table.shape[1])]
        _heat(axis, share, Normalize(0, 1), "viridis")
        canvas.head(axis, titles[label])
        axis.set(xlabel="true class", ylabel="class of the latent")
    _scale(figure, axes, Normalize(0, 1), "viridis")
    canvas.title(
        figure, f"Classes of the categorical latent on {dataset}: columns sum to 1, matched ones on the diagonal"
    )
    return figure


def _leading(first: NDArray[np.integer], n: int) -> list[int]:
    """0 to n - 1, these first."""
    return [*first, *np.setdiff1d(np.arange(n), first)]


def _show(axis: Axes, image: Images) -> None:
    axis.imshow(np.moveaxis(image, 0, -1).squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    for side in axis.spines.values():
        side.set(visible=True, color="0.6", linewidth=0.5)
    axis.grid(visible=False)


def strips(rows: Mapping[str, Images], title: str, size: float = 0.85) -> Figure:
    """A labelled row of images for each entry, drawn as one picture: a panel for each image takes seconds."""
    columns, n = max(len(images) for images in rows.values()), len(rows)
    labels = {label: canvas.wrapped(label, 2.2, 8) for label in rows}  # inches and points, as all here
    left = 0.2 + max(canvas.width_of(line, 8) for label in labels.values() for line in label.split("\n"))
    width = left + size * columns
    heading = canvas.wrapped(title, width - 0.3, 10)
    height = size * n + 0.22 + canvas.LINE * (heading.count("\n") + 1)
    figure, axes = plt.subplots(n, 1, squeeze=False, figsize=(width, height), layout="none")
    figure.subplots_adjust(left=left / width, right=1, bottom=0, top=size * n / height, hspace=0.03)
    for axis, (label, images) in zip(axes.flat, rows.items(), strict=True):
        padded = np.pad(images, [(0, columns - len(images)), (0, 0), (0, 0), (0, GAP)], constant_values=1.0)
        padded[len(images) :] = 1.0
        _show(axis, np.concatenate(list(padded), axis=2)[:, :, :-GAP])
        for side in axis.spines.values():
            side.set_visible(False)
        axis.set_ylabel(labels[label], rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle(heading, fontsize=10, y=1 - 0.12 / height, va="top")
    return figure


def reconstructions(originals: Images, models: Mapping[str, Images], dataset: str) -> Figure:
    """Originals above what each model makes of them."""
    return strips({"original": originals, **models}, f"Reconstructions on {dataset} (from the posterior's mode)")


def samples(models: Mapping[str, Images], dataset: str) -> Figure:
    """Square sheets of images decoded from the prior, a panel a model."""
    figure, axes = canvas.panels(len(models), 3, 3.6, 3.8)
    for axis, (label, images) in zip(axes, models.items(), strict=True):
        side = int(len(images) ** 0.5)
        channels, height, width = images.shape[1:]
        sheet = images[: side * side].reshape(side, side, channels, height, width)
        _show(axis, sheet.transpose(2, 0, 3, 1, 4).reshape(channels, side * height, side * width))
        canvas.head(axis, label)
    canvas.title(figure, f"Samples from the prior on {dataset}")
    return figure


def traversals(rows: Mapping[str, Images], title: str, span: tuple[float, float] | None = (-2.0, 2.0)) -> Figure:
    """A row a latent: over `span` for continuous ones (most informative first), every class for categorical ones.

    span: None for a quantised code, whose latents go through values of their own.
    """
    how = "quantised: values that it takes" if span is None else f"continuous: from {span[0]:g} to {span[1]:g}"
    return strips(rows, f"Traversals: {title}; each row changes one latent ({how})")
