"""Tables, figures and pages, rebuilt from the run folders alone: nothing is trained, encoded or scored here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from benchmark import plugins, sources, store
from benchmark.defaults import HEADLINE, PRESETS
from benchmark.errors import UserError, anonymous
from benchmark.reporting import conclusions, findings, page, pictures, tables
from benchmark.reporting.gallery import Gallery
from benchmark.reporting.plots import numbers_in_order
from benchmark.reporting.screen import Screen
from benchmark.running import across
from benchmark.runs import Run, Warn, config_labels, details_of, is_scored, read_runs
from benchmark.spec import within
from benchmark.statistics import stats

SCORES = ["dataset", "model", "config", "kind", "seed", "metric", "protocol", "draw", "value", "note", "steps", "run"]
RUNS = ["run", "dataset", "model", "config", "seed", "status", "reason", "steps", "device", "threads", "seconds",
        "peak_mb", "commit"]  # fmt: skip
DETAILS = ["run", "table", "row", "column", "value"]
NOT_SCIENCE = (
    "Some of these runs are short, the beginning of a published one, or are scored with the quick protocol: they show "
    "what the models begin to learn. They are no scientific result; use --preset standard or paper for one. "
    f"On images of more than 32×32 pixels --preset quick trains every model at a learning rate of "
    f"{PRESETS['quick'].lr[1]}, not at its own."
)


def build(
    results: Path, data_dir: Path, files: Sequence[Path], warn: Warn, *,
    formats: Sequence[str] = tuple(pictures.FORMATS), headline: Sequence[str] = HEADLINE,
) -> Screen:  # fmt: skip
    """Write every table, figure and page of a results folder; returns what is shown first.

    formats: of the figures; headline: the keys that come first.
    """
    places = {results.absolute(): "<results>", data_dir.absolute(): "<data>"}
    runs = [replace(run, reason=anonymous(run.reason, places)) for run in read_runs(results, warn, files)]
    if not runs:
        raise UserError(f"{results}: holds no runs")
    with FileLock(results / ".report.lock"):  # two commands may end at once
        for folder in (results, results / "plots", results / across.FOLDER):
            store.sweep(folder)
        return _build(results, runs, data_dir, files, warn, formats, headline)


def _build(
    results: Path, runs: Sequence[Run], data_dir: Path, files: Sequence[Path], warn: Warn, formats: Sequence[str],
    chosen: Sequence[str],
) -> Screen:  # fmt: skip
    scores = score_table(runs, files, warn)
    write_tables(results, runs, scores)
    failed = run_table([run for run in runs if run.kind == "run" and run.status == "failed"])
    summary = stats.summarise(scores, failed)
    store.write_csv(results / "summary.csv", summary.to_dict("records"), stats.SUMMARY)
    labels = config_labels(runs)
    found = findings.find(runs, scores, failed, labels, warn)
    directions = dict(zip(scores["metric"], scores["better"], strict=True))
    for key in sorted(set(chosen) - {*HEADLINE, *scores["metric"]}):
        warn(f"--headline {key}: no run has this score")
    headline = stats.headline(scores[scores["kind"] == "run"], chosen)
    findings.write(results, found, summary, directions, labels, headline)
    how_to_read = traps(scores, files)
    sections = list(_sections(summary, scores, labels, how_to_read, found.rates))
    text = _markdown(runs, sections, found)
    store.write_bytes(results / "report.md", text.encode())
    screen = Screen(scores, failed, found, labels, headline)
    gallery = Gallery(data_dir, files, warn)
    pictures.write(results, runs, scores, gallery, formats, headline)
    page.write(
        results, runs, scores, gallery,
        conclusions=found.conclusions,
        lifeless=found.lifeless,
        method=conclusions.METHOD,
        traps=how_to_read,
        warning=NOT_SCIENCE if _is_quick(runs, sections) else "",
        screen=screen,
    )  # fmt: skip
    return screen


def write_tables(results: Path, runs: Sequence[Run], scores: pd.DataFrame) -> None:
    """scores.csv, runs.csv and details.csv."""
    store.write_csv(results / "scores.csv", scores.to_dict("records"), SCORES)
    listed = [run for run in runs if run.kind == "run" or run.status == "failed"]
    store.write_csv(results / "runs.csv", run_table(listed).to_dict("records"), RUNS)
    details = [{"run": run.id, **row} for run in runs for row in details_of(run)]
    store.write_csv(results / "details.csv", details, DETAILS)


def score_table(runs: Sequence[Run], files: Sequence[Path], warn: Warn) -> pd.DataFrame:
    """The long table of scores.csv, with `better`, `plugin`, `source` and `over_runs` beside, of every scored run.

    over_runs: whether a run has it only beside others (`udr`): its seeds are not independent, so no test holds for it.
    Where a metric's file changed between runs, scores by another version than the present one are left out.
    """
    rows: list[dict[str, Any]] = []
    beside = _across(runs)
    for run in runs:
        if not is_scored(run.folder):
            continue
        for row in [*store.read_csv(run.folder / "scores.csv"), *beside.get(run.id, [])]:
            rows.append({**_identity(run), "over_runs": False, **row, "kind": run.kind, "run": run.id,
                         "draw": int(row["draw"]),
                         "value": float(row["value"]) if row["value"] else math.nan})  # fmt: skip
    table = pd.DataFrame(rows, columns=[*SCORES, "better", "plugin", "source", "over_runs"])
    return _one_version(table.astype({"over_runs": bool}), files, warn)  # also where there is no row


def _one_version(scores: pd.DataFrame, files: Sequence[Path], warn: Warn) -> pd.DataFrame:
    found = plugins.discover(files)["metric"]
    versions = scores.groupby("plugin")["source"].nunique()
    for name in versions.index[versions > 1]:
        stale = scores["plugin"] == name
        if name in found:
            stale &= scores["source"] != sources.of_metric(found[name])
            warn(f"{stale.sum()} scores by another version of metric {name} are left out; run the command again")
        else:
            warn(f"{stale.sum()} scores by several versions of metric {name} are left out; pass its file with --plugin")
        scores = scores[~stale]
    return scores


def _across(runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
    """Run -> its scores by the metrics over runs."""
    found: dict[str, list[dict[str, Any]]] = {}
    for results in {run.folder.parent.parent for run in runs}:
        for path in sorted((results / across.FOLDER).glob("*.csv")):
            for row in store.read_csv(path):
                if store.sums(results / "runs" / row["run"]).get("codes.h5") == row["codes"]:
                    found.setdefault(row["run"], []).append({**row, "over_runs": True})
    return found


def run_table(runs: Sequence[Run]) -> pd.DataFrame:
    rows = [{**run.facts, **_identity(run), "run": run.id, "status": run.status, "reason": run.reason} for run in runs]
    return pd.DataFrame(rows, columns=RUNS, dtype=object)


def _identity(run: Run) -> dict[str, Any]:
    spec = run.spec
    return {"dataset": spec.dataset, "model": spec.model, "config": run.config, "seed": spec.seed, "steps": spec.steps}


# --- tables for people ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Section:
    """One table: the scores of a data set under one protocol; a row a metric, a column a model or floor."""

    dataset: str
    protocol: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]
    notes: list[str]
    traps: list[str]


def _sections(
    summary: pd.DataFrame, scores: pd.DataFrame, labels: dict[tuple[str, str, str], str], traps: dict[str, str],
    rates: pd.DataFrame,
) -> Iterator[Section]:  # fmt: skip
    arrows = {
        metric: f"{metric} {stats.ARROW[better]}"
        for metric, better in zip(scores["metric"], scores["better"], strict=True)
    }
    summary = summary.merge(stats.draw_errors(scores), on=stats.GROUP, how="left")
    for (dataset, protocol), part in summary.groupby(["dataset", "protocol"]):
        part = part.assign(label=[labels[dataset, m, c] for m, c in zip(part["model"], part["config"], strict=True)])
        order = {"run": 0, "floor": 1, "ceiling": 2}
        columns = sorted(
            set(zip(part["kind"], part["label"], strict=True)),
            key=lambda pair: (order[pair[0]], numbers_in_order(pair[1])),
        )
        rows = tables.dead_row(rates, str(dataset), labels, columns)
        for metric, group in part.groupby("metric"):
            cells = {(row.kind, row.label): _cell(row) for row in group.itertuples()}
            rows.append((arrows[metric].strip(), [cells.get(c, "") for c in columns]))
        here = scores[(scores["dataset"] == dataset) & (scores["protocol"] == protocol)]
        notes, used = here[(here["kind"] == "run") & here["value"].isna()], set(here["plugin"])
        reasons = sorted({f"{row.metric} ({row.model}): {row.note}" for row in notes.itertuples()})
        names = [label if kind == "run" else f"{label} ({kind})" for kind, label in columns]
        warnings = [f"{plugin}: {text}" for plugin, text in traps.items() if plugin in used]
        yield Section(str(dataset), str(protocol), names, rows, reasons, warnings)


def traps(scores: pd.DataFrame, files: Sequence[Path]) -> dict[str, str]:
    """Metric -> what a reader of its score must know, from its file's `TRAP`; a plugin that is gone says nothing."""
    found = plugins.discover(files)["metric"]
    known = sorted(set(scores["plugin"]) & set(found))
    texts = {name: getattr(found[name].module(), "TRAP", "") for name in known}
    return {name: text for name, text in texts.items() if text}


