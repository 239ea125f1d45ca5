"""Metrics over the runs of one configuration (`ACROSS_RUNS`), such as UDR: scored once the grid is done."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

import metrics
from benchmark import store
from benchmark.errors import UserError
from benchmark.plugins import Plugin
from benchmark.running import worker
from benchmark.running.job import Job, has_codes
from benchmark.runs import Record

FOLDER = "across"
COLUMNS = ("run", "codes", *worker.SCORE_COLUMNS)


def score(results: Path, jobs: Sequence[Job], chosen: Sequence[Plugin], warn: Callable[[str], None]) -> int:
    """Write results/across/<data set>-<model>-<config>.csv, a row per run and number, for the configurations in `jobs`.

    All finished seeds in the results folder take part. A metric gives a key per run, ending in the run's place
    (`udr_0`, `udr_spearman_0`): it is recorded as that run's `udr` and `udr_spearman`, with the sha256 of its codes.
    Returns how many times a metric failed.
    """
    failures = 0
    configurations: dict[tuple[str, str, str], list[Job]] = {}
    for job in jobs if chosen else ():
        configurations.setdefault((job.spec.dataset, job.spec.model, job.spec.config), []).append(job)
    for seeds in configurations.values():
        with FileLock(results / ".report.lock"):  # two commands may end at once
            failures += _score(results, seeds, chosen, warn)
    return failures


def _score(results: Path, seeds: Sequence[Job], chosen: Sequence[Plugin], warn: Callable[[str], None]) -> int:
    failures, job = 0, seeds[0]
    name = f"{job.spec.dataset}-{job.spec.model}-{job.spec.config}"
    path = results / FOLDER / f"{name}.csv"
    rows = store.read_csv(path) if path.exists() else []
    for plugin in chosen:
        protocol = metrics.effective_protocol(plugin.module(), job.protocol)
        rows = [row for row in rows if (row["plugin"], row["protocol"]) != (plugin.name, protocol)]
        try:
            rows += _rows(seeds, protocol, plugin, warn)
        except Exception as error:
            failures += 1
            warn(f"{plugin.name} of {name}: {type(error).__name__}: {error}")
    path.parent.mkdir(exist_ok=True)
    store.write_csv(path, rows, COLUMNS)
    return failures


def _variant(folder: Path, job: Job, warn: Callable[[str], None]) -> dict[str, str] | None:
    try:
        return Record.read(folder).variant(job.sources)
    except UserError as error:
        warn(f"{folder.name} is left out: {error}")
        return None


def _rows(seeds: Sequence[Job], protocol: str, plugin: Plugin, warn: Callable[[str], None]) -> list[dict[str, str]]:
    job = seeds[0]
    pattern = f"{job.spec.dataset}-{job.spec.model}-s*-{job.spec.config}"
    found = [f for f in sorted(job.folder.parent.glob(pattern)) if store.is_finished(f, "scores.csv", warn=warn)]
    kinds = {folder: _variant(folder, job, warn) for folder in found}  # another device, images or code is set apart
    mine = next((kind for seed in seeds if (kind := kinds.get(seed.folder)) is not None), None)  # one that ended well
    found = [folder for folder in found if kinds[folder] is not None and kinds[folder] == mine]
    folders = [f for f in found if store.is_finished(f, "codes.h5", warn=warn)]
    for folder in [f for f in found if "codes.h5" not in store.sums(f)]:
        warn(f"{folder.name}: its codes are not here, as of a published run; left out of {plugin.name}")
    for folder in list(folders):
        if not has_codes(replace(job, folder=folder)):
            warn(f"{folder.name}: encoded for another protocol than {job.protocol}; left out of {plugin.name}")
            folders.remove(folder)
    tables = [store.load_codes(folder / "codes.h5")[0] for folder in folders]
    rng = metrics.metric_rng(0, plugin.name)
    result = metrics.run_metric(plugin.load(), tables, rng, metrics.settings(plugin.module(), protocol))
    scored = []
    for row in worker.score_rows(result, plugin, {"protocol": protocol, "draw": 0, "sampled": "yes"}):
        of_run = re.fullmatch(r"(.+)_([0-9]+)", row["metric"])
        of = [folders[int(of_run[2])]] if of_run else folders if row["note"] else []
        key = of_run[1] if of_run else row["metric"]
        scored += [{**row, "metric": key, "run": f.name, "codes": store.sums(f)["codes.h5"]} for f in of]
    return scored
