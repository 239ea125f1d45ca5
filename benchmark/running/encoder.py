"""From a trained model and a data set to codes: images are encoded once, and all metrics share the table."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

import models
from data import Dataset
from metrics import Codes
from models import Model

BATCH = 256
THIN, MOST = 10, 25_000  # values a factor, and combinations, that the quick protocol leaves of a grid


@dataclass(frozen=True)
class Selection:
    """The images that a protocol scores: rows of the data set with their factors, and those that are reconstructed.

    grid: whether the rows are a full grid of their factors in order, once or several times over.
    """

    name: str
    rows: NDArray[np.integer]
    factors: NDArray[np.integer]
    factor_sizes: tuple[int, ...]
    reconstructed: NDArray[np.bool_]
    grid: bool = False


def select(data: Dataset, protocol: str) -> Selection:
    """All score rows; under `quick` a grid is thinned to at most 10 values a factor (dSprites: 3·6·10·8·8 = 11,520),
    and to fewer where more than 25,000 combinations would be left.

    Reconstructions are measured on the thinned rows under every protocol, since decoding doubles the work.
    """
    strides = _strides(data.factor_sizes)
    factors = data.factors[data.score_rows]
    thin = np.all(factors % strides == 0, axis=1) if data.grid else np.ones(len(factors), dtype=bool)
    if protocol == "quick" and data.grid:
        sizes = tuple(-(-size // stride) for size, stride in zip(data.factor_sizes, strides, strict=True))
        rows, factors = data.score_rows[thin], factors[thin] // strides
        return Selection("thin", rows, factors, sizes, np.ones(len(rows), dtype=bool), grid=True)
    return Selection("all", data.score_rows, factors, data.factor_sizes, thin, data.grid)


def _strides(sizes: tuple[int, ...]) -> list[int]:
    """Of each factor's values the first of so many is left; of two values both."""
    for most in range(THIN, 1, -1):
        strides = [-(-size // most) for size in sizes]
        if math.prod(-(-size // stride) for size, stride in zip(sizes, strides, strict=True)) <= MOST:
            break
    return strides


@torch.inference_mode()
def encode(model: Model, data: Dataset, selection: Selection) -> Codes:
    """Posteriors (float32) of the selected images, and the reconstruction error at the posterior's mode."""
    device = next(model.parameters()).device
    model.eval()
    means, logvars, tables, ordinal = [], [], [], False
    recon = np.full(len(selection.rows), np.nan, dtype=np.float32)
    read = data.reader(selection.rows, device)
    for start in range(0, len(selection.rows), BATCH):
        part = slice(start, start + BATCH)
        x = read(part)
        q = model.encode(x)
        means.append(q.mean.cpu())
        logvars.append(q.logvar.cpu() if q.logvar is not None else None)
        tables.append([p.cpu() for p in q.probs])
        ordinal = q.ordinal
        chosen = selection.reconstructed[part]
        if chosen.any():
            picked = torch.from_numpy(chosen).to(device)
            recon[start + np.flatnonzero(chosen)] = _errors(model, x[picked], q.mode()[picked]).cpu().numpy()
    known = [value for value in logvars if value is not None]
    return Codes(
        mean=torch.cat(means).numpy(),
        logvar=torch.cat(known).numpy() if known else None,
        probs=tuple(torch.cat(blocks).numpy() for blocks in zip(*tables, strict=True)),
        recon=recon,
        ordinal=ordinal,
        **labels(data, selection),
    )


def labels(data: Dataset, selection: Selection) -> dict:
    """What codes of these images know about their factors."""
    return {
        "factors": selection.factors,
        "factor_names": data.factor_names,
        "factor_sizes": selection.factor_sizes,
        "class_factor": data.class_factor,
        "grid": selection.grid,
    }


def _errors(model: Model, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """(b,) nats per image."""
    pixels = torch.nn.functional.binary_cross_entropy_with_logits(model.decode(z).float(), x, reduction="none")
    return pixels.flatten(1).sum(1)


def images_of(model: Model, z: torch.Tensor) -> NDArray[np.float32]:
    """(b, channels, h, w) in [0, 1]: decoded latents."""
    model.eval()
    with torch.inference_mode():
        return torch.sigmoid(model.decode(z.to(next(model.parameters()).device)).float()).cpu().numpy()


def posterior(model: Model, x: torch.Tensor) -> models.Posterior:
    """q(latents | x) without gradients."""
    model.eval()
    with torch.inference_mode():
        return model.encode(x.to(next(model.parameters()).device))
