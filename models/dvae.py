"""Discrete VAE: latents of ordered categories, each read as one number."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from models._model import EPSILON, Model, Posterior, Published, grown, reconstruction_loss, require
from models._nets import build_encoder


class DVAE(Model):
    """Minimises reconstruction + Σ_j KL(q(c_j|x) ‖ uniform), in nats per image.

    Each latent has `values` categories that stand for fixed numbers, evenly spaced from -1 to 1. In training it is the
    mean of these numbers under softmax(logits + s·g), g Gumbel noise, at temperature 1 and never made one-hot. The
    noise's scale s grows from `noise_first` to `noise_last` over `noise_steps`, as half a cosine. The code of an image
    is the mean under softmax(logits), a number in [-1, 1] that is scored as a continuous latent. It is deterministic,
    so `kl` and `elbo_parts` do not apply; the KL above is in the history.

    values: categories of a latent, 2 or more. noise_first, noise_last: scales of the noise, 0 or more.

    Friede, Reimers, Stuckenschmidt, Niepert: Learning Disentangled Discrete Representations (2023). The settings for
    MNIST are this suite's choice: its usual learning rate, and the schedule's length that of the training. The networks
    are this suite's: the authors' encoder ends in two 2×2 kernels.
    """

    published: ClassVar = {
        "dsprites": Published(steps=300_000, lr=1e-4, hparams={"latents": 10, "noise_steps": 300_000}),
        "mnist": Published(steps=93_800, hparams={"latents": 10, "noise_steps": 93_800}),
    }
    captures: ClassVar = True
    traversal: tuple[float, float] = (-1.0, 1.0)

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 10,
        values: int = 64,
        noise_first: float = 0.5,
        noise_last: float = 2.0,
        noise_steps: int = 300_000,
    ) -> None:
        super().__init__(shape, n_images, latents)
        require(values >= 2, "values", values, "2 or more")
        require(noise_first >= 0, "noise_first", noise_first, "0 or more")
        require(noise_last >= 0, "noise_last", noise_last, "0 or more")
        require(noise_steps >= 0, "noise_steps", noise_steps, "0 or more")
        self.values, self.noise_first, self.noise_last, self.noise_steps = values, noise_first, noise_last, noise_steps
        self.encoder = build_encoder(shape, latents * values)
        self.register_buffer("points", torch.linspace(-1, 1, values), persistent=False)

    def logits(self, x: Tensor) -> Tensor:
        """(b, latents, values) unnormalised log probabilities of the categories."""
        return self.encoder(x).float().unflatten(1, (self.latents, self.values))

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.expectation(self.logits(x)), None)

    def expectation(self, logits: Tensor) -> Tensor:
        """(b, latents) mean numbers in [-1, 1] of (b, latents, values) logits."""
        return (F.softmax(logits, dim=2) * self.get_buffer("points")).sum(2)  # no product, which autocast would round

    def noisy(self, logits: Tensor, step: int | Tensor, rng: torch.Generator) -> Tensor:
        """(b, latents) draws in [-1, 1]: the expectation of logits with this step's noise."""
        uniform = torch.rand(logits.shape, generator=rng, device=logits.device, dtype=logits.dtype)
        gumbel = -torch.log(-torch.log(uniform + EPSILON) + EPSILON)
        return self.expectation(logits + self.noise(step, like=logits) * gumbel)

    def noise(self, step: int | Tensor, like: Tensor) -> Tensor:
        """0-d tensor of the type of `like`: the noise's scale at a step."""
        angle = torch.as_tensor(grown(step, self.noise_steps), dtype=torch.float64) * math.pi
        scale = self.noise_last + (self.noise_first - self.noise_last) * (1 + torch.cos(angle)) / 2
        return scale.to(like.dtype).to(like.device)  # in this order: not every device knows float64

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        logits = self.logits(x)
        z = self.noisy(logits, step, rng)
        return self.bound(x, z, logits)

    def bound(self, x: Tensor, z: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """The losses of images x: (b, channels, h, w) with draws z: (b, latents) from logits: (b, latents, values)."""
        recon = reconstruction_loss(self.decode(z), x)
        kl = kl_uniform(logits)
        return {"loss": recon + kl.sum(), "recon": recon, "kl": kl.sum(), "kl_z": kl}

    def prior(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, latents) draws from the numbers, all equally likely."""
        points = self.get_buffer("points").cpu()
        return points[torch.randint(self.values, (n, self.latents), generator=rng)]


def kl_uniform(logits: Tensor) -> Tensor:
    """(c,) KL to the uniform distribution, nats, mean over the batch, of (b, c, k) logits."""
    log = F.log_softmax(logits, dim=2)
    return (log.exp() * log).sum(2).mean(0) + math.log(logits.shape[2])
