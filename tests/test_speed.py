"""Where a command's time goes: what the parts are, and that they add up. Nothing is timed against anything."""

import json
import re
import subprocess
import sys
from pathlib import Path

import joblib
import pytest

from benchmark.timing import speed, stages

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"(.*?) +([0-9.]+) +([0-9.]+)%")


def rows(text: str) -> dict[str, float]:
    return {found[1]: float(found[2]) for line in text.splitlines() if (found := ROW.fullmatch(line))}


@pytest.mark.slow
def test_a_commands_parts_add_up():
    line = ["command", "--", "--models", "vae", "--datasets", "blobs", "--steps", "20", "--batch-size", "16"]
    out = subprocess.run([sys.executable, "-m", "benchmark.timing.speed", *line, "--metrics", "mig"], cwd=ROOT,
                         check=True, text=True, capture_output=True).stdout  # fmt: skip
    found = rows(out)
    own = {*stages.OWN.values(), "imports"} - {stages.GRID}
    assert own | {stages.IDLE, stages.WAITING, "training", "encoding", "floors", "scoring mig"} <= found.keys()
    assert min(found[part] for part in ("imports", "figures", "page", "statistics and tables")) > 0
    total, wall = found.pop("all"), float(re.search(r": ([0-9]+) s$", out, re.MULTILINE)[1])
    assert sum(found.values()) == pytest.approx(total, abs=0.05 * len(found) + 0.05)
    assert total == pytest.approx(joblib.cpu_count() * wall, abs=joblib.cpu_count() * 0.5 + 0.05)


def test_no_second_is_counted_twice():
    clock = stages.Clock()
    inner = clock.watched("inner", lambda: clock.part)
    outer = clock.watched("outer", lambda: (clock.part, inner(), clock.part))
    start = clock.since
    assert outer() == ("outer", "inner", "outer") and clock.part == "imports"
    assert clock.seconds.keys() == {"imports", "outer", "inner"}
    assert sum(clock.seconds.values()) == pytest.approx(clock.since - start)


def test_a_failing_part_ends():
    clock = stages.Clock()
    with pytest.raises(ZeroDivisionError):
        clock.watched("part", lambda: 1 // 0)()
    assert clock.part == "imports"


def test_the_whole_is_all_cores():
    own = {"imports": 1.0, stages.GRID: 10.0, "figures": 3.0}
    parts = stages.whole(16.0, own, {"training": 15.0, "imports": 2.0, "floors": 1.0}, cores=2)
    assert parts == {"training": 15, "imports": 2 + 1 + 2, "floors": 1, "figures": 3, stages.IDLE: 6, stages.WAITING: 2}


def test_a_finished_folder_is_read(tmp_path, monkeypatch, capsys):
    facts = {
        "runs/a": {"threads": 2, "seconds": 11.0, "stages": {"training": 10.0, "watching": 1.0}},
        "runs/b": {"threads": 1, "seconds": 5.0},  # of before stages were recorded
        "floors/c": {"threads": 1, "seconds": 3.0, "stages": {"data": 1.0, "encoding": 2.0}},
    }
    for name, fact in facts.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(json.dumps(fact))
    monkeypatch.setattr("sys.argv", ["speed", "command", "--from", str(tmp_path)])
    speed.main()
    found = rows(capsys.readouterr().out)
    expected = {"training": 20, "not told by stage": 5, "floors": 3, "parts of the KL": 2, "all": 30}
    assert found == expected and list(found) == list(expected)


@pytest.mark.parametrize("line", [["train", "--from", "."], ["--", "--models", "vae"], ["nothing"]])
def test_options_that_would_do_nothing_are_refused(line, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["speed", *line])
    with pytest.raises(SystemExit) as ended:
        speed.main()
    assert ended.value.code == 2 and "part" in capsys.readouterr().err


def test_a_folder_without_runs_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["speed", "command", "--from", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no runs"):
        speed.main()


@pytest.mark.slow
def test_what_denormals_cost_is_measured_on_a_run_and_leaves_it_alone(tmp_path):
    command = ["run_benchmark.py", "--models", "vae", "--datasets", "blobs", "--seeds", "1", "--steps", "20"]
    line = [*command, "--batch-size", "16", "--metrics", "mig", "--results", str(tmp_path)]
    subprocess.run([sys.executable, *line], cwd=ROOT, check=True, capture_output=True)
    [run] = (tmp_path / "runs").glob("blobs-vae-*")
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    measure = [sys.executable, "-m", "benchmark.timing.denormals", "--steps", "3", "--rounds", "1"]
    out = subprocess.run([*measure, str(run)], cwd=ROOT, check=True, text=True, capture_output=True).stdout
    assert "from step 20:" in out and "weights after 3 steps: the same bits" in out
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before
    (run / "checkpoint.safetensors").unlink()
    refused = subprocess.run([*measure, str(run)], cwd=ROOT, text=True, capture_output=True)
    assert refused.returncode == 2 and "has no checkpoint.safetensors" in refused.stderr
