"""CascadeVAE: continuous latents released one at a time, and a class found by assignment."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from models._model import Model, Posterior, Published, reconstruction_loss, require
from models._nets import build_encoder


class CascadeVAE(Model):
    """Minimises reconstruction + Σ_i β_i·KL(q(z_i|x) ‖ N(0, 1)) over the networks and, in turn, over the classes.

    Latent i is held by β_i = beta_high until step (i + 1)·release_steps and then released: β_i = beta_low. Before step
    `discrete_steps` the decoder gets zeros for the class. From then on, each step first assigns the batch's images to
    classes such that Σ reconstruction + duplicate_penalty·(pairs in one class) is least, exactly, by decoding every
    class of every image; then the networks take a step with these classes.

    There is no network for the class. `encode` gives its posterior under a uniform prior at the mean of z, a softmax of
    −reconstruction error over the classes: it decodes K times for every image, about K times an ordinary encoding.

    latents: 1 or more; categories: one categorical latent. beta_high, beta_low, duplicate_penalty: 0 or more.
    release_steps, discrete_steps: 0 or more.

    Jeong, Song: Learning Discrete and Continuous Factors of Data via Alternating Disentanglement (2019); the dSprites
    schedule is that of the reimplementation beam2d/disen. The authors' code differs: the first latent is free from the
    start, β falls to 0.1, and the checkpoint with the best supervised score is kept. MNIST is this suite's choice: the
    class from the first step, for the latents hold the digit before the class comes otherwise.
    """

    published: ClassVar = {
        "dsprites": Published(
            steps=300_000, lr=3e-4,
            hparams={"latents": 5, "categories": (3,), "beta_high": 10.0, "beta_low": 2.0, "duplicate_penalty": 1e-3,
                     "release_steps": 20_000, "discrete_steps": 100_000},
        ),
        "mnist": Published(
            steps=93_800,
            hparams={"latents": 10, "categories": (10,), "beta_high": 10.0, "beta_low": 2.0, "duplicate_penalty": 1e-3,
                     "release_steps": 6_000, "discrete_steps": 0},
        ),
    }  # fmt: skip
    begins: ClassVar = {"discrete_steps": "class"}

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 5,
        categories: tuple[int, ...] = (3,),
        beta_high: float = 10.0,
        beta_low: float = 2.0,
        duplicate_penalty: float = 1e-3,
        release_steps: int = 20_000,
        discrete_steps: int = 100_000,
    ) -> None:
        super().__init__(shape, n_images, latents, categories)
        require(latents >= 1, "latents", latents, "1 or more")
        require(len(categories) == 1, "categories", categories, "one categorical latent")
        require(beta_high >= 0, "beta_high", beta_high, "0 or more")
        require(beta_low >= 0, "beta_low", beta_low, "0 or more")
        require(duplicate_penalty >= 0, "duplicate_penalty", duplicate_penalty, "0 or more")
        require(release_steps >= 0, "release_steps", release_steps, "0 or more")
        require(discrete_steps >= 0, "discrete_steps", discrete_steps, "0 or more")
        self.beta_high, self.beta_low, self.duplicate_penalty = beta_high, beta_low, duplicate_penalty
        self.release_steps, self.discrete_steps = release_steps, discrete_steps
        self.encoder = build_encoder(shape, 2 * latents)

    def encode(self, x: Tensor) -> Posterior:
        q = self.encode_continuous(x)
        return Posterior(q.mean, q.logvar, (F.softmax(-self.class_costs(x, q.mean), dim=1),))

    def encode_continuous(self, x: Tensor) -> Posterior:
        """q(z|x) alone, without decoding."""
        mean, logvar = self.encoder(x).float().split(self.latents, dim=1)
        return Posterior(mean, logvar)

    @torch.no_grad()
    def class_costs(self, x: Tensor, z: Tensor) -> Tensor:
        """(b, k) reconstruction errors in nats of each image with each class, for continuous latents z: (b, c)."""
        k, costs = self.categories[0], []
        # a GPU takes all classes at once, a CPU one at a time, which its caches can hold
        for classes in torch.eye(k, device=z.device, dtype=z.dtype).split(1 if z.device.type == "cpu" else k):
            n = len(classes)
            logits = self.decode(torch.cat([z.repeat(n, 1), classes.repeat_interleave(len(z), dim=0)], dim=1)).float()
            errors = F.binary_cross_entropy_with_logits(logits, x.repeat(n, 1, 1, 1), reduction="none")
            costs.append(errors.flatten(1).sum(1).view(n, len(z)))
        return torch.cat(costs).t().contiguous()

    def betas(self, step: int | Tensor, like: Tensor) -> Tensor:
        """(c,) weights of the latents' KLs, of the type of `like`."""
        released = torch.arange(1, self.latents + 1, device=like.device) * self.release_steps <= step
        return like.new_full((self.latents,), self.beta_high).masked_fill(released, self.beta_low)

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        q = self.encode_continuous(x)
        z = q.sample(rng, self.temperature)
        k = self.categories[0]
        discrete = step >= self.discrete_steps
        one_hot = z.new_zeros(len(z), k)
        if discrete:
            chosen = assign(self.class_costs(x, z.detach()).cpu().double().numpy(), self.duplicate_penalty)
            one_hot = F.one_hot(torch.from_numpy(chosen).to(z.device), k).to(z)
        recon = reconstruction_loss(self.decode(torch.cat([z, one_hot], dim=1)), x)
        kl = q.kl_normal()
        betas = self.betas(step, like=kl)
        kl_c = kl.new_full((1,), math.log(k) if discrete else 0.0)  # a point mass against the uniform distribution
        shares = one_hot.mean(0)
        return {
            "loss": recon + (betas * kl).sum(),
            "recon": recon,
            "kl": kl.sum() + kl_c.sum(),
            "kl_z": kl,
            "kl_c": kl_c,
            "beta_z": betas,
            "class_entropy": -torch.xlogy(shares, shares).sum(),
        }


def assign(costs: NDArray[np.floating], penalty: float) -> NDArray[np.int64]:
    """(b,) classes that minimise Σ_i costs[i, class_i] + penalty·(pairs of images in one class), exactly.

    A class with m images has m(m − 1)/2 = 0 + 1 + … + (m − 1) pairs: its j-th image costs j − 1 penalties. So the
    problem is an assignment of images to b slots a class, where a slot costs more than those before it; filling a
    class's slots in another order is never cheaper, which is why the sum comes out right.
    """
    b, k = costs.shape
    # not finite where training has diverged, which is the trainer's to say
    slots = np.nan_to_num(costs)[:, :, None] + penalty * np.arange(b)
    _, columns = linear_sum_assignment(slots.reshape(b, k * b))
    return columns // b
