"""What every figure is drawn on: its look, its panels, and titles and legends that fit."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

LEAST_SPAN = 0.01  # of an axis, as a share of its largest value: less is a difference of digits
WIDEST = 13.5  # inches of a figure of panels
LINE = 0.18  # inches of a line of a title or legend
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")


def style() -> AbstractContextManager:
    """The look of every figure; colours that colour-blind readers can tell apart."""
    return plt.rc_context({**sns.axes_style("whitegrid"), **sns.plotting_context("notebook", font_scale=0.8),
                           "axes.prop_cycle": plt.cycler(color=sns.color_palette("colorblind")),
                           "text.parse_math": False, "svg.fonttype": "none", "svg.hashsalt": "report",
                           "pdf.fonttype": 42, "axes.formatter.useoffset": False,
                           "axes.formatter.limits": (-12, 12),  # numbers whole at every tick, none beside the axis
                           "figure.constrained_layout.use": True})  # fmt: skip


def close(figure: Figure) -> None:
    """Let go of a figure; it can still be saved."""
    plt.close(figure)


def panels(n: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """n panels of this size in inches, in at most so many columns."""
    columns = max(1, min(columns, n, int(WIDEST / width)))
    rows = -(-n // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(max(width * columns, 7.0), height * rows), squeeze=False)
    for axis in axes.flat[n:]:
        axis.set_visible(False)
    return figure, list(axes.flat[:n])


def width_of(text: str, points: float | None = None) -> float:
    """The width of a line of text in inches; without points that of tick labels and legends."""
    font = FontProperties(size=points or plt.rcParams["legend.fontsize"])
    return 1.05 * text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72  # as hinting widens it


def wrapped(text: str, inches: float, points: float | None = None) -> str:
    """A text in lines that are no wider than this, broken at its spaces."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(longer, points) <= inches:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def _grow(figure: Figure, lines: float) -> None:
    """Room for lines of text, so that none is taken from the panels."""
    figure.set_figheight(figure.get_figheight() + LINE * lines)


def title(figure: Figure, text: str) -> None:
    """The figure's title, no wider than the figure."""
    lines = wrapped(text, figure.get_figwidth() - 0.3, 11)
    figure.suptitle(lines, fontsize=11)
    _grow(figure, 1.2 * (lines.count("\n") + 1))


def head(axis: Axes, text: str) -> None:
    """A panel's title, no wider than the panel."""
    figure = axis.get_figure()
    assert isinstance(figure, Figure)
    slot = figure.get_figwidth() / grid(axis)[1]
    axis.set_title(wrapped(text, slot - 1.0, 9), fontsize=9)


def grid(axis: Axes) -> tuple[int, int]:
    """Rows and columns of the panels that this is one of."""
    spec = axis.get_subplotspec()
    assert spec is not None
    return spec.get_gridspec().nrows, spec.get_gridspec().ncols


def legend(figure: Figure, looks: Mapping[str, Mapping[str, Any]]) -> None:
    """Label -> how its line or point is drawn, below the panels, in as many columns as the figure is wide."""
    handles = [plt.Line2D([], [], label=label, **{"ms": 4, **look}) for label, look in looks.items()]
    columns = int((figure.get_figwidth() - 0.3) / (max(map(width_of, looks)) + 0.65))
    columns = max(1, min(columns, len(handles)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    _grow(figure, -(-len(handles) // columns))


def widen(axis: Axes) -> None:
    """No axis spans less than a share of its values, where its numbers would differ in their last digits alone."""
    for (low, high), limit in ((axis.get_xlim(), axis.set_xlim), (axis.get_ylim(), axis.set_ylim)):
        room = (LEAST_SPAN * max(abs(low), abs(high)) - (high - low)) / 2
        if room > 0:
            limit(low - room, high + room)


def number(value: float, digits: int = 2) -> str:
    """Rounded, and 0 without a sign."""
    return f"{round(float(value), digits) + 0.0:.{digits}f}"


def looks(labels: list[str]) -> dict[str, dict[str, Any]]:
    """Label -> colour, dashes and marker: three ways to tell lines apart, two of them points."""
    colours = sns.color_palette("colorblind")
    return {
        label: {
            "color": colours[i % len(colours)],
            "ls": DASHES[i % len(DASHES)],
            "marker": MARKERS[(i + i // len(colours)) % len(MARKERS)],
        }
        for i, label in enumerate(labels)
    }
