"""FactorVAE: a VAE with a penalty on the total correlation, which a critic estimates."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from models._model import Model, Published, reconstruction_loss, require

LAYERS = 6


class FactorVAE(Model):
    """Minimises reconstruction + KL(q(z|x) ‖ N(0, 1)) + γ·TC, in nats per image.

    TC = KL(q(z) ‖ Π_j q(z_j)) is estimated by a critic that tells codes z from codes whose latents were permuted
    across the batch, each on its own: TC ≈ mean(logit_0 − logit_1). The critic minimises its cross-entropy (`critic`)
    on both, with detached codes, after the VAE's step. The paper permutes the codes of a second batch; here they are
    those of the same batch, as in the large-scale study's code, so that every model sees equally many images.

    gamma: weight of the total correlation, 0 or more. latents: 2 or more.
    critic_lr: learning rate of the critic, above 0. critic_width: units in each of its 6 layers, 1 or more.

    Kim, Mnih: Disentangling by Factorising (2018). γ 10 on MNIST is this suite's choice.
    """

    published: ClassVar = {
        "dsprites": Published(steps=300_000, lr=1e-4, hparams={"latents": 10, "gamma": 35.0}),
        "mnist": Published(steps=93_800, hparams={"latents": 10, "gamma": 10.0}),
    }
    captures: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 10,
        gamma: float = 35.0,
        critic_lr: float = 1e-4,
        critic_width: int = 1000,
    ) -> None:
        super().__init__(shape, n_images, latents)
        require(latents >= 2, "latents", latents, "2 or more, for one latent correlates with nothing")
        require(gamma >= 0, "gamma", gamma, "0 or more")
        require(critic_lr > 0, "critic_lr", critic_lr, "above 0")
        require(critic_width >= 1, "critic_width", critic_width, "1 or more")
        self.gamma, self.critic_lr = gamma, critic_lr
        self.critic = Critic(latents, critic_width)

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        q = self.encode(x)
        z = q.sample(rng, self.temperature)
        recon = reconstruction_loss(self.decode(z), x)
        kl = q.kl_normal()
        tc = self.critic.total_correlation(z)
        return {
            "loss": recon + kl.sum() + self.gamma * tc,
            "critic": self.critic.loss(z.detach(), rng),
            "recon": recon,
            "kl": kl.sum(),
            "kl_z": kl,
            "tc": tc,
        }

    def optimizers(self, lr: float) -> dict[str, Optimizer]:
        return optimizers(self, lr, self.critic, self.critic_lr)


class Critic(nn.Sequential):
    """Tells codes from codes whose latents were permuted: (b, latents) -> (b, 2) logits, through layers of `width`."""

    def __init__(self, latents: int, width: int) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((latents, *[width] * LAYERS)):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2, inplace=True)]
        super().__init__(*layers, nn.Linear(width, 2))

    def total_correlation(self, z: Tensor) -> Tensor:
        """The estimate in nats for (b, c) codes; its gradient reaches the codes alone, not the critic."""
        fixed = {name: parameter.detach() for name, parameter in self.named_parameters()}
        logits = functional_call(self, fixed, (z,)).float()
        return (logits[:, 0] - logits[:, 1]).mean()

    def loss(self, z: Tensor, rng: torch.Generator) -> Tensor:
        """Cross-entropy in nats of telling (b, c) codes from permuted ones; log 2 where they are alike."""
        logits = self(torch.cat([z, permuted(z, rng)])).float()
        truth = torch.arange(2, device=z.device).repeat_interleave(len(z))
        return F.cross_entropy(logits, truth)


def optimizers(model: Model, lr: float, critic: Critic, critic_lr: float) -> dict[str, Optimizer]:
    """What minimises `loss` by the autoencoder and `critic` by the critic."""
    # The VAE first, as in the paper; and its gradient needs the critic's weights of before the critic's step.
    vae = [*model.encoder.parameters(), *model.decoder.parameters()]
    return {
        "loss": torch.optim.Adam(vae, lr=lr, fused=True),
        "critic": torch.optim.Adam(critic.parameters(), lr=critic_lr, betas=(0.5, 0.9), fused=True),
    }


def permuted(z: Tensor, rng: torch.Generator) -> Tensor:
    """(b, c) codes with every column shuffled on its own: draws from the product of the marginals."""
    order = torch.rand(z.shape, generator=rng, device=z.device).argsort(dim=0)
    return z.gather(0, order)
