"""What the command says on standard error while it works: a line each, never a traceback."""

from __future__ import annotations

import re

from rich.console import Console
from rich.markup import escape

RUN = re.compile(r"[\w/.-]*-s[0-9]+-[0-9a-f]{8}")  # a run's id, or its folder


def say(console: Console, value: object, kind: str = "") -> None:
    """One line without markup. kind: `error` or `warning`, said before it in its colour."""
    mark = {"": "", "error": "[red]error:[/] ", "warning": "[yellow]warning:[/] "}[kind]
    console.print(mark + escape(" ".join(str(value).split())), highlight=False, soft_wrap=True)


class Warnings:
    """Tells the first warning of a kind at once, and at the end how many more there were, of other runs."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.kinds: dict[str, set[str]] = {}

    def __call__(self, text: str) -> None:
        same = self.kinds.setdefault(RUN.sub("…", text), set())
        if not same:
            say(self.console, text, "warning")
        same.add(text)  # one found by the command is found by the run's own process too

    def __enter__(self) -> Warnings:
        return self

    def __exit__(self, *_: object) -> None:
        for kind, texts in self.kinds.items():
            if len(texts) > 1:
                say(self.console, f"{len(texts) - 1} more like it: {kind}", "warning")
