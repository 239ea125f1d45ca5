"""Plugins: a file is a model, a metric or a data set, and its name is the file's name.

Found in the folders `models/`, `metrics/` and `data/`, in the entry-point groups `disentangle_bench.models`,
`disentangle_bench.metrics` and `disentangle_bench.data`, and in files that the user names. Only what is asked for is
imported, so a broken plugin harms nobody else. An .npz file of arrays is a data set as well, and no code.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import data
import metrics
import models
from benchmark.defaults import ARRAYS
from benchmark.errors import UserError, unknown
from data import _file
from models import Model

Found = dict[str, dict[str, "Plugin"]]
KINDS = {"model": models, "metric": metrics, "data set": data}
NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Plugin:
    """A name and where its code is: a built-in or user file, or an installed entry point. A file of arrays has none."""

    kind: str
    name: str
    file: Path | None = None
    builtin: bool = False
    entry: EntryPoint | None = None

    @property
    def arrays(self) -> Path | None:
        """The file of arrays that the data set is, if it is one."""
        return self.file if self.file and self.file.suffix == ARRAYS else None

    def module(self) -> ModuleType:
        """The imported file; an error in it is a UserError that names the line."""
        try:
            if self.builtin:
                return importlib.import_module(f"{KINDS[self.kind].__name__}.{self.name}")
            if self.entry:
                return importlib.import_module(self.entry.module)
            assert self.file is not None
            return _file if self.arrays else _import_file(self.file)
        except (Exception, SystemExit) as error:
            raise UserError(f"{self.kind} {self.name!r} cannot be imported: {where(error, self.file)}") from error

    def load(self) -> Any:
        """The model's class, or the metric's or data set's function."""
        return _file.data_set(self.arrays) if self.arrays else _plugin_object(self.kind, self.name, self.module())


def discover(files: Iterable[Path] = ()) -> Found:
    """Kind -> name -> plugin, of everything that can be used; `files` are the user's own."""
    found: Found = {}
    for kind, package in KINDS.items():
        folder = Path(str(package.__file__)).parent
        names = sorted(file.stem for file in folder.glob("*.py") if NAME.fullmatch(file.stem))
        found[kind] = {name: Plugin(kind, name, folder / f"{name}.py", builtin=True) for name in names}
        for entry in entry_points(group=f"disentangle_bench.{package.__name__}"):
            if NAME.fullmatch(entry.name):
                found[kind].setdefault(entry.name, Plugin(kind, entry.name, entry=entry))
    for file in {file.resolve(): file for file in files}.values():
        plugin = from_arrays(file) if file.suffix == ARRAYS else from_file(file)
        if plugin.name in found[plugin.kind]:
            what = "data set" if plugin.arrays else "plugin"
            raise UserError(f"{what} {file}: a {plugin.kind} named {plugin.name!r} exists already; rename the file")
        found[plugin.kind][plugin.name] = plugin
    return found


def from_file(file: Path) -> Plugin:
    """The plugin in a user's file; its content says whether it is a model, a metric or a data set."""
    check_name(file)
    module = Plugin("plugin", file.stem, file.resolve()).module()
    if _model_classes(module):
        kind = "model"
    else:
        function = getattr(module, file.stem, None)
        if not inspect.isfunction(function):
            raise UserError(f"plugin {file}: has neither a subclass of Model nor a function named {file.stem!r}")
        first = next(iter(inspect.signature(function).parameters), "")
        if first not in ("codes", "root"):
            raise UserError(f"plugin {file}: {file.stem}() must take `codes` first (a metric) or `root` (a data set)")
        kind = "metric" if first == "codes" else "data set"
    plugin = Plugin(kind, file.stem, file.resolve())
    plugin.load()
    return plugin


def from_arrays(file: Path) -> Plugin:
    """The data set in a user's file of arrays, which is not read yet."""
    check_name(file, "data set", f"my_data2{ARRAYS}")
    return Plugin("data set", file.stem, file.resolve())


def check_name(file: Path, what: str = "plugin", like: str = "my_model2.py") -> None:
    """Refuse a file that is not there or has a name that no plugin can have."""
    if not file.is_file():
        raise UserError(f"{what} {file}: {'not a file' if file.exists() else 'no such file'}")
    if file.suffix != Path(like).suffix or not NAME.fullmatch(file.stem):
        raise UserError(f"{what} {file}: the name must be like {like} (a-z, then a-z, 0-9 and _)")


def pick(kind: str, name: str, found: Found) -> Plugin:
    """The plugin of that name, or a UserError with a suggestion."""
    if name not in found[kind]:
        own = {f"{name}.py": "--plugin", **({f"{name}{ARRAYS}": "--dataset-file"} if kind == "data set" else {})}
        here = [file for file in own if NAME.fullmatch(name) and Path(file).is_file()]
        hint = f"for your file, add {own[here[0]]} {here[0]}; " if here else ""
        how = f"; your own: {' or '.join(own.values())} FILE"
        raise UserError(f"{unknown(kind, name, found[kind], hint)}{how}")
    return found[kind][name]


def is_key_of(metric: str, key: str) -> bool:
    """Whether a score of this key is this metric's: the metric's name, or one that begins with it and `_`."""
    return key == metric or key.startswith(f"{metric}_")


def _import_file(file: Path) -> ModuleType:
    name = f"disentangle_plugin_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _model_classes(module: ModuleType) -> list[type[Model]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Model) and value.__module__ == module.__name__
    ]


def _plugin_object(kind: str, name: str, module: ModuleType) -> Any:
    if kind == "model":
        classes = [cls for cls in _model_classes(module) if not inspect.isabstract(cls)]
        if len(classes) != 1:
            names = ", ".join(cls.__name__ for cls in _model_classes(module)) or "none"
            raise UserError(f"model {name!r}: its file must define exactly one complete subclass of Model, not {names}")
        return classes[0]
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"{kind} {name!r}: its file must define a function {name}()")
    return function


def where(error: BaseException, file: Path | None) -> str:
    """`file.py, line 3: NameError: …`, the line in the plugin's own file where there is one."""
    line = None
    if isinstance(error, SyntaxError):
        line = error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(file)), None)
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    place = f"{file.name if file else 'entry point'}" + (f", line {line}" if line else "")
    return f"{place}: {type(error).__name__}: {text}"
