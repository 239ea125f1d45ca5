"""Representations that need no training: they say what a score means.

Floors: noise, an untrained network, PCA. Ceiling: the true factors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA

from benchmark import encoder, trainer
from benchmark.encoder import Selection
from benchmark.spec import Spec
from data import Dataset
from metrics import Codes
from models.vae import VAE

LATENTS = 10
PCA_IMAGES = 10_000


def noise(data: Dataset, selection: Selection, seed: int) -> Codes:
    """Ten standard normal numbers an image, independent of everything."""
    rng = np.random.default_rng(trainer.derived_seed("noise", seed))
    mean = rng.standard_normal((len(selection.rows), LATENTS), dtype=np.float32)
    return Codes(mean=mean, **encoder.labels(data, selection))


def untrained(data: Dataset, selection: Selection, seed: int) -> Codes:
    """The VAE's network before its first step."""
    spec = Spec(data.name, "vae", seed, 0, 1, 0.0, hparams={"latents": LATENTS})
    return encoder.encode(trainer.build(VAE, spec, data), data, selection)


def pca(data: Dataset, selection: Selection, seed: int) -> Codes:
    """The first ten principal components of 10,000 training images (fewer where there are fewer)."""
    rng = np.random.default_rng(trainer.derived_seed("pca", seed))
    rows = rng.permutation(data.train_rows)[:PCA_IMAGES]
    model = PCA(LATENTS, svd_solver="randomized", random_state=seed).fit(data.batch(rows).flatten(1).numpy())
    parts = np.array_split(selection.rows, max(1, len(selection.rows) // 1024))
    mean = np.concatenate([model.transform(data.batch(part).flatten(1).numpy()) for part in parts])
    return Codes(mean=mean.astype(np.float32), **encoder.labels(data, selection))


def factors(data: Dataset, selection: Selection, seed: int) -> Codes:
    """The true factors: the class factor as a categorical latent, the others as continuous ones from -1 to 1."""
    known = encoder.labels(data, selection)
    index = data.factor_names.index(data.class_factor) if data.class_factor else None
    others = [j for j in range(len(data.factor_names)) if j != index]
    most = np.maximum(np.array([selection.factor_sizes[j] - 1 for j in others], dtype=np.float32), 1)
    mean = (2 * selection.factors[:, others] / most - 1).astype(np.float32)
    probs: tuple[np.ndarray, ...] = ()
    if index is not None:
        probs = (np.eye(selection.factor_sizes[index], dtype=np.float32)[selection.factors[:, index]],)
    return Codes(mean=mean, probs=probs, **known)


FLOORS: dict[str, Callable[[Dataset, Selection, int], Codes]] = {"noise": noise, "untrained": untrained, "pca": pca}
CEILINGS: dict[str, Callable[[Dataset, Selection, int], Codes]] = {"factors": factors}


def kind(model: str) -> str:
    """`floor`, `ceiling` or `run`."""
    return "floor" if model in FLOORS else "ceiling" if model in CEILINGS else "run"
