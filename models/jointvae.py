"""JointVAE: continuous and categorical latents, each with a capacity that grows."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from models._model import Model, Published, capacity, reconstruction_loss, require


class JointVAE(Model):
    """Minimises reconstruction + γ·|KL_z − C_z| + γ·|KL_c − C_c|, KLs as means over the batch.

    The capacities C_z and C_c grow linearly from 0 to their last values over `capacity_steps`; C_c never exceeds
    Σ ln K, the most that categorical latents can hold.

    gamma: weight of the distance to the capacity, 0 or more. capacity_z, capacity_c: last capacities in nats.
    temperature: of the Gumbel-softmax, above 0.

    Dupont: Learning Disentangled Joint Continuous and Discrete Representations (2018).
    """

    published: ClassVar = {
        "mnist": Published(
            steps=93_800,
            hparams={"latents": 10, "categories": (10,), "gamma": 30.0, "capacity_z": 5.0, "capacity_c": 5.0,
                     "capacity_steps": 25_000},
        ),
        "dsprites": Published(
            steps=345_600,
            hparams={"latents": 6, "categories": (3,), "gamma": 150.0, "capacity_z": 40.0, "capacity_c": 1.1,
                     "capacity_steps": 300_000},
        ),
        "fashionmnist": Published(
            steps=93_800,
            hparams={"latents": 10, "categories": (10,), "gamma": 100.0, "capacity_z": 5.0, "capacity_c": 10.0,
                     "capacity_steps": 50_000},
        ),
    }  # fmt: skip
    captures: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 10,
        categories: tuple[int, ...] = (10,),
        gamma: float = 30.0,
        capacity_z: float = 5.0,
        capacity_c: float = 5.0,
        capacity_steps: int = 25_000,
        temperature: float = 0.67,
    ) -> None:
        super().__init__(shape, n_images, latents, categories)
        require(gamma >= 0, "gamma", gamma, "0 or more")
        require(capacity_z >= 0, "capacity_z", capacity_z, "0 or more")
        require(capacity_c >= 0, "capacity_c", capacity_c, "0 or more")
        require(capacity_steps >= 0, "capacity_steps", capacity_steps, "0 or more")
        require(temperature > 0, "temperature", temperature, "above 0")
        self.gamma, self.temperature = gamma, temperature
        self.capacity_z, self.capacity_c, self.capacity_steps = capacity_z, capacity_c, capacity_steps
        self.most_c = sum(math.log(k) for k in categories)

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        q = self.encode(x)
        recon = reconstruction_loss(self.decode(q.sample(rng, self.temperature)), x)
        kl_z, kl_c = q.kl_normal(), q.kl_uniform()
        target_z = capacity(self.capacity_z, step, self.capacity_steps, like=recon)
        target_c = capacity(self.capacity_c, step, self.capacity_steps, like=recon, most=self.most_c)
        pressure = (kl_z.sum() - target_z).abs() + (kl_c.sum() - target_c).abs()
        return {
            "loss": recon + self.gamma * pressure,
            "recon": recon,
            "kl": kl_z.sum() + kl_c.sum(),
            "kl_z": kl_z,
            "kl_c": kl_c,
            "capacity_z": target_z,
            "capacity_c": target_c,
        }
