"""β-VAE: a VAE that weighs the KL term."""

from __future__ import annotations

from typing import ClassVar

from models._model import require
from models.vae import VAE


class BetaVAE(VAE):
    """Minimises reconstruction + β·KL(q(z|x) ‖ N(0, 1)), both in nats per image.

    beta: weight of the KL term, 0 or more; 1 is the VAE.

    Higgins, Matthey, Pal, Burgess, Glorot, Botvinick, Mohamed, Lerchner: beta-VAE: Learning Basic Visual Concepts with
    a Constrained Variational Framework (2017). β 4 on MNIST is this suite's choice.
    """

    captures: ClassVar = True

    def __init__(self, shape: tuple[int, int, int], n_images: int, latents: int = 10, beta: float = 4.0) -> None:
        super().__init__(shape, n_images, latents)
        require(beta >= 0, "beta", beta, "0 or more")
        self.beta = beta
