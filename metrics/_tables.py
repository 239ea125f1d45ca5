"""What lies behind the scores: tables of one representation, to look at and to draw."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrics._codes import Codes
from metrics._information import (
    contingency,
    discrete_latents,
    entropy,
    kl_normal,
    kl_uniform,
    mutual_information_matrix,
    top_two_gap,
)

Table = tuple[tuple[str, ...], tuple[str, ...], NDArray]


def tables(codes: Codes, bins: int = 20) -> dict[str, Table]:
    """Tables as (row names, column names, matrix), of all rows; a table that does not apply is absent.

    mutual_information: latents x factors, nats, continuous latents in equal-width bins. mig: factors x 1, gap of the
    two most informed latents over the factor's entropy (factors with two values or more). confusion_c0, …: classes of
    a categorical latent x values of the class factor, counts. covariance: of the aggregate posterior q(z) of the
    continuous latents (of the means where the code is deterministic). kl: latents x 1, nats per image against N(0, 1)
    and uniform.
    """
    found = _of_factors(codes, bins) if codes.factors.shape[1] else {}
    if codes.class_factor is not None:
        found |= _confusions(codes, codes.class_factor)
    names = codes.latent_names
    continuous, categorical = names[: codes.mean.shape[1]], names[codes.mean.shape[1] :]
    if continuous:
        found["covariance"] = (continuous, continuous, aggregate_covariance(codes))
    nats = [] if codes.logvar is None else list(kl_normal(codes.mean, codes.logvar))
    shown = (continuous if nats else ()) + categorical
    if shown:
        found["kl"] = (shown, ("kl",), np.array([*nats, *(kl_uniform(p) for p in codes.probs)])[:, None])
    return found


def aggregate_covariance(codes: Codes) -> NDArray[np.floating]:
    """(c, c) covariance of q(z), the mixture of all posteriors: that of the means plus the mean variances."""
    of_means = np.cov(codes.mean.astype(float), rowvar=False, ddof=0).reshape(codes.mean.shape[1], -1)
    return of_means if codes.logvar is None else of_means + np.diag(np.exp(codes.logvar.astype(float)).mean(axis=0))


def _of_factors(codes: Codes, bins: int) -> dict[str, Table]:
    information = mutual_information_matrix(discrete_latents(codes, bins), codes.factors)
    found: dict[str, Table] = {"mutual_information": (codes.latent_names, codes.factor_names, information)}
    kept = [j for j, levels in enumerate(codes.levels) if levels > 1]
    if kept:
        gaps = top_two_gap(information[:, kept]) / [entropy(codes.factors[:, j]) for j in kept]
        found["mig"] = (tuple(codes.factor_names[j] for j in kept), ("mig",), gaps[:, None])
    return found


def _confusions(codes: Codes, class_factor: str) -> dict[str, Table]:
    j = codes.factor_names.index(class_factor)
    values = tuple(str(v) for v in range(codes.factor_sizes[j]))
    found: dict[str, Table] = {}
    for number, (classes, p) in enumerate(zip(codes.classes.T, codes.probs, strict=True)):
        counts = np.zeros((p.shape[1], len(values)), dtype=np.int64)
        seen = contingency(classes, codes.factors[:, j])
        counts[: seen.shape[0], : seen.shape[1]] = seen
        found[f"confusion_c{number}"] = (tuple(str(c) for c in range(p.shape[1])), values, counts)
    return found
