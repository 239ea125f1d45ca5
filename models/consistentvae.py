"""ConsistentVAE: a JointVAE whose class must agree between an image and a deformed copy of it."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from models._model import EPSILON, Model, Published, capacity, reconstruction_loss, require

# The most that an image is deformed by: degrees, shear, log of the scale, share of the side.
ROTATION, SHEAR, SCALE, SHIFT = 15.0, 0.2, 0.15, 0.06


class ConsistentVAE(Model):
    """Minimises reconstruction + γ·|KL_z − C_z| + γ·(Σ ln K − I(c; c')), in nats per image.

    The continuous latents have JointVAE's growing capacity. I(c; c') is the mutual information, over the batch, of the
    class of an image and the class of a copy that is turned, sheared, scaled and shifted a little. JointVAE's own
    term is met as soon as every image is sure of its class, whichever: classes stay empty, merge, or tell thick from
    thin. This one is met only if all classes are used equally often (where they are not, its most cannot be reached)
    and if they tell what a deformation does not change. No label is used; that small deformations do not change the
    class is what the model is told, and what it is told is wrong for data where they do.

    gamma: weight of both terms, 0 or more. capacity_z: last capacity in nats, 0 or more, reached after
    `capacity_steps`. deformation: 1 turns by up to 15 degrees, shears by 0.2, scales by 16 % and shifts by 6 % of the
    side; 0 asks for sure and equally used classes alone. temperature: of the Gumbel-softmax, above 0.

    This suite's own, of two known parts: Dupont: Learning Disentangled Joint Continuous and Discrete Representations
    (2018); Ji, Henriques, Vedaldi: Invariant Information Clustering for Unsupervised Image Classification and
    Segmentation (2019). On MNIST the settings are JointVAE's. On dSprites γ is 30 too and the capacity 12: JointVAE's
    own (150 and 40) ask for more than ln 737,280 = 13.5 nats, all that a code can tell of so many images, and at short
    lengths γ 150 drowns the reconstruction: a constant code then meets the capacity, and the image is lost.
    """

    published: ClassVar = {
        "mnist": Published(
            steps=93_800,
            hparams={"latents": 10, "categories": (10,), "gamma": 30.0, "capacity_z": 5.0, "capacity_steps": 25_000},
        ),
        "dsprites": Published(
            steps=345_600,
            hparams={"latents": 6, "categories": (3,), "gamma": 30.0, "capacity_z": 12.0, "capacity_steps": 300_000},
        ),
    }
    captures: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 10,
        categories: tuple[int, ...] = (10,),
        gamma: float = 30.0,
        capacity_z: float = 5.0,
        capacity_steps: int = 25_000,
        deformation: float = 1.0,
        temperature: float = 0.67,
    ) -> None:
        super().__init__(shape, n_images, latents, categories)
        require(len(categories) > 0, "categories", categories, "at least one categorical latent")
        require(gamma >= 0, "gamma", gamma, "0 or more")
        require(capacity_z >= 0, "capacity_z", capacity_z, "0 or more")
        require(capacity_steps >= 0, "capacity_steps", capacity_steps, "0 or more")
        require(deformation >= 0, "deformation", deformation, "0 or more")
        require(temperature > 0, "temperature", temperature, "above 0")
        self.gamma, self.deformation, self.temperature = gamma, deformation, temperature
        self.capacity_z, self.capacity_steps = capacity_z, capacity_steps
        self.most_c = sum(math.log(k) for k in categories)

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        q, copies = self.encode(x), self.encode(deformed(x, rng, self.deformation))
        recon = reconstruction_loss(self.decode(q.sample(rng, self.temperature)), x)
        kl_z, kl_c = q.kl_normal(), q.kl_uniform()
        target = capacity(self.capacity_z, step, self.capacity_steps, like=recon)
        shared = torch.stack([mutual_information(p, r) for p, r in zip(q.probs, copies.probs, strict=True)])
        return {
            "loss": recon + self.gamma * ((kl_z.sum() - target).abs() + self.most_c - shared.sum()),
            "recon": recon,
            "kl": kl_z.sum() + kl_c.sum(),
            "kl_z": kl_z,
            "kl_c": kl_c,
            "capacity_z": target,
            "class_information": shared.sum(),
        }


def deformed(x: Tensor, rng: torch.Generator, amount: float) -> Tensor:
    """(b, channels, h, w) images, each turned, sheared, scaled and shifted by its own draw."""
    draws = amount * (2 * torch.rand(6, len(x), generator=rng, device=x.device) - 1)
    angle, shear = math.radians(ROTATION) * draws[0], SHEAR * draws[1]
    wide, high = torch.exp(SCALE * draws[2]), torch.exp(SCALE * draws[3])
    right, down = 2 * SHIFT * draws[4], 2 * SHIFT * draws[5]  # an image is 2 wide
    cos, sin = torch.cos(angle), torch.sin(angle)
    first = torch.stack([wide * cos, wide * (shear * cos - sin), right], dim=1)
    second = torch.stack([high * sin, high * (shear * sin + cos), down], dim=1)
    with torch.autocast(x.device.type, enabled=False):  # half precision would shift images by parts of a pixel
        grid = F.affine_grid(torch.stack([first, second], dim=1), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)


def mutual_information(p: Tensor, r: Tensor) -> Tensor:
    """Nats that the classes of two copies share, from their (b, k) probabilities; in [0, ln k]."""
    joint = (p[:, :, None] * r[:, None]).mean(0)
    joint = (joint + joint.t()) / 2
    share = joint.sum(1)
    return (joint * (torch.log(joint + EPSILON) - torch.log(share[:, None] * share + EPSILON))).sum()
