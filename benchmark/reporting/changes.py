"""What changed between two results folders: `--compare DIR DIR`. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

from benchmark import sources
from benchmark.errors import UserError
from benchmark.reporting import findings, report
from benchmark.runs import Record, Run, read_runs
from benchmark.statistics import stats
from benchmark.statistics.differences import holm, permutation_test, welch

CHANGES = [
    "dataset",
    "model",
    "config",
    "metric",
    "protocol",
    "better",
    "design",
    "n_a",
    "n_b",
    "mean_a",
    "mean_b",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "family",
    "verdict",
]
KEY = ["dataset", "model", "config"]
SCORED = ["metric", "protocol"]


def compare(first: Path, second: Path, files: Sequence[Path], warn: Callable[[str], None]) -> str:
    """A page of Markdown; raises UserError where one of the folders holds no runs."""
    folders = []
    for path in (first, second):
        runs = read_runs(path, warn, files)
        if not runs:
            raise UserError(f"{path}: holds no runs")
        scores = report.score_table(runs, files, warn)
        folders.append((runs, scores[~scores["metric"].isin(findings.over_runs(runs))]))
    (runs_a, scores_a), (runs_b, scores_b) = folders
    matched, settings = match(runs_a, runs_b)
    table = changes(scores_a, scores_b, matched)
    lines = ["# What changed", "", f"a: {first.name or first}, b: {second.name or second}. Differences are b - a."]
    lines += _listed("Runs only in a", sorted({r.id for r in runs_a} - {r.id for r in runs_b}))
    lines += _listed("Runs only in b", sorted({r.id for r in runs_b} - {r.id for r in runs_a}))
    lines += _listed("Settings that differ", [*settings, *provenance(runs_a, runs_b)])
    lines += _listed("Not comparable", not_comparable(scores_a, scores_b, matched))
    return "\n".join([*lines, *_table(table)]) + "\n"


def match(a: Sequence[Run], b: Sequence[Run]) -> tuple[dict[tuple[str, ...], tuple[str, ...]], list[str]]:
    """Configurations of a -> of b: equal ones, and of what is left the only one of a model on a data set in either
    folder; and the settings in which these differ, a line each."""
    of_a, of_b = ({(r.spec.dataset, r.spec.model, r.config): r.spec for r in runs} for runs in (a, b))
    matched: dict[tuple[str, ...], tuple[str, ...]] = {key: key for key in of_a if key in of_b}
    lines = []
    for key in [key for key in of_a if key not in of_b]:
        left = [[k for k in of if k[:2] == key[:2] and k not in matched.values()] for of in (of_a, of_b)]
        if [len(side) for side in left] == [1, 1]:
            other = left[1][0]
            mine, theirs = ({**s.to_json(), **s.hparams} for s in (of_a[key], of_b[other]))
            names = [n for n in sorted({*mine, *theirs}) if n not in ("seed", "hparams")]
            changed = [f"{n} {mine.get(n)} → {theirs.get(n)}" for n in names if mine.get(n) != theirs.get(n)]
            lines.append(f"{key[1]} on {key[0]}: {', '.join(changed)}")
            matched[key] = other
    return matched, lines


def provenance(a: Sequence[Run], b: Sequence[Run]) -> list[str]:
    """What the machines and files say that is not a setting: commits, versions, devices, models' files."""
    lines = []
    for name in ("commit", "device", "threads", "python", "platform"):
        values = [sorted({str(run.facts.get(name, "")) for run in runs} - {""}) for runs in (a, b)]
        if values[0] != values[1]:
            lines.append(f"{name}: {', '.join(values[0]) or 'unknown'} → {', '.join(values[1]) or 'unknown'}")
    versions = [{n: v for run in runs for n, v in (run.facts.get("versions") or {}).items()} for runs in (a, b)]
    lines += [
        f"{name}: {versions[0].get(name, 'unknown')} → {versions[1].get(name, 'unknown')}"
        for name in sorted({*versions[0], *versions[1]})
        if versions[0].get(name) != versions[1].get(name)
    ]
    of_a, of_b = ({run.id: Record.read(run.folder).sources for run in runs} for runs in (a, b))
    stages = sorted({stage for found in (*of_a.values(), *of_b.values()) for stage in found})
    common = [(run.rsplit("-s", 1)[0], of_a[run], of_b[run]) for run in sorted(of_a.keys() & of_b.keys())]
    differing = {name: sources.differing(mine, theirs, stages) for name, mine, theirs in common}
    return lines + [f"the code of {name}: {', '.join(files)}" for name, files in differing.items() if files]


