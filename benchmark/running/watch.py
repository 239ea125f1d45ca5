"""What the KL is spent on while a model trains: `elbo_parts` of some images, at about twenty steps of a run."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from benchmark import store
from benchmark.running import encoder
from benchmark.running.encoder import Selection
from benchmark.spec import Spec
from data import Dataset
from metrics import metric_rng
from metrics.elbo_parts import elbo_parts
from models import Model

PARTS = ("information", "total_correlation", "dimension_kl")
COLUMNS = tuple(f"elbo_{part}" for part in PARTS)  # of history.csv
POINTS, LEAST = 20, 500  # times in a run; steps between them at least
ROWS, DRAWS = 4_000, 500


def watch(data: Dataset, spec: Spec, rows: int = ROWS) -> Callable[[Model, int], store.Row]:
    """Gives the parts (nats) of a model at a step where they are due, which the last step is; nan elsewhere.

    They are those of 4,000 scored images, drawn once, so at most ln 4000 = 8.3 nats of information can be seen: see
    `metrics.elbo_parts`. A deterministic code has none, nor has one that is not finite.
    """
    drawn = np.random.default_rng(0).permutation(len(data.score_rows))[:rows]
    place = np.sort(drawn)
    chosen = Selection("watched", data.score_rows[place], data.factors[data.score_rows[place]], data.factor_sizes,
                       np.zeros(len(place), dtype=bool))  # fmt: skip
    every = max(spec.steps // POINTS // 100 * 100, LEAST)

    def parts(model: Model, step: int) -> store.Row:
        if step % every and step != spec.steps:
            return dict.fromkeys(COLUMNS, math.nan)
        try:
            codes = encoder.encode(model, data, chosen)
            found = elbo_parts(codes, metric_rng(spec.seed, "watch", step), n_train=codes.n, draws=DRAWS)
        except ValueError:  # a code that is not finite: for the losses or the scores to say, not for a spectator
            found = {}
        model.train()
        values = [found.get(f"elbo_parts_{part}") for part in PARTS]
        return {c: v if isinstance(v, float) else math.nan for c, v in zip(COLUMNS, values, strict=True)}

    return parts
