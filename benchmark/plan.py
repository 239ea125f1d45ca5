"""From a command's options to the jobs of its grid: data sets made, and everything checked before any work."""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import joblib
import torch

import metrics
from benchmark import plugins, sources, spec, store
from benchmark.authoring import contract_data, trial
from benchmark.authoring.contract import Fault
from benchmark.authoring.contract_data import DataCase
from benchmark.defaults import ARRAYS, DATASETS, PRESETS
from benchmark.errors import UserError, unknown
from benchmark.plugins import Found, Plugin
from benchmark.running import encoder, lengths, machine
from benchmark.running.job import Job
from benchmark.running.machine import Machine, Slot
from benchmark.running.supervisor import RETRAIN
from benchmark.runs import Record
from benchmark.spec import REFERENCES, Spec, kind_of
from benchmark.statistics import stats
from data import DataError, Dataset, _file
from data._attributes import attributes_of
from models import Model

Classes = dict[str, type[Model]]


def jobs_of(
    options: argparse.Namespace, found: Found, data_dir: Path, say: Callable[[str], None] = lambda text: None
) -> list[Job]:
    """All jobs of a command line: runs seed by seed, then floors. say: is told what the settings mean.

    What tells whether a run is dead is always scored. Raises UserError, and DataError for data that cannot be had.
    """
    seeds = parse_seeds(options.seeds)
    classes = _classes(options.models, found)
    settings = spec.parse_settings(options.set, classes)
    named = metric_names(options.metrics, found)
    wanted = {name for name in named if not is_across(found, name)}
    over_runs = len(wanted) < len(named)
    trial.check_declared([found["metric"][name] for name in named])
    protocol = _protocol(options, [plugins.pick("metric", name, found) for name in sorted(wanted)])
    data = _data_sets(options, found, data_dir)
    if not options.dry_run:
        wanted = _measurable(options, found, data, data_dir, protocol, wanted, say)
    there = options.machine or machine.here()
    device = chosen_device(options.device, there)
    precision = _precision(options.precision, device, there)
    sets = {name: plugins.pick("data set", name, found) for name in data}
    origins = {name: sources.images_of(sets[name], d) for name, d in data.items()}
    contents = {name: sources.content_of(origins[name]) for name, plugin in sets.items() if plugin.arrays}
    own = {name for name, plugin in sets.items() if not plugin.builtin}  # a file cannot have the name of the suite's
    _refuse_other_files(options.results, own, contents)
    configurations = _configurations(options, classes, settings, data, contents, precision)
    trial.try_models(found["model"], configurations, data)
    for text in trial.try_metrics([found["metric"][name] for name in named], protocol):
        say(text)
    for text in _notes(options, named, sets, data, configurations, classes):
        say(text)
    slots = machine.slots(there, options.jobs) if device == "cuda" else ()
    job = replace(_job(options, configurations[0], data_dir, slots), device=device, protocol=protocol,
                  metrics=tuple(sorted(wanted.union(stats.VITAL))), over_runs=over_runs)  # fmt: skip
    runs = spec.with_seeds(configurations, seeds)
    levels = _levels(data, contents)
    level = replace(job, device="cpu", slots=(), over_runs=False)
    results, stages = options.results.resolve(), _stages([*runs, *levels], found)
    return [
        replace(one, spec=s, folder=(folder := results / place / s.id()), sources=stages[s.dataset, s.model],
                origin=origins[s.dataset], retrain=options.retrain or (folder / RETRAIN).exists())
        for place, some, one in (("runs", runs, job), ("floors", levels, level))
        for s in some
    ]  # fmt: skip


