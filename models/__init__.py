"""Models: one file each, a subclass of `Model`."""

from models._model import Model, Posterior, Published, grown, gumbel_softmax, reconstruction_loss, require

__all__ = ["Model", "Posterior", "Published", "grown", "gumbel_softmax", "reconstruction_loss", "require"]
