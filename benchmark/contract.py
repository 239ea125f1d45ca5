"""What a plugin promises, as checks: the suite's tests run them over its own plugins, `--check FILE` over a user's.

A check takes a case (the plugin, and what to try it on) and raises Fault where the promise is broken; it may return a
note. An exception of the plugin itself passes through.
"""

from __future__ import annotations

import inspect
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmark import plugins, spec, store, supervisor, trainer
from benchmark.errors import UserError
from benchmark.spec import Overrides, Spec
from benchmark.watch import watch
from data import Dataset
from data.blobs import blobs
from metrics import Codes, NotApplicable, metric_rng, protocols
from models import Model, Posterior

BATCH = 16
STEPS, KILLED_AT = 115, 110  # a checkpoint is written after 100 steps
DIFFERENT = 3  # exit status
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


# --- models --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelCase:
    """A model, and the data to try it on. file: where it is, for a model that is not the suite's own."""

    name: str
    cls: type[Model]
    data: Dataset
    file: Path | None = None

    def spec(self, steps: int = 1, batch_size: int = BATCH) -> Spec:
        overrides = Overrides(steps=steps, batch_size=batch_size)
        return spec.resolve(
            self.data.name, self.data.shape[1], self.name, self.cls, preset="quick", overrides=overrides
        )

    def build(self, job: Spec | None = None) -> Model:
        return trainer.build(self.cls, job or self.spec(), self.data)

    def batch(self) -> torch.Tensor:
        return self.data.batch(self.data.train_rows[:BATCH])


def image_sets() -> dict[str, Dataset]:
    """Small data sets of every shape: both sides, one and three channels, several factors and one."""
    plain = blobs(Path())
    one_factor = replace(
        plain, factors=plain.factors[:, :1], factor_names=plain.factor_names[:1], factor_sizes=plain.factor_sizes[:1],
        class_factor=plain.factor_names[0], grid=False,
    )  # fmt: skip
    large = replace(plain, images=plain.images.repeat(2, axis=2).repeat(2, axis=3), shape=(1, 64, 64))
    colour, large_colour = (
        replace(d, images=d.images.repeat(3, axis=1), shape=(3, *d.shape[1:])) for d in (plain, large)
    )
    return {
        "32x32": plain, "one factor": one_factor, "64x64": large, "32x32 in colour": colour,
        "64x64 in colour": large_colour,
    }  # fmt: skip


def settings(case: ModelCase) -> str | None:
    """Every hyper-parameter has a default, and an annotation for --set."""
    named = spec.hyper_parameters(case.cls)
    hints = typing.get_type_hints(case.cls.__init__)
    free = [name for name in named if name not in hints]
    return f"--set cannot change {', '.join(free)}: no annotation" if free else None


def codes(case: ModelCase) -> None:
    """encode() gives a Posterior of the promised shapes, finite, with probabilities that sum to 1."""
    model, at = case.build().eval(), case.cls.encode
    q = model.encode(case.batch())
    require(isinstance(q, Posterior), f"encode() gave a {type(q).__name__}, needed a Posterior", at)
    _shaped("mean", q.mean, (BATCH, model.latents), at)
    if q.logvar is not None:
        _shaped("logvar", q.logvar, (BATCH, model.latents), at)
    require(len(q.probs) == len(model.categories),
            f"encode() gave {len(q.probs)} tables of probabilities, needed one for each of categories="
            f"{model.categories}", at, "probs|Posterior")  # fmt: skip
    for j, (p, k) in enumerate(zip(q.probs, model.categories, strict=True)):
        _shaped(f"probs[{j}]", p, (BATCH, k), at)
        sums = p.sum(1)
        require((p >= 0).all() and torch.allclose(sums, torch.ones(BATCH), atol=1e-4),
                f"rows of probs[{j}] sum to {sums.min():.4g} to {sums.max():.4g}, needed probabilities that sum to 1",
                at, "probs|Posterior")  # fmt: skip


