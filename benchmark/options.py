"""The command line, in groups."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NoReturn

from benchmark.defaults import ARRAYS, DATASETS, HEADLINE, PRESETS
from benchmark.errors import UserError

EXAMPLES = """examples:
  run_benchmark.py --models jointvae --datasets mnist --seeds 1              a first look
  run_benchmark.py --models jointvae betavae --seeds 5                       the main command
  run_benchmark.py --models betavae --set betavae.beta=1,2,4 --dry-run       what a sweep would do, and how long
  run_benchmark.py --models betavae --steps 1000 5000        one training, scored at both lengths
  run_benchmark.py --models mymodel --plugin mymodel.py --datasets blobs     your own model
  run_benchmark.py --models vae --dataset-file mydata.npz                    your own images
  run_benchmark.py --report results                                          tables, figures and page again
"""


TASKS = ("models", "list", "check", "report", "compare")  # a command does one of them


class Parser(argparse.ArgumentParser):
    """One line for a mistake, and exit status 2."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def one_task(options: argparse.Namespace) -> None:
    """Refuse a command line that asks for several tasks, of which all but one would be left undone."""
    asked = [f"--{name}" for name in TASKS if getattr(options, name)]
    if len(asked) > 1:
        raise UserError(f"{' and '.join(asked)} are tasks of their own; give one of them")


def parser() -> Parser:
    p = Parser(prog="run_benchmark.py", allow_abbrev=False, epilog=EXAMPLES,
               usage="run_benchmark.py --models NAME … [options]",
               formatter_class=argparse.RawDescriptionHelpFormatter,
               description="Train models over seeds, score them, and say what the scores show.")  # fmt: skip
    p.set_defaults(machine=None)  # that runs are done on: where None, this one
    _what(p.add_argument_group("what"))
    _how_long(p.add_argument_group("how long, and how exactly"))
    _where(p.add_argument_group("where"))
    _plugins(p.add_argument_group("plugins"))
    _reports(p.add_argument_group("reports"))
    return p


def _what(p: argparse._ArgumentGroup) -> None:
    p.add_argument("--models", nargs="+", action="extend", default=[], metavar="NAME", help="models to train; or `all`")
    p.add_argument("--datasets", nargs="+", action="extend", default=[], metavar="NAME",
                   help=f"default: those of --dataset-file, else {' '.join(DATASETS)}")  # fmt: skip
    p.add_argument("--metrics", nargs="+", action="extend", default=[], metavar="NAME",
                   help="default: all but those that docs/metrics.md names; or `all`")  # fmt: skip
    p.add_argument("--seeds", nargs="+", action="extend", default=[], metavar="N",
                   help="`5` is seeds 0..4; `3 4 7` or `7:9` names them (default: 1, seed 0)")  # fmt: skip
    p.add_argument("--set", nargs="+", action="extend", default=[], metavar="MODEL.NAME=VALUE",
                   help="a hyper-parameter; `1,2,4` is a sweep, a tuple is [10,4]")  # fmt: skip
    p.add_argument("--list", action="store_true", help="list models, metrics and data sets")


def _how_long(p: argparse._ArgumentGroup) -> None:
    p.add_argument("--preset", choices=list(PRESETS), default="quick", help="budget (default: quick)")
    p.add_argument("--steps", type=_positive(int), nargs="+", action="extend", default=[], metavar="N",
                   help="training steps; several lengths are trained once where their settings allow")  # fmt: skip
    p.add_argument("--batch-size", type=_positive(int), metavar="N")
    p.add_argument("--lr", type=_positive(float), metavar="X", help="learning rate")
    p.add_argument("--protocol", metavar="NAME", help="how metrics are computed (default: the preset's)")
    p.add_argument("--draws", type=_positive(int), default=1, metavar="N",
                   help="evaluate sampled metrics N times (their noise is then in the table)")  # fmt: skip
    p.add_argument("--time-limit", type=_positive(float), metavar="MINUTES", help="stop a run that takes longer")
    p.add_argument("--retrain", action="store_true", help="train again what is done already")
    p.add_argument("--keep-state", choices=["yes", "no"], default="yes",
                   help="keep what a longer run goes on from, three times the weights (default: yes)")  # fmt: skip
    p.add_argument("--dry-run", action="store_true", help="list the runs and what is done of them, and how long")


def _where(p: argparse._ArgumentGroup) -> None:
    p.add_argument("--results", type=Path, default=Path("results"), metavar="DIR")
    p.add_argument("--data-dir", type=Path, metavar="DIR", help="where data sets are cached")
    p.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto",
                   help="auto is a CUDA GPU where there is one")  # fmt: skip
    p.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto",
                   help="auto is bf16 on a CPU or CUDA GPU that has it, else fp32")  # fmt: skip
    p.add_argument("--jobs", type=_positive(int), metavar="N",
                   help="runs at a time (default: one a core, what GPUs hold, or one a cluster's thread)")  # fmt: skip
    p.add_argument("--threads", type=_positive(int), metavar="N",
                   help="threads a run (default: cores / jobs; 1 on a cluster)")  # fmt: skip
    p.add_argument("--backend", choices=["loky", "dask"], default="loky",
                   help="where runs are done: here (loky, the default), or on a Dask cluster")  # fmt: skip
    p.add_argument("--scheduler", metavar="ADDRESS", help="of the Dask cluster, like tcp://host:8786")


def _plugins(p: argparse._ArgumentGroup) -> None:
    p.add_argument("--plugin", type=Path, nargs="+", action="extend", default=[], metavar="FILE",
                   help="your own model, metric or data set; the file is code and is run")  # fmt: skip
    p.add_argument("--dataset-file", type=_arrays, nargs="+", action="extend", dest="plugin", metavar="FILE",
                   help="your own images, and factors if there are any, in an .npz file; no code")  # fmt: skip
    p.add_argument("--check", type=Path, metavar="FILE", help="check your own model, metric or data set")


def _reports(p: argparse._ArgumentGroup) -> None:
    p.add_argument("--report", type=Path, metavar="DIR", help="rebuild tables and figures of a results folder")
    p.add_argument("--compare", type=Path, nargs=2, metavar="DIR", help="what changed between two results folders")
    p.add_argument("--headline", nargs="+", action="extend", default=[], metavar="SCORE",
                   help=f"the scores that are shown first (default: {' '.join(HEADLINE)})")  # fmt: skip
    p.add_argument("--log", metavar="NAME",
                   help="`tensorboard`: event files, in results/tensorboard, written while runs train")  # fmt: skip


def _arrays(text: str) -> Path:
    if Path(text).suffix != ARRAYS:
        raise argparse.ArgumentTypeError(f"{text}: needed a file like my_data2{ARRAYS}")
    return Path(text)


def _positive(kind: type) -> Any:
    def parse(text: str) -> Any:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} must be positive")
        return value

    parse.__name__ = {int: "positive integer", float: "positive number"}[kind]
    return parse
