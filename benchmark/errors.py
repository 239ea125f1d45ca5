"""Errors that a user can act on: one line, no traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """The command line, a plugin or a file is wrong; the message names what came and what is allowed."""


def unknown(what: str, name: str, available: Iterable[str]) -> UserError:
    """An error that suggests the nearest known name."""
    known = sorted(available)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return UserError(f"unknown {what} {name!r};{hint} available: {', '.join(known)}")
