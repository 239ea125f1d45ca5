"""A results folder as the command leaves it, made in a second: random codes and scores, no training."""

import numpy as np

from benchmark import store
from benchmark.running.worker import DETAIL_COLUMNS, SCORE_COLUMNS
from benchmark.spec import Spec
from metrics import Codes

MEANS = {"betavae": 0.3, "jointvae": 0.45, "vae": 0.28}


def write_run(results, spec, values, *, codes=None, kind="runs", protocol="study", better=None):
    """One finished run; values: key -> value or list of draws, of the metric that the key starts with."""
    folder = results / kind / spec.id()
    folder.mkdir(parents=True)
    store.write_json(folder / "spec.json", {"spec": spec.to_json(), "sources": {}})
    store.write_json(folder / "run.json", {"commit": "abc", "device": "cpu", "threads": 1, "seconds": 1.0})
    rows = [
        {"plugin": key.partition("_")[0], "metric": key, "protocol": protocol, "draw": draw, "value": value,
         "note": "", "sampled": "yes", "better": (better or {}).get(key, "higher"), "source": "0"}
        for key, draws in values.items() for draw, value in enumerate(np.atleast_1d(draws))
    ]  # fmt: skip
    store.write_csv(folder / "scores.csv", rows, SCORE_COLUMNS)
    store.write_csv(folder / "details.csv", [], DETAIL_COLUMNS)
    store.write_csv(folder / "history.csv", [{"step": s, "loss": 9 / s, "recon": 8 / s, "kl": 1 / s} for s in (1, 2)])
    names = ["scores.csv", "details.csv", "history.csv"]
    if codes is not None:
        store.save_codes(folder / "codes.h5", codes, "all")
        names.append("codes.h5")
    store.finish(folder, *names)
    return folder


def write_results(results, seeds=5, models=MEANS, spread=0.03, shift=0.0, protocol="study", steps=5000, seed=0):
    """Models with known means of `mig`, two draws of `sap` and codes that share their latents up to order and sign."""
    rng = np.random.default_rng(seed)
    factors = np.stack([np.arange(300) % 3, np.arange(300) % 5], axis=1)
    for model in models:
        for number in range(seeds):
            z = np.random.default_rng(7).normal(size=(300, 3))[:, rng.permutation(3)] * rng.choice([-1, 1], 3)
            codes = Codes(z + 0.1 * rng.normal(size=z.shape), factors, ("a", "b"), (3, 5))
            value = models[model] + shift + spread * rng.normal()
            scores = {"mig": value, "sap": value / 2 + 0.01 * rng.normal(size=2), "reconstruction": 20 - 5 * value,
                      "udr": value + 0.02 * rng.normal(), "kl_total": 12.0, "active_units": 3.0}  # fmt: skip
            spec = Spec("blobs", model, number, steps, 64, 5e-4, hparams={"latents": 3})
            write_run(results, spec, scores, codes=codes, protocol=protocol,
                      better={"reconstruction": "lower", "kl_total": "neither", "active_units": "neither"})  # fmt: skip
    for floor, value in (("noise", 0.02), ("pca", 0.2)):
        write_run(results, Spec("blobs", floor, 0, 0, 0, 0.0), {"mig": value, "sap": value / 2}, kind="floors",
                  protocol=protocol)  # fmt: skip
    return results
