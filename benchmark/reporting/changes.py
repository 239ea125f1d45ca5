"""What changed between two results folders: `--compare DIR DIR`. Nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmark import sources
from benchmark.defaults import HEADLINE
from benchmark.errors import UserError
from benchmark.reporting import report
from benchmark.runs import Record, Run, read_runs
from benchmark.statistics import stats
from benchmark.statistics.differences import ALPHA, difference, fill_in_p, holm, signs_can_pass

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
ROWS = 16  # of the table: what fits on a screen
KEY = ["dataset", "model", "config"]
SCORED = ["metric", "protocol"]
FAMILY = ["dataset", "metric", "protocol"]


def compare(first: Path, second: Path, files: Sequence[Path], warn: Callable[[str], None]) -> str:
    """A page of Markdown; raises UserError where one of the folders holds no runs."""
    folders = []
    for path in (first, second):
        runs = read_runs(path, warn, files)
        if not runs:
            raise UserError(f"{path}: holds no runs")
        scores = report.score_table(runs, files, warn)
        folders.append((runs, scores[~scores["over_runs"]]))
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
    of_a, of_b = ({(r.spec.dataset, r.spec.model, r.config): r for r in runs} for runs in (a, b))
    matched: dict[tuple[str, ...], tuple[str, ...]] = {key: key for key in of_a if key in of_b}
    lines = []
    for key in [key for key in of_a if key not in of_b]:
        left = [[k for k in of if k[:2] == key[:2] and k not in matched.values()] for of in (of_a, of_b)]
        if [len(side) for side in left] == [1, 1]:
            other = left[1][0]
            mine, theirs = ({**r.spec.to_json(), **r.spec.hparams, **r.variant} for r in (of_a[key], of_b[other]))
            names = [n for n in sorted({*mine, *theirs}) if n not in ("seed", "hparams")]
            changed = [f"{n} {mine.get(n)} → {theirs.get(n)}" for n in names if mine.get(n) != theirs.get(n)]
            lines.append(f"{key[1]} on {key[0]}: {', '.join(changed)}")
            matched[key] = other
    return matched, lines


def provenance(a: Sequence[Run], b: Sequence[Run]) -> list[str]:
    """What the machines and files say that is not a setting: commits, versions, devices, models' files."""
    lines = []
    for name in ("commit", "device", "threads", "python", "platform", "processor"):
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
    differing: dict[str, set[str]] = {}
    for name, mine, theirs in common:
        differing.setdefault(name, set()).update(sources.differing(mine, theirs, stages))
    return lines + [f"the code of {name}: {', '.join(sorted(files))}" for name, files in differing.items() if files]


def changes(a: pd.DataFrame, b: pd.DataFrame, matched: dict[tuple[str, ...], tuple[str, ...]]) -> pd.DataFrame:
    """A row per matched configuration and score of the same protocol: means, the difference b - a, interval and test.

    As in `differences.comparisons`: the permutation test of independent runs, or the test by signs of pairs where the
    settings are the same in both folders and the common seeds are enough for it (`design`); Holm's correction over a
    family, which here is all configurations of one score that are not identical. `verdict`: identical (the same seeds
    have the same scores), changed, or no change shown.
    """
    sides = [stats.per_seed(scores[scores["kind"] == "run"]).groupby([*KEY, *SCORED, "better"]) for scores in (a, b)]
    of_a, of_b = ({key: g.groupby("seed")["value"].mean() for key, g in side} for side in sides)
    pairs = {key: (*matched.get(key[:3], ("", "", "")), *key[3:]) for key in of_a}
    pairs = {key: other for key, other in pairs.items() if other in of_b}
    alike = {key for key, other in pairs.items() if _settings(key[2]) == _settings(other[2])}
    same = {key for key in alike if _identical(of_a[key], of_b[pairs[key]])}
    tested = [key for key in pairs if key not in same]
    sizes = Counter(_family(key) for key in tested)
    rows: list[dict[str, Any]] = []
    for key in tested:
        x, y = of_a[key], of_b[pairs[key]]
        rows.append(difference(y, x, paired=key in alike and signs_can_pass(x, y, sizes[_family(key)])))
    fill_in_p(rows, [(of_b[pairs[key]].to_numpy(), of_a[key].to_numpy()) for key in tested])
    table = pd.DataFrame([_change(key, row) for key, row in zip(tested, rows, strict=True)], columns=CHANGES)
    table["p_holm"] = table.groupby(FAMILY)["p"].transform(lambda p: holm(p.to_numpy(dtype=float)))
    table["family"] = table.groupby(FAMILY)["p"].transform("count")
    table["verdict"] = np.where(table["p_holm"] <= ALPHA, "changed", "no change shown")
    return pd.concat(
        [table, pd.DataFrame([_unchanged(key, of_a[key]) for key in pairs if key in same], columns=CHANGES)]
    )


def _settings(config: str) -> str:
    """The configuration without what sets runs of equal settings apart, such as the code."""
    return config.partition("+")[0]


def _family(key: tuple[str, ...]) -> tuple[str, ...]:
    dataset, _, _, metric, protocol, _ = key
    return dataset, metric, protocol


def _identical(x: pd.Series, y: pd.Series) -> bool:
    return x.index.equals(y.index) and np.array_equal(x, y)


def _change(key: tuple[str, ...], row: dict[str, Any]) -> dict[str, Any]:
    """`difference` of the second folder and the first, as a row."""
    sides = {"n_a": row["n_b"], "n_b": row["n_a"], "mean_a": row["mean_b"], "mean_b": row["mean_a"]}
    return {**row, **sides, **dict(zip([*KEY, *SCORED, "better"], key, strict=True))}


def _unchanged(key: tuple[str, ...], x: pd.Series) -> dict[str, Any]:
    same = {"n_a": len(x), "n_b": len(x), "mean_a": x.mean(), "mean_b": x.mean(), "difference": 0.0}
    return {
        **dict(zip([*KEY, *SCORED, "better"], key, strict=True)),
        **same,
        "design": "paired",
        "verdict": "identical",
    }


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
        "p: permutation test on Welch's t, or the test by signs of pairs of equal settings and seeds where there are "
        "enough of them; Holm's correction over the configurations of each score.",
        "",
        "| data set | model | config | score | protocol | n | a | b | b - a, 95 % interval | p | |",
        "|---" * 11 + "|",
    ]
    changed = rest["verdict"] == "changed"
    shown = rest[changed | rest["metric"].isin(HEADLINE)].sort_values("verdict", kind="stable").head(ROWS)
    if len(shown) < len(rest):
        left = (rest["verdict"] == "changed").sum() - (shown["verdict"] == "changed").sum()
        lines.insert(-2, f"{len(rest) - len(shown)} more scores are not listed, {left} of them changed.")
        lines.insert(-2, "")
    for row in shown.itertuples():
        interval = f" [{row.ci_low:.3f}, {row.ci_high:.3f}]" if row.ci_low == row.ci_low else ""
        p = f"{row.p_holm:.3f}" if row.p_holm == row.p_holm else "–"
        lines.append(
            f"| {row.dataset} | {row.model} | {row.config} | {row.metric} | {row.protocol} | {row.n_a}, {row.n_b} "
            f"| {row.mean_a:.3f} | {row.mean_b:.3f} | {row.difference:.3f}{interval} | {p} | {row.verdict} |"
        )
    return lines
