"""What a model promises, and the data that it is tried on."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark import plugins, spec, store
from benchmark.authoring.contract import DRAWS, other_global_state, require
from benchmark.errors import UserError
from benchmark.running import supervisor, trainer
from benchmark.running.machine import same_bits_on_gpu
from benchmark.running.step import captures
from benchmark.running.watch import watch
from benchmark.spec import Overrides, Spec
from data import Dataset
from data.blobs import blobs
from metrics._codes import MOST_VALUES
from models import Model, Posterior, reconstruction_loss

BATCH = 16
STEPS, KILLED_AT = 115, 110  # a checkpoint is written after 100 steps
DIFFERENT = 3  # exit status
NUDGES, NUDGE = 8, 0.02  # directions, and their standard deviation


@dataclass(frozen=True)
class ModelCase:
    """A model, and the data and device to try it on. file: where it is, for a model that is not the suite's own."""

    name: str
    cls: type[Model]
    data: Dataset
    file: Path | None = None
    device: str = "cpu"

    def spec(self, steps: int = 1, batch_size: int = BATCH) -> Spec:
        overrides = Overrides(steps=steps, batch_size=batch_size)
        return spec.resolve(
            self.data.name, self.data.shape[1], self.name, self.cls, preset="standard", overrides=overrides
        )

    def build(self, job: Spec | None = None) -> Model:
        return trainer.build(self.cls, job or self.spec(), self.data, self.device)

    def batch(self) -> torch.Tensor:
        return self.data.batch(self.data.train_rows[:BATCH]).to(self.device)

    def seeded(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)


def image_sets() -> dict[str, Dataset]:
    """Small data sets of every shape: both sides, one and three channels, several factors and one."""
    plain = blobs(Path())
    one_factor = replace(
        plain, factors=plain.factors[:, :1], factor_names=plain.factor_names[:1], factor_sizes=plain.factor_sizes[:1],
        class_factor=plain.factor_names[0], grid=False,
    )  # fmt: skip
    large = _enlarged(plain)
    colour, large_colour = (
        replace(d, images=d.images.repeat(3, axis=1), shape=(3, *d.shape[1:])) for d in (plain, large)
    )
    return {
        "32x32": plain, "one factor": one_factor, "64x64": large, "32x32 in colour": colour,
        "64x64 in colour": large_colour,
    }  # fmt: skip


def _enlarged(data: Dataset) -> Dataset:
    """The same images, twice as high and wide."""
    channels, height, width = data.shape
    images = data.images.repeat(2, axis=2).repeat(2, axis=3)
    return replace(data, images=images, shape=(channels, 2 * height, 2 * width))


def settable(case: ModelCase) -> str | None:
    """Every hyper-parameter has a default, and an annotation for --set."""
    named = spec.hyper_parameters(case.cls)
    hints = typing.get_type_hints(case.cls.__init__)
    free = [name for name in named if name not in hints]
    return f"--set cannot change {', '.join(free)}: no annotation" if free else None


def declared(case: ModelCase) -> None:
    """`traversal`, `clip_norm` and prior() are what the suite can use."""
    model = case.build()
    low, high = model.traversal
    require(low < high, f"traversal is {model.traversal}, needed (low, high)", case.cls, "traversal")
    clip = model.clip_norm
    require(clip is None or clip > 0, f"clip_norm is {clip}, needed a number above 0, or None", case.cls, "clip_norm")
    width, at = model.latents + sum(model.categories), case.cls.prior
    drawn, again = (model.prior(BATCH, _seeded(0)) for _ in range(2))
    _shaped("latents", drawn, (BATCH, width), at)
    require(torch.equal(drawn, again), "prior() gave two draws for one rng: draw from the rng handed in", at, DRAWS)


def codes(case: ModelCase) -> None:
    """encode() gives a Posterior of the promised shapes, finite, with probabilities that sum to 1."""
    model, at = case.build().eval(), case.cls.encode
    q = model.encode(case.batch())
    require(isinstance(q, Posterior), f"encode() gave a {type(q).__name__}, needed a Posterior", at)
    _shaped("mean", q.mean, (BATCH, model.latents), at)
    if q.logvar is not None:
        _shaped("logvar", q.logvar, (BATCH, model.latents), at)
    if q.ordinal:
        _quantised(case, model, at)
    require(len(q.probs) == len(model.categories),
            f"encode() gave {len(q.probs)} tables of probabilities, needed one for each of categories="
            f"{model.categories}", at, "probs|Posterior")  # fmt: skip
    for j, (p, k) in enumerate(zip(q.probs, model.categories, strict=True)):
        _shaped(f"probs[{j}]", p, (BATCH, k), at)
        sums = p.sum(1)
        require((p >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-4),
                f"rows of probs[{j}] sum to {sums.min():.4g} to {sums.max():.4g}, needed probabilities that sum to 1",
                at, "probs|Posterior")  # fmt: skip


