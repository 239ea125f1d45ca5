"""What a plugin promises, as checks: the suite's tests run them over its own plugins, `--check FILE` over a user's.

A check takes a case (the plugin, and what to try it on) and raises Fault where the promise is broken; it may return a
note. An exception of the plugin itself passes through.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

DRAWS = r"(?<!\w)(np\.random|random\.\w|torch\.(rand|normal|bernoulli|multinomial|poisson)|\w*[dD]ropout)"


class Fault(Exception):
    """A broken promise: what came and what is needed.

    at: the function or class that it comes from; word: a regular expression for the line in it.
    """

    def __init__(self, text: str, at: Any = None, word: str = "") -> None:
        super().__init__(text)
        self.at, self.word = at, word


def require(holds: Any, text: str, at: Any = None, word: str = "") -> None:
    if not holds:
        raise Fault(text, at, word)


@contextmanager
def other_global_state(seed: int) -> Iterator[None]:
    """Global random states of another seed, put back afterwards."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
