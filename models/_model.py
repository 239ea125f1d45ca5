"""The interface of a model, and what variational autoencoders share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.optim import Optimizer

from models._nets import build_decoder, build_encoder

EPSILON = 1e-12


@dataclass(frozen=True)
class Posterior:
    """q(latents | x) of a batch of b images.

    mean: (b, c); logvar: (b, c), None for a deterministic code.
    probs: one (b, k) table per categorical latent, rows sum to 1.
    ordinal: whether the code is quantised: deterministic, with few different values in each column of mean (256 at
    most). Metrics that cut continuous latents into bins take these values as the bins.
    """

    mean: Tensor
    logvar: Tensor | None
    probs: tuple[Tensor, ...] = ()
    ordinal: bool = False

    def sample(self, rng: torch.Generator, temperature: float) -> Tensor:
        """(b, c + Σk) differentiable draw: Gaussian latents first, then relaxed one-hot blocks.

        Kingma, Welling: Auto-Encoding Variational Bayes (2013). Jang, Gu, Poole: Categorical Reparameterization with
        Gumbel-Softmax (2016).
        """
        z = self.mean
        if self.logvar is not None:
            z = z + _like(z, rng, "normal") * torch.exp(0.5 * self.logvar)
        return torch.cat([z, *(gumbel_softmax(p, rng, temperature) for p in self.probs)], dim=1)

    def mode(self) -> Tensor:
        """(b, c + Σk): the means, then the one-hot most probable classes."""
        return torch.cat([self.mean, *(F.one_hot(p.argmax(1), p.shape[1]).to(p) for p in self.probs)], dim=1)

    def kl_normal(self) -> Tensor:
        """(c,) KL to N(0, 1) of each continuous latent, nats, mean over the batch."""
        if self.logvar is None:
            return torch.zeros_like(self.mean[0])
        return 0.5 * (self.mean.square() + self.logvar.exp() - self.logvar - 1).mean(0)

    def kl_uniform(self) -> Tensor:
        """(number of categorical latents,) KL to the uniform distribution of each, nats, mean over the batch."""
        terms = [(p * torch.log(p + EPSILON)).sum(1).mean() + math.log(p.shape[1]) for p in self.probs]
        return torch.stack(terms) if terms else self.mean.new_zeros(0)


def _like(z: Tensor, rng: torch.Generator, distribution: str) -> Tensor:
    draw = torch.randn if distribution == "normal" else torch.rand
    return draw(z.shape, generator=rng, device=z.device, dtype=z.dtype)


def gumbel_softmax(probs: Tensor, rng: torch.Generator, temperature: float) -> Tensor:
    """(b, k) relaxed one-hot draws from (b, k) class probabilities; lower temperatures are closer to one-hot."""
    gumbel = -torch.log(-torch.log(_like(probs, rng, "uniform") + EPSILON) + EPSILON)
    return F.softmax((torch.log(probs + EPSILON) + gumbel) / temperature, dim=1)


def reconstruction_loss(logits: Tensor, x: Tensor) -> Tensor:
    """Bernoulli negative log likelihood of images x in [0, 1]: nats per image, mean over the batch."""
    logits = logits.float()
    if logits.device.type != "cpu":
        return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    return _CrossEntropy.apply(logits, x) / len(x)


class _CrossEntropy(torch.autograd.Function):
    """Sum of the binary cross-entropy on a CPU, where the library's own takes five times as long, for its log1p."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        # exp takes a hundred times as long where its value is below the normal floats, and 1 + exp(-80) is 1 already.
        return (torch.log(1 + torch.exp(-logits.abs().clamp(max=80))) + F.relu(logits) - logits * x).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        logits, x = ctx.saved_tensors
        return (torch.sigmoid(logits) - x) * gradient, None


@dataclass(frozen=True)
class Published:
    """The settings of a paper for one data set; hyper-parameters that are not named keep their defaults."""

    steps: int
    lr: float = 5e-4
    batch_size: int = 64
    hparams: Mapping[str, Any] = field(default_factory=dict)