def _shaped(name: str, value: torch.Tensor, shape: tuple[int, ...], at: Any) -> None:
    require(value.shape == shape, f"{at.__name__}() gave {name} of shape {tuple(value.shape)}, needed {shape}", at)
    require(torch.isfinite(value).all(), f"{at.__name__}() gave {name} that is not finite", at)


def images(case: ModelCase) -> None:
    """decode() gives logits of the images' shape."""
    model, x = case.build().eval(), case.batch()
    _shaped("logits", model.decode(model.encode(x).mode()), tuple(x.shape), case.cls.decode)


def losses(case: ModelCase) -> None:
    """losses() gives finite numbers, `loss` among them, and every optimiser has its own."""
    model, at = case.build().train(), case.cls.losses
    found = model.losses(case.batch(), 1, torch.Generator().manual_seed(0))
    require(isinstance(found, dict) and "loss" in found, "losses() gave no 'loss', needed a dict with it", at, "return")
    for name, value in found.items():
        require(isinstance(value, torch.Tensor) and value.ndim <= 1,
                f"losses() gave {name!r} as {_spelled(value)}, needed a tensor with one number or a vector", at,
                f"[\"']{name}[\"']")  # fmt: skip
        require(torch.isfinite(value).all(), f"losses() gave {name!r} that is not finite", at, f"[\"']{name}[\"']")
    lacking = sorted(model.optimizers(1e-3).keys() - found.keys())
    require(not lacking, f"optimizers() minimises {lacking}, which losses() does not give", case.cls.optimizers)


