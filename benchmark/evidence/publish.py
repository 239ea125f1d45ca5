"""Copy finished runs into a folder that is small enough to be committed.

`python -m benchmark.evidence.publish FROM TO`.

Of a run: settings, scores, details, how it was made, and the history; never codes. Weights of at most 4 MB come along,
rounded to half precision, of one run a model and data set: the lowest seed of the standard settings, else of the
configuration with the most seeds. They are there to draw pictures with, in which it is not seen; what is encoded with
them differs from the run's own codes by some thousandths of their spread. Those of another run, or of a model that
`--weights` does not name, are removed from TO. Other runs that lie in TO are kept, so that results of several machines
come together. TO is a results folder as any other: the command takes its runs as done, and `--report` makes tables and
figures of it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmark import plugins, runs, store
from benchmark.errors import UserError, exit_status, unknown
from benchmark.evidence.published import SHOWN, is_standard
from benchmark.running.job import PROGRESS, listed_files
from benchmark.runs import Run, Warn
from benchmark.spec import Spec

LISTED = ("scores.csv", "details.csv", "history.csv")
BESIDE = ("spec.json", "run.json", "error.txt")
WEIGHTS, MOST_WEIGHTS = "model.safetensors", 4 * 10**6
MOST = 60 * 10**6


def publish(results: Path, to: Path, warn: Warn, weights: Sequence[str] | None = None) -> list[str]:
    """Copies what is finished or failed, with weights of these models (None: all); returns the names of the new runs.

    Raises UserError.
    """
    if results.resolve() == to.resolve():
        raise UserError(f"{results}: is both the folder to publish and the one to publish into")
    said: list[str] = []
    found, there = runs.read_runs(results, said.append), runs.read_runs(to, said.append)
    if said or not found:
        raise UserError(said[0] if said else f"{results}: holds no runs")
    models = {run.spec.model for run in found + there}
    if strange := sorted(set(weights or ()) - models):
        raise unknown("model", strange[0], models)
    whole = {run.id for run in there if run.status == "ok"}
    fit = []
    for run in found:
        if reason := _unfit(run, whole):
            warn(f"{run.id} is left out: {reason}")
        else:
            fit.append(run)
    named = [run for run in fit + there if weights is None or run.spec.model in weights]
    chosen = _standing_for_all([run.spec for run in named if _has_small_weights(run)], _seeds(found + there))
    lighter = [run for run in there if run.id not in chosen and (run.folder / WEIGHTS).exists()]
    new = [run.id for run in fit if _copy(run, to, run.id in chosen)]
    for run in lighter:
        store.discard(run.folder, WEIGHTS)
        warn(f"{run.id} is now without weights")
    return new


def _unfit(run: Run, whole: set[str]) -> str:
    """Why a run cannot be published now, or nothing."""
    if run.status == "unfinished" or (run.folder / PROGRESS).exists():
        return "it is unfinished, or damaged"
    if run.status == "failed":
        return "it failed, and a finished one is published already" if run.id in whole else ""
    return "" if store.is_finished(run.folder, *listed_files(run.folder)) else "its files are damaged"


def size(folder: Path) -> int:
    """Bytes of the runs and floors of a results folder."""
    return sum(path.stat().st_size for kind in ("runs", "floors") for path in (folder / kind).glob("*/*"))


def _has_small_weights(run: Run) -> bool:
    weights = run.folder / WEIGHTS
    return run.status == "ok" and store.is_listed(run.folder, WEIGHTS) and weights.stat().st_size <= MOST_WEIGHTS


def _seeds(known: Sequence[Run]) -> Counter[tuple[str, str, str]]:
    """(data set, model, config) -> its finished seeds."""
    ended = {run.id: run.spec for run in known if run.status == "ok"}.values()
    return Counter((spec.dataset, spec.model, spec.config) for spec in ended)


def _standing_for_all(weighed: Sequence[Spec], seeds: Counter[tuple[str, str, str]]) -> set[str]:
    """Ids of those whose weights are kept: of each model on a data set, the first seed of the standard settings."""
    own = plugins.discover(())["model"]

    def rank(spec: Spec) -> tuple[bool, int, str, int]:
        ours = spec.dataset in SHOWN and spec.model in own
        cls = own[spec.model].load() if ours else None
        swept = cls is None or not is_standard(spec, cls)
        return swept, -seeds[spec.dataset, spec.model, spec.config], spec.config, spec.seed

    best: dict[tuple[str, str], Spec] = {}
    for spec in sorted(weighed, key=rank):
        best.setdefault((spec.dataset, spec.model), spec)
    return {spec.id() for spec in best.values()}


def _copy(run: Run, to: Path, with_weights: bool) -> bool:
    """Copies the files of a run, and last the list of them; whether any was new."""
    target = to / run.folder.parent.name / run.id
    weighed = with_weights and _has_small_weights(run)
    listed = {name: value for name, value in store.sums(run.folder).items() if name in LISTED}
    same = all(_content(target / name) == _content(run.folder / name) for name in BESIDE)
    there = store.sums(target)
    whole = listed.items() <= there.items() and (WEIGHTS in there or not weighed)
    if same and whole and store.is_finished(target, *there):
        return False
    target.mkdir(parents=True, exist_ok=True)
    trained_alike = _content(target / "history.csv") == _content(run.folder / "history.csv") != b""
    stay = {WEIGHTS} & set(there) if with_weights and not weighed and trained_alike else set()
    store.discard(target, *(path.name for path in target.iterdir() if path.name not in stay))
    for name in [*(name for name in BESIDE if (run.folder / name).exists()), *listed]:
        shutil.copyfile(run.folder / name, target / name)
    if weighed:
        halve(run.folder / WEIGHTS, target / WEIGHTS)
        stay = {WEIGHTS}
    store.finish(target, *listed, *stay)
    return True


def halve(weights: Path, to: Path) -> None:
    """Write a model's numbers in half precision, but for tensors with a number that is too large for it."""
    tensors = store.load_tensors(weights)
    halves = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    store.save_tensors(to, {name: half if half.isfinite().all() else tensors[name] for name, half in halves.items()})


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="FROM", help="a results folder")
    parser.add_argument("to", type=Path, metavar="TO", nargs="?", default=Path("results/published"))
    parser.add_argument("--weights", nargs="+", metavar="MODEL", help="models whose weights are copied (default: all)")
    options = parser.parse_args(arguments)
    return exit_status(lambda: _publish(options.results, options.to, options.weights))


def _publish(results: Path, to: Path, weights: Sequence[str] | None) -> int:
    new = publish(results, to, lambda text: print(f"warning: {text}", file=sys.stderr), weights)
    total = size(to)
    print(f"{len(new)} new of {results}; {to} holds {total / 1e6:.1f} MB")
    if total > MOST:
        print(f"error: more than {MOST / 1e6:.0f} MB are too many to commit", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