def _quantised(case: ModelCase, model: Model, at: Any) -> None:
    """Of all images of the small set: a batch has too few to tell a quantised code from a continuous one."""
    rows = case.data.train_rows[: 4 * MOST_VALUES]
    with torch.inference_mode():
        found = [model.encode(case.data.batch(part).to(case.device)) for part in np.array_split(rows, 8)]
    require(all(q.ordinal for q in found), "encode() gave ordinal=True for some images only, needed for all", at)
    require(
        all(q.logvar is None for q in found), "encode() gave ordinal=True with a logvar, needed None", at, "ordinal"
    )
    columns = torch.cat([q.mean for q in found]).T
    most = max((len(column.unique()) for column in columns), default=0)
    text = f"encode() gave ordinal=True and a latent of {most} values, needed {MOST_VALUES} at most"
    require(most <= MOST_VALUES, text, at, "ordinal")


def _shaped(name: str, value: torch.Tensor, shape: tuple[int, ...], at: Any) -> None:
    require(value.shape == shape, f"{at.__name__}() gave {name} of shape {tuple(value.shape)}, needed {shape}", at)
    require(torch.isfinite(value).all(), f"{at.__name__}() gave {name} that is not finite", at)


def images(case: ModelCase) -> None:
    """decode() gives logits of the images' shape."""
    model, x = case.build().eval(), case.batch()
    _shaped("logits", model.decode(model.encode(x).mode()), tuple(x.shape), case.cls.decode)


def losses(case: ModelCase) -> None:
    """losses() gives finite numbers, `loss` among them, and every optimiser has its own."""
    require_losses(case.build().train(), case.batch(), case.seeded(0))


def require_losses(model: Model, x: torch.Tensor, rng: torch.Generator) -> None:
    """The promise of `losses`, of a model and a batch of images."""
    at, found = type(model).losses, model.losses(x, 1, rng)
    require(isinstance(found, dict) and "loss" in found, "losses() gave no 'loss', needed a dict with it", at, "return")
    for name, value in found.items():
        require(isinstance(value, torch.Tensor) and value.ndim <= 1,
                f"losses() gave {name!r} as {_spelled(value)}, needed a tensor with one number or a vector", at,
                f"[\"']{name}[\"']")  # fmt: skip
        require(torch.isfinite(value).all(), f"losses() gave {name!r} that is not finite", at, f"[\"']{name}[\"']")
    minimised = model.optimizers(1e-3)
    lacking = sorted(minimised.keys() - found.keys())
    require(not lacking, f"optimizers() minimises {lacking}, which losses() does not give", type(model).optimizers)
    for name in minimised:
        require(found[name].ndim == 0, f"losses() gave {name!r} as {_spelled(found[name])}, needed one number: it is "
                "minimised", at, f"[\"']{name}[\"']")  # fmt: skip


