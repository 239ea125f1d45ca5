"""What each model's paper says that it does, beside what its published run did."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from benchmark import runs
from benchmark.evidence.published import SHOWN, PublishedRuns
from benchmark.runs import Run


def rows(published: PublishedRuns) -> list[list[str]]:
    """A row a model and data set that papers know: model, data set, seeds, claim, measured."""
    found = []
    for dataset in (name for name in published.datasets if not SHOWN[name].like):
        ends = [run for run in published.standard if run.spec.dataset == dataset and run.status == "ok"]
        of = {name: [run for run in ends if run.spec.model == name] for name in {run.spec.model for run in ends}}
        for model, (claim, measure) in CLAIMS.items():
            needed = [model, *AGAINST.get(model, ())]
            if all(name in of for name in needed):
                groups = [of[name] for name in needed]
                seeds = " and ".join(f"{len(group)}" for group in groups)
                found.append([f"`{model}`", dataset, seeds, claim, measure(published, *groups)])
    return sorted(found, key=lambda row: row[0])


def _mean(published: PublishedRuns, some: Sequence[Run], metric: str, digits: int) -> str:
    return f"{np.mean([published.value(run, metric) for run in some]):.{digits}f}"


def _has(published: PublishedRuns, some: Sequence[Run], metric: str) -> bool:
    return not any(np.isnan(published.value(run, metric)) for run in some)


def _capacity_met(published: PublishedRuns, some: Sequence[Run]) -> str:
    """How far the KL is from its capacity once that is a few nats, so that a per cent means something."""
    rows = pd.concat([published.history(run) for run in some])
    late = rows[rows["capacity_z"] >= 5]
    off = 100 * (late["kl"] / late["capacity_z"] - 1).abs()
    end = off[late["step"] == late["step"].max()]
    found = f"{off.median():.1f} % in the median, {end.mean():.1f} % at the end, {off.max():.1f} % at most"
    return f"off by {found}, from 5 nats on"


def _critic_tc(published: PublishedRuns, some: Sequence[Run]) -> str:
    """Means over seeds of tenths of the run: the critic has to learn first, so the first need not be the largest."""
    tenths = [[part.mean() for part in np.array_split(published.history(run)["tc"].to_numpy(), 10)] for run in some]
    tc = np.mean(tenths, axis=0)
    return f"{tc[0]:.2f} nats in the first tenth, {tc.max():.2f} in the largest, {tc[-1]:.2f} in the last"


def _less_tc(published: PublishedRuns, some: Sequence[Run], others: Sequence[Run]) -> str:
    def say(group: Sequence[Run]) -> str:
        tc, recon = (_mean(published, group, *of) for of in ((TC, 2), ("reconstruction", 1)))
        return f"TC {tc} at reconstruction {recon}"

    return f"{say(some)}; `{others[0].spec.model}`: {say(others)}"


def _uncorrelated(published: PublishedRuns, some: Sequence[Run], others: Sequence[Run]) -> str:
    """Off the diagonal the covariance of the means (DIP-VAE-I) is that of z (DIP-VAE-II)."""
    mine, its = (_off_diagonal(group)[0] for group in (some, others))
    return f"off-diagonal {mine:.3f} (root mean square); `{others[0].spec.model}`: {its:.3f}"


def _near_identity(published: PublishedRuns, some: Sequence[Run], others: Sequence[Run]) -> str:
    mine, its = ("off-diagonal {:.3f}, diagonal 1 ± {:.3f}".format(*_off_diagonal(group)) for group in (some, others))
    return f"{mine} (root mean squares); `{others[0].spec.model}`: {its}"


def _off_diagonal(some: Sequence[Run]) -> tuple[float, float]:
    """Root mean squares of what z's covariance lacks to the identity, off and on the diagonal.

    Of the scored images' table: the logged values are of batches, whose own noise is 1/8.
    """
    tables = np.stack([runs.tables_of(run)["covariance"].to_numpy() for run in some])
    same = np.eye(tables.shape[1], dtype=bool)
    off, on = (float(np.sqrt(np.mean(values**2))) for values in (tables[:, ~same], tables[:, same] - 1))
    return off, on


def _better_class(published: PublishedRuns, some: Sequence[Run], others: Sequence[Run]) -> str:
    if not _has(published, some, "discrete_accuracy"):
        return "its class begins later than these runs end"
    mine, its = (_mean(published, group, "discrete_accuracy", 3) for group in (some, others))
    dead = _dead(published, others)
    of_these = f" ({dead} of {len(others)} dead)" if dead else ""
    return f"{mine} against {its} of `{others[0].spec.model}`{of_these}"


def _more_information(published: PublishedRuns, some: Sequence[Run], others: Sequence[Run]) -> str:
    """Information is at least what the metric sees; its upper bound is far above what the images hold, and no news."""

    def say(group: Sequence[Run]) -> str:
        return _mean(published, group, "elbo_parts_information", 2)

    tables = [runs.tables_of(run)["covariance"].to_numpy().diagonal() for run in some]
    spread = f"variances of q(z) {np.min(tables):.2f} to {np.max(tables):.2f}"
    return f"I(x; z) at least {say(some)} nats, `{others[0].spec.model}`: {say(others)} (9.21 can be seen); {spread}"


def _more_disentangled(published: PublishedRuns, some: Sequence[Run], others: Sequence[Run]) -> str:
    def say(group: Sequence[Run]) -> str:
        keys = {"mig": "MIG", "dci_disentanglement": "DCI"}  # one factor has no DCI
        found = {title: _mean(published, group, key, 3) for key, title in keys.items() if _has(published, group, key)}
        return ", ".join(f"{title} {mean}" for title, mean in found.items())

    return f"{say(some)}; `{others[0].spec.model}`: {say(others)}"


def _best_reconstruction(published: PublishedRuns, some: Sequence[Run], others: Sequence[Run]) -> str:
    mine, its = (_mean(published, group, "reconstruction", 1) for group in (some, others))
    return f"{mine} nats, `{others[0].spec.model}`: {its}"


def _fewer_dead(published: PublishedRuns, some: Sequence[Run], others: Sequence[Run]) -> str:
    mine, its = (f"{_dead(published, group)} of {len(group)}" for group in (some, others))
    return f"{mine} are dead, {its} of `{others[0].spec.model}`"


def _dead(published: PublishedRuns, some: Sequence[Run]) -> int:
    return sum(published.states.get(run.id) == "dead" for run in some)


TC = "elbo_parts_total_correlation"
AGAINST = {"betatcvae": ("betavae",), "betavae": ("vae",), "cascadevae": ("jointvae",), "infovae": ("vae",),
           "invariantvae": ("jointvae",), "meanstartjointvae": ("jointvae",), "autoencoder": ("vae",), "dvae": ("vae",),
           "factordvae": ("factorvae",), "qlae": ("vae",), "dipvae1": ("vae",), "dipvae2": ("vae",)}  # fmt: skip
CLAIMS: dict[str, tuple[str, Callable[..., str]]] = {
    "annealedvae": ("the KL follows its capacity", _capacity_met),
    "autoencoder": ("reconstructs better than a VAE", _best_reconstruction),
    "betatcvae": ("less total correlation than β-VAE at equal reconstruction", _less_tc),
    "betavae": ("less total correlation than a VAE, at a worse reconstruction", _less_tc),
    "cascadevae": ("its class tells more than JointVAE's", _better_class),
    "dipvae1": ("the means do not correlate", _uncorrelated),
    "dipvae2": ("the covariance of q(z) is near the identity", _near_identity),
    "dvae": ("more disentangled than a VAE with Gaussian latents", _more_disentangled),
    "factordvae": ("more disentangled than a FactorVAE with Gaussian latents", _more_disentangled),
    "qlae": ("its code is modular and compact (its paper: by InfoMEC, on other data)", _more_disentangled),
    "factorvae": ("the critic's estimate of the total correlation falls", _critic_tc),
    "invariantvae": ("its class tells more than JointVAE's", _better_class),
    "meanstartjointvae": ("fewer of its runs die than of JointVAE's", _fewer_dead),
    "infovae": ("more information than a VAE, and q(z) near the prior", _more_information),
}
