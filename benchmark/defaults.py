"""What the command line offers and falls back on. Nothing is imported that takes long: options are read before it."""

from __future__ import annotations

from dataclasses import dataclass

DATASETS = ("dsprites", "mnist")
# What is shown first: what is kept, how much of it, three views of disentanglement that each fail in another way (the
# gap of the best latent, the trees' importances, a vote over groups), and the class. A protocol has one of the two DCI.
HEADLINE = ("reconstruction", "kl_total", "mig", "dci_disentanglement", "dci_hist_disentanglement", "factorvae_score",
            "discrete_accuracy")  # fmt: skip
ARRAYS = ".npz"  # how a file of a user's own images ends


@dataclass(frozen=True)
class Preset:
    """A budget. steps: of a run on images of up to 32×32 pixels, and on larger ones; None is the published length.

    lr: the learning rate of every model on such images, and on larger ones; None is the published one.
    """

    steps: tuple[int, int] | None
    protocol: str
    lr: tuple[float | None, float | None] = (None, None)


# quick's rate was chosen on seeds from 100 on. JointVAE on dSprites has one dead run of ten at 1e-3 (1,200 steps), and
# one of three at 5e-4 (2,000 steps); β-VAE after 1,200 steps is no worse (FactorVAE score 0.58 against 0.49, four
# seeds). On MNIST, in float32, JointVAE had one dead run of six at 1e-3 and none of nine at its own 5e-4.
PRESETS = {
    "quick": Preset((2_500, 1_200), "quick", lr=(None, 1e-3)),
    "standard": Preset((28_140, 15_000), "study"),
    "paper": Preset(None, "study"),
}
