"""MeanStartJointVAE: a JointVAE whose decoder starts as bright as its data, which keeps it alive."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, cast

from torch import nn

from models._model import require
from models.jointvae import JointVAE

BRIGHTNESS = {"mnist": 0.131, "dsprites": 0.0425, "fashionmnist": 0.286}  # mean pixels of the training images


class MeanStartJointVAE(JointVAE):
    """Minimises JointVAE's loss; its decoder's first images have the data's mean pixel in place of 1/2.

    From 1/2 the first tens of steps make all images darker. All weights of the decoder take part and, through the
    latents, the encoder, whose code may become the same for all images. That meets the capacity too, and a code that
    tells something then costs more than it gains. Here the bias of the decoder's last layer is right from the start.

    brightness: mean pixel of the data, above 0 and below 1. The others: see `jointvae`. It is told of the data, so
    data that is only `like` a known set begins at 1/2, as JointVAE does but for a random bias, until it is set.

    This suite's own; Dupont: Learning Disentangled Joint Continuous and Discrete Representations (2018).
    """

    published: ClassVar = {
        name: replace(JointVAE.published[name], hparams={**JointVAE.published[name].hparams, "brightness": mean})
        for name, mean in BRIGHTNESS.items()
    }
    told: ClassVar = ("brightness",)
    captures: ClassVar = True

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 10,
        categories: tuple[int, ...] = (10,),
        gamma: float = 30.0,
        capacity_z: float = 5.0,
        capacity_c: float = 5.0,
        capacity_steps: int = 25_000,
        temperature: float = 0.67,
        brightness: float = 0.5,
    ) -> None:
        super().__init__(
            shape, n_images, latents, categories, gamma, capacity_z, capacity_c, capacity_steps, temperature
        )
        require(0 < brightness < 1, "brightness", brightness, "above 0 and below 1")
        last = cast(nn.ConvTranspose2d, self.decoder[-1])
        assert last.bias is not None
        nn.init.constant_(last.bias, math.log(brightness / (1 - brightness)))