class Model(nn.Module, ABC):
    """An autoencoder on the shared networks; a subclass gives the losses, and may replace anything else.

    shape: (channels, h, w) of the images; n_images: size of the training set.
    latents: number of continuous latents; categories: number of classes of each categorical latent.

    A subclass's own hyper-parameters are keyword arguments of its `__init__` with annotations (int, float, bool, str
    or tuple[int, ...]) and defaults: these are what `--set` changes. One whose name ends in `_steps` is the length of
    a schedule: it is up to three times shorter in a run that is shorter than the published one.

    published: data set -> a paper's settings. begins: a schedule whose end is where a part of the model first takes
    part -> that part, so far only {"…_steps": "class"}: in a run that ends before, the class is not scored.
    told: names of hyper-parameters that say what holds for a data set: data that is only `like` it keeps the defaults.
    temperature: of the Gumbel-softmax. traversal: the values between which a traversal moves a continuous latent.
    clip_norm: the most that the gradients of one optimiser may measure together (L2), above which they are scaled down;
    None leaves them. surrogate_gradient: whether gradients are not those of the losses on purpose, as with a
    straight-through estimator; the check of plugins then does not compare them. captures: whether a training step can
    be recorded once and replayed on a GPU: its losses are tensors of the same names and shapes at every step, made
    without copies to or from the host and without a branch on a value or on `step`. It holds for the class that says
    so, not for those that extend it.
    """

    published: ClassVar[Mapping[str, Published]] = {}
    begins: ClassVar[Mapping[str, str]] = {}
    told: ClassVar[tuple[str, ...]] = ()
    surrogate_gradient: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    temperature: float = 0.67
    traversal: tuple[float, float] = (-2.0, 2.0)
    clip_norm: float | None = None

    def __init__(
        self, shape: tuple[int, int, int], n_images: int, latents: int = 10, categories: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        require(latents >= 0, "latents", latents, "0 or more")
        require(all(k >= 2 for k in categories), "categories", categories, "2 or more classes each")
        require(latents + len(categories) > 0, "latents", latents, "at least one latent, continuous or categorical")
        self.shape, self.n_images, self.latents, self.categories = shape, n_images, latents, tuple(categories)
        self.encoder = build_encoder(shape, 2 * latents + sum(categories))
        self.decoder = build_decoder(latents + sum(categories), shape)

    def encode(self, x: Tensor) -> Posterior:
        """q(latents | x) of images x: (b, channels, h, w) in [0, 1]."""
        mean, logvar, *logits = self.encoder(x).float().split([self.latents, self.latents, *self.categories], dim=1)
        return Posterior(mean, logvar, tuple(F.softmax(block, dim=1) for block in logits))

    def decode(self, z: Tensor) -> Tensor:
        """(b, channels, h, w) logits of latents z: (b, c + Σk), continuous first, then one-hot blocks."""
        return self.decoder(z)

    @abstractmethod
    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch in nats per image: `loss` is minimised, the others are logged (a vector as name_0, …).

        step: from 0; on a GPU a 0-d float64 tensor for a model that `captures`, else a number.
        """

    def prior(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, c + Σk) draws of latents that images are sampled from: N(0, 1), then uniform one-hot classes."""
        blocks = [torch.randn(n, self.latents, generator=rng)]
        blocks += [F.one_hot(torch.randint(k, (n,), generator=rng), k).float() for k in self.categories]
        return torch.cat(blocks, dim=1)

    def optimizers(self, lr: float) -> dict[str, Optimizer]:
        """Name of a loss -> what minimises it; stepped in this order."""
        return {"loss": torch.optim.Adam(self.parameters(), lr=lr, fused=True)}


@overload
def grown(step: int, steps: int) -> float: ...
@overload
def grown(step: Tensor, steps: int) -> Tensor: ...
def grown(step: int | Tensor, steps: int) -> float | Tensor:
    """Share in [0, 1] of a schedule of `steps` steps that is done at a step; a schedule of no steps is done at once.

    step: a number, or a 0-d float64 tensor, of which the share is one too.
    """
    if isinstance(step, Tensor):
        return (step / steps).clamp(max=1.0) if steps else torch.ones_like(step)
    return min(step / steps, 1.0) if steps else 1.0


def capacity(last: float, step: int | Tensor, steps: int, like: Tensor, most: float = math.inf) -> Tensor:
    """0-d tensor of the type of `like`: a capacity that grows to `last` over `steps` steps, never above `most`."""
    if isinstance(step, Tensor):
        return (last * grown(step, steps)).clamp(max=most).to(like)
    return like.new_full((), min(last * grown(step, steps), most))


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise a ValueError that names a hyper-parameter, what came and what is allowed."""
    if not holds:
        raise ValueError(f"{name}={value!r} is out of range: {allowed}")
