"""Which published runs the present code would make again, bit for bit; these are recorded as its own.

`python -m benchmark.evidence.restamp RESULTS [--former CHECKOUT]`, after a change of code that should change no number.

Of every configuration the first 300 steps are trained again and compared with its `history.csv`. Where that differs,
as it does on another processor, and for what leaves no such trace (data, watching, encoding, details, metrics), the
present code is compared with the one that made the runs, in CHECKOUT, both on this machine: the same beginning of the
run, the parts of its KL, 2,000 images encoded by it, and all metrics on the codes of every floor. What is equal gets
the present fingerprint. What differs keeps its own: such a run is shown as one by former code and never averaged with
others, and a metric is scored again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib

from benchmark import plugins, sources, store
from benchmark.errors import UserError, exit_status
from benchmark.plugins import Found
from benchmark.running.supervisor import KEEP_MEMORY, ROOT, THREADS
from benchmark.runs import Record
from benchmark.spec import Spec, kind_of
from data._cache import default_root

STEPS = 300
Answer = dict[str, Any]


@dataclass(frozen=True)
class Equal:
    """The stages and metrics that two codes compute alike; and the fingerprints that the former one records."""

    names: frozenset[str]
    stamps: dict[str, Any]

    def covers(self, name: str, recorded: object) -> bool:
        """Whether what was made with this fingerprint is what the present code makes."""
        return name in self.names and self.stamps.get(name, recorded) == recorded


@dataclass(frozen=True)
class Probes:
    """Asks checkouts what they compute."""

    data_dir: Path
    former: Path | None
    steps: int
    precision: str
    metrics: tuple[str, ...]
    protocols: tuple[str, ...]

    def equal(self, record: Record, history: Sequence[Mapping[str, str]]) -> Equal:
        """The stages and metrics of a run that the present code computes as the one that made it did."""
        run = kind_of(record.spec.model) == "run"
        found = self._same(record.spec, () if run else self.metrics) if self.former else Equal(frozenset(), {})
        if run and history and not self.precision and _agrees(self._ask(ROOT, record.spec, ())["history"], history):
            return replace(found, names=found.names | {"training"})
        return found

    def _same(self, spec: Spec, names: tuple[str, ...]) -> Equal:
        """What both checkouts answer alike."""
        assert self.former is not None
        spec = replace(spec, precision=self.precision or spec.precision)
        mine, theirs = self._ask(ROOT, spec, names), self._ask(self.former, spec, names)
        same = {name for name in mine if mine[name] == theirs[name]} - {"history", "code", "stamps"}
        return Equal(frozenset(same), theirs["stamps"])

    def _ask(self, checkout: Path, spec: Spec, names: tuple[str, ...]) -> Answer:
        spec = replace(spec, steps=min(self.steps, spec.steps))
        request = {"spec": spec.to_json(), "data_dir": str(self.data_dir), "metrics": names,
                   "protocols": self.protocols}  # fmt: skip
        environment = {**os.environ, **KEEP_MEMORY, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": str(checkout)}
        probe = [sys.executable, "-P", str(Path(__file__).with_name("probe.py"))]
        done = subprocess.run(probe, input=json.dumps(request), text=True, capture_output=True, env=environment)
        if done.returncode:
            raise UserError(f"{checkout}: {spec.id()}: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}")
        answer = dict(json.loads(done.stdout))
        if not Path(answer["code"]).is_relative_to(checkout.resolve()):
            raise UserError(f"{checkout}: is no checkout of this suite")
        return answer


def _agrees(now: Sequence[Mapping[str, float]], then: Sequence[Mapping[str, str]]) -> bool:
    """Whether two histories have the same losses, as far as the first one goes."""
    rows = list(zip(now, then, strict=False))
    return bool(rows) and all(float(row[name]) == value for new, row in rows for name, value in new.items()
                              if name in row)  # fmt: skip


def restamp(results: Path, probes: Probes, jobs: int) -> list[str]:
    """Record what is equal as made by the present code; returns the configurations that are not, a line each."""
    found = plugins.discover()
    folders = [*store.run_folders(results / "runs"), *store.run_folders(results / "floors")]
    records = {folder: _record(folder) for folder in folders}
    groups: dict[tuple[str, ...], list[Path]] = {}  # of one configuration, made alike
    for folder, record in records.items():
        made = (json.dumps(record.sources, sort_keys=True), record.device, record.origin)
        groups.setdefault((record.spec.dataset, record.spec.model, record.spec.config, *made), []).append(folder)
    firsts = [min(group, key=lambda folder: records[folder].spec.seed) for group in groups.values()]
    ask = joblib.delayed(probes.equal)
    answers = joblib.Parallel(n_jobs=jobs, backend="threading")(
        ask(records[folder], _history(folder)) for folder in firsts
    )
    of_floors = [answer for first, answer in zip(firsts, answers, strict=True) if _is_floor(records[first])]
    lines = []
    for group, equal in zip(groups.values(), answers, strict=True):
        for folder in group:
            left = _stamp(folder, records[folder], equal, found)
            lines += [f"{folder.name}: run by former code: {', '.join(left)}"] if left else []
            _stamp_scores(folder, of_floors, found)
    return lines


def _is_floor(record: Record) -> bool:
    return kind_of(record.spec.model) != "run"


def _record(folder: Path) -> Record:
    """A run's record; one that earlier versions wrote has the files of the model alone."""
    try:
        return Record.read(folder)
    except UserError:
        fields = store.read_json(folder / "spec.json")
        device = store.read_json(folder / "run.json").get("device", "cpu")
        training = {f"models/{name}": digest for name, digest in fields["sources"].items()}
        return Record(Spec.from_json(fields["spec"]), {"training": training}, device)


