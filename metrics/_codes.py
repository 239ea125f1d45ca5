"""What a metric sees: a table of codes and the factors that made the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class NotApplicable(Exception):
    """Why a score cannot be computed: raised for a whole metric, or put in the place of one value."""


@dataclass(frozen=True)
class Codes:
    """Posteriors q(latents | x) of n images, with the images' factors.

    mean: (n, c) floats; logvar: (n, c) or None for a deterministic code.
    probs: one (n, k) table per categorical latent, rows sum to 1.
    recon: (n,) reconstruction error in nats per image, nan where it was not measured; or None.
    factors: (n, f) integers, factor j in 0..factor_sizes[j]-1.
    grid: the rows are a full factor grid in order, last factor fastest.
    test: fixed test rows; None means that a metric draws its own.
    """

    mean: NDArray[np.floating]
    factors: NDArray[np.integer]
    factor_names: tuple[str, ...]
    factor_sizes: tuple[int, ...]
    logvar: NDArray[np.floating] | None = None
    probs: tuple[NDArray[np.floating], ...] = ()
    recon: NDArray[np.floating] | None = None
    class_factor: str | None = None
    grid: bool = False
    test: Codes | None = None

    @property
    def classes(self) -> NDArray[np.integer]:
        """(n, number of categorical latents) integers: the most probable class of each categorical latent."""
        if not self.probs:
            return np.zeros((len(self.mean), 0), dtype=np.int64)
        return np.stack([p.argmax(axis=1) for p in self.probs], axis=1)

    @property
    def latent_names(self) -> tuple[str, ...]:
        """Continuous latents z0, z1, …, then categorical ones c0, c1, …"""
        return tuple(f"z{i}" for i in range(self.mean.shape[1])) + tuple(f"c{i}" for i in range(len(self.probs)))
