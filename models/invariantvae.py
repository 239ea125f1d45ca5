"""InvariantVAE: a JointVAE whose class is what an image keeps where it is changed in ways that it is told."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from models._model import EPSILON, Model, Posterior, Published, capacity, reconstruction_loss, require

# The most that an image is deformed by: shear, log of the scale, share of the side.
SHEAR, SCALE, SHIFT = 0.2, 0.15, 0.06
EVENNESS = 2.5  # above 2, or from equal probabilities the way to agree is one class for all
GAIN = 3.0  # of the classes' logits: heads that start nearly constant have little gradient
ROOM = 2.2  # half of a framed image in spreads: a heart's farthest point lies at 1.94, an ellipse's at 2 at most


class InvariantVAE(Model):
    """Minimises w·(reconstruction + γ·|KL_z − C|) + γ·(−log P(c = c') + 2.5·KL(shares of classes ‖ uniform)), in nats.

    The continuous latents have JointVAE's growing capacity C. c and c' are the classes of an image and of a copy of it
    that is turned, sheared, scaled and shifted. JointVAE's own term is met as soon as every image is sure of its class,
    whichever: classes stay empty, merge, or tell thick from thin. This one is met only if the class of every image is
    sure, is one that its copies have too, and if all classes are equally frequent within a batch. Training begins near
    equal probabilities 1/K. To second order, if all tables lean by the same a from there, log P(c = c') gains K·|a|²
    and their shares, with a weight of λ, cost λ·K/2·|a|²: with λ above 2 that does not pay, while telling images apart
    does, at once. For finite leans 2.5 is enough up to 11 classes. The logits of the classes are multiplied by 3, since
    tables that hardly differ have little gradient. The weight w grows from 0 to 1 over `warmup_steps`, so that the
    encoder learns the classes first: what serves the reconstruction best, such as how much ink there is, is no class.

    No label is used, but the model is *told* how many classes there are, that they are equally frequent, and what
    leaves a class alone: on MNIST small deformations; on dSprites place, size and angle. What it is told is wrong for
    data where copies should differ in class, so `told` settings are not taken over by data that is only `like` these.

    gamma: weight of the terms, 0 or more. capacity_z: last capacity in nats, 0 or more, reached after `capacity_steps`.
    warmup_steps: 0 or more. rotation: the most that a copy is turned by, about the centre, degrees, 0 or more.
    deformation: 1 shears a copy by up to 0.2, scales each side by up to e^±0.15 and shifts it by up to 6 % of it; 0
    leaves these. aligned: whether a class is read off the image centred and scaled, bright on dark, which costs a
    second pass of the encoder, and a third in training. temperature: of the Gumbel-softmax, above 0. Of several
    categorical latents nothing keeps two from being the same.

    This suite's own, of known parts: Dupont: Learning Disentangled Joint Continuous and Discrete Representations
    (2018); the objective of Van Gansbeke et al.: SCAN, Learning to Classify Images without Labels (2020), between an
    image and its copy as in Ji, Henriques, Vedaldi: Invariant Information Clustering for Unsupervised Image
    Classification and Segmentation (2019). On MNIST the other settings are JointVAE's, and the warm-up is a bit longer
    than the capacity's growth. On dSprites γ is 30 too, and the capacity grows at JointVAE's speed but to 12:
    JointVAE's own (150 and 40) ask for more than ln 737,280 = 13.5 nats, all that a code can tell of so many images,
    and γ 150 lets a constant code meet the capacity where the image is not yet learnt.
    """

    published: ClassVar = {
        "mnist": Published(
            steps=93_800,
            hparams={
                "latents": 10,
                "categories": (10,),
                "gamma": 30.0,
                "capacity_z": 5.0,
                "capacity_steps": 25_000,
                "warmup_steps": 27_000,
            },
        ),
        "dsprites": Published(
            steps=345_600,
            hparams={
                "latents": 6,
                "categories": (3,),
                "gamma": 30.0,
                "capacity_z": 12.0,
                "capacity_steps": 90_000,
                "warmup_steps": 27_000,
                "rotation": 180.0,
                "deformation": 0.0,
                "aligned": True,
            },
        ),
    }
    told: ClassVar = ("rotation", "deformation", "aligned")
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
        warmup_steps: int = 27_000,
        rotation: float = 15.0,
        deformation: float = 1.0,
        aligned: bool = False,
        temperature: float = 0.67,
    ) -> None:
        super().__init__(shape, n_images, latents, categories)
        require(len(categories) > 0, "categories", categories, "at least one categorical latent")
        require(gamma >= 0, "gamma", gamma, "0 or more")
        require(capacity_z >= 0, "capacity_z", capacity_z, "0 or more")
        require(capacity_steps >= 0, "capacity_steps", capacity_steps, "0 or more")
        require(warmup_steps >= 0, "warmup_steps", warmup_steps, "0 or more")
        require(rotation >= 0, "rotation", rotation, "0 or more")
        require(deformation >= 0, "deformation", deformation, "0 or more")
        require(temperature > 0, "temperature", temperature, "above 0")
        self.gamma, self.temperature = gamma, temperature
        self.rotation, self.deformation, self.aligned = rotation, deformation, aligned
        self.capacity_z, self.capacity_steps, self.warmup_steps = capacity_z, capacity_steps, warmup_steps

    def encode(self, x: Tensor) -> Posterior:
        q = self.posterior(x)
        return replace(q, probs=self.posterior(framed(x)).probs) if self.aligned else q

    def posterior(self, x: Tensor) -> Posterior:
        """q(latents | x) of (b, channels, h, w) images as they are."""
        mean, logvar, *logits = self.encoder(x).float().split([self.latents, self.latents, *self.categories], dim=1)
        return Posterior(mean, logvar, tuple(F.softmax(GAIN * block, dim=1) for block in logits))

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        copies = self.posterior(deformed(framed(x) if self.aligned else x, rng, self.rotation, self.deformation))
        q = self.encode(x)
        recon = reconstruction_loss(self.decode(q.sample(rng, self.temperature)), x)
        kl_z, kl_c = q.kl_normal(), q.kl_uniform()
        target = capacity(self.capacity_z, step, self.capacity_steps, like=recon)
        pairs = list(zip(q.probs, copies.probs, strict=True))
        differ = torch.stack([disagreement(p, r) for p, r in pairs]).sum()
        uneven = torch.stack([unevenness(p, r) for p, r in pairs]).sum()
        weight = capacity(1.0, step, self.warmup_steps, like=recon)
        code = recon + self.gamma * (kl_z.sum() - target).abs()
        return {
            "loss": weight * code + self.gamma * (differ + EVENNESS * uneven),
            "recon": recon,
            "kl": kl_z.sum() + kl_c.sum(),
            "kl_z": kl_z,
            "kl_c": kl_c,
            "capacity_z": target,
            "disagreement": differ,
            "unevenness": uneven,
        }


def disagreement(p: Tensor, r: Tensor) -> Tensor:
    """-log probability that two copies of an image are of one class, mean over their (b, k) tables; 0 or more."""
    return -torch.log((p * r).sum(1) + EPSILON).mean()


def unevenness(p: Tensor, r: Tensor) -> Tensor:
    """KL to the uniform distribution of the shares that classes have in two (b, k) tables; in [0, ln k]."""
    share = (p.mean(0) + r.mean(0)) / 2
    return (share * torch.log(share + EPSILON)).sum() + math.log(len(share))


def framed(x: Tensor) -> Tensor:
    """(b, channels, h, w) images, each moved to its centre of mass and scaled to one spread about it."""
    mass = x.mean(1)
    mass = mass / mass.sum((1, 2), keepdim=True).clamp(min=EPSILON)
    columns, rows = mass.sum(1), mass.sum(2)
    across, down = centres(x.shape[3], x), centres(x.shape[2], x)
    right, low = (columns * across).sum(1), (rows * down).sum(1)
    variance = (columns * (across - right[:, None]) ** 2).sum(1) + (rows * (down - low[:, None]) ** 2).sum(1)
    side, none = ROOM * variance.sqrt(), torch.zeros_like(variance)
    return resampled(x, [[side, none, right], [none, side, low]])


def centres(n: int, like: Tensor) -> Tensor:
    """(n,) places of pixels along a side from -1 to 1."""
    return (2 * torch.arange(n, device=like.device, dtype=like.dtype) + 1) / n - 1


def deformed(x: Tensor, rng: torch.Generator, rotation: float, amount: float) -> Tensor:
    """(b, channels, h, w) images, each turned by up to `rotation` degrees, sheared, scaled and shifted at random."""
    draws = 2 * torch.rand(6, len(x), generator=rng, device=x.device) - 1
    angle, shear = math.radians(rotation) * draws[0], amount * SHEAR * draws[1]
    wide, high = torch.exp(amount * SCALE * draws[2]), torch.exp(amount * SCALE * draws[3])
    right, down = 2 * amount * SHIFT * draws[4], 2 * amount * SHIFT * draws[5]  # an image is 2 wide
    cos, sin = torch.cos(angle), torch.sin(angle)
    first = [wide * cos, wide * (shear * cos - sin), right]
    return resampled(x, [first, [high * sin, high * (shear * sin + cos), down]])


def resampled(x: Tensor, places: list[list[Tensor]]) -> Tensor:
    """(b, channels, h, w) images at the places of an affine map: two rows of three (b,) numbers."""
    maps = torch.stack([torch.stack(row, dim=1) for row in places], dim=1)
    with torch.autocast(x.device.type, enabled=False):  # half precision would shift images by parts of a pixel
        grid = F.affine_grid(maps, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)
