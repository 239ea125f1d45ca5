"""Which code decides the numbers of a run: a fingerprint of every stage, over exactly the files that it runs.

Those are a stage's own file and what it imports, directly or not, of what computes in this suite: models, metrics, data
sets, and `benchmark/running`. What only keeps files and settings decides no number. Of a plugin it is the plugin's own
file, those of the models that it extends, and what they import of the suite; not further modules of its author's.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
import sys
import tokenize
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmark import plugins
from benchmark.plugins import Found, Plugin
from benchmark.spec import Spec, kind_of
from data import Dataset
from models import Model

ROOT = Path(__file__).resolve().parents[1]
COMPUTING = ("models", "metrics", "data", "benchmark.running")
RUNNING, METRICS = ROOT / "benchmark" / "running", ROOT / "metrics"
MEASURING = ROOT / "data" / "_attributes.py"
# Of a model's class, and of a data set's file: they decide no bit of a run whose settings are known. What `begins` says
# decides its codes, and has a fingerprint of its own.
DECLARED = {"published", "begins", "surrogate_gradient", "captures", "traversal", "told"}
CAPTIONS = {"CLASS_NAMES"}
# A change of these makes another run; of these, the same run is encoded and scored again.
DECIDE_RUN, DECIDE_CODES = ("data", "training"), ("encoding", "details")
CHECKED = (*DECIDE_RUN, *DECIDE_CODES)
DECIDE_SCORES = ("data", "training", "encoding")  # but for the metrics' own, which every score has beside it

CONTENT, CHUNK = "content", 4096  # of images of a data set that is not the suite's; rows that are read at a time

Files = dict[str, str]  # name -> sha256 of the code
Stages = dict[str, Files]


def of_run(spec: Spec, found: Found) -> Stages:
    """Stage -> the files that decide what it does in this run or floor. Raises UserError for a plugin that is gone."""
    data = closure([_own_file(plugins.pick("data set", spec.dataset, found))])
    details = closure([METRICS / "_tables.py"])
    if kind_of(spec.model) != "run":
        return {"data": data, "encoding": closure([RUNNING / "floors.py"]), "details": details}
    model = plugins.pick("model", spec.model, found)
    return {
        "data": data,
        "training": {**of_model(model), **closure([RUNNING / "trainer.py"])},
        "watching": closure([RUNNING / "watch.py"]),
        "encoding": {**closure([RUNNING / "encoder.py"]), **_begins(model)},
        "details": details,
    }


def _begins(plugin: Plugin) -> Files:
    """What a model says of its parts that begin late: a class is no code before it has begun."""
    begins = plugin.load().begins
    text = json.dumps(begins, sort_keys=True)
    return {f"begins of {plugin.name}": hashlib.sha256(text.encode()).hexdigest()} if begins else {}


def of_model(plugin: Plugin) -> Files:
    """The files of a model's class and of those that it extends, with what they import."""
    modules = [sys.modules[cls.__module__] for cls in plugin.load().__mro__ if issubclass(cls, Model)]
    return closure([Path(str(module.__file__)) for module in modules])


def of_metric(plugin: Plugin) -> str:
    """16 digits of the sha256 of all that decides what a metric computes."""
    files = closure([_own_file(plugin), METRICS / "__init__.py", *([MEASURING] if sees_attributes(plugin) else [])])
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:16]


def sees_attributes(plugin: Plugin) -> bool:
    """Whether a metric asks for `Codes.attributes`, which are measured for no other (`ATTRIBUTES` in its file)."""
    return getattr(plugin.module(), "ATTRIBUTES", False)


def images_of(plugin: Plugin, data: Dataset) -> str:
    """Which images (and factors, attributes and rows) a data set has: what it says itself, and of one that is not the
    suite's own, whose file may read others tomorrow, the digest of all that runs read."""
    if plugin.builtin or data.origin:
        return data.origin
    content = hashlib.sha256()
    numbers = [np.asarray(part, dtype=np.int64) for part in (data.factors, data.train_rows, data.score_rows)]
    parts: list[Any] = [data.images, *numbers, *([] if data.attributes is None else [data.attributes])]
    for part in parts:
        for start in range(0, len(part), CHUNK):
            content.update(np.ascontiguousarray(part[start : start + CHUNK]).data)
    return f"{CONTENT} {content.hexdigest()[:8]}"


def is_content(origin: str) -> bool:
    """Whether it is such a digest."""
    return re.fullmatch(rf"{CONTENT} [0-9a-f]{{8}}", origin) is not None


def content_of(origin: str) -> str:
    """The digits of such a digest."""
    return origin.removeprefix(f"{CONTENT} ")


def differing(a: Stages, b: Stages, stages: Collection[str]) -> list[str]:
    """The files in which two runs differ, of these stages."""
    return sorted({name for stage in stages for name, _ in {*a.get(stage, {}).items()} ^ {*b.get(stage, {}).items()}})


def digest(stages: Stages) -> str:
    """4 digits that tell versions of the code apart."""
    return hashlib.sha256(json.dumps(stages, sort_keys=True).encode()).hexdigest()[:4]


def _own_file(plugin: Plugin) -> Path:
    return Path(str(plugin.module().__file__))


def closure(files: Iterable[Path]) -> Files:
    """These files and those that they import of what computes."""
    found: dict[Path, None] = {}
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found[file] = None
            waiting += _imported(file.read_bytes())
    return {_name(file): _digest(file.read_bytes()) for file in sorted(found)}


def _name(file: Path) -> str:
    """A file of the suite by its path in it, a user's by its name, wherever it lies."""
    ours = any(file.is_relative_to(ROOT / package) for package in ("benchmark", "models", "metrics", "data"))
    return file.relative_to(ROOT).as_posix() if ours else file.name


@cache
def _imported(content: bytes) -> list[Path]:
    try:
        nodes = list(ast.walk(ast.parse(content)))
    except (SyntaxError, ValueError):
        return []
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    parts = [f"{n.module}.{a.name}" for n in nodes if isinstance(n, ast.ImportFrom) and not n.level for a in n.names]
    names = {name for name in [*plain, *parts, *(part.rpartition(".")[0] for part in parts)]}
    return [file for name in sorted(names) if name.startswith(COMPUTING) for file in _files_of(name)]


def _files_of(module: str) -> list[Path]:
    """The file of a module, of a package its `__init__`; none for a name within a module."""
    path = ROOT / module.replace(".", "/")
    return [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]


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
    """A file's text without what decides no run: docstrings, declarations such as a model's `published` (the run's spec
    has the settings themselves), empty lines and lines that are a comment. So a finished run stays finished when only
    these are edited."""
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
    """The declarations that the file does not read itself."""
    read = {
        name
        for node in nodes
        for name in (
            node.attr if isinstance(node, ast.Attribute) else "",
            node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else "",
            node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "",
        )
    }
    return (DECLARED | CAPTIONS) - read


def _spare(node: ast.AST, declared: set[str]) -> Iterator[ast.stmt]:
    """The statements directly below a node that decide nothing."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and len(node.body) > 1:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            yield first
    for item in node.body if isinstance(node, ast.ClassDef | ast.Module) else ():
        if isinstance(item, ast.AnnAssign | ast.Assign):
            targets = item.targets if isinstance(item, ast.Assign) else [item.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            if len(names) == 1 and names[0] in declared & (CAPTIONS if isinstance(node, ast.Module) else DECLARED):
                yield item
