"""What a checkout of the suite computes: the beginning of a run, its codes, and their scores, as digests.

Run by path, with the checkout in front of Python's: `PYTHONPATH=CHECKOUT python -P …/probe.py`, a request as JSON on
standard input, the answer on standard output. So a former and the present code are compared on one machine.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import metrics
from benchmark import plugins
from benchmark.running import encoder, floors, trainer, watch
from benchmark.spec import Spec
from data import Dataset
from metrics import Codes
from metrics._tables import tables

IMAGES = 2_000  # that a model encodes; floors encode all of the quick protocol


def probe(spec: Spec, data_dir: Path, names: list[str], protocols: list[str]) -> dict[str, Any]:
    """Stage or metric -> a digest of what it makes; `history`, its losses (none of a floor); where this code lies, and
    the fingerprints that it records."""
    found = plugins.discover()
    data = found["data set"][spec.dataset].load()(data_dir)
    answer: dict[str, Any] = {"code": str(Path(trainer.__file__).resolve()), "stamps": _stamps(spec, names)}
    answer |= {"data": _digest(data.images[:: max(1, len(data.images) // 5000)], data.factors)}
    if spec.model in found["model"]:
        model = trainer.build(found["model"][spec.model].load(), spec, data)
        answer["history"] = trainer.train(model, data, spec)
        answer["training"] = _digest(*(tensor.numpy() for tensor in model.state_dict().values()))
        answer["watching"] = repr(watch.watch(data, spec).note(model, spec.steps))
        codes = encoder.encode(model, data, _some(data))
    else:
        levels = {**floors.FLOORS, **floors.CEILINGS}
        codes = levels[spec.model](data, encoder.select(data, "quick"), spec.seed)
    answer["encoding"] = _of_codes(codes)
    answer["details"] = _digest(*(matrix for _, _, matrix in tables(codes).values()))
    return answer | {name: [_score(name, codes, spec.seed, one) for one in protocols] for name in names}


def _stamps(spec: Spec, names: list[str]) -> dict[str, Any]:
    """The fingerprints that this code records; none where it is of before there were any of stages."""
    try:
        from benchmark import sources
    except ImportError:
        return {}
    found = plugins.discover()
    return {**sources.of_run(spec, found), **{name: sources.of_metric(found["metric"][name]) for name in names}}


def _some(data: Dataset) -> encoder.Selection:
    rows = data.score_rows[:: max(1, len(data.score_rows) // IMAGES)]
    return encoder.Selection("some", rows, data.factors[rows], data.factor_sizes, np.ones(len(rows), dtype=bool))


def _score(name: str, codes: Codes, seed: int, protocol: str) -> str:
    module = plugins.discover()["metric"][name]
    rng = metrics.metric_rng(seed, name, 0)
    found = metrics.run_metric(module.load(), codes, rng, metrics.settings(module.module(), protocol))
    return repr((sorted(found.items()), sorted(found.notes.items())))


def _of_codes(codes: Codes) -> str:
    known = (codes.mean, codes.logvar, *codes.probs, codes.recon, codes.factors)
    return _digest(*(array for array in known if array is not None))


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(repr((array.shape, str(array.dtype))).encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def main() -> None:
    torch.set_num_threads(1)
    request = json.loads(sys.stdin.read())
    spec, data_dir = Spec.from_json(request["spec"]), Path(request["data_dir"])
    print(json.dumps(probe(spec, data_dir, request["metrics"], request["protocols"])))


if __name__ == "__main__":
    main()