def _spelled(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


def gradients(case: ModelCase) -> None:
    """Every parameter has an optimiser, and a gradient from the loss that this minimises."""
    model = case.build().train()
    found = model.losses(case.batch(), 1, case.seeded(0))
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


def attached(case: ModelCase) -> str | None:
    """The gradient of `loss` by the posterior is that of its values: no term is cut off (`detach()`, `item()`)."""
    if case.cls.surrogate_gradient:
        return "not compared: surrogate_gradient"
    model, x = case.build().train(), case.batch()
    late = max([0, *(value for name, value in case.spec().hparams.items() if spec.is_schedule(name, value))])
    by = _some_posterior(model.encode(x))
    value = _loss_given(case, model, by, x, late)
    gradients = torch.autograd.grad(value, list(by.values()), allow_unused=True) if value.requires_grad else None
    if gradients is None or all(gradient is None for gradient in gradients):
        return "not compared: losses() does not use encode()"
    for name, gradient in zip(by, gradients, strict=True):
        steps = [(NUDGE * torch.randn(by[name].shape, generator=_seeded(i))).to(x.device) for i in range(NUDGES)]
        nudged = [
            [_loss_given(case, model, {**by, name: by[name] + s}, x, late).item() for s in (d, -d)] for d in steps
        ]
        found = torch.tensor([(up - down) / 2 for up, down in nudged])
        said = torch.tensor([float((gradient * d).sum()) if gradient is not None else 0.0 for d in steps])
        off = float((found - said).norm())
        if not math.isfinite(off):
            return "not compared: the loss of made-up codes is not finite"
        require(off <= max(0.1 * float(found.norm()), 1e-3),
                f"'loss' follows the posterior's {name} and its gradient does not: a term is cut off (detach, item, "
                "numpy); where that is meant, say so: surrogate_gradient = True", case.cls.losses,
                r"detach\(|\.item\(|numpy\(|[\"']loss[\"']")  # fmt: skip
    return None


def _some_posterior(q: Posterior) -> dict[str, torch.Tensor]:
    """Leaves far from what an untrained encoder says, where every KL has a slope; classes as logits."""
    rng = _seeded(0)
    parts = {"mean": torch.randn(q.mean.shape, generator=rng)}
    if q.logvar is not None:
        parts["logvar"] = 0.5 * torch.randn(q.logvar.shape, generator=rng) - 1
    parts |= {f"probs[{j}]": torch.randn(p.shape, generator=rng) for j, p in enumerate(q.probs)}
    return {name: part.to(q.mean.device).requires_grad_() for name, part in parts.items()}


def _loss_given(
    case: ModelCase, model: Model, parts: dict[str, torch.Tensor], x: torch.Tensor, step: int
) -> torch.Tensor:
    """`loss` of images x at a step, with this posterior in place of the encoder's."""
    q = Posterior(parts["mean"], parts.get("logvar"),
                  tuple(part.softmax(1) for name, part in parts.items() if name.startswith("probs")))  # fmt: skip
    model.encode = lambda x: q  # type: ignore[method-assign]
    try:
        return model.losses(x, step, case.seeded(1))["loss"]
    finally:
        del model.encode


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def captured(case: ModelCase) -> str | None:
    """A model that says that its step can be captured gives the same losses for a step that is a tensor."""
    if not captures(case.cls):
        return "not said: it is trained step by step on a GPU"
    model, x, at = case.build().train(), case.batch(), case.cls.losses
    for step in (0, 1, 1_000, 1_000_000):
        numbers = model.losses(x, step, case.seeded(0))
        tensors = model.losses(x, torch.tensor(float(step), dtype=torch.float64, device=x.device), case.seeded(0))
        off = [name for name, value in numbers.items()
               if tensors[name].dtype != value.dtype or not _same(value, tensors[name])]  # fmt: skip
        require(not off, f"{', '.join(off)} differ where `step` is a tensor: compute it with tensors of its own, in "
                "float64, or drop captures = True", at, r"\bstep\b")  # fmt: skip
    return None


def units(case: ModelCase) -> None:
    """The reconstruction is in nats per image: four times the pixels cost four times as much, twice the images do not.

    The decoder's logits are all 0 here, so that nothing but the number of pixels tells large images from small ones.
    """
    name, small = _cost(case)
    _, large = _cost(replace(case, data=_enlarged(case.data)))
    _, twice = _cost(case, copies=2)
    needed = "needed nats per image: the sum over an image's pixels, the mean over the batch"
    at = (case.cls.losses, f"[\"']{name}[\"']")
    text = f"{name!r} of a decoder that gives 0 is {small:.4g} on {BATCH} 32x32 images and"
    require(large > 2 * small > 0, f"{text} {large:.4g} on 64x64 ones, {needed}", *at)
    require(twice < 1.5 * small, f"{text} {twice:.4g} on {2 * BATCH}, {needed}", *at)


def _cost(case: ModelCase, copies: int = 1) -> tuple[str, float]:
    """The reconstruction where all logits are 0 (or, without one, the loss), and what it is called."""
    model = case.build().train()
    model.decode = lambda z: z.new_zeros(len(z), *case.data.shape) + 0 * z.sum()  # type: ignore[method-assign]
    losses = model.losses(case.batch().repeat(copies, 1, 1, 1), 1, case.seeded(0))
    name = "recon" if "recon" in losses else "loss"
    return name, losses[name].item()


def repeats(case: ModelCase) -> None:
    """encode() in evaluation gives one code for one image, whatever the global random state, and changes nothing."""
    model, x = case.build().eval(), case.batch()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        found = []
        for seed in (1, 2):
            with other_global_state(seed):
                found.append(model.encode(x))
    same = all(map(_same, (found[0].mean, *found[0].probs), (found[1].mean, *found[1].probs)))
    require(same, "encode() gave two codes for the same images, needed the posterior itself", case.cls, DRAWS)
    require(_equal(before, model.state_dict()), "encode() in evaluation changed the model's buffers or parameters",
            case.cls.encode)  # fmt: skip


def seeded(case: ModelCase) -> None:
    """One seed trains to the same bits, whatever the global random state, and the parts of its KL can be measured."""
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
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal, nan to nan: a buffer may hold nan for what it has not seen."""
    return torch.equal(one, other) or (
        one.shape == other.shape and one.is_floating_point() and torch.equal(one.isnan(), other.isnan())
        and torch.equal(one.nan_to_num(), other.nan_to_num())
    )  # fmt: skip


def saved(case: ModelCase) -> None:
    """Weights that are saved and loaded into another model give the same codes and images."""
    model, other = case.build(), case.build(replace(case.spec(), seed=1))
    trainer.train(model, case.data, case.spec(steps=3))
    with tempfile.TemporaryDirectory() as folder:
        store.save_tensors(Path(folder) / "model.safetensors", model.state_dict())
        other.load_state_dict(store.load_tensors(Path(folder) / "model.safetensors"))
    x = case.batch()
    with torch.inference_mode():
        (q, y), (again, drawn) = ((m.encode(x), m.decode(m.encode(x).mode())) for m in (model.eval(), other.eval()))
    require(torch.equal(q.mean, again.mean) and torch.equal(y, drawn),
            "a model that was saved and loaded gave other codes: keep what is learnt in parameters or buffers",
            case.cls.__init__)  # fmt: skip


def learns(case: ModelCase) -> str:
    """The reconstruction (or, without one, the loss) falls in 60 steps, and so does what the suite scores of it."""
    model = case.build(case.spec(60))
    first, scored = trainer.train(model, case.data, case.spec(1, 64))[-1], _cross_entropy(model, case)
    later, after = trainer.train(model, case.data, case.spec(60, 64))[-1], _cross_entropy(model, case)
    name = "recon" if "recon" in first else "loss"
    text = f"{name} went from {first[name]:.4g} to {later[name]:.4g} (mean of 60 steps)"
    require(later[name] < first[name], f"{text}, needed less", case.cls.losses, f"[\"']{name}[\"']")
    require(after < 0.9 * scored, f"{text}, but the cross-entropy from {scored:.4g} to {after:.4g}: decode() must give "
            "logits (a pixel is their sigmoid), whatever the loss makes of them; or it learns too slowly",
            case.cls.losses,
            f"decode\\(|[\"']{name}[\"']")  # fmt: skip
    return text


def _cross_entropy(model: Model, case: ModelCase) -> float:
    """Of images and their reconstructions, nats per image, as `reconstruction` scores it."""
    x, model = case.batch(), model.eval()
    with torch.inference_mode():
        return reconstruction_loss(model.decode(model.encode(x).mode()), x).item()


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
             "path": str(checkpoint), "task": task, "device": case.device}  # fmt: skip
    environment = {**os.environ, **dict.fromkeys(supervisor.THREADS, "1")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(supervisor.ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", "benchmark.authoring.contract_model"]
    child = subprocess.run(command, input=json.dumps(order), text=True, capture_output=True, env=environment)
    return child.returncode, (child.stderr.strip().splitlines() or [""])[-1]


def _do(order: dict[str, Any]) -> int:
    torch.set_num_threads(1)
    trainer.CHECKPOINT_SECONDS = 0.0
    file, device = order["file"], order["device"]
    if device != "cpu":
        same_bits_on_gpu(lambda text: None)
    plugin = plugins.from_file(Path(file)) if file else plugins.discover()["model"][order["name"]]
    data, job = image_sets()["32x32"], Spec.from_json(order["spec"])
    return TASKS[order["task"]](
        partial(trainer.build, plugin.load(), job, data, device), data, job, Path(order["path"])
    )


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
    "settings": settable, "prior and traversal": declared, "units": units, "whole gradient": attached,
    "step as data": captured, "same code again": repeats, "same seed, same bits": seeded, "saved and loaded": saved,
    "loss falls": learns, "killed and resumed": resumes,
}  # fmt: skip


if __name__ == "__main__":
    try:
        sys.exit(_do(json.loads(sys.stdin.readline())))
    except UserError as error:
        sys.exit(str(error))
