"""What each model's paper says that it does, beside what its published run did."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmark import runs
from benchmark.published import SIDES, Published
from benchmark.runs import Run


def rows(published: Published) -> list[list[str]]:
    """A row a model and data set, at the first seed: model, data set, claim, measured."""
    found = []
    for dataset in SIDES:
        first = published.firsts(dataset)
        for model, (claim, measure) in CLAIMS.items():
            needed = [model, *AGAINST.get(model, ())]
            if all(name in first for name in needed):
                found.append([f"`{model}`", dataset, claim, measure(published, *(first[name] for name in needed))])
    return sorted(found, key=lambda row: row[0])


def _capacity_met(published: Published, run: Run) -> str:
    """How far the KL is from its capacity once that is a few nats, so that a per cent means something."""
    rows = published.history(run)
    late = rows[rows["capacity"] >= 5]
    off = (late["kl"] / late["capacity"] - 1).abs()
    median, end, most = (f"{100 * value:.1f} %" for value in (off.median(), off.iloc[-1], off.max()))
    return f"off by {median} in the median, {end} at the end, {most} at most, from 5 nats on"


def _critic_tc(published: Published, run: Run) -> str:
    tc = published.history(run)["tc"]
    end = tc.tail(max(1, len(tc) // 10)).mean()
    return f"from {tc.max():.2f} (largest) to {end:.2f} nats (last tenth)"


def _less_tc(published: Published, run: Run, other: Run) -> str:
    def say(r: Run) -> str:
        tc, recon = (published.value(r, key) for key in ("elbo_parts_total_correlation", "reconstruction"))
        return f"TC {tc:.2f} at reconstruction {recon:.1f}"

    return f"{say(run)}; `{other.spec.model}`: {say(other)}"


def _near_identity(published: Published, run: Run) -> str:
    """Root mean squares, from the logged sums of squares, of the covariance that the model itself pulls."""
    end = published.history(run).iloc[-1]
    c = run.spec.hparams["latents"]
    off, on = np.sqrt(end["cov_offdiag"] / (c * (c - 1))), np.sqrt(end["cov_diag"] / c)
    return f"off-diagonal {off:.3f}, diagonal 1 ± {on:.3f} (root mean squares)"


def _better_class(published: Published, run: Run, other: Run) -> str:
    mine, its = (published.value(r, "discrete_accuracy") for r in (run, other))
    return f"{mine:.3f} against {its:.3f} of `{other.spec.model}`"


def _more_information(published: Published, run: Run, other: Run) -> str:
    def say(r: Run) -> str:
        known = (published.value(r, key) for key in ("elbo_parts_information", "elbo_parts_information_upper"))
        return " to ".join(f"{value:.1f}" for value in known)

    table = runs.tables_of(run)["covariance"].to_numpy().diagonal()
    spread = f"variances of q(z) {table.min():.2f} to {table.max():.2f}"
    return f"I(x; z) {say(run)} nats, `{other.spec.model}`: {say(other)}; {spread}"


def _best_reconstruction(published: Published, run: Run, other: Run) -> str:
    mine, its = (published.value(r, "reconstruction") for r in (run, other))
    return f"{mine:.1f} nats, `{other.spec.model}`: {its:.1f}"


AGAINST = {"betatcvae": ("betavae",), "betavae": ("vae",), "cascadevae": ("jointvae",), "consistentvae": ("jointvae",),
           "infovae": ("vae",), "autoencoder": ("vae",)}  # fmt: skip
CLAIMS: dict[str, tuple[str, Callable[..., str]]] = {
    "annealedvae": ("the KL follows its capacity", _capacity_met),
    "autoencoder": ("reconstructs better than a VAE", _best_reconstruction),
    "betatcvae": ("less total correlation than β-VAE at equal reconstruction", _less_tc),
    "betavae": ("less total correlation than a VAE, at a worse reconstruction", _less_tc),
    "cascadevae": ("its class tells more than JointVAE's", _better_class),
    "consistentvae": ("its class tells more than JointVAE's", _better_class),
    "dipvae1": ("the covariance is near the identity", _near_identity),
    "dipvae2": ("the covariance is near the identity", _near_identity),
    "factorvae": ("the critic's estimate of the total correlation falls", _critic_tc),
    "infovae": ("more information than a VAE, and q(z) near the prior", _more_information),
}
