"""The convolutional encoder and decoder that every built-in model shares.

They are those of Dupont, "Learning Disentangled Joint Continuous and Discrete Representations" (2018), and start as
PyTorch's layers do, as there. All convolutions are 4×4 of stride 2, so an image side halves once per layer until it is
4 pixels. The networks of Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of Disentangled
Representations" (2019), differ in the encoder's third and fourth convolutions (2×2) and in the start (Glorot's weights,
biases of 0).
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

ENCODER = {32: (32, 64, 64), 64: (32, 32, 64, 64)}
DECODER = {32: (64, 32, 32), 64: (64, 64, 32, 32)}
HIDDEN = 256


class Upsample(nn.ConvTranspose2d):
    """A transposed 4×4 convolution of stride 2: an image twice as high and wide.

    The same numbers as its base class, to rounding, in less time on a CPU: its libraries sum a bias's gradient slowly
    in a transposed convolution, and are slow where there are few output channels.
    """

    FEW = 4

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, stride=2, padding=1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        assert self.bias is not None
        if x.device.type != "cpu":
            return F.conv_transpose2d(x, self.weight, self.bias, 2, 1)
        bias = self.bias[:, None, None]
        if self.out_channels > self.FEW:
            pixels = F.conv_transpose2d(x, self.weight, None, 2, 1)
            return pixels.add_(bias.to(pixels.dtype))
        height, width = x.shape[2:]
        patches = x.flatten(2).transpose(1, 2) @ self.weight.flatten(1)
        return F.fold(patches.transpose(1, 2).float(), (2 * height, 2 * width), 4, padding=1, stride=2) + bias


def _widths(table: dict[int, tuple[int, ...]], shape: tuple[int, int, int]) -> tuple[int, ...]:
    _, height, width = shape
    if height != width or height not in table:
        raise ValueError(f"the built-in networks take 32x32 or 64x64 images, not {height}x{width}")
    return table[height]


def build_encoder(shape: tuple[int, int, int], outputs: int) -> nn.Sequential:
    """The shared encoder: (b, channels, h, w) images -> (b, outputs). Raises ValueError unless 32×32 or 64×64."""
    layers: list[nn.Module] = []
    widths = _widths(ENCODER, shape)
    for inputs, width in pairwise((shape[0], *widths)):
        layers += [nn.Conv2d(inputs, width, 4, stride=2, padding=1), nn.ReLU(inplace=True)]
    layers += [nn.Flatten(), nn.Linear(widths[-1] * 4 * 4, HIDDEN), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(HIDDEN, outputs))
    return nn.Sequential(*layers)


def build_decoder(inputs: int, shape: tuple[int, int, int]) -> nn.Sequential:
    """The shared decoder: (b, inputs) latents -> (b, channels, h, w) logits. Raises ValueError as `build_encoder`."""
    widths = _widths(DECODER, shape)
    layers: list[nn.Module] = [nn.Linear(inputs, HIDDEN), nn.ReLU(inplace=True)]
    layers += [nn.Linear(HIDDEN, widths[0] * 4 * 4), nn.ReLU(inplace=True)]
    layers.append(nn.Unflatten(1, (widths[0], 4, 4)))
    # one fewer ReLU than layers: the last one gives logits
    for width, outputs in pairwise((*widths, shape[0])):
        layers += [Upsample(width, outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])
