"""FactorDVAE: a discrete VAE with FactorVAE's penalty on the total correlation."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from models._model import Published, require
from models.dvae import DVAE
from models.factorvae import Critic, optimizers


class FactorDVAE(DVAE):
    """Minimises reconstruction + Σ_j KL(q(c_j|x) ‖ uniform) + γ·TC, in nats per image.

    The discrete latents are those of `dvae`; the total correlation of their numbers is estimated by `factorvae`'s
    critic, which sees the noisy ones that are decoded.

    gamma: weight of the total correlation, 0 or more. latents: 2 or more. The others: see `dvae` and `factorvae`.

    The critic's slope below 0 is `factorvae`'s 0.2, not their 0.01.

    Friede, Reimers, Stuckenschmidt, Niepert: Learning Disentangled Discrete Representations (2023). γ is that of
    `factorvae` on either data set, so that the two can be compared: this suite's choice, as is the rest on MNIST.
    """

    published: ClassVar = {
        "dsprites": Published(steps=300_000, lr=1e-4, hparams={"latents": 10, "gamma": 35.0, "noise_steps": 300_000}),
        "mnist": Published(steps=93_800, hparams={"latents": 10, "gamma": 10.0, "noise_steps": 93_800}),
    }
    captures: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 10,
        values: int = 64,
        gamma: float = 35.0,
        noise_first: float = 0.5,
        noise_last: float = 2.0,
        noise_steps: int = 300_000,
        critic_lr: float = 1e-4,
        critic_width: int = 1000,
    ) -> None:
        super().__init__(shape, n_images, latents, values, noise_first, noise_last, noise_steps)
        require(latents >= 2, "latents", latents, "2 or more, for one latent correlates with nothing")
        require(gamma >= 0, "gamma", gamma, "0 or more")
        require(critic_lr > 0, "critic_lr", critic_lr, "above 0")
        require(critic_width >= 1, "critic_width", critic_width, "1 or more")
        self.gamma, self.critic_lr = gamma, critic_lr
        self.critic = Critic(latents, critic_width)

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        logits = self.logits(x)
        z = self.noisy(logits, step, rng)
        terms = self.bound(x, z, logits)
        tc = self.critic.total_correlation(z)
        loss = {"loss": terms["loss"] + self.gamma * tc, "critic": self.critic.loss(z.detach(), rng)}
        return {**terms, **loss, "tc": tc}

    def optimizers(self, lr: float) -> dict[str, Optimizer]:
        return optimizers(self, lr, self.critic, self.critic_lr)
