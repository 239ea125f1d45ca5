"""`--check FILE`: the contract of a model, metric or data set, with the line of the file that breaks it."""

from __future__ import annotations

import inspect
import re
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmark import plugins
from benchmark.authoring import contract_data, contract_metric, contract_model
from benchmark.authoring.contract import Fault
from benchmark.authoring.contract_data import DataCase
from benchmark.authoring.contract_metric import MetricCase
from benchmark.authoring.contract_model import ModelCase
from benchmark.defaults import ARRAYS
from benchmark.errors import UserError
from benchmark.plugins import Plugin
from benchmark.running.machine import same_bits_on_gpu

Step = tuple[str, Callable[[], str | None]]


def check_file(file: Path, data_dir: Path, device: str = "cpu") -> int:
    """Print a line a check of the plugin in a file; returns 0, or 1 where something must be fixed.

    device: that a model is tried on.
    Raises UserError where the file is not there or has a name that no plugin can have.
    """
    if file.suffix == ARRAYS:
        raise UserError(f"{file}: a file of arrays has no code to check; --dataset-file {file} --dry-run reads it")
    plugins.check_name(file)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if device != "cpu":
            same_bits_on_gpu(print)
        found = [_outcome(name, step, file) for name, step in _steps(file, data_dir, device)]
    faults = sum(not good for good in found)
    print(f"{file.name}: {f'{faults} to fix' if faults else 'all is well'}")
    return 1 if faults else 0


def _outcome(name: str, step: Callable[[], str | None], file: Path) -> bool:
    """Do one check and print its line."""
    try:
        note = step()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise or exit as it likes
        print(f"FIX  {name} ({place(error, file)}: {_text(error)})", flush=True)
        return False
    print(f"ok   {name}" + (f": {note}" if note else ""), flush=True)
    return True


def _steps(file: Path, data_dir: Path, device: str) -> Iterator[Step]:
    """The checks of what is in the file; only that it can be used at all, where it cannot."""
    try:
        plugin = plugins.from_file(file)
    except (UserError, SystemExit) as error:
        yield "can be used", _raiser(error)
        return
    yield f"can be used: a {plugin.kind}", lambda: None
    if plugin.kind == "model":
        yield from _of_model(plugin, device)
    else:
        yield from {"metric": _of_metric, "data set": _of_data}[plugin.kind](plugin, data_dir)


def _raiser(error: BaseException) -> Callable[[], str | None]:
    def step() -> str | None:
        raise error

    return step


def _of_model(plugin: Plugin, device: str) -> Iterator[Step]:
    sets = contract_model.image_sets()
    cases = {what: ModelCase(plugin.name, plugin.load(), data, plugin.file, device) for what, data in sets.items()}
    for name, check in contract_model.ON_EVERY_SHAPE.items():
        yield f"{name}, on {len(cases)} kinds of data", partial(_on_all, check, cases)
    for name, check in contract_model.ONCE.items():
        yield name, partial(check, cases["32x32"])


def _on_all(check: Callable[[ModelCase], str | None], cases: dict[str, ModelCase]) -> None:
    for what, case in cases.items():
        try:
            check(case)
        except Exception as error:
            error.add_note(f"on {what}")
            raise


def _of_metric(plugin: Plugin, _: Path) -> Iterator[Step]:
    case = MetricCase(plugin.name, plugin.load(), plugin.module())
    broken = False
    for name, check in contract_metric.METRIC.items():

        def step(check: Callable[[MetricCase], str | None] = check) -> str | None:
            nonlocal broken
            broken = True
            note = check(case)
            broken = False
            return note

        yield name, step
        if broken and name in ("declarations", "values"):
            return
    if not broken:
        yield "what it depends on", partial(_notes, case)


def _notes(case: MetricCase) -> str:
    return "; ".join(f"{what} {text}" for what, text in contract_metric.described(case).items())


def _of_data(plugin: Plugin, data_dir: Path) -> Iterator[Step]:
    case = DataCase(plugin.name, plugin.load(), data_dir)
    try:
        _ = case.data
    except Exception as error:  # once: no check can be done without it
        yield "can be made", _raiser(error)
        return
    for name, check in contract_data.DATA.items():
        yield name, partial(check, case)


def _text(error: BaseException) -> str:
    """What came and what is needed, on one line."""
    cause = error.__cause__ if isinstance(error, UserError) and error.__cause__ else error
    plain = str(cause) if isinstance(cause, Fault | UserError) else f"{type(cause).__name__}: {cause}"
    if isinstance(cause, SyntaxError):
        plain = f"SyntaxError: {cause.msg}"
    notes = [note for note in getattr(error, "__notes__", ()) if note not in plain and note != "on 32x32"]
    return " ".join(" ".join([*(f"{note}:" for note in notes), plain]).split())


def place(error: BaseException, file: Path) -> str:
    """FILE:LINE of the author's line that an error comes from; the file alone where there is none."""
    cause = error.__cause__ if isinstance(error, UserError) and error.__cause__ else error
    if isinstance(cause, SyntaxError):
        line = cause.lineno
    elif isinstance(cause, Fault):
        line = _line_of(cause.at, cause.word, file)
    else:
        frames = [f.lineno for f in traceback.extract_tb(cause.__traceback__) if Path(f.filename) == file.resolve()]
        line = frames[-1] if frames else _plugin_line(file)
    return f"{file.name}:{line or 1}"


def _line_of(at: Any, word: str, file: Path) -> int | None:
    """The first line that has the word in the source of a function, class or module, else where that begins."""
    try:
        own = Path(str(inspect.getsourcefile(at))) == file.resolve()
        lines, first = inspect.getsourcelines(at)
    except (OSError, TypeError):
        return None
    if not own:  # inherited: the class in the author's file is what there is to change
        return _plugin_line(file)
    found = (i for i, line in enumerate(lines) if word and re.search(word, line) and not line.lstrip().startswith("#"))
    return max(first, 1) + next(found, 0)


def _plugin_line(file: Path) -> int | None:
    """Where the plugin's class or function begins, where the file can be used at all."""
    try:
        return inspect.getsourcelines(plugins.from_file(file).load())[1]
    except (UserError, SystemExit, OSError):
        return None
