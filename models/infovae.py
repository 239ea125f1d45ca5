"""InfoVAE: a VAE that matches its aggregate posterior to the prior by their maximum mean discrepancy."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from models._model import Model, Published, reconstruction_loss, require


class InfoVAE(Model):
    """Minimises reconstruction + (1 − α)·KL(q(z|x) ‖ N(0, 1)) + (α + λ − 1)·MMD(q(z), N(0, 1)).

    The squared maximum mean discrepancy is estimated without bias from the batch's codes and as many draws from the
    prior, so it is 0 on average where both are alike and may be below. The kernel is exp(−‖a − b‖² / c) for c latents.

    alpha: how much of the KL is taken away, at most 1; 1 is the MMD-VAE, which pays nothing for information about x.
    lam: λ, at least 1 − alpha.

    Zhao, Song, Ermon: InfoVAE: Balancing Learning and Inference in Variational Autoencoders (2019). α 1 is the authors'
    MMD-VAE; the kernel's width and λ 1000 are this suite's choice.
    """

    published: ClassVar = {
        "dsprites": Published(steps=300_000, hparams={"latents": 10, "alpha": 1.0, "lam": 1000.0}),
        "mnist": Published(steps=93_800, hparams={"latents": 10, "alpha": 1.0, "lam": 1000.0}),
    }
    captures: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 10,
        alpha: float = 1.0,
        lam: float = 1000.0,
    ) -> None:
        super().__init__(shape, n_images, latents)
        require(alpha <= 1, "alpha", alpha, "at most 1")
        require(alpha + lam >= 1, "lam", lam, "at least 1 - alpha")
        self.alpha, self.lam = alpha, lam

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        q = self.encode(x)
        z = q.sample(rng, self.temperature)
        recon = reconstruction_loss(self.decode(z), x)
        kl = q.kl_normal()
        prior = torch.randn(z.shape, generator=rng, device=z.device, dtype=z.dtype)
        discrepancy = mmd(z, prior)
        return {
            "loss": recon + (1 - self.alpha) * kl.sum() + (self.alpha + self.lam - 1) * discrepancy,
            "recon": recon,
            "kl": kl.sum(),
            "kl_z": kl,
            "mmd": discrepancy,
        }


def mmd(a: Tensor, b: Tensor) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy of the distributions that (n, c) a and b come from."""
    return _within(a) + _within(b) - 2 * _kernel(a, b).mean()


def _within(a: Tensor) -> Tensor:
    """Mean of the kernel over pairs of different draws; a draw is at kernel 1 from itself."""
    n = len(a)
    return (_kernel(a, a).sum() - n) / max(n * (n - 1), 1)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return torch.exp(-(a[:, None] - b).square().mean(2))
