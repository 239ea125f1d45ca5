"""Metrics over the runs of one configuration (`ACROSS_RUNS`), such as UDR: scored once the grid is done."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock

import metrics
from benchmark import store
from benchmark.errors import UserError
from benchmark.plugins import Plugin
from benchmark.running import worker
from benchmark.running.worker import Job
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
    for job in {(job.spec.dataset, job.spec.model, job.spec.config): job for job in jobs if chosen}.values():
        with FileLock(results / ".report.lock"):  # two commands may end at once
            failures += _score(results, job, chosen, warn)
    return failures


def _score(results: Path, job: Job, chosen: Sequence[Plugin], warn: Callable[[str], None]) -> int:
    failures = 0
    name = f"{job.spec.dataset}-{job.spec.model}-{job.spec.config}"
    path = results / FOLDER / f"{name}.csv"
    rows = store.read_csv(path) if path.exists() else []
    for plugin in chosen:
        protocol = metrics.effective_protocol(plugin.module(), job.protocol)
        rows = [row for row in rows if (row["plugin"], row["protocol"]) != (plugin.name, protocol)]
        try:
            rows += _rows(job, protocol, plugin, warn)
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


def _rows(job: Job, protocol: str, plugin: Plugin, warn: Callable[[str], None]) -> list[dict[str, str]]:
    pattern = f"{job.spec.dataset}-{job.spec.model}-s*-{job.spec.config}"
    found = [f for f in sorted(job.folder.parent.glob(pattern)) if store.is_finished(f, "scores.csv", warn=warn)]
    kinds = {folder: _variant(folder, job, warn) for folder in found}  # another device, images or code is set apart
    found = [folder for folder in found if kinds[folder] is not None and kinds[folder] == kinds.get(job.folder, {})]
    folders = [f for f in found if store.is_finished(f, "codes.h5", warn=warn)]
    for folder in [f for f in found if "codes.h5" not in store.sums(f)]:
        warn(f"{folder.name}: its codes are not here, as of a published run; left out of {plugin.name}")
    tables = []
    for folder in list(folders):
        codes, rows = store.load_codes(folder / "codes.h5")
        if rows == ("thin" if job.protocol == "quick" and codes.grid else "all"):
            tables.append(codes)
        else:
            warn(f"{folder.name}: encoded for another protocol than {job.protocol}; left out of {plugin.name}")
            folders.remove(folder)
    rng = metrics.metric_rng(0, plugin.name)
    result = metrics.run_metric(plugin.load(), tables, rng, metrics.settings(plugin.module(), protocol))
    scored = []
    for row in worker.score_rows(result, plugin, {"protocol": protocol, "draw": 0, "sampled": "yes"}):
        of_run = re.fullmatch(r"(.+)_([0-9]+)", row["metric"])
        of = [folders[int(of_run[2])]] if of_run else folders if row["note"] else []
        key = of_run[1] if of_run else row["metric"]
        scored += [{**row, "metric": key, "run": f.name, "codes": store.sums(f)["codes.h5"]} for f in of]
    return scored
