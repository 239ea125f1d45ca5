"""Figures: numbers in, a matplotlib figure out. Each answers one question and can be read on its own."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmark.running.watch import ROWS
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
REFERENCE = {
    "constant": (0, (1, 2, 4, 2)),
    "noise": (0, (1, 1)),
    "untrained": (0, (3, 1, 1, 1)),
    "pca": (0, (5, 2)),
    "ica": (0, (8, 2, 1, 2, 1, 2)),
    "kmeans": (0, (1, 4)),
    "factors": "-",
}

CEILING = "factors"
LETTER = 0.08  # inches of a label that stands upright
FAR = 25  # times the span of the runs
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DEAD, DOTTED = "x", ":"  # how dead runs are told apart, as points and as lines
DEAD_LOOK: dict[str, dict[str, Any]] = {"a dead run": {"color": "0.5", "marker": DEAD, "ls": ""}}
SMALL = (4.6, 3.4)
GAP = 2  # pixels between images of a strip
LATENT = re.compile(r"kl_[zc][0-9]+")  # columns of history.csv
POINTS = 150  # of a line: more cannot be seen
NAMED = 6
TRAINED = {"recon": "reconstruction", "kl": "KL (all latents)"}
STANDS = ("mig", "dci_disentanglement", "dci_hist_disentanglement", "factorvae_score", "discrete_accuracy")


def style() -> AbstractContextManager:
    """The look of every figure; colours that colour-blind readers can tell apart."""
    return plt.rc_context({**sns.axes_style("whitegrid"), **sns.plotting_context("notebook", font_scale=0.8),
                           "axes.prop_cycle": plt.cycler(color=sns.color_palette("colorblind")),
                           "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "report",
                           "pdf.fonttype": 42,
                           "figure.constrained_layout.use": True})  # fmt: skip


def close(figure: Figure) -> None:
    plt.close(figure)


def _panels(n: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(columns, n)
    rows = -(-n // columns)
    inches = (max(width * columns, 7.0), height * rows)  # wide enough for a title
    figure, axes = plt.subplots(rows, columns, figsize=inches, squeeze=False)
    for axis in axes.flat[n:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:n])


def scores(table: pd.DataFrame, dataset: str, protocol: str, headline: Sequence[str] = stats.HEADLINE) -> Figure:
    """A panel a headline score: every seed, the mean with its 95 % interval, floors and ceiling as lines.

    table: long table with label, kind, metric, plugin, seed, value, better, dead.
    """
    runs = table[(table["kind"] == "run") & table["value"].notna()]
    keys = stats.headline(runs, headline)
    labels = sorted(runs["label"].unique())
    figure, axes = _panels(len(keys), 4, 3.2, max(2.6, 1.6 + LETTER * max(map(len, labels))))
    for axis, key in zip(axes, keys, strict=True):
        part = table[(table["metric"] == key) & table["value"].notna()]
        mine = part[part["kind"] == "run"]
        _seeds(axis, mine, labels)
        levels = part[part["kind"] != "run"].groupby("model")["value"].mean()
        far = _far(levels, mine["value"])
        for name, level in levels[~far].items():
            axis.axhline(level, color="0.35", lw=1.1, ls=REFERENCE[str(name)], zorder=1)
        title = f"{key} {stats.ARROW[str(part['better'].iloc[0])]}"
        if far.any():
            title += "\noff the scale: " + ", ".join(f"{name} {level:.4g}" for name, level in levels[far].items())
        axis.set_title(title, fontsize=9)
        axis.margins(y=0.1)
        _limit(axis, pd.concat([mine["value"], levels[~far]]))
        axis.set_xlim(-0.6, len(labels) - 0.4)
    handles = [plt.Line2D([], [], color="0.35", lw=1.1, ls=ls, label=name) for name, ls in REFERENCE.items()]
    handles.append(plt.Line2D([], [], color="k", marker="_", ms=12, lw=2, label="mean, 95 % interval (t)"))
    handles.append(plt.Line2D([], [], color="0.5", marker="o", ls="", label="one seed"))
    if runs["dead"].any():
        handles.append(plt.Line2D([], [], color="0.5", marker=DEAD, ls="", label="a dead run"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    figure.suptitle(f"Scores on {dataset}, protocol {protocol}; ↑ higher is better, ↓ lower is better")
    return figure


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


def _seeds(axis: Axes, part: pd.DataFrame, labels: list[str]) -> None:
    colours = sns.color_palette("colorblind", len(labels))
    slant = 90 if len(labels) > 4 else 20 if max(map(len, labels)) > 12 else 0
    for x, label in enumerate(labels):
        seeds = part.loc[part["label"] == label].groupby("seed")[["value", "dead"]].mean()
        values, dead = seeds["value"].to_numpy(), seeds["dead"].to_numpy() > 0
        if not len(values):
            axis.text(x, 0.5, "n/a", transform=axis.get_xaxis_transform(), ha="center", color="0.4", rotation=slant)
            continue
        spread = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        for marker, which in (("o", ~dead), (DEAD, dead)):
            if which.any():
                axis.plot((x + spread)[which], values[which], marker, color=colours[x], ms=4.5, alpha=0.75)
        low, high = t_interval(values)
        axis.plot([x - 0.28, x + 0.28], [values.mean()] * 2, color="k", lw=2)
        axis.plot([x, x], [low, high], color="k", lw=1.2)
    axis.set_xticks(range(len(labels)), labels, rotation=slant)
    axis.grid(axis="x", visible=False)


def _looks(labels: list[str]) -> dict[str, dict[str, Any]]:
    """Label -> colour, dashes and marker: three ways to tell lines apart."""
    colours = sns.color_palette("colorblind", len(labels))
    return {
        label: {"color": colours[i], "ls": DASHES[i % len(DASHES)], "marker": MARKERS[i % len(MARKERS)]}
        for i, label in enumerate(labels)
    }


def _legend(figure: Figure, looks: Mapping[str, Mapping[str, Any]], columns: int = 3) -> None:
    handles = [plt.Line2D([], [], label=label, ms=4, **look) for label, look in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(columns, len(handles)), frameon=False)


def _lines(axis: Axes, history: History, column: str, title: str, dead: Collection[tuple[str, int]]) -> None:
    looks = _looks(sorted({label for label, _ in history}))
    for (label, seed), rows in sorted(history.items()):
        if column in rows:
            rows = rows.iloc[:: max(1, len(rows) // POINTS)]
            look = looks[label] | ({"marker": DEAD} if (label, seed) in dead else {})
            axis.plot(rows["step"], rows[column], lw=1, ms=3.5, markevery=max(1, len(rows) // 8), alpha=0.85, **look)
    axis.set(xlabel="step", ylabel="nats per image", title=title)


def training(history: History, dataset: str, dead: Collection[tuple[str, int]] = ()) -> Figure:
    """Reconstruction and KL against steps, a thin line a seed; those of `dead` runs (label, seed) are dotted.

    history: (label, seed) -> rows of history.csv. Dashed beside the KL: the capacity that it is drawn to.
    """
    figure, axes = _panels(2, 2, 5.5, 3.4)
    labels = sorted({label for label, _ in history})
    colours = dict(zip(labels, sns.color_palette("colorblind", len(labels)), strict=True))
    for (label, seed), rows in sorted(history.items()):
        _capacity(axes[1], rows, colours[label])
        line = {"lw": 1.6, "ls": DOTTED} if (label, seed) in dead else {"lw": 1}
        for axis, column in zip(axes, ("recon", "kl"), strict=True):
            if column in rows:
                axis.plot(rows["step"], rows[column], color=colours[label], marker="." if len(rows) < 15 else "",
                          alpha=0.8, **line)  # fmt: skip
    for axis, title in zip(axes, ("reconstruction", "KL (all latents)"), strict=True):
        axis.set(xlabel="step", ylabel="nats per image", title=title)
    handles = [plt.Line2D([], [], color=colour, label=label) for label, colour in colours.items()]
    if any(_capacities(rows) for rows in history.values()):
        handles.append(plt.Line2D([], [], color="0.3", ls="--", lw=1, label="capacity"))
    if set(dead) & set(history):
        handles.append(plt.Line2D([], [], color="0.3", ls=DOTTED, lw=1.6, label="a dead run"))
    figure.legend(handles=handles, loc="outside lower center", ncols=_columns(handles, 110), frameon=False)
    figure.suptitle(f"Training on {dataset}, a line a seed (means over 100 steps)")
    return figure


def elbo_training(history: Mapping[str, pd.DataFrame], titles: Mapping[str, str], dataset: str) -> Figure:
    """The parts of the KL stacked along training, a panel a model, with the capacity where there is one.

    history: label -> rows of history.csv; those without the parts (`watch.COLUMNS`) are between two measurements.
    """
    figure, axes = _panels(len(history), 4, 3.1, 2.6)
    colours = sns.color_palette("colorblind")
    for axis, (label, rows) in zip(axes, history.items(), strict=True):
        known = rows.dropna(subset=[f"elbo_{part}" for part in KL_PARTS])
        top = np.zeros(len(known))
        for part, colour in zip(KL_PARTS, colours, strict=False):
            height = known[f"elbo_{part}"].clip(lower=0).to_numpy()  # an estimate may fall below 0
            axis.fill_between(known["step"], top, top + height, color=colour, lw=0, alpha=0.85)
            top = top + height
        if "kl" in rows:
            axis.plot(rows["step"], rows["kl"], color="k", lw=1)
        _capacity(axis, rows, (0.3, 0.3, 0.3))
        axis.set(xlabel="step", ylabel="nats per image", ylim=(0, 1.1 * max(top.max(initial=0), 0.1)))
        axis.set_title(titles[label], fontsize=9)
    handles = [plt.Line2D([], [], color=c, lw=6, label=t) for c, t in zip(colours, KL_PARTS.values(), strict=False)]
    handles.append(plt.Line2D([], [], color="k", lw=1, label="KL as trained"))
    if any(_capacities(rows) for rows in history.values()):
        handles.append(plt.Line2D([], [], color="0.3", ls="--", lw=1, label="capacity"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    seen = f"of {ROWS:,} images or fewer, so at most {np.log(ROWS):.1f} nats of information are seen"
    figure.suptitle(f"What the KL is made of on {dataset}, along training ({seen})")
    return figure


def curve(history: History, column: str, title: str, dead: Collection[tuple[str, int]] = ()) -> Figure:
    """One column of the history against steps, a line a seed, dead runs marked; small enough for a phone."""
    figure, axis = plt.subplots(figsize=SMALL)
    _lines(axis, history, column, title, dead)
    looks = _looks(sorted({label for label, _ in history}))
    _legend(figure, looks | (DEAD_LOOK if set(dead) & set(history) else {}))
    return figure


def units(rows: pd.DataFrame, title: str) -> Figure:
    """KL of every latent against steps, of one run, the strongest named; capacities (the model's aims) dashed."""
    columns = [c for c in rows if LATENT.fullmatch(str(c))]
    columns.sort(key=lambda c: -float(rows[c].iloc[-1]))
    figure, axis = plt.subplots(figsize=SMALL)
    rows = rows.iloc[:: max(1, len(rows) // POINTS)]
    looks = _looks(columns[:NAMED])
    for column in columns[NAMED:]:
        axis.plot(rows["step"], rows[column], color="0.6", lw=0.8)
    for column in columns[:NAMED]:
        axis.plot(rows["step"], rows[column], lw=1.2, ms=3.5, markevery=max(1, len(rows) // 8), **looks[column])
    for column in (c for c in rows if str(c).startswith("capacity")):
        axis.plot(rows["step"], rows[column], color="0.35", lw=1.2, ls="--")
        axis.annotate(
            str(column), (rows["step"].iloc[-1], rows[column].iloc[-1]), ha="right", va="bottom", color="0.35"
        )
    axis.set(xlabel="step", ylabel="nats per image", title=title)
    _legend(figure, {c.removeprefix("kl_"): look for c, look in looks.items()}, 6)
    return figure


def disentanglement(table: pd.DataFrame) -> str:
    """The score that stands for disentanglement in the trade-off: the first of a few that was computed, or none."""
    known = set(table.loc[(table["kind"] == "run") & table["value"].notna(), "metric"])
    return next((key for key in STANDS if key in known), "") if "reconstruction" in known else ""


def tradeoff(table: pd.DataFrame, dataset: str) -> Figure:
    """Reconstruction error against disentanglement, a point a seed; floors and ceiling as lines.

    table: long table with label, kind, model, metric, protocol, seed, value, dead.
    """
    key = disentanglement(table)
    protocol = table.loc[(table["metric"] == key) & (table["kind"] == "run"), "protocol"].min()
    table = table[(table["metric"] == "reconstruction") | ((table["metric"] == key) & (table["protocol"] == protocol))]
    figure, axis = plt.subplots(figsize=SMALL)
    seeds = table.dropna(subset=["value"]).groupby(["kind", "label", "seed", "metric"])["value"].mean().unstack()
    looks = _looks(sorted(seeds.loc["run"].index.unique("label")))
    gone = table[table["dead"]].groupby(["label", "seed"]).size().index
    for label, look in looks.items():
        points = seeds.loc[("run", label)]
        dead = np.array([(label, seed) in gone for seed in points.index])
        for which, marker in ((~dead, look["marker"]), (dead, DEAD)):
            shown = points[which]
            axis.plot(shown["reconstruction"], shown[key], ms=6, alpha=0.8, ls="", color=look["color"], marker=marker)
    levels = table[(table["kind"] != "run") & (table["metric"] == key)].groupby("model")["value"].mean()
    handles = {label: {**look, "ls": ""} for label, look in looks.items()} | (DEAD_LOOK if len(gone) else {})
    for name, value in levels.items():
        axis.axhline(value, color="0.35", lw=1.1, ls=REFERENCE.get(str(name), ":"), zorder=1)
        handles[f"{name} {value:.2f}"] = {"color": "0.35", "ls": REFERENCE.get(str(name), ":"), "lw": 1.1}
    near = pd.concat([seeds.loc["run"][key], levels.drop(index=CEILING, errors="ignore")])
    room = 0.15 * (near.max() - near.min()) or 0.1
    if levels.get(CEILING, near.max()) > near.max() + 4 * room:  # far away: its number is in the legend
        axis.set_ylim(near.min() - room, near.max() + room)
    axis.set(xlabel="reconstruction error, nats per image (left is better)", ylabel=f"{key} (up is better)",
             title=f"{dataset}: reconstruction and {key}, a point a seed")  # fmt: skip
    _legend(figure, handles)
    return figure


def _columns(handles: list[plt.Line2D], letters: int = 160) -> int:
    """Of a legend that is no wider than the figure."""
    return max(1, min(len(handles), letters // (8 + max(len(str(handle.get_label())) for handle in handles))))


def _capacities(rows: pd.DataFrame) -> list[str]:
    return [name for name in ("capacity", "capacity_z", "capacity_c") if name in rows]


def _capacity(axis: Axes, rows: pd.DataFrame, colour: Colour) -> None:
    """The sum of the capacities, which the whole KL is drawn to."""
    if names := _capacities(rows):
        axis.plot(rows["step"], rows[names].sum(axis=1), color=colour, lw=1, ls="--")


def elbo_parts(table: pd.DataFrame, dataset: str, protocol: str) -> Figure:
    """A stacked bar a model: what the KL is spent on, means over seeds. table: as for `scores`."""
    names = [f"elbo_parts_{key}" for key in KL_PARTS]
    means = table.groupby(["label", "metric"])["value"].mean().unstack().reindex(columns=names).dropna()
    means = means.loc[sorted(means.index, key=numbers_in_order)]
    width = max(7.0, 1.5 + 1.6 * len(means))
    figure, axis = plt.subplots(figsize=(width, 4.2))
    top, bottom = np.zeros(len(means)), np.zeros(len(means))
    for (key, title), colour in zip(KL_PARTS.items(), sns.color_palette("colorblind"), strict=False):
        height = means[f"elbo_parts_{key}"].to_numpy()
        start = np.where(height >= 0, top, bottom)  # an estimate may fall below 0
        axis.bar(range(len(means)), height, 0.6, bottom=start, color=colour, label=title)
        for x, (low, value) in enumerate(zip(start, height, strict=True)):
            if abs(value) > 0.06 * means.sum(axis=1).max():
                axis.text(x, low + value / 2, f"{value:.2f}", ha="center", va="center", fontsize=8, color="w")
        top, bottom = np.maximum(top, start + height), np.minimum(bottom, start + height)
    _label_axis(axis, list(means.index))
    axis.set(ylabel="nats per image", ylim=(min(0.0, bottom.min()), 1.08 * top.max() or 1))
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"What the KL is made of on {dataset}, protocol {protocol} (means over seeds)")
    return figure


def numbers_in_order(label: str) -> list[tuple[bool, float, str]]:
    """A key by which beta=4 comes before beta=16."""
    parts = re.split(r"(\d+\.?\d*)", label)
    return [(True, float(part), "") if i % 2 else (False, 0.0, part) for i, part in enumerate(parts)]


def _label_axis(axis: Axes, labels: list[str]) -> None:
    wrapped = [label.replace(", ", "\n") for label in labels]
    axis.set_xticks(range(len(labels)), wrapped)
    axis.grid(axis="x", visible=False)


def rate_distortion(table: pd.DataFrame, score: str, dataset: str, protocol: str) -> Figure:
    """Reconstruction against KL, a point a run, coloured by a score; a line joins a model's medians, one a
    configuration of one length.

    table: a row a run with model, label, steps, kl, reconstruction, score (nan: not measured), dead.
    """
    figure, axis = plt.subplots(figsize=(7.4, 4.8))
    markers = dict(zip(sorted(table["model"].unique()), "osD^vP*Xhd<>p8" * 9, strict=False))
    span = {"vmin": table["score"].min(), "vmax": table["score"].max()}
    middles = table.groupby(["model", "steps", "label"])[["kl", "reconstruction"]].median().reset_index()
    for _, line in middles.sort_values("kl").groupby(["model", "steps"]):
        axis.plot(line["kl"], line["reconstruction"], color="0.6", lw=1, zorder=1)
    for model, part in table.groupby("model"):
        points = axis.scatter(part["kl"], part["reconstruction"], c=part["score"], cmap="viridis", s=34, zorder=2,
                              marker=markers[model], edgecolor="0.25", lw=0.6, plotnonfinite=True, **span)  # fmt: skip
    figure.colorbar(points, ax=axis, label=score)
    gone = table[table["dead"]]
    axis.scatter(gone["kl"], gone["reconstruction"], marker=DEAD, s=60, color="0.1", lw=1.2, zorder=3)
    handles = [plt.Line2D([], [], color="0.6", marker=m, mec="0.25", label=name) for name, m in markers.items()]
    handles += [plt.Line2D([], [], color="0.1", marker=DEAD, ls="", label="a dead run")] if len(gone) else []
    axis.legend(handles=handles, frameon=True, loc="best")
    axis.set(xlabel="KL, nats per image (rate)", ylabel="reconstruction, nats per image (distortion)")
    axis.margins(0.1)
    if table["reconstruction"].max() > 5 * table["reconstruction"].min() > 0:  # a dead run hides the others
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
    _name_points(axis, middles[middles.groupby("model")["label"].transform("size") > 1])
    figure.suptitle(f"Rate and distortion on {dataset}, protocol {protocol}: a point a run, a line joins medians")
    return figure


def _name_points(axis: Axes, named: pd.DataFrame) -> None:
    """The settings beside each point; of two that are near each other the upper one's go up, the lower one's down."""
    axis.autoscale_view()
    place = axis.transAxes.inverted().transform(axis.transData.transform(named[["kl", "reconstruction"]].to_numpy()))
    for row, mine in zip(named.itertuples(), place, strict=True):
        others = place[(place != mine).any(axis=1)]
        nearest = others[np.argmin(np.hypot(*(others - mine).T))] if len(others) else mine
        above, right = mine[1] > nearest[1], mine[0] > 0.8
        text = str(row.label).removeprefix(f"{row.model}, ").replace(", ", "\n")
        axis.annotate(text, (row.kl, row.reconstruction), xytext=(-6 if right else 6, 5 if above else -5), fontsize=8,
                      textcoords="offset points", ha="right" if right else "left",
                      va="bottom" if above else "top")  # fmt: skip


def _heat(axis: Axes, table: pd.DataFrame, **options: object) -> None:
    sns.heatmap(table, ax=axis, annot_kws={"fontsize": 7}, xticklabels=True, yticklabels=True, **options)
    axis.set(xlabel="", ylabel="")
    axis.grid(visible=False)
    axis.tick_params(axis="y", rotation=0)
    axis.tick_params(axis="x", rotation=45 if max(len(str(c)) for c in table.columns) > 4 else 0)


def information(tables: Mapping[str, pd.DataFrame], titles: Mapping[str, str], dataset: str) -> Figure:
    """Mutual information latents × factors in nats, a panel a model, on one colour scale."""
    figure, axes = _panels(len(tables), 3, 4.2, 4.2)
    top = max(float(table.to_numpy().max()) for table in tables.values())
    for axis, (label, table) in zip(axes, tables.items(), strict=True):
        _heat(axis, table, annot=True, fmt=".2f", cmap="viridis", vmin=0, vmax=top or 1)
        axis.set_title(titles[label], fontsize=9)
    figure.suptitle(f"Mutual information of latents and factors on {dataset} (nats)")
    return figure


def covariance(tables: Mapping[str, pd.DataFrame], titles: Mapping[str, str], dataset: str) -> Figure:
    """Covariance of the aggregate posterior q(z); the colours span the off-diagonal entries alone."""
    figure, axes = _panels(len(tables), 3, 5.0, 4.6)
    off = [table.to_numpy()[~np.eye(len(table), dtype=bool)] for table in tables.values()]
    span = max((float(np.abs(values).max()) for values in off if values.size), default=1.0) or 1.0
    for axis, (label, table) in zip(axes, tables.items(), strict=True):
        _heat(axis, table, annot=True, fmt=".2f", cmap="RdBu_r", center=0, vmin=-span, vmax=span,
              mask=np.eye(len(table), dtype=bool))  # fmt: skip
        for i in range(len(table)):
            axis.text(i + 0.5, i + 0.5, f"{table.iloc[i, i]:.2f}", ha="center", va="center", fontsize=7, color="0.3")
        axis.set_title(titles[label], fontsize=9)
    figure.suptitle(f"Covariance of q(z) on {dataset}: means' covariance + mean variances (diagonal in grey)")
    return figure


def confusion(tables: Mapping[str, pd.DataFrame], titles: Mapping[str, str], dataset: str) -> Figure:
    """Share of every true class (column) that a latent class (row) holds; the matched ones lead, on the diagonal."""
    figure, axes = _panels(len(tables), 3, 4.6, 4.4)
    for axis, (label, table) in zip(axes, tables.items(), strict=True):
        rows, columns = linear_sum_assignment(table, maximize=True)
        rows, columns = rows[np.argsort(columns)], np.sort(columns)
        share = table / np.maximum(table.sum(axis=0), 1)
        share = share.iloc[_leading(rows, len(table)), _leading(columns, table.shape[1])]
        _heat(axis, share, annot=True, fmt=".2f", cmap="viridis", vmin=0, vmax=1)
        axis.set_title(titles[label], fontsize=9)
        axis.set(xlabel="true class", ylabel="class of the latent")
    figure.suptitle(f"Classes of the categorical latent on {dataset}: columns sum to 1, matched ones on the diagonal")
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


def _strips(rows: Mapping[str, Images], title: str, size: float = 0.85) -> Figure:
    """A labelled row of images for each entry, drawn as one picture: a panel for each image takes seconds."""
    columns, n = max(len(images) for images in rows.values()), len(rows)
    left = 0.2 + 0.075 * max(map(len, rows))  # inches, as all here: labels at 8 points, the title at 10
    width, height = max(left + size * columns, 0.3 + 0.09 * len(title)), size * n + 0.4
    figure, axes = plt.subplots(n, 1, squeeze=False, figsize=(width, height), layout="none")
    right, top = (left + size * columns) / width, size * n / height
    figure.subplots_adjust(left=left / width, right=right, bottom=0, top=top, hspace=0.03)
    for axis, (label, images) in zip(axes.flat, rows.items(), strict=True):
        padded = np.pad(images, [(0, columns - len(images)), (0, 0), (0, 0), (0, GAP)], constant_values=1.0)
        padded[len(images) :] = 1.0
        _show(axis, np.concatenate(list(padded), axis=2)[:, :, :-GAP])
        for side in axis.spines.values():
            side.set_visible(False)
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle(title, fontsize=10, y=1 - 0.12 / height, va="top")
    return figure


def reconstructions(originals: Images, models: Mapping[str, Images], dataset: str) -> Figure:
    """Originals above what each model makes of them."""
    return _strips({"original": originals, **models}, f"Reconstructions on {dataset} (from the posterior's mode)")


def samples(models: Mapping[str, Images], dataset: str) -> Figure:
    """Square sheets of images decoded from the prior, a panel a model."""
    figure, axes = _panels(len(models), 3, 3.6, 3.8)
    for axis, (label, images) in zip(axes, models.items(), strict=True):
        side = int(len(images) ** 0.5)
        channels, height, width = images.shape[1:]
        sheet = images[: side * side].reshape(side, side, channels, height, width)
        _show(axis, sheet.transpose(2, 0, 3, 1, 4).reshape(channels, side * height, side * width))
        axis.set_title(label)
    figure.suptitle(f"Samples from the prior on {dataset}")
    return figure


def traversals(rows: Mapping[str, Images], title: str) -> Figure:
    """A row a latent: from -2 to 2 for continuous ones (most informative first), every class for categorical ones."""
    return _strips(rows, f"Traversals: {title}; each row changes one latent (continuous: from -2 to 2)")
