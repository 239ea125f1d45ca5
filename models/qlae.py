"""QLAE: an autoencoder whose latents are quantised to a few learnt numbers, under a strong weight decay."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models._model import Model, Posterior, Published, reconstruction_loss, require
from models._nets import build_encoder


class QLAE(Model):
    """Minimises reconstruction + pixels·(weight·quantisation + weight·commitment), in nats per image.

    Each latent takes the nearest of its own `values` numbers, which are learnt and start evenly spaced from -0.5 to
    0.5. The decoder's gradient passes to the encoder as if there were no rounding (straight through). Quantisation is
    the mean squared distance of the numbers to the encoder's output, commitment that of the output to the numbers, each
    moving the first alone. The paper takes the mean over pixels where this suite has nats per image, hence the factor
    `pixels` (channels included), which multiplies the limit on gradients and Adam's ε too.

    values: numbers that a latent can take, 2 to 256. weight: of both distances, 0 or more. decay: weight decay of the
    networks' weights (AdamW), 0 or more; neither biases nor the numbers decay. Gradients of weights are cut at 1 in the
    paper's units, entry by entry.

    Hsu, Dorrell, Whittington, Wu, Finn: Disentanglement via Latent Quantization (2023): twice as many latents as
    factors, here 10. The paper has neither dSprites nor MNIST: the settings for dSprites are those of its other data
    sets (a file of the authors' that no result uses has a weight of 0.001 there), those for MNIST this suite's choice.
    The networks are this suite's, not the paper's larger ones.
    """

    published: ClassVar = {
        "dsprites": Published(steps=200_000, lr=1e-3, batch_size=128, hparams={"latents": 10}),
        "mnist": Published(steps=46_900, lr=1e-3, batch_size=128, hparams={"latents": 10}),
    }
    captures: ClassVar = True
    surrogate_gradient: ClassVar = True
    traversal: tuple[float, float] = (-0.5, 0.5)

    def __init__(
        self,
        shape: tuple[int, int, int],
        n_images: int,
        latents: int = 10,
        values: int = 10,
        weight: float = 0.01,
        decay: float = 0.1,
    ) -> None:
        super().__init__(shape, n_images, latents)
        require(2 <= values <= 256, "values", values, "2 to 256")
        require(weight >= 0, "weight", weight, "0 or more")
        require(decay >= 0, "decay", decay, "0 or more")
        self.weight, self.decay, self.pixels = weight, decay, math.prod(shape)
        self.encoder = build_encoder(shape, latents)
        self.points = nn.Parameter(torch.linspace(-0.5, 0.5, values).repeat(latents, 1))

    def encode(self, x: Tensor) -> Posterior:
        return Posterior(self.quantised(self.encoder(x).float()), None, ordinal=True)

    def quantised(self, z: Tensor) -> Tensor:
        """(b, latents) the number nearest to each latent of (b, latents) encoder outputs."""
        nearest = (z[:, :, None] - self.points).abs().argmin(2, keepdim=True)
        chosen = nearest == torch.arange(self.points.shape[1], device=z.device)
        return (chosen * self.points).sum(2)  # the gradient of `gather` cannot be captured where it is deterministic

    def losses(self, x: Tensor, step: int | Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        z = self.encoder(x).float()
        q = self.quantised(z)
        recon = reconstruction_loss(self.decode(z + (q - z).detach()), x)
        quantisation, commitment = (q - z.detach()).square().mean(), (z - q.detach()).square().mean()
        return {
            "loss": recon + self.pixels * self.weight * (quantisation + commitment),
            "recon": recon,
            "quantisation": quantisation,
        }

    def prior(self, n: int, rng: torch.Generator) -> Tensor:
        """(n, latents) draws from each latent's numbers, all equally likely."""
        points = self.points.detach().cpu()
        rows = torch.randint(points.shape[1], (n, self.latents), generator=rng)
        return points.t().gather(0, rows)

    def optimizers(self, lr: float) -> dict[str, Optimizer]:
        weights = [p for name, p in self.named_parameters() if name.endswith("weight")]
        others = [p for name, p in self.named_parameters() if not name.endswith("weight")]
        groups: list[dict[str, Any]] = [
            {"params": weights, "weight_decay": self.decay}, {"params": others, "weight_decay": 0.0}
        ]  # fmt: skip
        adam = torch.optim.AdamW(groups, lr=lr, eps=1e-8 * self.pixels, fused=True)
        adam.register_step_pre_hook(lambda *_: nn.utils.clip_grad_value_(weights, self.pixels))
        return {"loss": adam}
