"""The command `run_benchmark.py`, from its line to its exit status."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from rich.console import Console

from benchmark.errors import UserError, of_the_machine
from benchmark.messages import say
from benchmark.options import one_task, parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0 (all well), 1 (some runs failed), 2 (wrong command line) or 130 (interrupted)."""
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = argparse.Namespace(retrain=False, line=list(sys.argv[1:] if arguments is None else arguments))
    try:
        parser().parse_args(arguments, options)
        one_task(options)
        from benchmark import actions  # torch and pandas take seconds: a mistake, or --help, does not wait for them

        status = actions.run(options, console)
        sys.stdout.flush()
        return status
    except UserError as error:
        say(console, error, "error")
        return 2
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter flushes, and complains
        return 1
    except OSError as error:
        say(console, of_the_machine(error), "error")
        return 1
    except KeyboardInterrupt:
        how = "to go on from here, leave out --retrain" if options.retrain else "the same command goes on from here"
        say(console, f"interrupted; what is finished is kept, and {how}")
        return 130
