"""Autoencoder: what reconstruction alone makes of the latents."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from models._model import Model, Posterior, Published, reconstruction_loss
from models._nets import build_encoder


class Autoencoder(Model):
    """Minimises reconstruction. The code is deterministic: it has no variance, no prior and so no KL.

    Rumelhart, Hinton, Williams: Learning Internal Representations by Error Propagation (1986).
    """

    published: ClassVar = {"dsprites": Published(steps=300_000), "mnist": Published(steps=93_800)}
    captures: ClassVar = True

    def __init__(self, shape: tuple[int, int, int], n_images: int, latents: int = 10) -> None:
        super().__init__(shape, n_images, latents)
        self.encoder = build_encoder(shape, latents)

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.encoder(x).float(), None)

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        recon = reconstruction_loss(self.decode(self.encode(x).mean), x)
        return {"loss": recon, "recon": recon}
