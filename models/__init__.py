"""Models: one file each, a subclass of `Model`."""

from models._model import Model, Posterior, Published, gumbel_softmax, reconstruction_loss, require

__all__ = ["Model", "Posterior", "Published", "gumbel_softmax", "reconstruction_loss", "require"]
