"""Plugins: a file is a model, a metric or a data set, and its name is the file's name.

Found in the folders `models/`, `metrics/` and `data/`, in the entry-point groups `disentangle_bench.models`,
`disentangle_bench.metrics` and `disentangle_bench.data`, and in files that the user names. Only what is asked for is
imported, so a broken plugin harms nobody else.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import io
import re
import sys
import tokenize
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import data
import metrics
import models
from benchmark.errors import UserError, unknown
from models import Model

KINDS = {"model": models, "metric": metrics, "data set": data}
NAME = re.compile(r"[a-z][a-z0-9_]*")
DECLARED = {"published", "begins"}  # of a model's class: they decide no bit of a run whose settings are known


@dataclass(frozen=True)
class Plugin:
    """A name and where its code is: a built-in or user file, or an installed entry point."""

    kind: str
    name: str
    file: Path | None = None
    builtin: bool = False
    entry: EntryPoint | None = None

    def module(self) -> ModuleType:
        """The imported file; an error in it is a UserError that names the line."""
        try:
            if self.builtin:
                return importlib.import_module(f"{KINDS[self.kind].__name__}.{self.name}")
            if self.entry:
                return importlib.import_module(self.entry.module)
            assert self.file is not None
            return _import_file(self.file)
        except Exception as error:
            raise UserError(f"{self.kind} {self.name!r} cannot be imported: {_where(error, self.file)}") from error

    def load(self) -> Any:
        """The model's class, or the metric's or data set's function."""
        return _plugin_object(self.kind, self.name, self.module())


def discover(files: Iterable[Path] = ()) -> dict[str, dict[str, Plugin]]:
    """Kind -> name -> plugin, of everything that can be used; `files` are the user's own."""
    found: dict[str, dict[str, Plugin]] = {}
    for kind, package in KINDS.items():
        folder = Path(str(package.__file__)).parent
        names = sorted(file.stem for file in folder.glob("*.py") if NAME.fullmatch(file.stem))
        found[kind] = {name: Plugin(kind, name, folder / f"{name}.py", builtin=True) for name in names}
        for entry in entry_points(group=f"disentangle_bench.{package.__name__}"):
            if NAME.fullmatch(entry.name):
                found[kind].setdefault(entry.name, Plugin(kind, entry.name, entry=entry))
    for file in files:
        plugin = from_file(file)
        if plugin.name in found[plugin.kind]:
            raise UserError(f"plugin {file}: a {plugin.kind} named {plugin.name!r} exists already; rename the file")
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


def check_name(file: Path) -> None:
    """Refuse a file that is not there or has a name that no plugin can have."""
    if not file.is_file():
        raise UserError(f"plugin {file}: no such file")
    if file.suffix != ".py" or not NAME.fullmatch(file.stem):
        raise UserError(f"plugin {file}: the name must be like my_model2.py (a-z, then a-z, 0-9 and _)")


def pick(kind: str, name: str, found: dict[str, dict[str, Plugin]]) -> Plugin:
    """The plugin of that name, or a UserError with a suggestion."""
    if name not in found[kind]:
        raise unknown(kind, name, found[kind])
    return found[kind][name]


def source_files(plugin: Plugin) -> list[Path]:
    """The files that decide what a plugin computes: its own, and those of the plugins that its class extends.

    A metric's shared mathematics (the `_*.py` of its package) counts as well, so that mending it scores again.
    """
    loaded = plugin.load()
    if isinstance(loaded, type):
        modules = [sys.modules[cls.__module__] for cls in loaded.__mro__ if issubclass(cls, Model) and cls is not Model]
        return [Path(str(module.__file__)) for module in modules]
    own = Path(inspect.getfile(loaded))
    plumbing = sorted(Path(str(metrics.__file__)).parent.glob("_[a-z]*.py")) if plugin.kind == "metric" else []
    return [own, *plumbing]


def fingerprint(plugin: Plugin) -> dict[str, str]:
    """File name -> sha256 of what each of the plugin's source files computes."""
    return {file.name: _digest(file.read_bytes()) for file in source_files(plugin)}


@cache
def _digest(content: bytes) -> str:
    """Of the code; of all bytes where they are no Python text."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        content = code(content.decode(encoding).replace("\r\n", "\n")).encode()
    except (SyntaxError, ValueError):
        pass
    return hashlib.sha256(content).hexdigest()


def code(source: str) -> str:
    """A file's text without what decides no run: docstrings, a model's `published` (the run's spec has the settings
    themselves) and `begins`, empty lines and lines that are a comment. So a finished run stays finished when only these
    are edited."""
    lines = source.split("\n")
    nodes = list(ast.walk(ast.parse(source)))
    spare: set[int] = set()
    unread = _unread(nodes)
    for statement in (found for node in nodes for found in _spare(node, unread)):
        first, last = statement.lineno - 1, (statement.end_lineno or statement.lineno) - 1
        before = lines[first].encode()[: statement.col_offset].strip()
        after = lines[last].encode()[statement.end_col_offset :].partition(b"#")[0].strip()
        if not before + after:  # nothing else shares its lines
            spare.update(range(first, last + 1))
    texts = [node for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr)]
    inside = {line for text in texts for line in range(text.lineno, text.end_lineno or 0)}
    spare |= {n for n, line in enumerate(lines) if n not in inside and (not line.strip() or line.lstrip()[0] == "#")}
    return "\n".join(line for n, line in enumerate(lines) if n not in spare)


def _unread(nodes: Iterable[ast.AST]) -> set[str]:
    """The declarations of a model that its file does not read itself."""
    read = {
        name
        for node in nodes
        for name in (
            node.attr if isinstance(node, ast.Attribute) else "",
            node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else "",
            node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "",
        )
    }
    return DECLARED - read


def _spare(node: ast.AST, declared: set[str]) -> Iterator[ast.stmt]:
    """The statements directly below a node that decide nothing."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and len(node.body) > 1:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            yield first
    for item in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(item, ast.AnnAssign | ast.Assign):
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if len(names) == 1 and names[0] in declared:
                yield item


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


def _where(error: Exception, file: Path | None) -> str:
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
