"""What `run_benchmark.py` does: from a command line to a grid of jobs, and back to tables."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import joblib
import torch
from filelock import FileLock
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

import metrics
from benchmark import plugins, spec, store
from benchmark.authoring import check
from benchmark.errors import UserError, of_the_machine, unknown
from benchmark.plugins import Plugin
from benchmark.reporting import changes, report, tensorboard
from benchmark.running import across, cluster, estimate, floors, runner, worker
from benchmark.running.worker import Job
from benchmark.spec import Spec, kind_of
from benchmark.statistics import stats
from data import DataError, Dataset
from data._cache import default_root

if TYPE_CHECKING:
    from distributed import Client

Warn = Callable[[str], None]
Found = dict[str, dict[str, Plugin]]
DATASETS = ("dsprites", "mnist")


class Parser(argparse.ArgumentParser):
    """One line for a mistake, and exit status 2."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def parser() -> Parser:
    p = Parser(prog="run_benchmark.py", description=__doc__, allow_abbrev=False)
    p.add_argument("--models", nargs="+", default=[], metavar="NAME", help="models to train")
    p.add_argument("--datasets", nargs="+", default=list(DATASETS), metavar="NAME", help="default: dsprites mnist")
    p.add_argument("--metrics", nargs="+", default=[], metavar="NAME", help="default: the usual ones; or `all`")
    p.add_argument(
        "--seeds", nargs="+", default=["1"], metavar="N", help="`5` is seeds 0..4; `3 4 7` or `7:9` names them"
    )
    p.add_argument("--preset", choices=list(spec.PRESETS), default="quick", help="budget (default: quick)")
    p.add_argument("--steps", type=_positive(int), metavar="N", help="training steps")
    p.add_argument("--batch-size", type=_positive(int), metavar="N")
    p.add_argument("--lr", type=_positive(float), metavar="X", help="learning rate")
    p.add_argument("--set", nargs="+", action="extend", default=[], metavar="MODEL.NAME=VALUE",
                   help="a hyper-parameter; `1,2,4` is a sweep, a tuple is [10,4]")  # fmt: skip
    p.add_argument("--protocol", metavar="NAME", help="how metrics are computed (default: the preset's)")
    p.add_argument("--draws", type=_positive(int), default=1, metavar="N",
                   help="evaluate sampled metrics N times (their noise is then in the table)")  # fmt: skip
    p.add_argument("--results", type=Path, default=Path("results"), metavar="DIR")
    p.add_argument("--data-dir", type=Path, metavar="DIR", help="where data sets are cached")
    p.add_argument("--plugin", type=Path, nargs="+", action="extend", default=[], metavar="FILE",
                   help="your own model, metric or data set; the file is code and is run")  # fmt: skip
    p.add_argument("--jobs", type=_positive(int), metavar="N",
                   help="runs at a time (default: one a core, or one a thread of the cluster)")  # fmt: skip
    p.add_argument("--threads", type=_positive(int), metavar="N",
                   help="threads a run (default: cores / jobs; 1 on a cluster)")  # fmt: skip
    p.add_argument("--backend", choices=["loky", "dask"], default="loky",
                   help="where runs are done: processes here (loky, the default), or a Dask cluster")  # fmt: skip
    p.add_argument("--scheduler", metavar="ADDRESS", help="of the Dask cluster, like tcp://host:8786")
    p.add_argument("--time-limit", type=_positive(float), metavar="MINUTES", help="stop a run that takes longer")
    p.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    p.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16"],
        default="auto",
        help="auto is bf16 on a CPU that has it, else fp32",
    )
    p.add_argument("--retrain", action="store_true", help="train again what is done already")
    p.add_argument("--list", action="store_true", help="list models, metrics and data sets")
    p.add_argument("--dry-run", action="store_true", help="list the runs and what is done of them")
    p.add_argument("--log", choices=["tensorboard"], help="event files for TensorBoard, in results/tensorboard")
    p.add_argument("--check", type=Path, metavar="FILE", help="check your own model, metric or data set")
    p.add_argument("--report", type=Path, metavar="DIR", help="rebuild tables and figures of a results folder")
    p.add_argument("--compare", type=Path, nargs=2, metavar="DIR", help="what changed between two results folders")
    return p