def _spelled(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


def gradients(case: ModelCase) -> None:
    """Every parameter has an optimiser, and a gradient from the loss that this minimises."""
    model = case.build().train()
    found = model.losses(case.batch(), 1, torch.Generator().manual_seed(0))
    optimizers, names = model.optimizers(1e-3), {id(p): name for name, p in model.named_parameters()}
    owned = {id(p) for o in optimizers.values() for group in o.param_groups for p in group["params"]}
    free = [name for key, name in names.items() if key not in owned]
    require(not free, f"no optimiser has the parameter {', '.join(free)}", case.cls.optimizers)
    for loss, optimizer in optimizers.items():
        optimizer.zero_grad()
        require(found[loss].requires_grad, f"{loss!r} depends on no parameter", case.cls.losses, f"[\"']{loss}[\"']")
        found[loss].backward()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        still = [names[id(p)] for p in parameters if p.grad is None or not p.grad.any()]
        more = f" and {len(still) - 1} more" if len(still) > 1 else ""
        first = still[0] if still else ""
        require(not still, f"parameter {first}{more} has no gradient from {loss!r}: use it or drop it",
                case.cls, rf"self\.{first.partition('.')[0]}\b.*=")  # fmt: skip
        wild = [names[id(p)] for p in parameters if p.grad is not None and not p.grad.isfinite().all()]
        require(not wild, f"the gradient of {', '.join(wild)} is not finite", case.cls.losses)


def repeats(case: ModelCase) -> None:
    """encode() in evaluation gives one code for one image, whatever the global random state."""
    model, x = case.build().eval(), case.batch()
    with torch.inference_mode():
        found = []
        for seed in (1, 2):
            with other_global_state(seed):
                found.append(model.encode(x))
    same = torch.equal(found[0].mean, found[1].mean) and all(map(torch.equal, found[0].probs, found[1].probs))
    require(same, "encode() gave two codes for the same images, needed the posterior itself", case.cls, DRAWS)


def seeded(case: ModelCase) -> None:
    """One seed trains to the same bits, whatever the global random state, with the parts of its KL being watched."""
    results = []
    for seed in (1, 2):
        with other_global_state(seed):
            model = case.build(case.spec(5))
            start = {name: value.clone() for name, value in model.state_dict().items()}
            job = case.spec(steps=5)
            history = trainer.train(model, case.data, job, watch=watch(case.data, job))
        results.append((start, history, model.state_dict()))
    (start, history, end), (other_start, other_history, other_end) = results
    advice = "draw from the rng handed in, nowhere else"
    require(_equal(start, other_start), f"one seed gave two first weights: {advice}", case.cls, DRAWS)
    require(history == other_history and _equal(end, other_end), f"one seed gave two results: {advice}",
            case.cls, DRAWS)  # fmt: skip


def _equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def saved(case: ModelCase) -> None:
    """Weights that are saved and loaded into another model give the same codes and images."""
    model, other = case.build(), case.build(replace(case.spec(), seed=1))
    trainer.train(model, case.data, case.spec(steps=3))
    with tempfile.TemporaryDirectory() as folder:
        store.save_tensors(Path(folder) / "model.safetensors", model.state_dict())
        other.load_state_dict(store.load_tensors(Path(folder) / "model.safetensors")[0])
    x = case.batch()
    with torch.inference_mode():
        (q, y), (again, drawn) = ((m.encode(x), m.decode(m.encode(x).mode())) for m in (model.eval(), other.eval()))
    require(torch.equal(q.mean, again.mean) and torch.equal(y, drawn),
            "a model that was saved and loaded gave other codes: keep what is learnt in parameters or buffers",
            case.cls.__init__)  # fmt: skip


def learns(case: ModelCase) -> str:
    """The reconstruction (or, without one, the loss) falls in 60 steps."""
    model = case.build(case.spec(60))
    first = trainer.train(model, case.data, case.spec(1, 64))[-1]
    later = trainer.train(model, case.data, case.spec(60, 64))[-1]
    name = "recon" if "recon" in first else "loss"
    text = f"{name} went from {first[name]:.4g} to {later[name]:.4g} (mean of 60 steps)"
    require(later[name] < first[name], f"{text}, needed less", case.cls.losses, f"[\"']{name}[\"']")
    return text


def resumes(case: ModelCase) -> None:
    """A training process that is killed goes on from its checkpoint and ends with the same bits."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.safetensors"
        status, error = _process(case, checkpoint, "train")
        require(status == -signal.SIGKILL, f"a training process of its own failed: {error}", case.cls)
        require(checkpoint.exists(), "training wrote no checkpoint after 100 steps", case.cls)
        status, error = _process(case, checkpoint, "go on")
    require(status in (0, DIFFERENT), f"going on from a checkpoint failed: {error}", case.cls)
    require(status == 0, "a run that was killed and resumed ended with other weights or losses: keep what changes from "
            "step to step in buffers, or compute it from `step`", case.cls.losses)  # fmt: skip


def _process(case: ModelCase, checkpoint: Path, task: str) -> tuple[int, str]:
    """Exit status and last error of a process that does one of `TASKS`: bits are equal among processes of one kind."""
    order = {"name": case.name, "file": case.file and str(case.file), "spec": case.spec(STEPS).to_json(),
             "path": str(checkpoint), "task": task}  # fmt: skip
    environment = {**os.environ, **dict.fromkeys(supervisor.THREADS, "1")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(supervisor.ROOT), os.environ.get("PYTHONPATH")]))
    child = subprocess.run([sys.executable, "-m", "benchmark.contract"], input=json.dumps(order), text=True,
                           capture_output=True, env=environment)  # fmt: skip
    return child.returncode, (child.stderr.strip().splitlines() or [""])[-1]


def _do(order: dict[str, Any]) -> int:
    torch.set_num_threads(1)
    trainer.CHECKPOINT_SECONDS = 0.0
    file = order["file"]
    plugin = plugins.from_file(Path(file)) if file else plugins.discover()["model"][order["name"]]
    data, job = image_sets()["32x32"], Spec.from_json(order["spec"])
    return TASKS[order["task"]](partial(trainer.build, plugin.load(), job, data), data, job, Path(order["path"]))


def _train_until_killed(build: Callable[[], Model], data: Dataset, job: Spec, checkpoint: Path) -> int:
    def progress(step: int) -> None:
        if step == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer.train(build(), data, job, checkpoint=checkpoint, progress=progress)
    return 0


def _go_on_and_compare(build: Callable[[], Model], data: Dataset, job: Spec, checkpoint: Path) -> int:
    whole, again = build(), build()
    same = trainer.train(whole, data, job) == trainer.train(again, data, job, checkpoint=checkpoint)
    return 0 if same and _equal(whole.state_dict(), again.state_dict()) else DIFFERENT


TASKS = {"train": _train_until_killed, "go on": _go_on_and_compare}


# Checks on data of every shape, and those that one shape is enough for.
ON_EVERY_SHAPE: dict[str, Callable[[ModelCase], str | None]] = {
    "codes": codes, "images": images, "losses": losses, "gradients": gradients
}  # fmt: skip
ONCE: dict[str, Callable[[ModelCase], str | None]] = {
    "settings": settings, "same code again": repeats, "same seed, same bits": seeded, "saved and loaded": saved,
    "loss falls": learns, "killed and resumed": resumes,
}  # fmt: skip


# --- metrics -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MetricCase:
    """A metric with its module."""

    name: str
    metric: Callable[..., Any]
    module: ModuleType

    def scores(self, codes: Codes, **settings: Any) -> dict[str, Any]:
        """What the metric returns; nothing where it is not applicable."""
        over_runs = getattr(self.module, "ACROSS_RUNS", False)
        named = protocols(self.module)
        fixed = settings or named.get("quick", named.get("study", {}))
        try:
            return self.metric([codes, codes] if over_runs else codes, metric_rng(0, self.name), **fixed)
        except NotApplicable:
            return {}

    def numbers(self, codes: Codes) -> dict[str, float]:
        return {key: float(v) for key, v in self.scores(codes).items() if not isinstance(v, NotApplicable)}


SIZES = (3, 4, 5)


def example(noise: float = 0.3, n: int = 600) -> Codes:
    """Three factors, each in a continuous latent under noise, and the first in a categorical one as well."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(size, size=n) for size in SIZES], axis=1)
    mean = (factors - factors.mean(axis=0)) / factors.std(axis=0) + noise * rng.standard_normal((n, 3))
    sure = np.exp(np.eye(3)[factors[:, 0]] / (0.1 + noise) + rng.standard_normal((n, 3)) * min(noise, 1))
    return Codes(mean, factors, ("kind", "size", "place"), SIZES, np.full((n, 3), -2.0),
                 (sure / sure.sum(axis=1, keepdims=True),), rng.uniform(10, 90, n), "kind")  # fmt: skip


def degenerate() -> dict[str, Codes]:
    """Tables that a metric meets sooner or later."""
    plain = example()
    none = np.zeros((plain.n, 0))
    one, no = (
        replace(plain, factors=plain.factors[:, :f], factor_names=plain.factor_names[:f], factor_sizes=SIZES[:f],
                class_factor="kind" if f else None)
        for f in (1, 0)
    )  # fmt: skip
    return {
        "a constant code": replace(plain, mean=0 * plain.mean, probs=(np.full((plain.n, 3), 1 / 3),)),
        "dead latents": replace(plain, mean=plain.mean * [1, 0, 1e-6]),
        "one factor": one,
        "a factor with one value": replace(plain, factors=plain.factors * np.array([1, 1, 0])),
        "no factors": no,
        "categorical latents only": replace(plain, mean=none, logvar=none),
        "continuous latents only": replace(plain, probs=()),
        "a deterministic code": replace(plain, logvar=None, recon=None),
        "three points": plain.select(slice(3)),
        "one point": plain.select(slice(1)),
    }


def declared(case: MetricCase) -> None:
    """PROTOCOLS, DEFAULT, LOWER_IS_BETTER and DESCRIPTIVE are of their kinds and fit the function."""
    module, named = case.module, protocols(case.module)
    require(isinstance(named, dict) and all(isinstance(v, dict) for v in named.values()),
            f"PROTOCOLS is {named!r}, needed a dict of dicts", module, "^PROTOCOLS")  # fmt: skip
    require("study" in named, f"PROTOCOLS names {sorted(named)}, needed 'study' among them", module, "^PROTOCOLS")
    known = inspect.signature(case.metric).parameters
    for name, fixed in named.items():
        strange = sorted(fixed.keys() - known.keys())
        require(
            not strange, f"protocol {name!r} sets {strange}, which {case.name}() does not take", module, "^PROTOCOLS"
        )
    for flag in ("DEFAULT", "ACROSS_RUNS"):
        value = getattr(module, flag, False)
        require(isinstance(value, bool), f"{flag} is {value!r}, needed True or False", module, f"^{flag}")
    sets = {name: getattr(module, name, ()) for name in ("LOWER_IS_BETTER", "DESCRIPTIVE")}
    for name, keys in sets.items():
        good = not isinstance(keys, str) and all(isinstance(k, str) and k.startswith(case.name) for k in keys)
        require(good, f"{name} is {keys!r}, needed a set of keys that start with {case.name!r}", module, f"^{name}")
    both = sorted(set.intersection(*map(set, sets.values())))
    require(not both, f"{both} are in LOWER_IS_BETTER and in DESCRIPTIVE", module, "^DESCRIPTIVE")


def _well_formed(case: MetricCase, found: Any, what: str) -> None:
    def need(holds: Any, text: str) -> None:
        require(holds, f"on {what}: {text}", case.metric, "return")

    need(isinstance(found, dict), f"{case.name}() gave {type(found).__name__}, needed a dict")
    for key, value in found.items():
        named = isinstance(key, str) and (key == case.name or key.startswith(f"{case.name}_"))
        need(named, f"key {key!r}, needed {case.name!r} or a name that starts with '{case.name}_'")
        if not isinstance(value, NotApplicable):
            need(isinstance(value, float), f"{key} is a {type(value).__name__}, needed a float")
            need(np.isfinite(value), f"{key} is {value}, needed a number or NotApplicable(reason)")


def values(case: MetricCase) -> str:
    """A dict of finite floats, by keys that start with the metric's name, under every protocol."""
    keys: dict[str, None] = {}
    for name, fixed in protocols(case.module).items():
        if name in ("study", "quick") or len(protocols(case.module)) == 1:
            found = case.scores(example(), **fixed)
            _well_formed(case, found, f"an ordinary code, protocol {name}")
            keys |= dict.fromkeys(found)
    return ", ".join(keys) or "not applicable"


def drawn(case: MetricCase) -> None:
    """The same generator gives the same scores, and the global random state is neither read nor changed."""
    found = []
    for seed in (1, 2):
        with other_global_state(seed):
            before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
            found.append(case.numbers(example()))
            after = np.random.get_state()[1]  # type: ignore[index]  # noqa: NPY002
            require(np.array_equal(before, after), "numpy's global random state was used, needed the rng handed in",
                    case.metric, DRAWS)  # fmt: skip
    differ = [key for key in found[0] if found[0][key] != found[1].get(key)]
    require(not differ, f"the same rng gave two values of {differ}: draw from rng, nowhere else", case.metric, DRAWS)


def untouched(case: MetricCase) -> None:
    """The codes are as they were."""
    given, kept = example(), example()
    case.scores(given)
    for name in ("mean", "logvar", "recon", "factors"):
        require(np.array_equal(getattr(given, name), getattr(kept, name)),
                f"codes.{name} was changed, needed a copy: other metrics see the same table", case.metric,
                rf"\b{name}\b.*[^=!<>]=[^=]")  # fmt: skip
    require(
        np.array_equal(given.probs[0], kept.probs[0]), "codes.probs was changed, needed a copy", case.metric, "probs"
    )


def survives(case: MetricCase) -> str:
    """Degenerate tables give finite floats or NotApplicable, and raise nothing else."""
    none = []
    for what, table in degenerate().items():
        try:
            found = case.scores(table)
        except Exception as error:
            error.add_note(f"on {what}")
            raise
        _well_formed(case, found, what)
        if all(isinstance(value, NotApplicable) for value in found.values()):
            none.append(what)
    return f"not applicable to {', '.join(none)}" if none else ""


def rewritings() -> dict[str, Codes]:
    """The example written otherwise."""
    plain = example()
    assert plain.logvar is not None
    return {
        "order of rows": plain.select(np.random.default_rng(1).permutation(plain.n)),
        "order of latents": replace(plain, mean=plain.mean[:, ::-1].copy(), logvar=plain.logvar[:, ::-1].copy()),
        "signs of latents": replace(plain, mean=plain.mean * [-1, 1, -1]),
        "scale of the code": replace(plain, mean=10 * plain.mean, logvar=plain.logvar + 2 * np.log(10)),
        "numbers of classes": replace(plain, probs=(plain.probs[0][:, [2, 0, 1]],)),
    }


def described(case: MetricCase) -> dict[str, str]:
    """What is neither right nor wrong: how far scores change with the way the code is written, and with noise."""
    plain = case.numbers(example())
    found = {}
    for what, table in rewritings().items():
        other = case.numbers(table)
        change = max((abs(other.get(key, np.nan) - value) for key, value in plain.items()), default=0.0)
        found[what] = "does not matter" if change < 1e-9 else f"changes scores by up to {change:.2g}"
    noisier = case.numbers(example(noise=3.0))
    sides = {"falls": [k for k in plain if noisier.get(k, plain[k]) < plain[k]],
             "rises": [k for k in plain if noisier.get(k, plain[k]) > plain[k]]}  # fmt: skip
    text = "; ".join(
        f"{', '.join(keys)} {side if len(keys) == 1 else side[:-1]}" for side, keys in sides.items() if keys
    )
    return {**found, "as noise grows": text or "nothing changes"}


METRIC: dict[str, Callable[[MetricCase], str | None]] = {
    "declarations": declared, "values": values, "same rng, same scores": drawn, "codes untouched": untouched,
    "degenerate codes": survives,
}  # fmt: skip


# --- data sets -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataCase:
    """A data set's function, with the folder that it may use."""

    name: str
    make: Callable[[Path], Dataset]
    root: Path

    @cached_property
    def data(self) -> Dataset:
        return self.make(self.root)

    def require(self, holds: Any, text: str, field: str = "") -> None:
        require(holds, text, self.make, rf"\b{field}\s*=" if field else "return")

    def some_rows(self) -> np.ndarray:
        rows = np.concatenate([self.data.train_rows, self.data.score_rows])
        return rows[np.linspace(0, len(rows) - 1, min(64, len(rows))).astype(int)]


def fields(case: DataCase) -> None:
    """A Dataset with the file's name, and a shape of three numbers."""
    data = case.data
    case.require(isinstance(data, Dataset), f"{case.name}() gave a {type(data).__name__}, needed a Dataset")
    case.require(data.name == case.name, f"name is {data.name!r}, needed the file's name {case.name!r}", "name")
    good = isinstance(data.shape, tuple) and len(data.shape) == 3 and all(isinstance(s, int) for s in data.shape)
    case.require(good, f"shape is {data.shape!r}, needed (channels, h, w)", "shape")


def image_arrays(case: DataCase) -> None:
    """Images are bytes of the promised shape, or packed bits."""
    pixels, shape = case.data.images, case.data.shape
    case.require(
        pixels.dtype == np.uint8, f"images are {pixels.dtype}, needed uint8 (0..255, or packed bits)", "images"
    )
    plain, packed = pixels.shape[1:] == shape, pixels.shape[1:] == (-(-int(np.prod(shape)) // 8),)
    case.require(plain or packed, f"images have shape {tuple(pixels.shape)}, needed (n, {', '.join(map(str, shape))})",
                 "images")  # fmt: skip


def factor_table(case: DataCase) -> None:
    """Factors are integers in range, a row an image, with unique names; the class factor is one of them."""
    data = case.data
    n, names, sizes = len(data.images), data.factor_names, data.factor_sizes
    good = data.factors.ndim == 2 and len(data.factors) == n and np.issubdtype(data.factors.dtype, np.integer)
    case.require(good, f"factors are {data.factors.shape} {data.factors.dtype}, needed ({n}, f) integers", "factors")
    case.require(data.factors.shape[1] == len(names) == len(sizes),
                 f"{data.factors.shape[1]} columns of factors, {len(names)} names and {len(sizes)} sizes, needed as "
                 "many of each", "factor_names")  # fmt: skip
    case.require(len(set(names)) == len(names), f"factor_names {names} are not unique", "factor_names")
    for name, size, column in zip(names, sizes, data.factors.T, strict=True):
        text = f"factor {name!r} has values {column.min()}..{column.max()}, needed 0..{size - 1}"
        case.require(column.min() >= 0 and column.max() < size, text, "factors")
    case.require(data.class_factor is None or data.class_factor in names,
                 f"class_factor is {data.class_factor!r}, needed one of {names} or None", "class_factor")  # fmt: skip


def row_numbers(case: DataCase) -> None:
    """train_rows and score_rows are numbers of images, each once."""
    n = len(case.data.images)
    for name in ("train_rows", "score_rows"):
        rows = getattr(case.data, name)
        good = rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer) and len(rows) > 0
        case.require(good, f"{name} is {rows.shape} {rows.dtype}, needed a vector of integers, not empty", name)
        case.require(
            rows.min() >= 0 and rows.max() < n, f"{name} has {rows.min()}..{rows.max()}, needed 0..{n - 1}", name
        )
        case.require(len(np.unique(rows)) == len(rows), f"{name} names an image twice", name)


def grid_order(case: DataCase) -> str | None:
    """Where grid is True, the scored rows are a full factor grid, last factor fastest."""
    if not case.data.grid:
        return "no grid: metrics that hold a factor fixed look for rows that share its value"
    factors = case.data.factors[case.data.score_rows]
    expected = np.indices([len(np.unique(column)) for column in factors.T]).reshape(factors.shape[1], -1).T
    ranks = [np.unique(column, return_inverse=True)[1] for column in factors.T]
    case.require(len(expected) == len(factors) and np.array_equal(np.stack(ranks, axis=1), expected),
                 f"grid is True, but the {len(factors)} score_rows are not the {len(expected)} combinations in order "
                 "(last factor fastest)", "grid")  # fmt: skip
    return None


def batches(case: DataCase) -> None:
    """batch() gives float32 images in [0, 1]."""
    rows = case.some_rows()
    x = case.data.batch(rows)
    case.require(x.dtype == torch.float32, f"batch() gave {x.dtype}, needed float32")
    shape = (len(rows), *case.data.shape)
    case.require(tuple(x.shape) == shape, f"batch() gave shape {tuple(x.shape)}, needed {shape}", "images")
    case.require(x.min() >= 0 and x.max() <= 1, f"batch() gave values in [{x.min():.3g}, {x.max():.3g}], needed [0, 1]")


def same_again(case: DataCase) -> None:
    """A second call gives the same images and factors, whatever the global random state."""
    with other_global_state(1):
        other = case.make(case.root)
    rows = case.some_rows()
    same = np.array_equal(other.factors, case.data.factors) and torch.equal(other.batch(rows), case.data.batch(rows))
    require(same, "a second call gave other images or factors, needed the same", case.make, DRAWS)


def tried(case: DataCase) -> str | None:
    """The built-in networks take the images."""
    side = case.data.shape[1:]
    if side not in ((32, 32), (64, 64)):
        return f"images are {side[0]}x{side[1]}: the built-in networks take 32x32 and 64x64, so bring a model"
    return None


DATA: dict[str, Callable[[DataCase], str | None]] = {
    "fields": fields, "images": image_arrays, "factors": factor_table, "rows": row_numbers, "grid": grid_order,
    "batches": batches, "same again": same_again, "networks": tried,
}  # fmt: skip


if __name__ == "__main__":
    try:
        sys.exit(_do(json.loads(sys.stdin.readline())))
    except UserError as error:
        sys.exit(str(error))
