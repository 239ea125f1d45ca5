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
ROOM = 1.7  # an aligned image is so many times as wide as a square of its mass


class InvariantVAE(Model):
    """Minimises w·(reconstruction + γ·|KL_z − C|) + γ·(−log P(c = c') + 2.5·KL(shares of classes ‖ uniform)), in nats.

    The continuous latents have JointVAE's growing capacity C. c and c' are the classes of an image and of a copy of it
    that is turned, sheared, scaled and shifted a little. JointVAE's own term is met as soon as every image is sure of
    its class, whichever: classes stay empty, merge, or tell thick from thin. This one is met only if all classes are
    used equally often, within a batch, and tell what copies share. Training begins at equal probabilities 1/K. From
    there, classes that lean by a towards one another raise log P(c = c') by K·|a|², and leaning towards one class for
    all images costs K/2·|a|² in their shares: so weighed by more than 2, it does not pay, while telling images apart
    does, at once. The weight w grows from 0 to 1 over `warmup_steps`, so that the encoder first learns to tell the
    classes: what serves the reconstruction best, such as how much ink there is, is no class.

    No label is used. What copies keep is what the model is *told* of a data set, and what it is told is wrong where
    copies should differ in class: on MNIST, that a small deformation does not change a digit; on dSprites, that a class
    is what is left of an image that is centred, scaled to one mass and turned by any angle.

    gamma: weight of the terms, 0 or more. capacity_z: last capacity in nats, 0 or more, reached after `capacity_steps`.
    warmup_steps: 0 or more. rotation: the most that a copy is turned by, degrees, 0 or more. deformation: 1 shears a
    copy by up to 0.2, scales it by 16 % and shifts it by 6 % of the side; 0 leaves these. aligned: whether a class is
    told from the image moved to its centre of mass and scaled to one mass, bright on dark. temperature: of the
    Gumbel-softmax, above 0.

    This suite's own, of known parts: Dupont: Learning Disentangled Joint Continuous and Discrete Representations
    (2018); the objective of Van Gansbeke et al.: SCAN, Learning to Classify Images without Labels (2020), between an
    image and its copy as in Ji, Henriques, Vedaldi: Invariant Information Clustering for Unsupervised Image
    Classification and Segmentation (2019). On MNIST the other settings are JointVAE's. On dSprites γ is 30 too, and the
    capacity grows at JointVAE's speed but to 12: JointVAE's own (150 and 40) ask for more than ln 737,280 = 13.5 nats,
    all that a code can tell of so many images, and at short lengths γ 150 drowns the reconstruction: a constant code
    then meets the capacity, and the image is lost.
    """

    published: ClassVar = {
        "mnist": Published(
            steps=93_800,
            hparams={"latents": 10, "categories": (10,), "gamma": 30.0, "capacity_z": 5.0, "capacity_steps": 25_000},
        ),
        "dsprites": Published(
            steps=345_600,
            hparams={
                "latents": 6,
                "categories": (3,),
                "gamma": 30.0,
                "capacity_z": 12.0,
                "capacity_steps": 90_000,
                "rotation": 180.0,
                "deformation": 0.0,
                "aligned": True,
            },
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
        q = self.told(x)
        return replace(q, probs=self.told(aligned(x)).probs) if self.aligned else q

    def told(self, x: Tensor) -> Posterior:
        """What the encoder tells of (b, channels, h, w) images as they are."""
        mean, logvar, *logits = self.encoder(x).float().split([self.latents, self.latents, *self.categories], dim=1)
        return Posterior(mean, logvar, tuple(F.softmax(GAIN * block, dim=1) for block in logits))

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        copies = self.told(deformed(aligned(x) if self.aligned else x, rng, self.rotation, self.deformation))
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


def aligned(x: Tensor) -> Tensor:
    """(b, channels, h, w) images, each moved to its centre of mass and scaled to one mass."""
    mass = x.mean(1)
    height, width = mass.shape[1:]
    total = mass.sum((1, 2)).clamp(min=1)
    across = (mass.sum(1) * centres(width, x)).sum(1) / total
    down = (mass.sum(2) * centres(height, x)).sum(1) / total
    side, none = ROOM * total.sqrt(), torch.zeros_like(total)
    return resampled(x, [[side / width, none, across], [none, side / height, down]])


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
