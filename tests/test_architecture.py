"""Imports go one way: run_benchmark -> benchmark -> {models, metrics, data}; the three leaves know nothing else."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "benchmark": {"benchmark", "models", "metrics", "data"},
    "models": {"models"},
    "metrics": {"metrics"},
    "data": {"data"},
}
FILES = [file for package in ALLOWED for file in sorted((ROOT / package).glob("*.py"))]


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add(str(node.module).split(".")[0])
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_imports_go_one_way(file: Path):
    ours = imported(file) & {*ALLOWED, "run_benchmark", "tests"}
    assert ours <= ALLOWED[file.parent.name]


def test_metrics_do_not_need_torch_and_models_do_not_need_sklearn():
    for file in FILES:
        if file.parent.name == "metrics":
            assert not imported(file) & {"torch", "pandas", "h5py"}, file
        if file.parent.name == "models":
            assert not imported(file) & {"sklearn", "pandas", "h5py"}, file


def test_the_command_stays_small():
    assert len((ROOT / "run_benchmark.py").read_text().splitlines()) < 120
