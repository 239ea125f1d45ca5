"""Unsupervised disentanglement ranking."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import Lasso

from metrics._codes import Codes, NotApplicable, Rng
from metrics._information import Floats, Ints, kl_normal, kl_uniform
from metrics._learning import features, fitted

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n": 2_000}}
DEFAULT = False
LOWER_IS_BETTER: frozenset[str] = frozenset()
ACROSS_RUNS = True
TRAP = "it ranks agreement between seeds, not disentanglement: runs that fail alike score high."

Columns = tuple[Floats, Ints]  # (n, w) numbers, and (w,) which latent each column belongs to, from 0


def udr(
    codes: Sequence[Codes], rng: Rng, *, n: int = 10_000, alpha: float = 0.1, least_kl: float = 0.01
) -> dict[str, float | NotApplicable]:
    """Do runs of one model, which differ in their seed only, find the same latents?

    codes: a table for each run, of the same images in the same order. Every ordered pair of runs is compared by a table
    of similarities of one's latents with the other's: the score of the pair is the mean over the latents of either side
    of (largest similarity)² / (sum of similarities). `udr_<run>`, runs counted from 0 in the order given, is the median
    over the other runs, and `udr` the mean over runs: a run ranks high that others find again, up to order and sign.
    Similarities are the absolute weights of a lasso from one run's standardised latents to the other's; those of
    `udr_spearman` and `udr_spearman_<run>` are absolute rank correlations. Both in [0, 1]: 1 (0.9 with the lasso,
    which shrinks by alpha; the chance correlations of few points cost the other form some): every run has the same
    latents; 0: nothing in common, or no latent in use.

    Either side of a pair weighs the same, as in the authors' code; a mean over the latents of both sides together would
    differ from it where one run has more latents in use than the other.

    Latents with a KL divergence below least_kl are left out where it is known, constant ones always. A categorical
    latent is one nominal column: one-hot for the lasso, weights added up over its inputs and averaged over its outputs;
    the rank correlation becomes the root mean square of the canonical correlations (Cramér's V between two).

    Traps: it ranks agreement, not disentanglement: runs that fail alike score high, and one run twice scores 0.9.
    Scores of other numbers of runs compare badly. Not applicable to fewer than two runs; runs of other rows are
    refused. Cost: 0.2 s for 5 runs of 10 latents at 10,000 points.

    Duan, Matthey, Saraiva, Watters, Burgess, Lerchner and Higgins, 2020, "Unsupervised model selection for variational
    disentangled representation learning".

    >>> z = np.random.default_rng(0).standard_normal((500, 2))
    >>> runs = [Codes(x, np.zeros((500, 0), int), (), ()) for x in (z, -z[:, ::-1])]
    >>> {key: round(value, 1) for key, value in udr(runs, np.random.default_rng(0)).items() if "_" not in key}
    {'udr': 0.9}
    """
    runs = list(codes)
    _check_alike(runs)
    if len(runs) < 2:
        raise NotApplicable("needs two runs or more")
    rows = slice(n) if runs[0].test is not None or n >= runs[0].n else rng.permutation(runs[0].n)[:n]
    tables = [run.select(rows) for run in runs]
    kept = [in_use(table, least_kl) for table in tables]
    inputs = [_blocks(table, used) for table, used in zip(tables, kept, strict=True)]
    bases = [_bases(table, used) for table, used in zip(tables, kept, strict=True)]
    lasso, spearman = np.zeros((len(runs), len(runs))), np.zeros((len(runs), len(runs)))
    for i, j in np.argwhere(~np.eye(len(runs), dtype=bool)):
        lasso[i, j] = relative_strength(lasso_weights(inputs[i], inputs[j], alpha))
        spearman[i, j] = relative_strength(rank_correlations(bases[i], bases[j]))
    return _of_runs("udr", lasso) | _of_runs("udr_spearman", spearman)


def relative_strength(similarity: Floats) -> float:
    """Mean over rows and columns of (largest entry)² / sum; a row or column of zeros counts 0, as does no table.

    >>> relative_strength(np.eye(3))
    1.0
    >>> relative_strength(np.ones((2, 2)))
    0.5
    """
    if similarity.size == 0:
        return 0.0
    sides = []
    for table in (similarity, similarity.T):
        total = table.sum(axis=1)
        sides.append(np.mean(np.where(total > 0, table.max(axis=1) ** 2 / np.where(total > 0, total, 1), 0)))
    return float(np.mean(sides))


def in_use(codes: Codes, least_kl: float) -> Ints:
    """Numbers of the latents that vary and, where it is known, have a KL divergence above least_kl."""
    varies = np.concatenate([np.ptp(codes.mean, axis=0) > 0, np.ptp(codes.classes, axis=0) > 0])
    nats = np.full(codes.mean.shape[1], np.inf) if codes.logvar is None else kl_normal(codes.mean, codes.logvar)
    informed = np.concatenate([nats, [kl_uniform(p) for p in codes.probs]]) > least_kl
    return np.flatnonzero(varies & informed)


def lasso_weights(one: Columns, other: Columns, alpha: float) -> Floats:
    """(latents of one, latents of the other) absolute weights of a lasso from one run's columns to the other's."""
    (x, x_owner), (y, y_owner) = one, other
    n_x, n_y = (int(owner.max(initial=-1)) + 1 for owner in (x_owner, y_owner))
    weights = np.zeros((n_x, n_y))
    if weights.size:
        model = fitted(Lasso(alpha=alpha, precompute=True, random_state=0), x, cast(Any, y))
        found = np.abs(model.coef_).reshape(y.shape[1], x.shape[1]).T
        np.add.at(weights, (x_owner[:, None], y_owner), found / np.bincount(y_owner)[y_owner])
    return weights


def rank_correlations(one: list[Floats], other: list[Floats]) -> Floats:
    """(latents, latents) root mean squares of the canonical correlations between orthonormal bases."""
    found = [[np.linalg.norm(a.T @ b) / np.sqrt(min(a.shape[1], b.shape[1])) for b in other] for a in one]
    return np.minimum(np.array(found).reshape(len(one), len(other)), 1)


def _blocks(codes: Codes, used: Ints) -> Columns:
    """Standardised columns of the latents in use, and which of these each column belongs to."""
    x, owner = features(codes)
    keep = np.isin(owner, used) & (np.ptp(x, axis=0) > 0)
    x = x[:, keep].astype(float)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    return x, np.searchsorted(used, owner[keep])


def _bases(codes: Codes, used: Ints) -> list[Floats]:
    """An orthonormal basis of what each latent in use says: its centred ranks, or the indicators of its classes."""
    c = codes.mean.shape[1]
    return [_ranks(codes.mean[:, i]) if i < c else _indicators(codes.classes[:, i - c]) for i in used]


def _ranks(column: Floats) -> Floats:
    ranks = rankdata(column)
    ranks -= ranks.mean()
    return (ranks / np.linalg.norm(ranks))[:, None]


def _indicators(labels: Ints) -> Floats:
    values, number = np.unique(labels, return_inverse=True)
    centred = np.eye(len(values))[number][:, 1:]
    return np.linalg.qr(centred - centred.mean(axis=0))[0]


def _of_runs(name: str, pairs: Floats) -> dict[str, float | NotApplicable]:
    runs = [float(np.median(np.delete(pairs[:, i], i))) for i in range(len(pairs))]
    scores: dict[str, float | NotApplicable] = {f"{name}_{i}": value for i, value in enumerate(runs)}
    return {name: float(np.mean(runs))} | scores


def _check_alike(runs: Sequence[Codes]) -> None:
    for i, run in enumerate(runs):
        if run.n != runs[0].n or not np.array_equal(run.factors, runs[0].factors):
            raise ValueError(f"run {i} has other rows than run 0; all runs need the same images in the same order")
