"""Models: one file each, a subclass of `Model`."""

from models._model import Model, Posterior, Published, capacity, grown, gumbel_softmax, reconstruction_loss, require
from models._nets import build_decoder, build_encoder

__all__ = [
    "Model",
    "Posterior",
    "Published",
    "build_decoder",
    "build_encoder",
    "capacity",
    "grown",
    "gumbel_softmax",
    "reconstruction_loss",
    "require",
]
