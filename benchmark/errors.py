"""Errors that a user can act on: one line, no traceback."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path


class UserError(Exception):
    """The command line, a plugin or a file is wrong; the message names what came and what is allowed."""


def unknown(what: str, name: str, available: Iterable[str], hint: str = "") -> UserError:
    """An error that suggests the nearest known name, or gives this hint."""
    known = sorted(available)
    close = difflib.get_close_matches(name.lower(), known, n=1)
    hint = hint or (f"did you mean {close[0]!r}? " if close else "")
    return UserError(f"unknown {what} {name!r}; {hint}available: {', '.join(known)}")


def exit_status(work: Callable[[], int | None]) -> int:
    """What `work` returns, or 0; 2 for a user's mistake and 1 for the machine's, said in a line on standard error."""
    try:
        return work() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {of_the_machine(error)}", file=sys.stderr)
        return 1


def of_the_machine(error: OSError) -> str:
    """What went wrong with which file, as far as is known."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def anonymous(text: str, places: Mapping[Path, str]) -> str:
    """A text that may leave this machine: these folders, the suite's, Python's and the user's home by other names."""
    suite = Path(__file__).resolve().parents[1]
    named = {**places, suite: "<suite>", Path(sys.prefix): "<python>", Path("~").expanduser(): "~"}
    for path, name in sorted(named.items(), key=lambda item: -len(str(item[0]))):  # a folder before those above it
        if path.name:  # not the root folder
            text = re.sub(rf"(?<![\w.-]){re.escape(str(path))}(?![\w-])", name, text)
    return text
