"""What the statistics find in a results folder: tables beside summary.csv, and sections of report.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmark import store
from benchmark.reporting import conclusions, lengths, tables
from benchmark.statistics import agreement, differences, stats
from metrics import Codes

if TYPE_CHECKING:
    from benchmark.runs import Run

Labels = Mapping[tuple[str, str, str], str]
NOTHING = "Nothing to compare: no two models that have learned share a score at one number of steps and protocol."


@dataclass(frozen=True)
class Findings:
    """Every table that the statistics add, and the conclusions in words.

    names: of the models without their lengths; shorter: the configurations of which a longer training was scored under
    the same protocol.
    """

    keys: list[str]
    names: Labels
    shorter: set[lengths.Scored]
    spread: pd.DataFrame
    rates: pd.DataFrame
    lifeless: list[conclusions.Lifeless]
    comparisons: pd.DataFrame
    lengths: pd.DataFrame
    variance: pd.DataFrame
    agreement: pd.DataFrame
    selection: pd.DataFrame
    conclusions: list[conclusions.Conclusion]


def find(
    runs: Sequence[Run], scores: pd.DataFrame, failed: pd.DataFrame, labels: Labels, warn: Callable[[str], None]
) -> Findings:
    """All findings. Runs without codes.h5 (published results carry none) have no agreement of seeds."""
    trained = scores[scores["kind"] == "run"]
    keys = stats.main_keys(trained)
    pairs = differences.comparisons(scores, failed)
    names = lengths.names(runs, labels)
    shorter = lengths.shorter(scores, names)
    longest = lengths.without(scores, shorter)  # a run that went on is no second one
    agreed = [agreement.metric_agreement(longest, keys), _seeds(runs, warn)]
    return Findings(
        keys=keys,
        names=names,
        shorter=shorter,
        spread=stats.spread(scores, failed),
        rates=(rates := stats.dead_rates(scores)),
        lifeless=conclusions.lifeless(rates, stats.states(scores), labels),
        comparisons=pairs,
        lengths=lengths.table(pairs, names),
        variance=stats.variance_components(trained),
        agreement=pd.concat([part for part in agreed if len(part)] or agreed[:1], ignore_index=True),
        selection=agreement.selection(longest, keys),
        conclusions=conclusions.conclude(scores, pairs, labels, names, keys),
    )


def _seeds(runs: Sequence[Run], warn: Callable[[str], None]) -> pd.DataFrame:
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        if run.kind == "run" and run.status == "ok":
            groups.setdefault((run.spec.dataset, run.spec.model, run.config), []).append(run)
    rows: list[dict[str, object]] = []
    absent = 0
    for (dataset, model, config), members in groups.items():
        codes: dict[int, Codes] = {}
        for run in members if len(members) > 1 else []:
            if not (run.folder / "codes.h5").exists():
                absent += 1
                continue
            found = store.load_codes(run.folder / "codes.h5")[0]
            codes[run.spec.seed] = found.select(slice(None, None, -(-found.n // agreement.ROWS)))
        same = {"dataset": dataset, "model": model, "config": config}
        rows += [{**row, **same} for row in agreement.seed_agreement(codes)]
    if absent:
        warn(f"{absent} runs have no codes.h5: the agreement of seeds is left out for them")
    return pd.DataFrame(rows, columns=agreement.AGREEMENT)


def write(
    results: Path, found: Findings, summary: pd.DataFrame, directions: dict[str, str], labels: Labels,
    keys: list[str],
) -> None:  # fmt: skip
    """spread.csv, comparisons.csv, variance.csv, agreement.csv, selection.csv, and of these keys tables/*; lengths.csv
    where models were compared at several lengths."""
    named = {
        "spread": (found.spread, stats.SPREAD),
        "comparisons": (found.comparisons, differences.COMPARISONS),
        "variance": (found.variance, stats.VARIANCE),
        "agreement": (found.agreement, agreement.AGREEMENT),
        "selection": (found.selection, agreement.SELECTION),
    }
    for name, (table, columns) in named.items():
        store.write_csv(results / f"{name}.csv", table.to_dict("records"), columns)
    if len(found.lengths):
        store.write_csv(results / lengths.FILE, found.lengths.to_dict("records"), lengths.LENGTHS)
    else:
        (results / lengths.FILE).unlink(missing_ok=True)  # of runs that are gone
    folder = results / "tables"
    folder.mkdir(exist_ok=True)
    for old in [*folder.glob("*.tex"), *folder.glob("*.md")]:
        old.unlink()
    summary = lengths.without(summary, found.shorter)
    for name, text in tables.tables(summary, found.comparisons, labels, directions, keys, found.rates):
        store.write_bytes(folder / name, text.encode())


def opening(found: Findings) -> list[str]:
    """The section of report.md that comes first: dead runs, conclusions, a line a headline metric, and their limits."""
    lines = ["# Conclusions", "", *_lifeless(found.lifeless)]
    if not found.conclusions:
        return [*lines, NOTHING, ""]
    few = conclusions.warning(found.conclusions)
    lines += [f"**{few}**", ""] if few else []
    groups: dict[tuple[str, str, int], list[conclusions.Conclusion]] = {}
    for c in found.conclusions:
        groups.setdefault((c.dataset, c.protocol, c.steps), []).append(c)
    for (dataset, protocol, steps), members in groups.items():
        least, most = min(c.family for c in members), max(c.family for c in members)
        pairs = f"{least} to {most} pairs" if least < most else f"{most} pair{'s' * (most > 1)}"
        lines += [f"## {dataset}, protocol {protocol}, {steps} steps ({pairs} a metric)", ""]
        lines += [f"- {c.sentence}" for c in members]
        lines.append("")
    return [*lines, conclusions.METHOD, ""]


def _lifeless(lifeless: Sequence[conclusions.Lifeless]) -> list[str]:
    if not lifeless:
        return []
    strong = ["**" if one.unlearned else "" for one in lifeless]
    lines = [f"- {one.dataset}: {mark}{one.sentence}{mark}" for one, mark in zip(lifeless, strong, strict=True)]
    return [*lines, "", conclusions.DEAD, ""]


def closing(found: Findings) -> list[str]:
    """The sections of report.md after the scores: lengths, noise, agreement, selection; each only where there is
    something."""
    return [*_lengths(found), *_noise(found), *_agreement(found.agreement), *_selection(found.selection)]


def _lengths(found: Findings) -> list[str]:
    """What was shown at a shorter length, and how much of it stays."""
    table = found.lengths[found.lengths["metric"].isin(found.keys)]
    if table.empty:
        return []
    lines = [
        "",
        "## Score against steps",
        "",
        "Of the differences that are shown before a pair's longest length: how many are shown at every longer one too, "
        "and which turn round. All of it is in lengths.csv; plots/lengths_* draw the scores.",
        "",
        "| data set | metric | protocol | shown at a shorter length | stay | turn round |",
        "|---" * 6 + "|",
    ]
    for (dataset, metric, protocol), group in table.groupby(["dataset", "metric", "protocol"]):
        early = group[(group["stays"] != "") & (group["better"] != "")]
        stay = (early["stays"] == "yes").sum()
        turned = "; ".join(lengths.turned(group)) or "–"
        lines.append(f"| {dataset} | {metric} | {protocol} | {len(early)} | {stay} | {turned} |")
    return lines


def _noise(found: Findings) -> list[str]:
    shown = found.variance[found.variance["metric"].isin(found.keys) & (found.variance["draw_variance"] > 0)]
    if shown.empty:
        return []
    lines = [
        "",
        "## Seed noise against metric noise",
        "",
        "Share of a score's variance (one training, one evaluation) that is the evaluation's own: more draws help "
        "against it, only more seeds against the rest. All of it is in variance.csv.",
        "",
        "| data set | metric | protocol | share of the draws, least to most over models |",
        "|---|---|---|---|",
    ]
    for (dataset, metric, protocol), group in shown.groupby(["dataset", "metric", "protocol"]):
        low, high = group["draw_share"].min(), group["draw_share"].max()
        span = f"{100 * low:.0f} %" if len(group) == 1 else f"{100 * low:.0f} to {100 * high:.0f} %"
        lines.append(f"| {dataset} | {metric} | {protocol} | {span} |")
    return lines


def _agreement(table: pd.DataFrame, most: int = 5) -> list[str]:
    lines = []
    pairs = table[(table["kind"] == "metrics") & table["value"].notna()].astype({"value": float})
    for dataset, group in pairs.groupby("dataset"):
        n = sorted({int(value) for value in group["n"]})
        runs = f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"
        text = f"- {dataset}: {len(group)} pairs of metrics over {runs} runs; the median rank correlation is "
        text += f"{group['value'].median():.2f}."
        opposed = group[group["high"].astype(float) < 0].sort_values("value", kind="stable").head(most)
        if len(opposed):
            named = [f"{row.a} and {row.b} ({row.value:.2f})" for row in opposed.itertuples()]
            text += f" Shown to rank runs against each other: {', '.join(named)}."
        lines.append(text)
    seeds = table[(table["kind"] == "seeds") & table["value"].notna()].astype({"value": float})
    seeds = seeds.assign(what=seeds["a"].str.partition(" ")[0]) if len(seeds) else seeds.assign(what="")
    for (dataset, model, config, what), group in seeds.groupby(["dataset", "model", "config", "what"]):
        measure = "mean matched correlation" if what == "latents" else "share of images in matched classes"
        values = group["value"]
        lines.append(
            f"- {dataset}, {model} ({config}), {what} of {len(values)} pairs of seeds: {measure} "
            f"{values.mean():.2f} ({values.min():.2f} to {values.max():.2f})."
        )
    head = [
        "",
        "## Agreement of metrics and of seeds",
        "",
        "Spearman's rank correlations over all runs, signs so that positive is agreement on what is better; latents "
        "of two seeds matched one to one. All pairs are in agreement.csv.",
        "",
    ]
    return [*head, *lines] if lines else []


def _selection(table: pd.DataFrame) -> list[str]:
    if table.empty:
        return []
    lines = [
        "",
        "## Choosing a run without labels",
        "",
        "Regret: how far the run that the criterion chooses lies behind the model's best run; beside it the mean "
        "regret of a run drawn at random. In the scores' own units, from selection.csv.",
        "",
        "| data set | model | criterion | metric | n | regret | at random |",
        "|---" * 7 + "|",
    ]
    for row in table.itertuples():
        lines.append(
            f"| {row.dataset} | {row.model} | {row.criterion} | {row.metric} | {row.n} | {row.regret:.3f} "
            f"| {row.random_regret:.3f} |"
        )
    return lines
