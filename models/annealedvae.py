"""Annealed VAE: a β-VAE whose KL is held at a capacity that grows."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from models._model import Model, Published, capacity, reconstruction_loss, require


class AnnealedVAE(Model):
    """Minimises reconstruction + γ·|KL(q(z|x) ‖ N(0, 1)) − C|, the KL a mean over the batch, both in nats per image.

    The capacity C grows linearly from 0 to its last value over `capacity_steps`.

    gamma: weight of the distance to the capacity, 0 or more. capacity: last capacity in nats, 0 or more.
    capacity_steps: steps until then, 0 or more.

    Burgess, Higgins, Pal, Matthey, Watters, Desjardins, Lerchner: Understanding disentangling in β-VAE (2018). γ 30 and
    25,000 steps on MNIST are this suite's choice, as in JointVAE: γ need only be above what a nat of KL saves in
    reconstruction.
    """

    published: ClassVar = {
        "dsprites": Published(
            steps=300_000, hparams={"latents": 10, "gamma": 1000.0, "capacity": 25.0, "capacity_steps": 100_000}
        ),
        "mnist": Published(
            steps=93_800, hparams={"latents": 10, "gamma": 30.0, "capacity": 25.0, "capacity_steps": 25_000}
        ),
    }
    captures: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 10,
        gamma: float = 1000.0,
        capacity: float = 25.0,
        capacity_steps: int = 100_000,
    ) -> None:
        super().__init__(shape, n_images, latents)
        require(gamma >= 0, "gamma", gamma, "0 or more")
        require(capacity >= 0, "capacity", capacity, "0 or more")
        require(capacity_steps >= 0, "capacity_steps", capacity_steps, "0 or more")
        self.gamma, self.capacity, self.capacity_steps = gamma, capacity, capacity_steps

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        q = self.encode(x)
        recon = reconstruction_loss(self.decode(q.sample(rng, self.temperature)), x)
        kl = q.kl_normal()
        target = capacity(self.capacity, step, self.capacity_steps, like=recon)
        return {
            "loss": recon + self.gamma * (kl.sum() - target).abs(),
            "recon": recon,
            "kl": kl.sum(),
            "kl_z": kl,
            "capacity_z": target,
        }
