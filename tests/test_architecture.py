"""Imports go one way: run_benchmark -> benchmark -> {models, metrics, data}, and down the rooms of benchmark."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = ("models", "metrics", "data")
# From the ground up: a room, a folder or a file of benchmark, imports what is below it.
FLOORS = (
    ("errors", "defaults"),
    ("messages", "options", "statistics"),
    ("spec", "plugins", "store"),
    ("sources",),
    ("runs",),
    ("running",),
    ("reporting", "authoring", "timing"),
    ("library",),
    ("evidence",),
    ("plan",),
    ("actions",),
    ("command",),
)
BENCHMARK = sorted((ROOT / "benchmark").rglob("*.py"))
MODULES = [file for file in BENCHMARK if file.name != "__init__.py"]
FILES = [*BENCHMARK, *(file for package in LEAVES for file in sorted((ROOT / package).rglob("*.py")))]


def imported(file: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in it; `from a import b` counts as a.b."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def packages(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(file)}


def room(file: Path) -> str:
    return file.relative_to(ROOT / "benchmark").parts[0].removesuffix(".py")


def floor(name: str) -> int:
    found = [level for level, rooms in enumerate(FLOORS) if name in rooms]
    assert len(found) == 1, f"{name}: give it a floor"
    return found[0]


def test_every_file_is_looked_at():
    assert len(BENCHMARK) > 35 and {"running", "reporting", "statistics"} <= {room(file) for file in BENCHMARK}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_leaves_know_nothing_else(file: Path):
    package = file.relative_to(ROOT).parts[0]
    ours = packages(file) & {"benchmark", *LEAVES, "run_benchmark", "tests"}
    assert ours <= ({"benchmark", *LEAVES} if package == "benchmark" else {package})


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_rooms_import_downwards(file: Path):
    mine = floor(room(file))
    for name in imported(file):
        if name.startswith("benchmark.") and (other := name.split(".")[1]) != room(file):
            assert floor(other) < mine, f"{name} is not below {room(file)}"


def test_metrics_do_not_need_torch_and_models_do_not_need_sklearn():
    for file in FILES:
        if file.parent.name == "metrics":
            assert not packages(file) & {"torch", "pandas", "h5py"}, file
        if file.parent.name == "models":
            assert not packages(file) & {"sklearn", "pandas", "h5py"}, file


def test_the_command_stays_small():
    assert len((ROOT / "run_benchmark.py").read_text().splitlines()) < 120


def test_what_waits_for_runs_loads_nothing_heavy():
    """Dask's workers load the supervisor and the cluster's file."""
    for name in ("supervisor", "cluster"):
        tree = ast.parse((ROOT / "benchmark/running" / f"{name}.py").read_text())
        top = {alias for node in tree.body if isinstance(node, ast.Import) for alias in (a.name for a in node.names)}
        assert not top & {"torch", "pandas", "numpy"}, name
