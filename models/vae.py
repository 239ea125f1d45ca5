"""Variational autoencoder."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from models._model import Model, Published, reconstruction_loss


class VAE(Model):
    """Minimises reconstruction + KL(q(z|x) ‖ N(0, 1)), the negative evidence lower bound, in nats per image.

    Kingma, Welling: Auto-Encoding Variational Bayes (2013).
    """

    published: ClassVar = {"dsprites": Published(steps=300_000), "mnist": Published(steps=93_800)}
    captures: ClassVar = True
    beta: float = 1.0

    def __init__(self, shape: tuple[int, int, int], n_images: int, latents: int = 10) -> None:
        super().__init__(shape, n_images, latents)

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        q = self.encode(x)
        recon = reconstruction_loss(self.decode(q.sample(rng, self.temperature)), x)
        kl = q.kl_normal()
        return {"loss": recon + self.beta * kl.sum(), "recon": recon, "kl": kl.sum(), "kl_z": kl}
