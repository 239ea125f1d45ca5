"""What the KL is spent on while a model trains: `elbo_parts` of some images, at steps that are the same in any run."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from benchmark import store
from benchmark.running import encoder
from benchmark.running.encoder import Selection
from benchmark.running.trainer import Watch
from benchmark.spec import Spec, not_begun
from data import Dataset
from metrics import metric_rng
from metrics.elbo_parts import elbo_parts
from models import Model

PARTS = ("information", "total_correlation", "dimension_kl")
COLUMNS = tuple(f"elbo_{part}" for part in PARTS)  # of history.csv
ROWS, DRAWS = 4_000, 500


def due(step: int) -> bool:
    """Every 500 steps up to 10,000, every 5,000 up to 100,000, then every 50,000."""
    return step % (500 if step <= 10_000 else 5_000 if step <= 100_000 else 50_000) == 0


def watch(data: Dataset, spec: Spec, rows: int = ROWS) -> Watch:
    """Gives the parts (nats) of a model at the steps where they are due.

    They are those of 4,000 scored images, drawn once, so at most ln 4000 = 8.3 nats of information can be seen: see
    `metrics.elbo_parts`. A class that has not begun is no part of the code, as in the scores of a run that ends then.
    A deterministic code has none of them, nor has one that is not finite.
    """
    drawn = np.random.default_rng(0).permutation(len(data.score_rows))[:rows]
    place = np.sort(drawn)
    chosen = Selection("watched", data.score_rows[place], data.factors[data.score_rows[place]], data.factor_sizes,
                       np.zeros(len(place), dtype=bool))  # fmt: skip

    def parts(model: Model, step: int) -> store.Row:
        try:
            codes = encoder.encode(model, data, chosen)
            if "class" in not_begun(replace(spec, steps=step), type(model)):
                codes = replace(codes, probs=())
            found = elbo_parts(codes, metric_rng(spec.seed, "watch", step), n_train=codes.n, draws=DRAWS)
        except ValueError:  # a code that is not finite: for the losses or the scores to say, not for a spectator
            found = {}
        model.train()
        values = [found.get(f"elbo_parts_{part}") for part in PARTS]
        return {c: v if isinstance(v, float) else math.nan for c, v in zip(COLUMNS, values, strict=True)}

    return Watch(COLUMNS, due, parts)
