"""The parts of the divergence from the prior against closed forms, exact enumeration, and each other."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import xlogy

import metrics.elbo_parts as module
from metrics import Codes, metric_rng, run_metric
from metrics.elbo_parts import elbo_parts

PARTS = ("information", "marginal_kl", "total_correlation", "dimension_kl")
GAUSSIANS = {
    "independent": (np.diag([0.9, 0.5, 0.0]), (0.45, 0.8, 1.0)),
    "correlated": (np.array([[0.8, 0.0], [0.5, 0.5]]), (0.5, 0.6)),
    "rotated": (np.array([[0.7, 0.3, 0.3], [-0.3, 0.8, 0.0], [0.4, 0.4, 0.2]]), (0.4, 0.3, 0.9)),
    "off the prior": (np.array([[2.0, 1.0]]), (0.3,)),
    "says nothing": (np.zeros((2, 1)), (1.0, 1.0)),
}


def found_of(codes, seed=0, **settings):
    scores = run_metric(elbo_parts, codes, metric_rng(seed, "elbo_parts"), settings)
    return {key.removeprefix("elbo_parts_"): value for key, value in scores.items()}


def table(mean, sd, probs=()):
    n = len(mean)
    return Codes(mean, np.zeros((n, 0), int), (), (), logvar=np.tile(2 * np.log(sd), (n, 1)), probs=tuple(probs))


def gaussian(weights, sd, n=5000, seed=0, probs=()):
    """Posteriors N(A x, sd²) of x that has mean 0 and covariance 1 to rounding."""
    x = np.random.default_rng(seed).standard_normal((n, weights.shape[1]))
    x -= x.mean(axis=0)
    x = np.linalg.solve(np.linalg.cholesky(np.cov(x, rowvar=False, ddof=0).reshape(x.shape[1], -1)), x.T).T
    return table(x @ weights.T, np.array(sd), probs)


def closed_form(weights, sd):
    covariance = weights @ weights.T + np.diag(np.square(sd))
    (_, log_det), variance = np.linalg.slogdet(covariance), np.diag(covariance)
    return {
        "information": (log_det - 2 * np.log(sd).sum()) / 2,
        "marginal_kl": (np.trace(covariance) - len(covariance) - log_det) / 2,
        "total_correlation": (np.log(variance).sum() - log_det) / 2,
        "dimension_kl": (variance - 1 - np.log(variance)).sum() / 2,
    }


def enumerated(probs):
    """The parts of categorical latents, as sums over every row and every combination of classes."""
    n = len(probs[0])
    joint = np.ones((n, 1))
    for p in probs:
        joint = np.stack([np.outer(a, b).ravel() for a, b in zip(joint, p, strict=True)])
    of_z, uniform = joint.mean(axis=0), sum(np.log(p.shape[1]) for p in probs)
    singles = sum(xlogy(p.mean(axis=0), p.mean(axis=0)).sum() for p in probs)
    whole = xlogy(of_z, of_z).sum()
    return {
        "information": xlogy(joint, joint).sum() / n - whole,
        "marginal_kl": whole + uniform,
        "total_correlation": whole - singles,
        "dimension_kl": singles + uniform,
    }


def dirichlet(seed, k, n=60):
    return np.random.default_rng(seed).dirichlet(np.full(k, 0.4), size=n)


def assert_near(found, known, slack, errors=4.0):
    for key, value in known.items():
        assert found[key] == pytest.approx(value, abs=errors * found[f"{key}_se"] + slack), key
    assert abs(found["residual"]) <= 3 * found["residual_se"] + 1e-9
    parts = found["information"] + found["total_correlation"] + found["dimension_kl"]
    assert found["kl"] - parts == pytest.approx(found["residual"], abs=1e-9)
    assert found["marginal_kl"] == pytest.approx(found["total_correlation"] + found["dimension_kl"], abs=1e-9)


@pytest.mark.parametrize("case", GAUSSIANS)
def test_gaussians_have_closed_forms(case):
    # A mixture of 5,000 Gaussians is near the Gaussian that it is drawn from, but for a bias of some hundredths.
    assert_near(found_of(gaussian(*GAUSSIANS[case])), closed_form(*GAUSSIANS[case]), 0.02)


@pytest.mark.parametrize("sizes", [(4,), (2, 3), (3, 3, 4)])
def test_categorical_latents_are_summed_exactly(sizes):
    probs = [dirichlet(seed, k) for seed, k in enumerate(sizes)]
    found = found_of(table(np.zeros((60, 0)), np.zeros(0), probs))
    assert_near(found, enumerated(probs), 1e-12)
    assert all(found[f"{key}_se"] == 0 for key in (*PARTS, "residual"))


def test_latents_of_both_kinds():
    weights, sd = GAUSSIANS["correlated"]
    probs = [np.tile(dirichlet(3, 3, 50), (100, 1)), np.tile(dirichlet(4, 2, 50), (100, 1))]
    known, of_classes = closed_form(weights, sd), enumerated(probs)
    both = {key: known[key] + of_classes[key] for key in PARTS}  # the classes are drawn apart from x
    assert_near(found_of(gaussian(weights, sd, probs=probs)), both, 0.03)


def test_drawn_classes_agree_with_summed_ones(monkeypatch):
    codes = table(dirichlet(9, 2), np.full(2, 0.3), [dirichlet(1, 3), dirichlet(2, 4)])
    summed = found_of(codes)
    monkeypatch.setattr("metrics.elbo_parts.MOST_CLASSES", 1)
    assert_near(found_of(codes), {key: summed[key] for key in (*PARTS, "information_upper") if key in PARTS}, 0.01, 6)
    alone = replace(codes, mean=codes.mean[:, :0], logvar=codes.logvar[:, :0])
    assert_near(found_of(alone), enumerated(codes.probs), 0.01)


def test_information_is_bracketed_and_no_more_than_ln_n():
    weights, sd = np.eye(4), np.full(4, 0.2)
    population = closed_form(weights, sd)["information"]  # 6.5 nats
    few, many = (found_of(gaussian(weights, sd, n)) for n in (100, 5000))
    for found, n in ((few, 100), (many, 5000)):
        assert found["information"] <= np.log(n) and found["information"] < population < found["information_upper"]
    gaps = [found["information_upper"] - found["information"] for found in (few, many)]
    assert gaps[1] < gaps[0] and few["information"] == pytest.approx(np.log(100), abs=0.3)
    assert few["total_correlation"] == pytest.approx(
        population - few["information"], abs=0.3
    )  # what is missing goes here


def test_information_and_total_correlation_have_no_units():
    codes = gaussian(*GAUSSIANS["rotated"], n=500)
    scaled = replace(codes, mean=codes.mean * [1, -2, 30] + 5, logvar=codes.logvar + 2 * np.log([1, 2, 30]))
    found, known = found_of(scaled), found_of(codes)
    for key in ("information", "total_correlation"):
        assert found[key] == pytest.approx(known[key], abs=4 * 1.5 * known[f"{key}_se"])
    assert found["dimension_kl"] > known["dimension_kl"] + 1


def test_the_errors_are_those_of_repeated_draws():
    codes = gaussian(*GAUSSIANS["rotated"], n=500)
    repeated = [found_of(codes, seed, draws=500) for seed in range(30)]
    for key in (*PARTS, "residual"):
        spread = np.std([found[key] for found in repeated], ddof=1)
        # Every row is drawn as often as any other, which takes away some of the error.
        assert 0.4 * repeated[0][f"{key}_se"] < spread < 1.5 * repeated[0][f"{key}_se"]


def test_what_is_infinite_is_not_applicable():
    deterministic = run_metric(
        elbo_parts, Codes(np.zeros((5, 1)), np.zeros((5, 0), int), (), ()), metric_rng(0, "e"), {}
    )
    assert deterministic.notes == {"elbo_parts_kl": "the continuous code is deterministic"}
    lonely = table(np.zeros((4, 0)), np.zeros(0), [np.eye(2)[[0, 0, 0, 1]]])
    scores = run_metric(elbo_parts, lonely, metric_rng(0, "e"), {})
    assert "no other row" in scores.notes["elbo_parts_information_upper"] and scores["elbo_parts_information"] > 0.5


@pytest.mark.parametrize("logvar", [-690.0, -80.0, 0.0, 600.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e15])
def test_extreme_posteriors(logvar, scale):
    mean = scale * np.random.default_rng(0).choice([-1.0, 0.5, 1.0], size=(40, 2))
    found = found_of(table(mean, np.full(2, np.exp(logvar / 2)), [dirichlet(0, 2, 40)]), draws=100)
    assert all(np.isfinite(found[key]) for key in PARTS) and -1e-9 <= found["information"] <= np.log(40)


def test_settings_are_protocols():
    assert module.PROTOCOLS.keys() == {"study", "quick"} and module.LOWER_IS_BETTER.isdisjoint(module.DESCRIPTIVE)
    codes = gaussian(*GAUSSIANS["correlated"], n=300)
    assert elbo_parts(codes, np.random.default_rng(0)).keys() == module.LOWER_IS_BETTER | module.DESCRIPTIVE
    for a, b in itertools.pairwise((100, 200, 300)):
        assert found_of(codes, n_train=a)["kl"] != found_of(codes, n_train=b)["kl"]


def test_fewer_draws_than_rows_are_spread_over_all_rows():
    mean = np.repeat([[0.0], [3.0]], 1000, axis=0)  # in order, as the rows of a grid are
    found = found_of(table(mean, np.array([0.5])), draws=200)
    assert abs(found["residual"]) < 4 * found["residual_se"] < 1
    assert found["information"] == pytest.approx(np.log(2), abs=0.05)
