"""The divergence from the prior taken apart: information, total correlation, and what is left in single latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import xlogy

from metrics._codes import Codes, NotApplicable, Rng, sample
from metrics._information import Floats, Ints, kl_normal, kl_uniform

PROTOCOLS: dict[str, dict[str, Any]] = {"study": {}, "quick": {"n_train": 2_000, "draws": 1_000}}
DEFAULT = True
LOWER_IS_BETTER: frozenset[str] = frozenset({"elbo_parts_total_correlation"})
DESCRIPTIVE = frozenset(
    {
        "elbo_parts_kl",
        "elbo_parts_information",
        "elbo_parts_information_upper",
        "elbo_parts_marginal_kl",
        "elbo_parts_dimension_kl",
        "elbo_parts_residual",
        "elbo_parts_information_se",
        "elbo_parts_marginal_kl_se",
        "elbo_parts_total_correlation_se",
        "elbo_parts_dimension_kl_se",
        "elbo_parts_residual_se",
    }
)
ACROSS_RUNS = False
TRAP = (
    "of n rows no more than ln n nats of information can be seen (9.2 for 10,000). Where the information is near that, "
    "it is too small and the total correlation too large, each by at most information_upper - information."
)

CELLS = 500_000  # entries of a table of densities that stays in a core's cache
MOST_CLASSES = 256  # combinations of classes that are summed over; more are drawn
LOG_ROOT_2PI = 0.5 * np.log(2 * np.pi)


def elbo_parts(
    codes: Codes, rng: Rng, *, n_train: int = 10_000, draws: int = 2_000
) -> dict[str, float | NotApplicable]:
    """KL(q(z|x) ‖ p(z)) = I(x; z) + TC(z) + Σ_j KL(q(z_j) ‖ p(z_j)), means over n rows, all in nats.

    q(z) is the mean of the n posteriors, p(z) standard normal for continuous and uniform for categorical latents; z is
    all of them jointly, a categorical latent one nominal column. `elbo_parts_kl` is the left side, in closed form;
    `_information` I(x; z), in [0, ln n]; `_total_correlation` the divergence of q(z) from the product of its marginals,
    0 where the latents are independent (lower is better); `_dimension_kl` the last sum; `_marginal_kl` =
    KL(q(z) ‖ p(z)), the last two together. Apart from the total correlation they describe and do not rank.

    Estimator: `draws` points z ~ q(z|x_i), every row i as often as any other, where log q(z) and log q(z_j) are exact
    sums over the n rows; classes are summed over, or drawn where they have more than 256 combinations. Each `_se` is
    the standard error that the draws leave. `_residual`, left side minus the right side's three terms, is 0 within its
    own error; estimates may fall below 0 by as much. It checks the draws and not the terms: log q(z) and log q(z_j)
    cancel in it. Nothing is drawn of categorical latents alone.

    Bias: the terms are those of these n rows. As estimates for the population that the rows come from, `_information`
    is too small on average and `_total_correlation` and `_marginal_kl` are too large. `_information_upper` leaves row i
    out of q(z) and is too large instead; the other two are lower by the same difference. It is infinite, so not
    applicable, where no other row can make a class. A deterministic code has an infinite divergence: not applicable.
    Cost: 4 s for 10 latents.

    Hoffman and Johnson, 2016, "ELBO surgery: yet another way to carve up the variational evidence lower bound"; the
    last two terms as in Chen, Li, Grosse and Duvenaud, 2018, "Isolating sources of disentanglement in VAEs"; the bounds
    as in Poole, Ozair, van den Oord, Alemi and Tucker, 2019, "On variational bounds of mutual information".

    >>> sure = Codes(np.zeros((4, 0)), np.zeros((4, 0), int), (), (), probs=(np.eye(2)[[0, 1, 0, 1]],) * 2)
    >>> nats = elbo_parts(sure, np.random.default_rng(0))  # one bit, twice
    >>> {key: round(nats[f"elbo_parts_{key}"] / math.log(2), 6) for key in ("kl", "information", "total_correlation")}
    {'kl': 2.0, 'information': 1.0, 'total_correlation': 1.0}
    """
    if codes.mean.shape[1] and codes.logvar is None:
        return {"elbo_parts_kl": NotApplicable("the continuous code is deterministic")}
    table = sample(codes, rng, n_train)
    exact = table.mean.shape[1] == 0 and math.prod(p.shape[1] for p in table.probs) <= MOST_CLASSES
    rows = np.arange(table.n) if exact else rng.permutation(table.n)[np.arange(draws) % table.n]
    posterior, aggregate, others, marginals, prior = _log_densities(table, rows, rng)
    kl = mean_kl(table)
    terms = {
        "information": posterior - aggregate,
        "marginal_kl": aggregate - prior,
        "total_correlation": aggregate - marginals,
        "dimension_kl": marginals - prior,
        "residual": kl - (posterior - prior),
    }
    upper = float(np.mean(posterior - others))
    beyond = NotApplicable("infinite: no other row has a posterior at some of the points drawn")
    means = {f"elbo_parts_{key}": float(values.mean()) for key, values in terms.items()}
    errors = {f"elbo_parts_{key}_se": 0.0 if exact else _standard_error(values) for key, values in terms.items()}
    return {
        "elbo_parts_kl": kl,
        "elbo_parts_information_upper": upper if np.isfinite(upper) else beyond,
        **means,
        **errors,
    }


def mean_kl(codes: Codes) -> float:
    """Mean over images of KL(q(latents | x) ‖ prior), summed over all latents."""
    continuous = 0.0 if codes.logvar is None else float(kl_normal(codes.mean, codes.logvar).sum())
    return continuous + float(sum(kl_uniform(p) for p in codes.probs))


def _standard_error(values: Floats) -> float | NotApplicable:
    if len(values) < 2:
        return NotApplicable("needs two draws")
    scale = float(np.abs(values).max()) or 1.0  # so that no square overflows
    return scale * float((values / scale).std(ddof=1)) / math.sqrt(len(values))


def _log_densities(codes: Codes, rows: Ints, rng: Rng) -> Floats:
    """(5, draws): log q(z|x_i), log q(z), the same without row i, Σ_j log q(z_j) and log p(z) of z ~ q(z|x_i).

    Of categorical latents each is the mean over the classes given x_i, or of classes drawn from these.
    """
    mean = codes.mean.astype(float)
    logvar = np.zeros_like(mean) if codes.logvar is None else codes.logvar.astype(float)
    noise = rng.standard_normal((len(rows), mean.shape[1]))
    every, drawn = combinations(codes.probs, codes.n), _drawn_classes(codes.probs, rows, rng)
    found = np.empty((5, len(rows)))
    step = max(1, CELLS // codes.n)
    for part in (slice(start, start + step) for start in range(0, len(rows), step)):
        own, e = rows[part], noise[part]
        z = mean[own] + np.exp(logvar[own] / 2) * e
        log, found[3, part] = _normal(z, e, own, mean, logvar)
        found[4, part] = -(z**2 / 2 + LOG_ROOT_2PI).sum(axis=1)
        found[:3, part] = _jointly(log, own, _of_draws(codes.probs, drawn[part]) if every is None else every)
    for p in codes.probs:
        found[3] += xlogy(p[rows], p.mean(axis=0, dtype=float)).sum(axis=1)
        found[4] -= np.log(p.shape[1])
    return found


def combinations(probs: Sequence[Floats], n: int) -> Floats | None:
    """(n, Πk) probabilities of all combinations of classes; None where these are too many."""
    if math.prod(p.shape[1] for p in probs) > MOST_CLASSES:
        return None
    every = np.ones((n, 1))
    for p in probs:
        every = (every[:, :, None] * p[:, None]).reshape(n, -1)
    return every


def _of_draws(probs: Sequence[Floats], classes: Ints) -> Floats:
    """(n, 1, b) probabilities of the drawn classes in every row."""
    return np.prod([p[:, k] for p, k in zip(probs, classes.T, strict=True)], axis=0)[:, None]


def _drawn_classes(probs: Sequence[Floats], rows: Ints, rng: Rng) -> Ints:
    """(draws, number of categorical latents) classes of the given rows, drawn from their probabilities."""
    classes = np.empty((len(rows), len(probs)), dtype=np.int64)
    for j, p in enumerate(probs):
        below = p[rows].cumsum(axis=1, dtype=float)
        classes[:, j] = (below < below[:, -1:] * rng.uniform(size=(len(rows), 1))).sum(axis=1)
    return classes


def _normal(z: Floats, noise: Floats, own: Ints, mean: Floats, logvar: Floats) -> tuple[Floats, Floats]:
    """(b, n) log q(z_s|x_n) of the continuous latents, and (b,) Σ_j log q(z_sj); row own_s made z_s with noise_s."""
    log, margins = np.zeros((len(z), len(mean))), np.zeros(len(z))
    with np.errstate(over="ignore"):  # a posterior that is far away has the density 0
        for j in range(z.shape[1]):
            one = (z[:, j, None] - mean[:, j]) * np.exp(-logvar[:, j] / 2)
            # Where a posterior is narrower than the mean's precision, z - mean has lost the noise.
            one[np.arange(len(z)), own] = noise[:, j]
            one = -0.5 * (one * one + (logvar[:, j] + 2 * LOG_ROOT_2PI))
            log += one
            margins += _log_mean(one)
    return log, margins


def _log_mean(log: Floats) -> Floats:
    """(b,) log of the mean exponential of each row; overwrites its argument."""
    top = log.max(axis=1)
    log -= top[:, None]
    return np.log(np.exp(log, out=log).mean(axis=1)) + top


def _jointly(log: Floats, own: Ints, classes: Floats) -> Floats:
    """(3, b) log q(z_s|x_own), log q(z_s) and the same without row own_s, of all latents together.

    log: (b, n) log densities of the continuous ones; overwritten. classes: (n, k) probabilities of classes, over which
    the mean given x_own is taken, or (n, 1, b) of those drawn for each point.
    """
    places, n, each = np.arange(len(own)), log.shape[1], classes.ndim == 3
    mine = classes[own, :, places] if each else classes[own]
    weights = np.ones_like(mine) if each else mine
    of_own = log[places, own][:, None].copy()
    # The own row is added last: beside it the sum of the others may be too small to be told apart.
    log[places, own] = -np.inf
    top = np.maximum(log.max(axis=1, keepdims=True), np.finfo(float).min)
    log -= top
    mass = np.exp(log, out=log)
    total = np.einsum("bn,nkb->bk", mass, classes) if each else mass @ classes
    with np.errstate(divide="ignore"):
        given, others = of_own + np.log(mine), top + np.log(total)
    values = np.stack([given, np.logaddexp(given, others) - np.log(n), others - np.log(max(n - 1, 1))])
    return (weights * np.where(weights > 0, values, 0)).sum(axis=2)
