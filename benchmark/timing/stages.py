"""Where a command's core-seconds go: training, encoding, each metric, floors, figures, page.

Runs record the seconds of their stages (run.json). The command's own parts are timed from outside: `python -m
benchmark.timing.stages FILE [arguments]` is the command with the functions of `OWN` watched, and writes their seconds
into FILE.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import joblib

MAIN = ("--models", "jointvae", "betavae", "--seeds", "5")  # the README's
COMMAND, GRID = "benchmark.command:main", "benchmark.running.runner:run_grid"
OWN = {
    COMMAND: "the rest of the command",
    "benchmark.plan:_data_sets": "data",
    "benchmark.plan:jobs_of": "plan",
    GRID: GRID,
    "benchmark.running.across:score": "scores over runs",
    "benchmark.reporting.report:build": "statistics and tables",
    "benchmark.reporting.pictures:write": "figures",
    "benchmark.reporting.page:write": "page",
}
NAMES = {"watching": "parts of the KL"}
IDLE, WAITING = "other cores beside the command's own", "processes' start and end, wait for the last"


class Clock:
    """Seconds by part: where one part calls another, they count for the other alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.part, self.since = "imports", time.perf_counter()

    def turn(self, part: str) -> str:
        """Begin a part; returns the one that it interrupts."""
        now, before = time.perf_counter(), self.part
        self.seconds[before] += now - self.since
        self.part, self.since = part, now
        return before

    def watched(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            before = self.turn(part)
            try:
                return function(*arguments, **options)
            finally:
                self.turn(before)

        return timed


def command(arguments: Sequence[str]) -> tuple[int, dict[str, float]]:
    """Run the command here; returns its exit status, and the seconds of its own parts."""
    clock = Clock()
    for name, part in OWN.items():
        module, _, function = name.partition(":")
        setattr(resolve_name(module), function, clock.watched(part, resolve_name(name)))
    status = resolve_name(COMMAND)(arguments)
    return status, dict(clock.seconds)


def of_runs(results: Path) -> dict[str, float]:
    """Core-seconds of the runs in a results folder by stage, and of its floors together. Exits where it has none."""
    parts: dict[str, float] = defaultdict(float)
    for kind in ("runs", "floors"):
        for path in sorted(results.glob(f"{kind}/*/run.json")):
            facts = json.loads(path.read_text())
            for stage, seconds in facts.get("stages", {"not told by stage": facts["seconds"]}).items():
                parts[kind if kind == "floors" else NAMES.get(stage, stage)] += facts["threads"] * seconds
    if not parts:
        sys.exit(f"{results}: holds no runs")
    return parts


def whole(wall: float, own: Mapping[str, float], runs: Mapping[str, float], cores: int) -> dict[str, float]:
    """Core-seconds of a command that took `wall` seconds by part: they add up to `cores` times that.

    own: seconds of its own parts, on one core; `GRID` is the wait for its runs, and the interpreter's start and end are
    counted as imports. runs: core-seconds that its runs recorded, which with more jobs than cores are too many, and
    `WAITING` is too little by as much.
    """
    parts = defaultdict(float, runs)
    for part, seconds in own.items():
        if part != GRID:
            parts[part] += seconds
    parts["imports"] += wall - sum(own.values())
    parts[IDLE] = (cores - 1) * (wall - own[GRID])
    parts[WAITING] = cores * own[GRID] - sum(runs.values())
    return parts


def measure(arguments: Sequence[str]) -> None:
    """Run a command from empty caches into an empty results folder, and print where its time went."""
    with tempfile.TemporaryDirectory() as folder:
        seconds, results, start = Path(folder, "seconds.json"), Path(folder, "results"), time.perf_counter()
        line = ["--data-dir", f"{folder}/data", *arguments, "--results", str(results)]
        subprocess.run([sys.executable, "-m", "benchmark.timing.stages", str(seconds), *line],
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        wall = time.perf_counter() - start
        parts = whole(wall, json.loads(seconds.read_text()), of_runs(results), joblib.cpu_count())
    show(f"command: {' '.join(arguments)}: {wall:.0f} s", parts)


def show(title: str, parts: Mapping[str, float]) -> None:
    print(title)
    print(f"{'part':46}{'core-seconds':>12}{'share':>8}")
    total = sum(parts.values())
    for part, seconds in [*sorted(parts.items(), key=lambda item: -item[1]), ("all", total)]:
        print(f"{part:46}{seconds:12.1f}{seconds / total:8.1%}")


if __name__ == "__main__":
    status, own = command(sys.argv[2:])
    Path(sys.argv[1]).write_text(json.dumps(own))
    sys.exit(status)
