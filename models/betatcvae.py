"""β-TCVAE: a VAE that weighs the total correlation, estimated from the batch."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from models._model import Model, Posterior, Published, reconstruction_loss, require

SAMPLING = ("weighted", "stratified")


class BetaTCVAE(Model):
    """Minimises reconstruction + I(x; z) + β·TC + Σ_j KL(q(z_j) ‖ N(0, 1)), in nats per image.

    The mutual information, the total correlation TC = KL(q(z) ‖ Π_j q(z_j)) and the dimension-wise KL sum to
    KL(q(z|x) ‖ N(0, 1)), which has a closed form: what is minimised is reconstruction + KL + (β − 1)·TC, equal in
    expectation and less noisy. The three terms are logged as estimated.

    beta: weight of the total correlation, 0 or more; 1 is the VAE.
    sampling: how q(z) is estimated from a batch, `weighted` or `stratified`; see `log_weights`. On small batches both
    take part of the mutual information for total correlation: compare models by a metric, not by the logged `tc`.

    Chen, Li, Grosse, Duvenaud: Isolating Sources of Disentanglement in Variational Autoencoders (2018), with its
    weights α = γ = 1. β 4 on MNIST is this suite's choice.
    """

    published: ClassVar = {
        "dsprites": Published(steps=300_000, hparams={"latents": 10, "beta": 6.0}),
        "mnist": Published(steps=93_800, hparams={"latents": 10, "beta": 4.0}),
    }
    captures: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 10,
        beta: float = 6.0,
        sampling: str = "weighted",
    ) -> None:
        super().__init__(shape, n_images, latents)
        require(beta >= 0, "beta", beta, "0 or more")
        require(sampling in SAMPLING, "sampling", sampling, " or ".join(SAMPLING))
        self.beta, self.sampling = beta, sampling

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        q = self.encode(x)
        z = q.sample(rng, self.temperature)
        recon = reconstruction_loss(self.decode(z), x)
        kl = q.kl_normal()
        information, tc, dimension_kl = decompose(z, q, log_weights(len(x), self.n_images, self.sampling, z.device))
        return {
            "loss": recon + kl.sum() + (self.beta - 1) * tc,
            "recon": recon,
            "kl": kl.sum(),
            "kl_z": kl,
            "mutual_information": information,
            "tc": tc,
            "dimension_kl": dimension_kl,
        }


def log_weights(b: int, n: int, sampling: str, device: torch.device | None = None) -> Tensor:
    """(b, b) log w with q(z_i) ≈ Σ_j w_ij q(z_i|x_j), where z_i was drawn from q(z|x_i) and n is the data set's size.

    weighted: 1/b. The paper has 1/(n·b): a constant, which shifts what is logged by log n a density and no gradient.
    stratified: 1/n for j = i, since an image is its own with that probability, and (n − 1)/n shared equally by the
    others: unbiased. The paper gives one of them another weight than the rest; this is the mean over which one, with
    less variance.

    Both are exact where the batch is the whole data set.
    """
    if sampling == "weighted":
        return torch.full((b, b), -math.log(b), device=device)
    return torch.full((b, b), (n - 1) / (n * max(b - 1, 1)), device=device).fill_diagonal_(1 / n).log()


def decompose(z: Tensor, q: Posterior, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mutual information, total correlation and dimension-wise KL, in nats, of draws z: (b, c) from q."""
    assert q.logvar is not None
    distance = (z[:, None] - q.mean).square() * torch.exp(-q.logvar)
    pairs = -0.5 * (distance + q.logvar + math.log(2 * math.pi))  # (b, b, c) log q(z_ik | x_j)
    log_conditional = pairs.diagonal().sum(0)
    log_joint = torch.logsumexp(pairs.sum(2) + weights, dim=1)
    log_product = torch.logsumexp(pairs + weights[:, :, None], dim=1).sum(1)
    log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
    return (
        (log_conditional - log_joint).mean(),
        (log_joint - log_product).mean(),
        (log_product - log_prior).mean(),
    )