def _positive(kind: type) -> Any:
    def parse(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be positive")
        return value

    parse.__name__ = {int: "positive integer", float: "positive number"}[kind]
    return parse


def parse_seeds(texts: Sequence[str]) -> list[int]:
    """`5` is 0..4; `3 4 7` are these; `7:9` are 7 and 8."""
    error = UserError(f"--seeds {' '.join(texts)}: write a number of seeds (5), a list (3 4 7) or a range (7:9)")
    if not all(re.fullmatch(r"[0-9]{1,9}(:[0-9]{1,9})?", text) for text in texts):
        raise error
    if len(texts) == 1 and ":" not in texts[0]:
        seeds = list(range(_limited(int(texts[0]))))
    else:
        seeds = []
        for text in texts:
            first, colon, last = text.partition(":")
            _limited(int(last) - int(first) if colon else 1)
            seeds += range(int(first), int(last)) if colon else [int(first)]
    if not seeds:
        raise UserError(f"--seeds {' '.join(texts)}: names no seed")
    return list(dict.fromkeys(seeds))


def _limited(count: int) -> int:
    if count > 10_000:
        raise UserError(f"--seeds: {count} seeds are more than the 10000 allowed")
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 (all well), 1 (some runs failed), 2 (wrong command line) or 130 (interrupted)."""
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.filterwarnings("ignore", module="joblib")
    options = argparse.Namespace(retrain=False)
    try:
        parser().parse_args(arguments, options)
        status = _run(options, console)
        sys.stdout.flush()
        return status
    except (UserError, DataError) as error:
        console.print(f"[red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        return 2 if isinstance(error, UserError) else 1
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter flushes, and complains
        return 1
    except OSError as error:
        console.print(f"[red]error:[/] {_plain(of_the_machine(error))}", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        how = "to go on from here, leave out --retrain" if options.retrain else "the same command goes on from here"
        console.print(f"interrupted; what is finished is kept, and {how}", highlight=False, soft_wrap=True)
        return 130


def _plain(value: object) -> str:
    """One line without markup."""
    return escape(" ".join(str(value).split()))


def _run(options: argparse.Namespace, console: Console) -> int:
    warned = set()

    def warn(text: str) -> None:
        if text in warned:  # found by the command first, then by the run's own process
            return
        warned.add(text)
        console.print(f"[yellow]warning:[/] {_plain(text)}", highlight=False, soft_wrap=True)

    data_dir = _expanded(options.data_dir or default_root())
    if options.check:
        return check.check_file(options.check, data_dir)
    found = plugins.discover(options.plugin)
    if options.list:
        return _list_protocol(found, options.protocol) if options.protocol else _list(found)
    if options.log:
        tensorboard.check()
    if options.report:
        _sweep(options.report)
        print(report.build(options.report, data_dir, options.plugin, warn))
        if options.log:
            tensorboard.write(options.report, data_dir, options.plugin, warn)
        return 0
    if options.compare:
        print(changes.compare(options.compare[0], options.compare[1], options.plugin, warn))
        return 0
    if not options.models:
        raise UserError(f"--models is missing; available: {', '.join(sorted(found['model']))}")
    if (options.backend == "dask") != (options.scheduler is not None):
        raise UserError("--backend dask and --scheduler ADDRESS belong together; give both or neither")
    if options.dry_run:
        return _dry_run(options, plan(options, found, data_dir, print), found, warn)
    with cluster.connect(options.scheduler) if options.scheduler is not None else nullcontext() as client:
        return _compute(options, found, data_dir, client, console, warn)


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except RuntimeError as error:  # no such user, or a circle of links
        raise UserError(f"{path}: {error}") from error


def _pending(jobs: Sequence[Job], found: Found, warn: Warn) -> list[Job]:
    """The jobs that something is missing of; refuses folders that hold another run."""
    chosen = [plugins.pick("metric", name, found) for name in jobs[0].metrics]
    for job in jobs:
        worker.check_folder(job)
    pending = [job for job in jobs if not worker.is_done(job, chosen, warn)]
    for job in pending:
        listed = {} if job.retrain or kind_of(job.spec.model) != "run" else store.sums(job.folder)
        if "scores.csv" in listed and "model.safetensors" not in listed:
            warn(f"{job.spec.id()} was published without weights: it is trained again for the scores that it lacks")
    return pending


def _dry_run(options: argparse.Namespace, jobs: Sequence[Job], found: Found, warn: Warn) -> int:
    pending = _pending(jobs, found, warn)
    for job in jobs:
        left = "done " if job not in pending else "to score" if estimate.is_trained(job) else "to do"
        print(f"{left}  {job.spec.id()}  {job.spec.steps} steps")
    workers = options.jobs or (1 if options.scheduler else joblib.cpu_count())
    print(estimate.say(pending, options.results, workers))
    return 0


def _compute(
    options: argparse.Namespace, found: Found, data_dir: Path, client: Client | None, console: Console, warn: Warn
) -> int:
    """Do what is missing, here or on a cluster; then score over runs, and write the tables."""
    jobs = plan(options, found, data_dir, lambda text: console.print(_plain(text), highlight=False, soft_wrap=True))
    pending = _pending(jobs, found, warn)
    options.results.mkdir(parents=True, exist_ok=True)
    _say(console, jobs, pending)
    workers = options.jobs or (_cluster_size(client, len(pending), console) if client else joblib.cpu_count())
    failures = runner.run_grid(pending, workers, console, warn, options.time_limit, client)
    runs = [job for job in jobs if kind_of(job.spec.model) == "run"]
    names = _metric_names(options.metrics, found)
    across.score(options.results, runs, [found["metric"][name] for name in names if _is_across(found, name)], warn)
    _sweep(options.results)
    print_report(report.build(options.results, data_dir, options.plugin, warn, formats=["png"]))
    if options.log:
        tensorboard.write(options.results, data_dir, options.plugin, warn)
    console.print(f"tables, figures and report.html are in {options.results}/", highlight=False)
    if failures:
        how = "to try only them again, leave out --retrain" if options.retrain else "the same command tries them again"
        console.print(f"{len(failures)} of {len(jobs)} runs failed; {how}", highlight=False, soft_wrap=True)
    return 1 if failures else 0


def _cluster_size(client: Client, runs: int, console: Console) -> int:
    """Threads of the cluster; all runs where its workers are still to come."""
    threads = sum(client.nthreads().values())
    text = f"{threads} thread(s)" if threads else "no worker yet; waiting"
    console.print(f"Dask cluster: {text}", highlight=False)
    return threads or max(1, runs)


def _sweep(results: Path) -> None:
    """Remove what a command that was killed left beside the tables."""
    if results.is_dir():
        with FileLock(results / ".report.lock"):
            for folder in (results, results / "plots", results / across.FOLDER):
                store.sweep(folder)


def print_report(page: str) -> None:
    """The Markdown tables, drawn where standard output is a terminal."""
    if sys.stdout.isatty():
        Console().print(Markdown(page))
    else:
        print(page)


def _say(console: Console, jobs: Sequence[Job], pending: Sequence[Job]) -> None:
    runs = [job for job in jobs if kind_of(job.spec.model) == "run"]
    left = [job for job in pending if kind_of(job.spec.model) == "run"]
    text = f"{len(runs)} runs and {len(jobs) - len(runs)} floors; to do: {len(left)} and {len(pending) - len(left)}"
    console.print(f"{text}. Protocol {jobs[0].protocol}, {jobs[0].threads} thread(s) a run.", highlight=False)


def _list(found: Found) -> int:
    for kind, group in found.items():
        for name, plugin in sorted(group.items()):
            try:
                text = (inspect.getdoc(plugin.load()) or "").partition("\n")[0]
            except UserError as error:
                text = f"BROKEN: {error}"
            print(f"{kind:9} {name:20} {text}")
    print(spec.RULE)
    return 0


def _list_protocol(found: Found, protocol: str) -> int:
    """What a protocol fixes: every metric's settings, and the protocol's name that is recorded."""
    _known_protocol(protocol, list(found["metric"].values()))
    for name, plugin in sorted(found["metric"].items()):
        parameters = inspect.signature(plugin.load()).parameters.values()
        fixed = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
        fixed |= metrics.settings(plugin.module(), protocol)
        recorded = metrics.effective_protocol(plugin.module(), protocol)
        print(f"{name:20} {recorded:8} {', '.join(f'{key}={value}' for key, value in fixed.items())}")
    return 0


def plan(
    options: argparse.Namespace, found: Found, data_dir: Path, say: Callable[[str], None] = lambda text: None
) -> list[Job]:
    """All jobs of a command line, everything checked before any work: runs seed by seed, then floors.

    What tells whether a run is dead is always scored. say: is told what the settings mean.
    """
    seeds = parse_seeds(options.seeds)
    chosen = [plugins.pick("model", name, found) for name in dict.fromkeys(options.models)]
    clash = [plugin.name for plugin in chosen if kind_of(plugin.name) != "run"]
    if clash:
        raise UserError(f"model {clash[0]!r}: this name is a floor's; rename the file")
    classes = {plugin.name: plugin.load() for plugin in chosen}
    settings = spec.parse_settings(options.set, classes)
    wanted = {name for name in _metric_names(options.metrics, found) if not _is_across(found, name)}
    names = tuple(sorted(wanted.union(stats.VITAL)))
    protocol = _protocol(options, [plugins.pick("metric", name, found) for name in names])
    sets = [plugins.pick("data set", name, found) for name in dict.fromkeys(options.datasets)]
    if not options.dry_run:
        store.check_writable(options.results)  # before data sets are made, which can take minutes
    data = {plugin.name: _load(plugin, data_dir) for plugin in sets}
    elsewhere = options.scheduler is not None and options.device != "auto"  # whose devices are not known here
    device = options.device if elsewhere else _device(options.device)
    precision = _precision(options.precision, device)
    overrides = spec.Overrides(options.steps, options.batch_size, options.lr, precision)
    configurations = [
        spec.resolve(name, max(d.shape[1:]), model, cls, preset=options.preset, overrides=overrides, hparams=hparams,
                     like=d.like)
        for name, d in data.items()
        for model, cls in classes.items()
        for hparams in settings[model]
    ]  # fmt: skip
    for configuration in configurations:
        _check(configuration, classes[configuration.model], data[configuration.dataset])
    for text in _notes(configurations, classes, data):
        say(text)
    workers = options.jobs or joblib.cpu_count()
    job = Job(
        spec=configurations[0],
        folder=Path(),
        metrics=names,
        protocol=protocol,
        data_dir=data_dir,
        files=tuple(file.resolve() for file in options.plugin),
        device=device,
        threads=options.threads or (1 if options.backend == "dask" else max(1, joblib.cpu_count() // workers)),
        draws=options.draws,
        retrain=options.retrain,
        commit=_commit(),
    )
    results = options.results.resolve()
    sources = {plugin.name: plugins.fingerprint(plugin) for plugin in chosen}
    runs = [
        replace(job, spec=s, folder=results / "runs" / s.id(), sources=sources[s.model])
        for s in spec.with_seeds(configurations, seeds)
    ]
    references = [*floors.FLOORS, *floors.CEILINGS]
    levels = [Spec(dataset, name, seeds[0], 0, 0, 0.0) for dataset in data for name in references]
    return runs + [replace(job, spec=s, folder=results / "floors" / s.id()) for s in levels]


def _notes(configurations: Sequence[Spec], classes: Mapping[str, type], data: Mapping[str, Dataset]) -> Iterator[str]:
    """Which settings are borrowed, which schedules a run ends within, and what has not begun by then."""
    borrowed: dict[tuple[str, str], list[str]] = {}
    for name, like in {(one.dataset, data[one.dataset].like): None for one in configurations}:
        for model, cls in classes.items():
            source = spec.settings_of(name, cls, like)
            if source not in (name, ""):
                borrowed.setdefault((source, name), []).append(model)
    for (source, name), models in borrowed.items():
        yield f"settings of {source} are used for {name} ({', '.join(models)})"
    for one in configurations:
        if schedules := spec.within(one):
            waiting = "".join(f"; its {part} has not begun" for part in spec.not_begun(one, classes[one.model]))
            yield f"{one.model} on {one.dataset} ends {', '.join(schedules)}{waiting}"


def _metric_names(names: Sequence[str], found: Found) -> tuple[str, ...]:
    if list(names) == ["all"]:
        return tuple(sorted(found["metric"]))
    if names:
        return tuple(sorted({plugins.pick("metric", name, found).name for name in names}))
    usable = {name: plugin for name, plugin in found["metric"].items() if plugin.builtin or plugin.file}
    return tuple(sorted(name for name, plugin in usable.items() if getattr(plugin.module(), "DEFAULT", True)))


def _is_across(found: Found, name: str) -> bool:
    return getattr(found["metric"][name].module(), "ACROSS_RUNS", False)


def _protocol(options: argparse.Namespace, chosen: Sequence[Plugin]) -> str:
    """The protocol asked for, or the preset's."""
    return _known_protocol(options.protocol or spec.PRESETS[options.preset].protocol, chosen)


def _known_protocol(name: str, chosen: Sequence[Plugin]) -> str:
    known = {"quick", "study"}.union(*(metrics.protocols(plugin.module()) for plugin in chosen))
    if name not in known:
        raise unknown("protocol", name, known)
    return name


def _check(configuration: Spec, cls: type, data: Dataset) -> None:
    """Build the model without memory, so that a wrong setting is found now."""
    if configuration.batch_size > len(data.train_rows):
        raise UserError(
            f"batch size {configuration.batch_size}: {data.name} has {len(data.train_rows)} training images"
        )
    try:
        with torch.device("meta"):
            cls(data.shape, len(data.train_rows), **configuration.hparams)
    except (RuntimeError, NotImplementedError):
        pass  # some models need real numbers to be built; the run will tell
    except ValueError as error:
        raise UserError(f"{configuration.model} on {configuration.dataset}: {error}") from error
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise UserError(f"{configuration.model} on {configuration.dataset} cannot be built: {text}") from error


def _load(plugin: Plugin, data_dir: Path) -> Dataset:
    """The data set, made if it is not there yet."""
    try:
        return plugin.load()(data_dir)
    except (UserError, DataError, OSError):
        raise
    except Exception as error:
        raise UserError(f"data set {plugin.name!r} cannot be made: {type(error).__name__}: {error}") from error


def _precision(name: str, device: str) -> str:
    """`auto` is bf16 on a CPU with instructions for it, and fp32 elsewhere."""
    if name != "auto":
        return name
    able = torch.cpu.get_capabilities()
    return "bf16" if device == "cpu" and (able.get("avx512_bf16") or able.get("amx_bf16")) else "fp32"


def _device(name: str) -> str:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if available["cuda"] else "cpu"
    if not available[name]:
        usable = ", ".join(k for k, v in available.items() if v)
        raise UserError(f"--device {name}: not available here; available: {usable}")
    return name


def _commit() -> str:
    """The suite's commit, `+` where files differ from it, or nothing outside a checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")