def _history(folder: Path) -> list[dict[str, str]]:
    return store.read_csv(folder / "history.csv") if store.is_finished(folder, "history.csv") else []


def _stamp(folder: Path, record: Record, equal: Equal, found: Found) -> list[str]:
    """Give the stages that are equal their present fingerprints; returns those that are not."""
    present = sources.of_run(record.spec, found)
    before = {stage: record.sources.get(stage, {}) for stage in present}
    stages = {s: present[s] if equal.covers(s, before[s]) else before[s] for s in present}
    replace(record, sources=stages).write(folder)
    return [stage for stage in present if stages[stage] != present[stage]]


def _stamp_scores(folder: Path, of_floors: Sequence[Equal], found: Found) -> None:
    """Give the scores of metrics that are equal on the codes of every floor their present fingerprints."""
    rows: list[Any] = store.read_csv(folder / "scores.csv") if store.is_finished(folder, "scores.csv") else []
    for row in rows:
        if of_floors and all(one.covers(row["plugin"], row["source"]) for one in of_floors):
            row["source"] = sources.of_metric(found["metric"][row["plugin"]])
    if rows:
        store.rewrite_csv(folder, "scores.csv", rows, list(rows[0]))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="RESULTS")
    parser.add_argument("--former", type=Path, metavar="CHECKOUT", help="of the code that made the runs")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"trained again (default: {STEPS})")
    parser.add_argument("--precision", default="", metavar="NAME", help="compare the codes in it (default: the run's)")
    parser.add_argument("--data-dir", type=Path, default=default_root(), metavar="DIR")
    parser.add_argument("--jobs", type=int, default=joblib.cpu_count(), metavar="N")
    return exit_status(lambda: _restamp(parser.parse_args(arguments)))


def _restamp(options: argparse.Namespace) -> int:
    if not store.run_folders(options.results / "runs"):
        raise UserError(f"{options.results}: holds no runs")
    former = options.former and options.former.resolve()
    scored = [path / "scores.csv" for kind in ("runs", "floors") for path in store.run_folders(options.results / kind)]
    rows = [row for path in scored if path.exists() for row in store.read_csv(path)]
    names, protocols = ({row[column] for row in rows} for column in ("plugin", "protocol"))  # those that it has
    within = {name for name, plugin in plugins.discover()["metric"].items()
              if name in names and not getattr(plugin.module(), "ACROSS_RUNS", False)}  # fmt: skip
    probes = Probes(options.data_dir, former, options.steps, options.precision, tuple(sorted(within)),
                    tuple(sorted(protocols)))  # fmt: skip
    lines = restamp(options.results, probes, options.jobs)
    print("\n".join([*lines, f"{len(lines)} runs are by former code"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
