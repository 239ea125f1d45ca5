"""The convolutional encoder and decoder that every built-in model shares.

For 64×64 images these are the networks of Locatello et al., "Challenging Common Assumptions in the Unsupervised
Learning of Disentangled Representations" (2019); for 32×32 those of Dupont, "Learning Disentangled Joint Continuous
and Discrete Representations" (2018). Both are 4×4 convolutions of stride 2, so an image side halves once per layer
until it is 4 pixels.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

ENCODER = {32: (32, 64, 64), 64: (32, 32, 64, 64)}
DECODER = {32: (64, 32, 32), 64: (64, 64, 32, 32)}
HIDDEN = 256


def _widths(table: dict[int, tuple[int, ...]], shape: tuple[int, int, int]) -> tuple[int, ...]:
    _, height, width = shape
    if height != width or height not in table:
        raise ValueError(f"the built-in networks take 32x32 or 64x64 images, not {height}x{width}")
    return table[height]


def encoder(shape: tuple[int, int, int], outputs: int) -> nn.Sequential:
    """(b, channels, h, w) images -> (b, outputs)."""
    layers: list[nn.Module] = []
    widths = _widths(ENCODER, shape)
    for inputs, width in pairwise((shape[0], *widths)):
        layers += [nn.Conv2d(inputs, width, 4, stride=2, padding=1), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(widths[-1] * 4 * 4, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)]
    return nn.Sequential(*layers)


def decoder(inputs: int, shape: tuple[int, int, int]) -> nn.Sequential:
    """(b, inputs) latents -> (b, channels, h, w) logits."""
    widths = _widths(DECODER, shape)
    layers: list[nn.Module] = [nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, widths[0] * 4 * 4), nn.ReLU()]
    layers.append(nn.Unflatten(1, (widths[0], 4, 4)))
    # one fewer ReLU than layers: the last one gives logits
    for width, outputs in pairwise((*widths, shape[0])):
        layers += [nn.ConvTranspose2d(width, outputs, 4, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
