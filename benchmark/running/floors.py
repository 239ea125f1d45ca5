"""Representations that need no training: they say what a score means.

Floors: a constant, noise, an untrained network, PCA, ICA, k-means. Ceiling: the true factors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from benchmark.running import encoder, trainer
from benchmark.running.encoder import Selection
from benchmark.spec import Spec
from data import Dataset
from metrics import Codes
from models.vae import VAE

if TYPE_CHECKING:
    from sklearn.decomposition import PCA, FastICA

LATENTS = 10
CLASSES = 10
FIT_IMAGES = 10_000
ICA_STARTS = 5
NORMAL_LOG_COSH = 0.374567  # E[log cosh x] of a standard normal x
CHUNK = 1024


def constant(data: Dataset, selection: Selection, seed: int) -> Codes:
    """One latent that is always 0, and the mean of 10,000 training images as what is decoded from it.

    What a model scores whose latents carry nothing and whose decoder makes the best of that.
    """
    images = _training_images(data, "constant", seed)
    least = 0.5 / len(images)  # a pixel that is black in all of them may yet be white
    mean = images.mean(axis=0, dtype=np.float64).clip(least, 1 - least)
    gain, rest = np.log(mean / (1 - mean)), np.log(1 - mean).sum()
    recon = _errors(data, selection, lambda x: -(x @ gain + rest))
    return Codes(mean=np.zeros((len(recon), 1), dtype=np.float32), recon=recon, **encoder.labels(data, selection))


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
    return Codes(mean=_by_chunks(data, selection, _pca(data, seed).transform), **encoder.labels(data, selection))


def ica(data: Dataset, selection: Selection, seed: int) -> Codes:
    """Independent components (FastICA) of those principal components; all are rotated to unit variance.

    Of several starts the one whose components are furthest from normal, by the contrast that FastICA maximises: it ends
    in a local optimum, and on dSprites MIG is 0.005 to 0.10 by the start. Components without variance, which a tiny
    data set may have, are left out. Hyvärinen, Oja: Independent Component Analysis: Algorithms and Applications (2000).
    """
    first = _pca(data, seed)
    kept = np.flatnonzero(first.explained_variance_ > 1e-6 * first.explained_variance_[0])
    components = first.transform(_training_images(data, "pca", seed))[:, kept].astype(np.float64)
    fits = [_fast_ica(components, ICA_STARTS * seed + start) for start in range(ICA_STARTS)]
    model = max(fits, key=lambda fit: _contrast(fit.transform(components)))
    mean = _by_chunks(data, selection, lambda images: model.transform(first.transform(images)[:, kept]))
    return Codes(mean=mean, **encoder.labels(data, selection))


def _fast_ica(x: NDArray[np.float64], seed: int) -> FastICA:
    from sklearn.decomposition import FastICA  # at need: every run's process loads this file
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():  # the last iterate is a floor as well
        warnings.simplefilter("ignore", ConvergenceWarning)
        return FastICA(whiten="unit-variance", random_state=seed, max_iter=1000, tol=1e-3).fit(x)


def _contrast(sources: NDArray[np.float64]) -> float:
    """How far (n, k) sources of unit variance are from normal ones: over k, the squared difference of E[log cosh]."""
    return float(np.square(np.log(np.cosh(sources)).mean(axis=0) - NORMAL_LOG_COSH).sum())


def kmeans(data: Dataset, selection: Selection, seed: int) -> Codes:
    """k-means on the pixels of 10,000 training images: one categorical latent, no continuous one.

    As many classes as the class factor has values, 10 where there is none.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    images = _training_images(data, "kmeans", seed)
    sizes = dict(zip(data.factor_names, data.factor_sizes, strict=True))
    k = min(sizes[data.class_factor] if data.class_factor else CLASSES, len(images))
    model = KMeans(k, n_init=3, random_state=seed)
    with warnings.catch_warnings():  # fewer different images than classes leave some classes empty
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(images)
    probs = np.eye(k, dtype=np.float32)[_by_chunks(data, selection, model.predict).astype(np.int64)]
    mean = np.zeros((len(probs), 0), dtype=np.float32)
    return Codes(mean=mean, probs=(probs,), **encoder.labels(data, selection))


def _training_images(data: Dataset, name: str, seed: int) -> NDArray[np.float32]:
    """(at most 10,000, pixels) training images, drawn for this floor and seed."""
    rng = np.random.default_rng(trainer.derived_seed(name, seed))
    return data.batch(rng.permutation(data.train_rows)[:FIT_IMAGES]).flatten(1).numpy()


def _pca(data: Dataset, seed: int) -> PCA:
    from sklearn.decomposition import PCA

    images = _training_images(data, "pca", seed)
    return PCA(min(LATENTS, *images.shape), svd_solver="randomized", random_state=seed).fit(images)


def _by_chunks(
    data: Dataset, selection: Selection, transform: Callable[[NDArray[np.float32]], NDArray]
) -> NDArray[np.float32]:
    """What the transform makes of the pixels of the selected images."""
    return _transformed(data, selection.rows, transform)


def _errors(
    data: Dataset, selection: Selection, error: Callable[[NDArray[np.float32]], NDArray]
) -> NDArray[np.float32]:
    """(n,) nats of the images that are reconstructed, nan of the others."""
    recon = np.full(len(selection.rows), np.nan, dtype=np.float32)
    recon[selection.reconstructed] = _transformed(data, selection.rows[selection.reconstructed], error)
    return recon


def _transformed(
    data: Dataset, rows: NDArray[np.integer], transform: Callable[[NDArray[np.float32]], NDArray]
) -> NDArray[np.float32]:
    parts = np.array_split(rows, max(1, len(rows) // CHUNK))
    return np.concatenate([transform(data.batch(part).flatten(1).numpy()) for part in parts]).astype(np.float32)


def factors(data: Dataset, selection: Selection, seed: int) -> Codes:
    """The true factors: the class factor as a categorical latent, the others as continuous ones from -1 to 1.

    Their reconstruction is the least that any code can have: the entropy of the pixels, 0 where all are black or white.
    """
    known = encoder.labels(data, selection)
    index = data.factor_names.index(data.class_factor) if data.class_factor else None
    others = [j for j in range(len(data.factor_names)) if j != index]
    most = np.maximum(np.array([selection.factor_sizes[j] - 1 for j in others], dtype=np.float32), 1)
    mean = (2 * selection.factors[:, others] / most - 1).astype(np.float32)
    probs: tuple[np.ndarray, ...] = ()
    if index is not None:
        probs = (np.eye(selection.factor_sizes[index], dtype=np.float32)[selection.factors[:, index]],)
    recon = _errors(data, selection, lambda x: (entr(x) + entr(1 - x)).sum(axis=1, dtype=np.float64))
    return Codes(mean=mean, probs=probs, recon=recon, **known)


FLOORS: dict[str, Callable[[Dataset, Selection, int], Codes]] = {
    "constant": constant, "noise": noise, "untrained": untrained, "pca": pca, "ica": ica, "kmeans": kmeans,
}  # fmt: skip
CEILINGS: dict[str, Callable[[Dataset, Selection, int], Codes]] = {"factors": factors}
