"""Metrics over the runs of one configuration (`ACROSS_RUNS`), such as UDR: scored once the grid is done."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import metrics
from benchmark import store, worker
from benchmark.plugins import Plugin
from benchmark.worker import Job

FOLDER = "across"
COLUMNS = ("run", *worker.SCORE_COLUMNS)


def score(results: Path, jobs: Sequence[Job], chosen: Sequence[Plugin], warn: Callable[[str], None]) -> None:
    """Write results/across/<data set>-<model>-<config>.csv, a row per run and number, for the finished runs in `jobs`.

    A metric gives a key per run, ending in the run's place (`udr_0`, `udr_spearman_0`): it is recorded as that run's
    `udr` and `udr_spearman`.
    """
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        if chosen and store.is_finished(job.folder, "codes.h5", warn=warn):
            groups.setdefault(f"{job.spec.dataset}-{job.spec.model}-{job.spec.config}", []).append(job)
    for name, group in groups.items():
        tables = [store.load_codes(job.folder / "codes.h5")[0] for job in group]
        rows = [row for plugin in chosen for row in _rows(group, tables, plugin)]
        (results / FOLDER).mkdir(exist_ok=True)
        store.write_csv(results / FOLDER / f"{name}.csv", rows, COLUMNS)


def _rows(group: Sequence[Job], tables: Sequence[metrics.Codes], plugin: Plugin) -> list[store.Row]:
    job, module = group[0], plugin.module()
    protocol = metrics.effective_protocol(module, job.protocol)
    rng = metrics.metric_rng(0, plugin.name)
    found = metrics.run_metric(plugin.load(), tables, rng, metrics.settings(module, protocol))
    same = {"protocol": protocol, "draw": 0, "sampled": "yes"}
    rows = []
    for row in worker.score_rows(found, plugin, same):
        of_run = re.fullmatch(r"(.+)_([0-9]+)", row["metric"])
        if of_run:
            rows.append({**row, "metric": of_run[1], "run": group[int(of_run[2])].spec.id()})
        elif row["note"]:
            rows += [{**row, "run": job.spec.id()} for job in group]
    return rows
