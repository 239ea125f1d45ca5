"""README and docs/ say what can be done: their blocks of Python run, their commands are understood."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from test_command import here, run  # noqa: F401

from benchmark.options import parser

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OF_RESULTS = [ROOT / "RESULTS.md", *sorted((ROOT / "docs/results").glob("*.md"))]
NOT_RUN = "<!-- not run as it is -->\n"
BLOCK = re.compile(rf"({NOT_RUN})?```(python|sh)\n(.*?)```", re.DOTALL)
BLOCKS = [(page.relative_to(ROOT).as_posix(), *found.groups()) for page in PAGES
          for found in BLOCK.finditer(page.read_text())]  # fmt: skip
PYTHON = [(page, text) for page, spare, kind, text in BLOCKS if kind == "python" and not spare]
COMMANDS = sorted({line.partition("  #")[0].strip() for _, _, kind, text in BLOCKS if kind == "sh"
                   for line in re.split(r"\n|&&", text) if "run_benchmark.py" in line})  # fmt: skip
READS = ("--list", "--check", "--report", "--compare")


def test_the_readme_is_short_and_links_lead_somewhere():
    assert len((ROOT / "README.md").read_bytes()) <= 8_000
    for page in [*PAGES, *OF_RESULTS]:
        for link, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"
            assert "://" in link or not anchor or anchor in anchors(page.parent / link if link else page), anchor


def anchors(page: Path) -> set[str]:
    """Those of its headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize(("page", "text"), PYTHON, ids=[f"{page}-{n}" for n, (page, _) in enumerate(PYTHON)])
def test_blocks_of_python_run(page, text):
    exec(compile(text, page, "exec"), {"__name__": "block"})


def test_there_is_something_to_run():
    assert len(PYTHON) >= 5 and len(COMMANDS) >= 8


def small(words: list[str]) -> list[str]:
    """The same command on the data set that is made in memory."""
    if not {"--datasets", "--check", "--list", "--report", "--compare"} & set(words):
        words = [*words, "--datasets", "dsprites"]
    return ["blobs" if word in ("dsprites", "mnist") else word for word in words]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_understood(here, tmp_path, line):  # noqa: F811
    for _, text in PYTHON:
        if name := re.match(r"# (\w+\.py)\n", text):
            (tmp_path / name[1]).write_text(text)
            (tmp_path / "path" / "to").mkdir(parents=True, exist_ok=True)
            (tmp_path / "path" / "to" / name[1]).write_text(text)
    words = small(shlex.split(line)[2:])
    if "--report" in words or "--compare" in words:
        assert here(*words)[2].count("holds no runs") == 1  # understood, and nothing is there
        return
    if "--check" in words:  # tests/test_check.py checks such files; here, that it is one that the pages have
        assert (tmp_path / parser().parse_args(words).check.name).is_file()
        return
    status, _, err = here(*words, *([] if "--list" in words else ["--dry-run"]))
    assert status == 0, err


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    book = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (tmp_path / "results").symlink_to(ROOT / "results")
    client = nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": tmp_path / "docs"}})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(ROOT))
        client.execute()
    assert (tmp_path / "docs" / "accuracy.pdf").stat().st_size > 5_000
    assert sum("image/png" in str(output) for cell in book.cells for output in cell.get("outputs", [])) == 2