def changes(a: pd.DataFrame, b: pd.DataFrame, matched: dict[tuple[str, ...], tuple[str, ...]]) -> pd.DataFrame:
    """A row per matched configuration and score of the same protocol: means, the difference b - a, interval and test.

    Where a configuration is the same in both folders, so are its runs but for what changed around them: the seeds that
    both have are pairs (`design`), with Student's t interval and test of their differences. Else Welch's interval and
    the permutation test of `compare`. Holm's correction over all rows that are not identical (`family`). `verdict`:
    identical (every common seed has the same score), changed, or no change shown.
    """
    sides = [stats.per_seed(scores[scores["kind"] == "run"]).groupby([*KEY, *SCORED, "better"]) for scores in (a, b)]
    of_a, of_b = ({key: g.groupby("seed")["value"].mean() for key, g in side} for side in sides)
    rows: list[dict[str, Any]] = []
    for key, x in of_a.items():
        other = (*matched.get(key[:3], ("", "", "")), *key[3:])
        if other not in of_b:
            continue
        y = of_b[other]
        common = x.index.intersection(y.index)
        paired = other == key and len(common) > 0
        if paired:
            x, y = x[common], y[common]
            low, high, p = _pairs((y - x).to_numpy())
        else:
            low, high, _ = welch(y, x)
            p = float(permutation_test(y.to_numpy(), x.to_numpy()))
        same = paired and np.array_equal(x, y)
        rows.append(
            {
                **dict(zip([*KEY, *SCORED, "better"], key, strict=True)),
                "design": "paired" if paired else "independent",
                "n_a": len(x),
                "n_b": len(y),
                "mean_a": x.mean(),
                "mean_b": y.mean(),
                "difference": y.mean() - x.mean(),
                "ci_low": low,
                "ci_high": high,
                "p": p,
                "verdict": "identical" if same else "",
            }
        )
    table = pd.DataFrame(rows, columns=CHANGES)
    tested = table["verdict"] != "identical"
    table["family"] = int(tested.sum())
    table["p_holm"] = table["p"].astype(float)
    table.loc[tested, "p_holm"] = holm(table.loc[tested, "p"].to_numpy(dtype=float))
    found = np.where(table["p_holm"] <= 0.05, "changed", "no change shown")
    table["verdict"] = np.where(tested, found, "identical")
    return table


def _pairs(differences: np.ndarray) -> tuple[float, float, float]:
    """Student's t interval of the mean of the differences, and its p-value; 0 where all seeds changed by one amount."""
    low, high = stats.t_interval(differences)
    mean, half = differences.mean(), (high - low) / 2
    if len(differences) < 2:
        return low, high, float("nan")
    if half <= 1e-9 * abs(mean):
        return low, high, float(mean == 0)
    n = len(differences)
    return low, high, float(2 * t.sf(abs(mean) / (differences.std(ddof=1) / n**0.5), n - 1))


def not_comparable(a: pd.DataFrame, b: pd.DataFrame, matched: dict[tuple[str, ...], tuple[str, ...]]) -> list[str]:
    """Scores of matched configurations that both folders have, but under other protocols or by another version."""
    kinds = [scores[(scores["kind"] == "run") & scores["value"].notna()] for scores in (a, b)]
    protocols, versions = [], []
    for scores in kinds:
        by = scores.groupby([*KEY, "metric"])
        protocols.append({key: set(group["protocol"]) for key, group in by})
        versions.append({(p, q): set(g["source"]) for (p, q), g in scores.groupby(["plugin", "protocol"])})
    lines: dict[str, set[str]] = {}
    for key, mine in protocols[0].items():
        theirs = protocols[1].get((*matched.get(key[:3], ("", "", "")), key[3]), set())
        if theirs and not mine & theirs:
            text = f"{key[1]} on {key[0]}: protocol {', '.join(sorted(mine))} in a, {', '.join(sorted(theirs))} in b"
            lines.setdefault(text, set()).add(key[3])
    found = [f"{text} ({', '.join(sorted(metrics))})" for text, metrics in sorted(lines.items())]
    changed = sorted({p for p, q in versions[0] if (p, q) in versions[1] and versions[0][p, q] != versions[1][p, q]})
    return found + [f"metric {name}: its file changed, so differences may be the metric's" for name in changed]


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {line}" for line in lines)] if lines else []


def _table(table: pd.DataFrame) -> list[str]:
    lines = ["", "## Scores", ""]
    if table.empty:
        return [*lines, "No score is in both folders."]
    same = table[table["verdict"] == "identical"]
    if len(same):
        lines += [f"{len(same)} of {len(table)} scores are identical, seed by seed, and not listed.", ""]
    rest = table[table["verdict"] != "identical"]
    if rest.empty:
        return lines
    lines += [
        "p: Student's t test of the pairs of equal runs, else a permutation test on Welch's t; Holm's "
        f"correction over {len(rest)} scores.",
        "",
        "| data set | model | config | score | protocol | n | a | b | b - a, 95 % interval | p | |",
        "|---" * 11 + "|",
    ]
    for row in rest.itertuples():
        interval = f" [{row.ci_low:.3f}, {row.ci_high:.3f}]" if row.ci_low == row.ci_low else ""
        p = f"{row.p_holm:.3f}" if row.p_holm == row.p_holm else "–"
        lines.append(
            f"| {row.dataset} | {row.model} | {row.config} | {row.metric} | {row.protocol} | {row.n_a}, {row.n_b} "
            f"| {row.mean_a:.3f} | {row.mean_b:.3f} | {row.difference:.3f}{interval} | {p} | {row.verdict} |"
        )
    return lines
