"""Tables for papers: LaTeX (booktabs) and Markdown, with bold type that follows the test and not the mean."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.statistics import stats

ARROWS = {"higher": (r" $\uparrow$", " ↑"), "lower": (r" $\downarrow$", " ↓"), "neither": ("", "")}
CAPTION = (
    "Mean ± standard deviation over seeds on {dataset} (protocol {protocol}{n}). Bold: shown better than another "
    "model and worse than none (permutation test on Welch's t, Holm's correction over the pairs of a row, 5 %). "
    "Configurations of one model with enough common seeds are compared as pairs (test by signs, t interval of the "
    "differences). Best floor and ceiling: of what is not trained."
)
LEVELS = {"floor": "best floor", "ceiling": "best ceiling"}
LENGTHS = " Models of different lengths are not compared."
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "β": r"$\beta$",
}


def escape(text: str) -> str:
    r"""Plain text as LaTeX.

    >>> escape("dci_hist 5 %")
    'dci\\_hist 5 \\%'
    """
    return re.sub("|".join(map(re.escape, LATEX)), lambda found: LATEX[found[0]], text)


def bold(comparisons: pd.DataFrame) -> set[tuple[Any, ...]]:
    """(dataset, metric, protocol, steps, model, config) of what the test lets stand out: better than one, worse than
    none. Nothing is bold where no difference is shown, nor for a score that is neither good nor bad."""
    better, worse = set(), set()
    for row in comparisons[comparisons["verdict"].isin(["a", "b"])].to_dict("records"):
        setting = (row["dataset"], row["metric"], row["protocol"], row["steps"])
        sides = {side: (*setting, row[f"model_{side}"], row[f"config_{side}"]) for side in "ab"}
        better.add(sides.pop(row["verdict"]))
        worse |= set(sides.values())
    return better - worse


def dead_row(
    rates: pd.DataFrame, dataset: str, labels: Mapping[tuple[str, str, str], str], columns: Sequence[tuple[str, str]]
) -> list[tuple[str, list[str]]]:
    """The row of dead runs, `1/5 [0.01, 0.72]` for each of these (kind, label); none where nothing is known.

    rates: the table of `stats.dead_rates`.
    """
    mine = rates[(rates["dataset"] == dataset) & (rates["runs"] > 0)].to_dict("records")
    cells = {("run", labels[dataset, row["model"], row["config"]]): _rate(row) for row in mine}
    return [("dead runs", [cells.get(column, "") for column in columns])] if cells else []


def _rate(row: Mapping[Hashable, Any]) -> str:
    return f"{row['dead']}/{row['runs']} [{row['low']:.2f}, {row['high']:.2f}]"


def tables(
    summary: pd.DataFrame,
    comparisons: pd.DataFrame,
    labels: Mapping[tuple[str, str, str], str],
    directions: Mapping[str, str],
    keys: list[str],
    rates: pd.DataFrame,
) -> Iterator[tuple[str, str]]:
    """(file name, text) of a LaTeX and a Markdown table per data set and protocol: a row a key, a column a model; last
    the best floor and ceiling.

    summary: the table of `stats.summarise`; directions: key -> higher, lower or neither; keys: which to show;
    rates: the table of `stats.dead_rates`, for the first row.
    """
    strong = bold(comparisons)
    shown = summary[(summary["kind"] == "run") & summary["metric"].isin(keys)]
    for (dataset, protocol), part in shown.groupby(["dataset", "protocol"], sort=True):
        named = [labels[dataset, m, c] for m, c in zip(part["model"], part["config"], strict=True)]
        part = part.assign(label=named)
        columns = sorted(set(named))
        others = summary[(summary["dataset"] == dataset) & (summary["protocol"] == protocol)]
        kinds = [kind for kind in LEVELS if kind in set(others["kind"])]
        rows = []
        for metric, group in part.groupby("metric", sort=True):
            cells = {row["label"]: (row["mean"], row["std"], _key(row) in strong) for row in group.to_dict("records")}
            same = others[others["metric"] == metric]
            levels = [_level(same[same["kind"] == kind], directions[str(metric)]) for kind in kinds]
            rows.append((str(metric), [*(cells.get(column) for column in columns), *levels]))
        columns += [LEVELS[kind] for kind in kinds]
        sizes = sorted(set(part["n"]))
        n = f", n = {sizes[0]}" + (f" to {sizes[-1]}" if len(sizes) > 1 else "")
        caption = CAPTION.format(dataset=dataset, protocol=protocol, n=n) + LENGTHS * (part["steps"].nunique() > 1)
        first = dead_row(rates, str(dataset), labels, [("run", column) for column in columns])
        yield f"{dataset}_{protocol}.tex", latex(columns, first, rows, directions, caption, f"tab:{dataset}-{protocol}")
        yield f"{dataset}_{protocol}.md", markdown(columns, first, rows, directions, caption)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("dataset", "metric", "protocol", "steps", "model", "config"))


def _level(rows: pd.DataFrame, better: str) -> str | None:
    """`0.177 (kmeans)`, the best of these rows; None where none is better than another."""
    means = dict(zip(rows["model"], rows["mean"], strict=True))
    name = stats.best_named(means, better)
    return name and f"{means[name]:.3f} ({name})"


Cell = tuple[float, float, bool] | str | None
Said = list[tuple[str, list[str]]]  # rows of text


def latex(
    columns: list[str], first: Said, rows: list[tuple[str, list[Cell]]], directions: Mapping[str, str], caption: str,
    label: str,
) -> str:  # fmt: skip
    """A table environment; needs `\\usepackage{booktabs}`."""
    body = [[name, *(cell or "--" for cell in cells)] for name, cells in first]
    body = [[escape(text) for text in row] for row in body]
    body += [[escape(name) + ARROWS[directions[name]][0], *map(_latex_cell, cells)] for name, cells in rows]
    table = pd.DataFrame(body, columns=["metric", *map(escape, columns)])
    return "% needs \\usepackage{booktabs}\n" + table.style.hide(axis="index").to_latex(
        hrules=True, position_float="centering", column_format="l" + "c" * len(columns), caption=escape(caption),
        label=re.sub("[^A-Za-z0-9:-]", "-", label),
    )  # fmt: skip


def _latex_cell(cell: Cell) -> str:
    if cell is None:
        return "--"
    if isinstance(cell, str):
        return escape(cell)
    mean, std, strong = cell
    spread = rf" \pm {std:.3f}" if std == std else ""
    return rf"$\mathbf{{{mean:.3f}{spread}}}$" if strong else f"${mean:.3f}{spread}$"


def markdown(
    columns: list[str], first: Said, rows: list[tuple[str, list[Cell]]], directions: Mapping[str, str], caption: str
) -> str:
    """A table of GitHub's Markdown, with its caption above."""
    heads = [column.replace("|", r"\|") for column in columns]
    lines = [caption, "", f"| metric | {' | '.join(heads)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cell or '–' for cell in cells)} |" for name, cells in first]
    for metric, cells in rows:
        shown = [_markdown_cell(cell) for cell in cells]
        lines.append(f"| {metric}{ARROWS[directions[metric]][1]} | {' | '.join(shown)} |")
    return "\n".join([*lines, ""])


def _markdown_cell(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, str):
        return cell
    mean, std, strong = cell
    text = f"{mean:.3f}" + (f" ± {std:.3f}" if std == std else "")
    return f"**{text}**" if strong else text
