"""Errors that a user can act on: one line, no traceback."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """The command line, a plugin or a file is wrong; the message names what came and what is allowed."""


def unknown(what: str, name: str, available: Iterable[str]) -> UserError:
    """An error that suggests the nearest known name."""
    known = sorted(available)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return UserError(f"unknown {what} {name!r};{hint} available: {', '.join(known)}")


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