def _cell(row: Any) -> str:
    """`0.412 ± 0.031 [0.373, 0.450] (draws ±0.004)`: the interval from two seeds on, the noise from two draws on."""
    text = f"{row.mean:.3f}"
    if row.n > 1:
        text += f" ± {row.std:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]"
    if row.error == row.error:
        text += f" (draws ±{row.error:.3f})"
    return text + (f" ({row.failed} failed)" if row.failed else "")


def _markdown(runs: Sequence[Run], sections: Sequence[Section], found: findings.Findings) -> str:
    lines = [*findings.opening(found), "# Scores", "", *_preamble(runs, sections, found)]
    for section in sections:
        lines += ["", f"## {section.dataset}, protocol {section.protocol}", ""]
        lines.append("| metric | " + " | ".join(section.columns) + " |")
        lines.append("|---" * (len(section.columns) + 1) + "|")
        lines += [f"| {metric} | " + " | ".join(cells) + " |" for metric, cells in section.rows]
        lines += ["", *(f"- how to read {trap}" for trap in section.traps)]
        lines += ["", *(f"- not applicable: {note}" for note in section.notes)]
    lines += findings.closing(found)
    return "\n".join(lines) + "\n"


def _preamble(runs: Sequence[Run], sections: Sequence[Section], found: findings.Findings) -> list[str]:
    trained = [run for run in runs if run.kind == "run"]
    failed = [run for run in runs if run.status != "ok"]
    lost = sum(run.kind == "run" for run in failed)
    floors = f"; of the floors, {len(failed) - lost}" if len(failed) > lost else ""
    lines = [
        f"{len(trained)} runs, {lost} of them failed or unfinished{floors}, {found.rates['dead'].sum()} dead. "
        "Mean ± standard deviation over seeds, in brackets the 95 % interval of the mean (Student's t). "
        "↑ higher is better, ↓ lower is better. Floors (a constant, noise, an untrained network, PCA, ICA, k-means) "
        "and the ceiling (the true factors) say what a number means: chance is not 0 for every metric."
    ]
    if _is_quick(runs, sections):
        lines += ["", f"**{NOT_SCIENCE}**"]
    lines += [f"- {run.status}: {run.id}: {run.reason}" for run in failed]
    return [*lines, *(f"- {text}" for text in _short(trained))]


def _short(trained: Sequence[Run]) -> list[str]:
    """The schedules that runs end within, a line a configuration."""
    specs = {(run.spec.dataset, run.spec.model, run.config): run.spec for run in trained}
    said = {key: ", ".join(within(spec)) for key, spec in specs.items()}
    return [f"{model} ({config}) on {dataset} ends {text}" for (dataset, model, config), text in said.items() if text]


def _is_quick(runs: Sequence[Run], sections: Sequence[Section]) -> bool:
    """Whether anything shown was trained or scored too shortly to mean much."""
    short = max(PRESETS["quick"].steps or ())
    return any(s.protocol == "quick" for s in sections) or any(r.kind == "run" and r.spec.steps <= short for r in runs)