def _job(options: argparse.Namespace, one: Spec, data_dir: Path, slots: tuple[Slot, ...]) -> Job:
    """What the options say of every job."""
    workers = at_a_time(slots, options.jobs)
    return Job(
        spec=one,
        folder=Path(),
        metrics=(),
        protocol="",
        data_dir=data_dir,
        files=tuple(file.resolve() for file in options.plugin),
        slots=slots,
        threads=options.threads or (1 if options.backend == "dask" else max(1, joblib.cpu_count() // workers)),
        draws=options.draws,
        commit=_commit(),
        keep_state=options.keep_state == "yes",
        log="" if options.scheduler else options.log or "",  # a cluster's workers need share no disk with the command
    )


def _levels(data: Mapping[str, Dataset], contents: Mapping[str, str]) -> list[Spec]:
    """The floors and the ceiling of every data set, for all seeds; the latter is its factors, if it has any."""
    return [
        Spec(dataset, name, 0, 0, 0, 0.0, content=contents.get(dataset, ""))
        for dataset, d in data.items()
        for name in REFERENCES
        if d.factor_names or kind_of(name) != "ceiling"
    ]


def _stages(specs: Sequence[Spec], found: Found) -> dict[tuple[str, str], sources.Stages]:
    """(data set, model or floor) -> the code that decides its runs."""
    first = {(s.dataset, s.model): s for s in reversed(specs)}
    return {key: sources.of_run(s, found) for key, s in first.items()}


def _classes(names: Sequence[str], found: Found) -> Classes:
    """The models of these names; `all` is all of the suite's and the user's."""
    every = sorted(name for name, plugin in found["model"].items() if plugin.builtin or plugin.file)
    names = [one for name in names for one in (every if name == "all" else [name])]
    chosen = [plugins.pick("model", name, found) for name in dict.fromkeys(names)]
    clash = [plugin.name for plugin in chosen if kind_of(plugin.name) != "run"]
    if clash:
        raise UserError(f"model {clash[0]!r}: this name is a floor's; rename the file")
    return {plugin.name: plugin.load() for plugin in chosen}


def _data_sets(options: argparse.Namespace, found: Found, data_dir: Path) -> dict[str, Dataset]:
    """The data sets, made where they are not there yet, the user's first; before that, which can take minutes, the
    results folder is tried."""
    files = [name for name, plugin in found["data set"].items() if plugin.arrays]
    sets = [plugins.pick("data set", name, found) for name in dict.fromkeys(options.datasets or files or DATASETS)]
    if not options.dry_run:
        store.check_writable(options.results)
    made = {plugin.name: _load(plugin, data_dir) for plugin in sorted(sets, key=lambda plugin: plugin.builtin)}
    return {plugin.name: made[plugin.name] for plugin in sets}


def _configurations(
    options: argparse.Namespace, classes: Classes, settings: Mapping[str, list[dict[str, object]]],
    data: Mapping[str, Dataset], contents: Mapping[str, str], precision: str,
) -> list[Spec]:  # fmt: skip
    """The spec of seed 0 of every data set, model, setting and length, each tried."""
    found = [
        replace(spec.resolve(name, max(d.shape[1:]), model, cls, preset=options.preset, hparams=hparams, like=d.like,
                             overrides=spec.Overrides(steps, options.batch_size, options.lr, precision)),
                content=contents.get(name, ""))
        for name, d in data.items()
        for model, cls in classes.items()
        for hparams in settings[model]
        for steps in sorted(set(options.steps)) or [None]
    ]  # fmt: skip
    for configuration in found:
        _check(configuration, classes[configuration.model], data[configuration.dataset])
    return found


def at_a_time(slots: Sequence[Slot], jobs: int | None) -> int:
    """Processes here: for each slot of a GPU one that trains and one that starts up or computes scores meanwhile."""
    return 2 * len(slots) or jobs or joblib.cpu_count()


def parse_seeds(texts: Sequence[str]) -> list[int]:
    """`5` is 0..4; `3 4 7` are these; `7:9` are 7 and 8; nothing is seed 0."""
    texts = texts or ["1"]
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
        raise UserError(f"--seeds {' '.join(texts)}: names no seed (0:1 is seed 0 alone)")
    return list(dict.fromkeys(seeds))


def _limited(count: int) -> int:
    if count > 10_000:
        raise UserError(f"--seeds: {count} seeds are more than the 10000 allowed")
    return count


def _measurable(
    options: argparse.Namespace, found: Found, data: Mapping[str, Dataset], data_dir: Path, protocol: str,
    wanted: set[str], say: Callable[[str], None],
) -> set[str]:  # fmt: skip
    """These metrics, of `all` without those that ask for attributes which cannot be had. What they ask for is measured
    now: a run need not be trained to find that it cannot be scored. Raises DataError."""
    asking = {name for name in wanted if sources.sees_attributes(found["metric"][name])}
    try:
        for d in data.values() if asking else ():
            attributes_of(d, encoder.select(d, protocol).rows, data_dir)
    except DataError as error:
        if "all" not in options.metrics or asking & {*options.metrics}:
            raise
        say(f"without {', '.join(sorted(asking))}: {error}")
        return wanted - asking
    return wanted


def _refuse_other_files(results: Path, own: Collection[str], contents: Mapping[str, str]) -> None:
    """Two of the user's own data sets of one name are two files, or a file and code; no table must compare them."""
    if not own:
        return
    for folder in [*store.run_folders(results / "runs"), *store.run_folders(results / "floors")]:
        try:
            one = Record.read(folder).spec
        except UserError:  # told where it is reported
            continue
        if one.dataset in own and (content := contents.get(one.dataset, "")) != one.content:
            here = f"{one.dataset}{ARRAYS} (sha256 {content}…)" if content else f"the data set {one.dataset}"
            raise UserError(
                f"{here} is not what {folder.name} was made of: rename it, or pass --results for another folder"
            )


def _notes(
    options: argparse.Namespace, named: Collection[str], sets: Mapping[str, Plugin], data: Mapping[str, Dataset],
    configurations: Sequence[Spec], classes: Mapping[str, type],
) -> Iterator[str]:  # fmt: skip
    """What was made of files of arrays, and what the settings mean."""
    yield from (_file.note(plugin.arrays, data[name]) for name, plugin in sets.items() if plugin.arrays)
    used = {*(one.model for one in configurations), *data, *named}
    yield from (f"{file} is not used: no option names {file.stem}" for file in options.plugin if file.stem not in used)
    yield from _settings_notes(configurations, classes, data)
    yield from lengths.notes(configurations, options.results)


def _settings_notes(
    configurations: Sequence[Spec], classes: Mapping[str, type], data: Mapping[str, Dataset]
) -> Iterator[str]:
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


def metric_names(names: Sequence[str], found: Found) -> tuple[str, ...]:
    if names:
        picked = {plugins.pick("metric", name, found).name for name in names if name != "all"}
        return tuple(sorted(picked | (set(found["metric"]) if "all" in names else set())))
    usable = {name: plugin for name, plugin in found["metric"].items() if plugin.builtin or plugin.file}
    return tuple(sorted(name for name, plugin in usable.items() if getattr(plugin.module(), "DEFAULT", True)))


def is_across(found: Found, name: str) -> bool:
    return getattr(found["metric"][name].module(), "ACROSS_RUNS", False)


def _protocol(options: argparse.Namespace, chosen: Sequence[Plugin]) -> str:
    """The protocol asked for, or the preset's."""
    return known_protocol(options.protocol or PRESETS[options.preset].protocol, chosen)


def known_protocol(name: str, chosen: Sequence[Plugin]) -> str:
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
    """The data set, made if it is not there yet; that of a user keeps what is promised."""
    try:
        data: Dataset = plugin.load()(data_dir)
    except (UserError, DataError, OSError):
        raise
    except Exception as error:
        raise UserError(f"data set {plugin.name!r} cannot be made: {type(error).__name__}: {error}") from error
    try:
        for check in () if plugin.builtin else contract_data.BEFORE_A_RUN:
            check(DataCase(plugin.name, lambda root: data, data_dir))
    except Fault as error:
        raise UserError(f"data set {plugin.name!r}: {error}") from error
    return data


def _precision(name: str, device: str, there: Machine) -> str:
    """`auto` is bf16 on a CPU or CUDA GPU with instructions for it, and fp32 elsewhere."""
    if name != "auto":
        return name
    return "bf16" if device in there.bfloat16 else "fp32"


def chosen_device(name: str, there: Machine) -> str:
    """A device by its name, or `auto`. Raises UserError for one that the machine has not."""
    if name == "auto":
        return "cuda" if "cuda" in there.devices else "cpu"
    if name not in there.devices:
        raise UserError(f"--device {name}: not available; available: {', '.join(there.devices)}")
    return name


def _commit() -> str:
    """The suite's commit, `+` where files differ from it; nothing outside its checkout, as below that of another."""
    root = Path(__file__).resolve().parents[1]
    git = ["git", "-C", str(root)]
    try:
        top = subprocess.run([*git, "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=True)
        if Path(top.stdout.strip()).resolve() != root:
            return ""
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit.stdout.strip() + ("+" if status.stdout.strip() else "")
