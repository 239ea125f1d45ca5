"""DIP-VAE-I: a VAE that decorrelates the means of its posteriors."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from models._model import Model, Posterior, Published, reconstruction_loss, require


class DIPVAE1(Model):
    """Minimises reconstruction + KL(q(z|x) ‖ N(0, 1)) + λ_od·Σ_{i≠j} Cov_ij² + λ_d·Σ_i (Cov_ii − 1)².

    Cov is the covariance over the batch of the posteriors' means.

    lambda_od: weight of the entries off the diagonal, 0 or more. lambda_d: weight of the diagonal, 0 or more.

    Kumar, Sattigeri, Balakrishnan: Variational Inference of Disentangled Latent Concepts from Unlabeled Observations
    (2018), with λ_d = 10·λ_od as in Locatello et al.: Challenging Common Assumptions in the Unsupervised Learning of
    Disentangled Representations (2019). λ_od 10 on MNIST is this suite's choice.
    """

    published: ClassVar = {
        "dsprites": Published(steps=300_000, hparams={"latents": 10, "lambda_od": 10.0, "lambda_d": 100.0}),
        "mnist": Published(steps=93_800, hparams={"latents": 10, "lambda_od": 10.0, "lambda_d": 100.0}),
    }
    captures: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 10,
        lambda_od: float = 10.0,
        lambda_d: float = 100.0,
    ) -> None:
        super().__init__(shape, n_images, latents)
        require(lambda_od >= 0, "lambda_od", lambda_od, "0 or more")
        require(lambda_d >= 0, "lambda_d", lambda_d, "0 or more")
        self.lambda_od, self.lambda_d = lambda_od, lambda_d

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        q = self.encode(x)
        recon = reconstruction_loss(self.decode(q.sample(rng, self.temperature)), x)
        kl = q.kl_normal()
        cov = self.covariance(q)
        diagonal = cov.diagonal()
        off = (cov - torch.diag(diagonal)).square().sum()
        on = (diagonal - 1).square().sum()
        return {
            "loss": recon + kl.sum() + self.lambda_od * off + self.lambda_d * on,
            "recon": recon,
            "kl": kl.sum(),
            "kl_z": kl,
            "cov_offdiag": off,
            "cov_diag": on,
        }

    def covariance(self, q: Posterior) -> Tensor:
        """(c, c) covariance that is pulled towards the identity."""
        return covariance_of_means(q.mean)


def covariance_of_means(mean: Tensor) -> Tensor:
    """(c, c) covariance over the batch of (b, c) means."""
    centred = mean - mean.mean(0)
    # not a matrix product, which autocast would round to bfloat16
    return (centred[:, :, None] * centred[:, None, :]).mean(0)
