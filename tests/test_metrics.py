"""What every metric does with a perfect code, a constant one, noise, the same code written otherwise, and bad input."""

import doctest
from dataclasses import replace
from functools import partial
from importlib import import_module

import numpy as np
import pytest
from scipy.stats import entropy, norm, spearmanr
from scipy.stats.contingency import association
from sklearn.feature_selection._mutual_info import _compute_mi_cd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    adjusted_rand_score,
    completeness_score,
    homogeneity_score,
    log_loss,
    mutual_info_score,
    normalized_mutual_info_score,
)
from sklearn.preprocessing import OneHotEncoder

from benchmark import plan, plugins
from data._dataset import factor_grid
from metrics import Codes, NotApplicable, Scores, available, effective_protocol, metric_rng, run_metric, score
from metrics._codes import points, sample
from metrics._information import contingency, discretise, mutual_information, partition_scores
from metrics._tables import tables
from metrics._votes import any_rows, groups, pairs
from metrics.discrete_accuracy import calibration_error, class_panel
from metrics.factorvae_score import dispersion
from metrics.infomec import neighbour_information
from metrics.udr import _bases, _indicators, in_use, rank_correlations
from metrics.unsupervised import total_correlation, wasserstein_correlation

SIZES = (3, 4, 5)
NAMES = ("kind", "size", "place")
# Settings that make a metric cheap enough to be run dozens of times.
SMALL = {
    "betavae_score": {"n_train": 600, "n_test": 600},
    "factorvae_score": {"n_train": 600, "n_test": 600},
    "dci": {"learners": ("hist",)},
    "downstream": {"sizes": (300, 1_000)},
    "modularity": {"n_shuffles": 20},
}

# Scores of codes whose value is known: (perfect, constant, noise), each a value or (low, high).
KNOWN = {
    "attributes": {
        "attributes_one": ((0.62, 0.72), 0, (0, 0.01)),
        "attributes_all": ((0.99, 1), 0, (0, 0.01)),
        "attributes_place_one": ((0.99, 1), 0, (0, 0.01)),
        "attributes_within_all": ((0.99, 1), 0, (0, 0.01)),
    },
    "active_units": {"active_units": (3, 0, 3), "active_units_continuous": (2, 0, 2)},
    "betavae_score": {"betavae_score": (1, (0.25, 0.42), (0.25, 0.42))},
    "cluster_accuracy": {
        "cluster_accuracy": ((0.33, 1), (0.33, 0.4), (0.33, 0.45)),
        "cluster_accuracy_nmi": ((0, 1), 0, (0, 0.02)),
        "cluster_accuracy_ari": ((-0.01, 1), 0, (-0.01, 0.02)),
    },
    "dcimig": {"dcimig": ((0.98, 1), 0, (0, 0.03))},
    "dci": {
        "dci_hist_disentanglement": ((0.99, 1), 0, (0, 0.05)),
        "dci_hist_completeness": ((0.99, 1), 0, (0, 0.35)),
        "dci_hist_informativeness": ((0.99, 1), (0.2, 0.33), (0.2, 0.33)),
    },
    "discrete_accuracy": {
        "discrete_accuracy": (1, (0.33, 0.4), (0.33, 0.4)),
        "discrete_accuracy_many_to_one": (1, (0.33, 0.4), (0.33, 0.4)),
        "discrete_accuracy_nmi": (1, 0, (0, 0.02)),
        "discrete_accuracy_ari": (1, 0, (-0.01, 0.02)),
        "discrete_accuracy_used": (3, 1, 3),
        "discrete_accuracy_homogeneity": (1, 0, (0, 0.02)),
        "discrete_accuracy_completeness": (1, 1, (0, 0.02)),
        "discrete_accuracy_information": ((1.09, np.log(3)), 0, (0, 0.02)),
        "discrete_accuracy_information_share": ((0.99, 1), 0, (0, 0.02)),
        "discrete_accuracy_usage": ((1.09, np.log(3)), 0, (1.09, np.log(3))),
        "discrete_accuracy_usage_share": ((0.99, 1), 0, (0.99, 1)),
        "discrete_accuracy_calibration_error": (0, (0, 0.07), (0.6, 0.67)),
        "discrete_accuracy_unsupervised": (1, (0.33, 0.4), (0.33, 0.4)),
    },
    "downstream": {
        "downstream_logistic_1000": ((0.7, 1), (0.2, 0.33), (0.2, 0.33)),
        "downstream_trees_1000": ((0.99, 1), (0.2, 0.33), (0.2, 0.33)),
        "downstream_trees_efficiency_300": ((0.9, 1), (0.8, 1.2), (0.8, 1.2)),
    },
    "elbo_parts": {
        "elbo_parts_kl": ((1.99, 2.2), 0, (1.99, 2.2)),
        "elbo_parts_information": ((1.5, 1.9), 0, (1.5, 1.9)),
        "elbo_parts_information_upper": ((1.5, 1.95), (0, 0.001), (1.5, 1.95)),
        "elbo_parts_total_correlation": ((-0.05, 0.05), 0, (-0.05, 0.05)),
        "elbo_parts_dimension_kl": ((0.25, 0.45), 0, (0.25, 0.45)),
    },
    "factorvae_score": {
        "factorvae_score": (1, 0, (0.25, 0.42)),
        "factorvae_score_batch8": ((0.9, 1), 0, (0.25, 0.42)),
    },
    "infomec": {
        "infomec_modularity": ((0.97, 1), 0, (0, 1)),
        "infomec_compactness": ((0.97, 1), 0, (0, 1)),
        "infomec_explicitness": ((0.99, 1), 0, (0, 0.02)),
    },
    "irs": {
        "irs": ((0.99, 1), 0, (0, 0.6)),
        "irs_mean": ((0.99, 1), 0, (0, 0.6)),
        "irs_quantile": ((0.99, 1), 0, (0, 0.1)),
    },
    "jemmig": {
        "jemmig": ((0.98, 1), (0.6, 0.75), (0, 0.45)),
        "jemmig_nats": ((0, 0.05), (1.35, 1.37), (2, 4)),
        "jemmig_joint": ((0.97, 1), 0, (0, 0.03)),
    },
    "kl": {"kl_categorical": (np.log(3), 0, np.log(3)), "kl_continuous": ((0.9, 1.1), 0, (0.9, 1.1))},
    "mig": {"mig": ((0.98, 1), 0, (0, 0.03)), "mig_kind": ((0.98, 1), 0, (0, 0.03))},
    "mig_sup": {"mig_sup": ((0.98, 1), 0, (0, 0.03)), "mig_sup_code": ((0.97, 1), 0, (0, 0.03))},
    "modularity": {
        "modularity": ((0.99, 1), 0, (0.2, 0.95)),
        "modularity_informative": ((0.99, 1), 0, 0),
        "modularity_explicitness": ((0.7, 1), 0.5, (0.45, 0.55)),
    },
    "probe_accuracy": {"probe_accuracy": (1, (0.25, 0.42), (0.25, 0.42))},
    "reconstruction": {"reconstruction": (1, 1, 1)},
    "rmig": {"rmig": ((0.3, 0.8), 0, (0, 0.03))},
    "sap": {"sap_continuous": ((0.98, 1), 0, (0, 0.02)), "sap": ((0.3, 1), 0, (0, 0.06))},
    "udr": {"udr": ((0.89, 0.91), 0, (0.88, 0.91)), "udr_spearman_1": ((0.9, 1), 0, (0.9, 1))},
    "unsupervised": {
        "unsupervised_total_correlation": ((0, 0.01), 0, (0, 0.01)),
        "unsupervised_wasserstein": ((0, 0.01), 0, (0, 0.01)),
        "unsupervised_wasserstein_norm": ((0, 0.01), 0, (0, 0.01)),
        "unsupervised_mutual_information": ((0, 0.05), 0, (0, 0.08)),
    },
}
# Keys that a metric must lower when noise is added to the code.
FALLS = {
    "attributes": "attributes_all",
    "betavae_score": "betavae_score_batch8",
    "cluster_accuracy": "cluster_accuracy",
    "dci": "dci_hist_disentanglement",
    "dcimig": "dcimig",
    "discrete_accuracy": "discrete_accuracy",
    "downstream": "downstream_trees_1000",
    "factorvae_score": "factorvae_score_batch8",
    "infomec": "infomec_explicitness",
    "irs": "irs_quantile",
    "jemmig": "jemmig_joint",
    "mig": "mig",
    "mig_sup": "mig_sup",
    "modularity": "modularity_explicitness",
    "probe_accuracy": "probe_accuracy",
    "sap": "sap_continuous",
}
# The noisy code holds the kind twice, and noise hides the copy: the gap that rmig sees grows at first.
DO_NOT_FALL = {"active_units", "elbo_parts", "kl", "reconstruction", "rmig", "udr", "unsupervised"}
# Whether multiplying the continuous code by a number leaves the scores as they are.
SCALE_FREE = {
    "attributes",
    "cluster_accuracy",
    "dci",
    "dcimig",
    "discrete_accuracy",
    "downstream",
    "infomec",
    "jemmig",
    "mig",
    "mig_sup",
    "modularity",
    "probe_accuracy",
    "reconstruction",
}
SCALE_BOUND = {
    "active_units",
    "betavae_score",
    "elbo_parts",
    "factorvae_score",
    "irs",
    "kl",
    "rmig",
    "sap",
    "udr",
    "unsupervised",
}
# Whether the score changes with the sign of a continuous latent.
SIGN_FREE = set(KNOWN)
# Metrics that look at one row each, or at all rows at once: equal to rounding under a new order of the rows.
ORDER_FREE = {
    "active_units",
    "dcimig",
    "discrete_accuracy",
    "irs",
    "jemmig",
    "kl",
    "mig",
    "mig_sup",
    "reconstruction",
    "rmig",
    "udr",
    "unsupervised",
}
ORDER_BY_CHANCE = set(KNOWN) - ORDER_FREE
PANELS = ("cluster_accuracy", "discrete_accuracy")
UNBOUNDED = {"active_units", "elbo_parts", "kl", "reconstruction", "jemmig_nats", "rmig_nats", "unsupervised"} | {
    *(f"{name}_{key}" for name in PANELS for key in ("used", "usage", "information")),
    *(f"downstream_{learner}_efficiency_300" for learner in ("logistic", "trees")),
}
NEEDS_NO_FACTORS = {"active_units", "elbo_parts", "kl", "udr", "unsupervised"}
NEEDS_TWO_FACTORS = {"betavae_score", "dcimig", "factorvae_score", "mig_sup", "modularity"}
NEEDS_CLASSES = {"discrete_accuracy"}
NEEDS_CONTINUOUS = {"cluster_accuracy"}


# Metrics of points that are drawn for each latent in turn: another order or sign of latents gives other points.
DRAWN = {"elbo_parts": 0.5}


def factor_rows(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(size, size=n) for size in SIZES], axis=1)


def table(mean, probs, factors, **changes):
    n = len(factors)
    fields = {"logvar": np.zeros_like(mean), "recon": np.ones(n), "class_factor": "kind"}
    fields |= {"attributes": factors @ [[1.0, 0], [0.5, 0], [0.5, 1]], "attribute_names": ("blend", "place")} | changes
    return Codes(mean, factors, NAMES, SIZES, probs=probs, **fields)


def one_hot(labels, k=3):
    return np.eye(k)[labels]


def perfect(**changes):
    """A categorical latent is the kind (renumbered), and one continuous latent each other factor."""
    factors = factor_rows()
    mean = (factors - factors.mean(axis=0)) / factors.std(axis=0)
    return table(mean[:, 1:], (one_hot((factors[:, 0] + 1) % 3),), factors, **changes)


def constant():
    return table(np.zeros((1500, 2)), (np.full((1500, 3), 1 / 3),), factor_rows())


def noise():
    rng = np.random.default_rng(1)
    return table(rng.standard_normal((1500, 2)), (one_hot(rng.integers(3, size=1500)),), factor_rows())


def noisy(sd):
    """The perfect code with the kind also in a continuous latent, under noise."""
    factors, rng = factor_rows(), np.random.default_rng(2)
    mean = (factors - factors.mean(axis=0)) / factors.std(axis=0) * [3, 1, 1]
    kind = one_hot(factors[:, 0]) + sd * rng.standard_normal((1500, 3))
    return table(mean + sd * rng.standard_normal(mean.shape), (one_hot(kind.argmax(axis=1)),), factors)


def given(name, codes):
    """What a metric takes: the codes, or two runs that have the same ones."""
    return [codes, codes] if import_module(f"metrics.{name}").ACROSS_RUNS else codes


def run(name, codes, seed=0, **settings):
    metric = getattr(import_module(f"metrics.{name}"), name)
    return run_metric(metric, given(name, codes), metric_rng(seed, name), SMALL.get(name, {}) | settings)


def assert_same(found, known, tolerance=1e-9):
    assert found.keys() == known.keys() and found.notes == known.notes
    for key, value in found.items():
        assert value == pytest.approx(known[key], abs=tolerance, nan_ok=key in found.notes), key


def test_every_metric_has_its_properties_stated():
    every = set(available())
    assert every == set(KNOWN) == FALLS.keys() | DO_NOT_FALL == SCALE_FREE | SCALE_BOUND
    assert not FALLS.keys() & DO_NOT_FALL and not SCALE_FREE & SCALE_BOUND


@pytest.mark.parametrize("name", available())
def test_file_says_how_it_is_used(name):
    module = import_module(f"metrics.{name}")
    assert callable(getattr(module, name)) and getattr(module, name).__doc__ and module.__doc__
    assert "study" in module.PROTOCOLS and {type(module.DEFAULT), type(module.ACROSS_RUNS)} == {bool}
    assert all(key.startswith(name) for key in module.LOWER_IS_BETTER)
    assert all(run(name, perfect(), **settings) for key, settings in module.PROTOCOLS.items() if key == "quick")


@pytest.mark.parametrize("name", ["", "._boosting", "._information", *(f".{name}" for name in available())])
def test_examples_in_docstrings(name):
    result = doctest.testmod(import_module(f"metrics{name}"))
    assert result.attempted and not result.failed


@pytest.mark.parametrize("code", [0, 1, 2], ids=["perfect", "constant", "noise"])
@pytest.mark.parametrize("name", available())
def test_known_values(name, code):
    found = run(name, [perfect, constant, noise][code]())
    assert not found.notes
    for key, values in KNOWN[name].items():
        expected = values[code]
        low, high = expected if isinstance(expected, tuple) else (expected, expected)
        assert low - 1e-9 <= found[key] <= high + 1e-9, key


def test_clusters_that_are_the_classes():
    factors = factor_rows()
    assert run("cluster_accuracy", table(factors[:, :1] * 1.0, (), factors))["cluster_accuracy"] == 1


def test_boosted_trees_of_a_perfect_code():
    found = run("dci", perfect(), learners=("gbt",), n_train=200, n_test=100)
    assert found["dci_disentanglement"] > 0.99 and found["dci_informativeness"] > 0.97


@pytest.mark.parametrize("name", available())
def test_bounded_and_finite(name):
    for code in (perfect(), constant(), noise(), noisy(0.5)):
        for key, value in run(name, code).items():
            assert np.isfinite(value) and (name in UNBOUNDED or key in UNBOUNDED or -0.01 <= value <= 1), key


@pytest.mark.parametrize("name", available())
def test_same_rng_same_score(name):
    assert_same(run(name, noisy(0.5)), run(name, noisy(0.5)), tolerance=0)


@pytest.mark.parametrize("name", sorted(FALLS))
def test_falls_as_noise_grows(name):
    low, middle, high = (run(name, noisy(sd))[FALLS[name]] for sd in (0.1, 0.7, 4))
    assert low > middle > high


@pytest.mark.parametrize("name", available())
def test_order_of_rows(name):
    codes = noisy(0.3)
    shuffled = codes.select(np.random.default_rng(3).permutation(codes.n))
    assert_same(run(name, shuffled), run(name, codes), 1e-9 if name in ORDER_FREE else DRAWN.get(name, 0.06))


@pytest.mark.parametrize("name", available())
def test_order_of_latents(name):
    codes = noisy(0.3)
    turned = replace(codes, mean=codes.mean[:, ::-1], logvar=codes.logvar[:, ::-1])
    assert_same(
        run(name, turned), run(name, codes), DRAWN.get(name, 0.05 if name in ("cluster_accuracy", "dci") else 0.01)
    )


@pytest.mark.parametrize("name", available())
def test_numbering_of_classes(name):
    codes = noisy(0.3)
    renumbered = replace(codes, probs=tuple(p[:, [2, 0, 1]] for p in codes.probs))
    assert_same(run(name, renumbered), run(name, codes), 0.03 if name == "dci" else 0.005)


@pytest.mark.parametrize("name", sorted(SIGN_FREE))
def test_sign_of_a_latent(name):
    codes = noisy(0.3)
    assert_same(run(name, replace(codes, mean=codes.mean * [-1, 1, -1])), run(name, codes), DRAWN.get(name, 0.02))


@pytest.mark.parametrize("factor", [1e-3, 1e4])
@pytest.mark.parametrize("name", available())
def test_scale(name, factor):
    codes = noisy(0.3)
    found = run(name, replace(codes, mean=codes.mean * factor))
    if name in SCALE_FREE:
        assert_same(found, run(name, codes), 0.01)


@pytest.mark.parametrize("name", available())
def test_codes_without_continuous_latents(name):
    codes = perfect()
    none = np.zeros((codes.n, 0))
    found = run(name, replace(codes, mean=none, logvar=none))
    assert (name in found.notes) == (name in NEEDS_CONTINUOUS)


@pytest.mark.parametrize("name", available())
def test_codes_without_categorical_latents(name):
    found = run(name, replace(noisy(0.5), probs=()))
    assert (name in found.notes) == (name in NEEDS_CLASSES)


@pytest.mark.parametrize("name", available())
def test_no_factors(name):
    found = score(name, given(name, np.random.default_rng(0).standard_normal((50, 2))))
    assert all(np.isnan(found[key]) for key in found.notes)
    assert (name in found.notes) == (name not in NEEDS_NO_FACTORS)


@pytest.mark.parametrize("name", available())
def test_one_factor(name):
    codes = perfect()
    alone = replace(codes, factors=codes.factors[:, :1], factor_names=NAMES[:1], factor_sizes=SIZES[:1])
    assert (name in run(name, alone).notes) == (name in NEEDS_TWO_FACTORS)


@pytest.mark.parametrize("name", available())
def test_a_factor_with_one_value_is_as_if_it_were_not_there(name):
    codes = perfect()
    still = codes.factors * [1, 1, 0]
    gone = replace(codes, factors=codes.factors[:, :2], factor_names=NAMES[:2], factor_sizes=SIZES[:2])
    found, known = run(name, replace(codes, factors=still)), run(name, gone)
    assert found.pop("mig_place", np.nan) is not None and found.notes.pop("mig_place", "one value")
    assert_same(found, known)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("name", available())
def test_few_points(name, n):
    found = run(name, perfect().select(slice(n)))
    assert found.notes or all(np.isfinite(value) for value in found.values())


@pytest.mark.parametrize("name", available())
def test_duplicated_codes_and_nearly_constant_ones(name):
    codes = noisy(0.5)
    run(name, replace(codes, mean=np.repeat(codes.mean[:3].astype(np.float32), 500, axis=0)))
    nearly = np.float32(0.5) + np.float32(6e-8) * (np.arange(codes.n) % 3 == 0)
    run(name, replace(codes, mean=np.repeat(nearly.astype(np.float32)[:, None], 3, axis=1)))


@pytest.mark.parametrize("name", available())
def test_fixed_test_rows_and_single_latents(name):
    codes = noisy(0.3)
    split = replace(codes.select(slice(900)), test=codes.select(slice(900, None)))
    assert run(name, split)
    assert run(name, replace(codes, mean=codes.mean[:, :1], logvar=None, probs=()))


@pytest.mark.parametrize("name", available())
def test_either_kind_of_random_generator_and_no_global_state(name):
    metric = getattr(import_module(f"metrics.{name}"), name)
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    codes = given(name, noisy(0.3))
    run_metric(metric, codes, np.random.RandomState(0), SMALL.get(name, {}))
    run_metric(metric, codes, np.random.default_rng(0), SMALL.get(name, {}))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


# One nominal column


def test_a_categorical_latent_is_one_column():
    factors = factor_rows()
    kind, others = one_hot(factors[:, 0]), factors[:, 1:].astype(float)
    as_latent = score(["mig", "sap"], others, factors, classes=kind)
    as_columns = score(["mig", "sap"], np.hstack([kind, others]), factors)
    assert as_latent["mig"] > 0.97 and as_columns["mig"] < 0.9
    assert as_latent["sap_continuous"] > 0.97


def test_impurity_of_two_classes_is_twice_the_variance():
    labels = np.random.default_rng(0).integers(2, size=64)
    codes = Codes(labels[:, None] * 1.0, np.zeros((64, 0), int), (), (), probs=(one_hot(labels, 2),))
    variance, impurity = dispersion(codes, np.arange(64)[None])[0]
    assert impurity == pytest.approx(2 * variance)


@pytest.mark.parametrize("name", ["dcimig", "irs", "jemmig", "mig_sup", "rmig"])
def test_a_table_of_categorical_latents_only_is_scored_as_nominal_columns(name):
    factors = factor_rows()
    probs = tuple(one_hot((column + 1) % size, size) for column, size in zip(factors.T, SIZES, strict=True))
    assert run(name, table(np.zeros((1500, 0)), probs, factors, logvar=None))[name] == pytest.approx(1, abs=0.01)


def test_several_categorical_latents():
    factors, rng = factor_rows(), np.random.default_rng(9)
    kind, useless = factors[:, 0], rng.integers(3, size=1500)
    sure = np.where(one_hot(useless) == 1, 0.98, 0.01)
    unsure = np.where(one_hot(kind) == 1, 0.4, 0.3)
    found = run("discrete_accuracy", table(np.zeros((1500, 0)), (sure, unsure), factors, logvar=None))
    assert found["discrete_accuracy"] == 1
    assert found["discrete_accuracy_unsupervised"] < 0.4


# Hand-computed values


def two_bits(columns, n=400):
    """Two factors of two values, all pairs equally often, and the columns that a function makes of them."""
    a, b = np.arange(n) // 2 % 2, np.arange(n) % 2
    factors = np.stack([a, b], axis=1)
    return Codes(np.stack(columns(a, b), axis=1).astype(float), factors, ("a", "b"), (2, 2))


def test_gaps_of_two_bits():
    # The first latent is a; the second is both, so that it knows either factor in full.
    codes, ln2 = two_bits(lambda a, b: (a, 2 * a + b)), np.log(2)
    assert run("mig_sup", codes) == pytest.approx({"mig_sup": 0.5, "mig_sup_code": 0.5})
    assert run("dcimig", codes) == pytest.approx({"dcimig": 0.5})
    # a: both latents know it, joint entropy ln 2, gap 0. b: the second latent, joint entropy 2 ln 2, gap ln 2.
    bounds = 2 * (ln2 + np.log(20))
    known = {"jemmig": 1 - 2 * ln2 / bounds, "jemmig_nats": ln2, "jemmig_joint": 0.25}
    assert run("jemmig", codes) == pytest.approx(known)


def test_robustness_of_two_bits():
    codes = two_bits(lambda a, b: (a, 2 * a + b))
    # Given a the second latent moves by 1/2, of 3/2 in all; weights are 1/2 and 3/2.
    assert run("irs", codes) == pytest.approx({"irs": 0.75, "irs_mean": 5 / 6, "irs_quantile": 0.75})


def test_a_class_that_another_factor_moves_is_not_robust():
    codes = two_bits(lambda a, b: (a,))
    xor = codes.factors.sum(axis=1) % 2
    found = run("irs", replace(codes, mean=np.zeros((400, 0)), probs=(one_hot(xor, 2),)))
    assert found == pytest.approx({"irs": 0, "irs_mean": 0, "irs_quantile": 0})


def test_shares_of_information():
    codes = two_bits(lambda a, b: (a, b))
    kinds = replace(
        codes, mean=np.zeros((400, 0)), probs=(one_hot(codes.factors[:, 0], 2), one_hot(codes.factors[:, 1], 2))
    )
    assert run("infomec", kinds) == pytest.approx(dict.fromkeys(run("infomec", kinds), 1), abs=1e-3)
    both = replace(kinds, probs=(one_hot(codes.factors @ [2, 1], 4), kinds.probs[0]))
    found = run("infomec", both)
    # The first latent knows both factors in full, the second one of them.
    assert found["infomec_modularity"] == pytest.approx(0.5) and found["infomec_compactness"] == pytest.approx(0.5)
    alone = run("infomec", replace(kinds, probs=kinds.probs[:1]))
    assert alone.notes == {"infomec_compactness": "needs two active latents"}


def test_gaussians_of_known_covariance():
    rng, rho = np.random.default_rng(0), 0.6
    x = rng.standard_normal((200_000, 2)) @ np.linalg.cholesky([[1, rho], [rho, 1]]).T * [1, 3] + 5
    found = run("unsupervised", Codes(x, np.zeros((200_000, 0), int), (), ()), n_train=200_000)
    assert found["unsupervised_total_correlation"] == pytest.approx(-np.log(1 - rho**2) / 2, abs=5e-3)
    covariance = np.array([[1, 3 * rho], [3 * rho, 9]])
    assert total_correlation(covariance) == pytest.approx(-np.log(1 - rho**2) / 2)
    # The eigenvalues of [[1, 9 rho], [9 rho, 81]] / D are those of the product of the covariance and its diagonal.
    root = np.sqrt(np.linalg.eigvals(covariance * np.array([[1], [9]]))).sum()
    assert wasserstein_correlation(covariance) == pytest.approx(2 * 10 - 2 * root)
    # The sum of the bits' exclusive or with either is independent of it: pairs say nothing.
    assert run("unsupervised", two_bits(lambda a, b: (a, b, a ^ b)))["unsupervised_mutual_information"] == 0
    assert run("unsupervised", two_bits(lambda a, b: (a, a)))["unsupervised_mutual_information"] == pytest.approx(
        np.log(2)
    )


def test_latents_that_depend_on_each_other():
    z = np.random.default_rng(0).standard_normal((500, 2)).astype(np.float32)
    for codes in (z[:, [0, 0]], np.column_stack([z, z.sum(axis=1)]), one_hot(np.arange(500) % 3)):
        found = score("unsupervised", codes)
        assert found.notes.keys() == {"unsupervised_total_correlation"}
        assert 0.2 < found["unsupervised_wasserstein_norm"] < 0.6
    with_dead = score("unsupervised", np.column_stack([z, np.ones(500)]))
    assert with_dead["unsupervised_total_correlation"] == score("unsupervised", z)["unsupervised_total_correlation"]
    assert score("unsupervised", z[:, :1]).notes == {"unsupervised_mutual_information": "needs two latents"}


def test_a_posterior_that_widens_tells_less():
    codes = perfect(logvar=None)
    points, *wider = (
        run("rmig", replace(codes, logvar=logvar))["rmig_nats"]
        for logvar in (None, *(np.full_like(codes.mean, v) for v in (-20, -2, 0, 4)))
    )
    assert points == pytest.approx(wider[0], abs=1e-3) and wider == sorted(wider, reverse=True) and wider[-1] < 0.5


def test_posteriors_in_bins_are_those_of_drawn_latents_and_of_densities():
    rng, codes = np.random.default_rng(0), perfect()
    codes = replace(codes, logvar=rng.uniform(-4, -1, codes.mean.shape), probs=())
    sd, inner = np.exp(codes.logvar / 2), np.linspace(-4, 4, 101)[1:-1]
    sums = {"drawn": np.zeros((2, 3)), "density": np.zeros((2, 3))}
    for i, j in np.ndindex(2, 3):
        z = codes.mean[:, i] + sd[:, i] * rng.standard_normal((400, codes.n))
        place, labels = np.digitize(z, inner).ravel(), np.tile(codes.factors[:, j], 400)
        sums["drawn"][i, j] = mutual_info_score(labels, place)
        # As in the authors' code: the density at the bins' centres, scaled to a sum of 1.
        mass = norm.pdf(np.linspace(-3.96, 3.96, 100), codes.mean[:, [i]], sd[:, [i]])
        joint = one_hot(codes.factors[:, j], SIZES[j]).T @ (mass / mass.sum(axis=1, keepdims=True)) / codes.n
        sides = [entropy(joint.sum(axis=axis)) for axis in (0, 1)]
        sums["density"][i, j] = sum(sides) - entropy(joint, axis=None)
    for known in sums.values():
        gaps = np.diff(np.sort(known, axis=0), axis=0)[0]
        nats = [mutual_info_score(y, y) for y in codes.factors.T]
        assert run("rmig", codes)["rmig"] == pytest.approx(np.mean(gaps / nats), abs=1e-3)


def test_nearest_neighbours_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    x, y = np.round(rng.standard_normal(600), 2), rng.integers(5, size=600)
    x, y = x + y % 2, np.where(np.arange(600) < 3, np.arange(600) + 10, y)
    for k in (1, 3, 10):
        jitter = 1e-10 * rng.standard_normal(600)
        expected = _compute_mi_cd(x + jitter, y, k)
        assert neighbour_information(x + jitter, y, k) == pytest.approx(expected, abs=1e-12)
    assert neighbour_information(x, np.arange(600), 3) == 0


def test_panel_of_a_clustering_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    x, y = rng.integers(6, size=700), rng.integers(4, size=700)
    y = np.where(rng.random(700) < 0.5, x % 4, y)
    found = class_panel(x, y, 8)
    assert found["_homogeneity"] == pytest.approx(homogeneity_score(y, x))
    assert found["_completeness"] == pytest.approx(completeness_score(y, x))
    assert found["_information_share"] == pytest.approx(mutual_info_score(x, y) / np.log(8))
    assert class_panel(x * 0, y, 1)["_usage_share"] == class_panel(x * 0, y, 1)["_information_share"] == 0


def test_calibration():
    rng = np.random.default_rng(2)
    sure = rng.uniform(0.5, 1, size=50_000)
    probs = np.stack([sure, 1 - sure], axis=1)
    labels = (rng.random(50_000) > sure).astype(int)
    assert calibration_error(probs, labels) < 0.01
    assert calibration_error(np.round(probs), labels) == pytest.approx(0.25, abs=0.01)
    renumbered = calibration_error(probs, 1 - labels)
    assert renumbered == pytest.approx(calibration_error(probs, labels))
    # Classes in excess of the labels have no value to forecast.
    assert calibration_error(one_hot([0, 1, 2]), np.zeros(3, dtype=int)) == pytest.approx(2 / 3)


# Runs of one model


def runs_of(z, n_runs=3, noise=0.0):
    """The latents under another order, other signs and some noise in each run."""
    rng = np.random.default_rng(5)
    return [
        z[:, rng.permutation(z.shape[1])] * rng.choice([-1, 1], z.shape[1]) + noise * rng.standard_normal(z.shape)
        for _ in range(n_runs)
    ]


def test_runs_that_agree_up_to_order_and_sign():
    z = np.random.default_rng(0).standard_normal((4000, 4))
    found = score("udr", runs_of(z))
    assert found.keys() == {"udr", "udr_spearman"} | {f"udr{form}_{i}" for form in ("", "_spearman") for i in range(3)}
    assert found["udr"] == pytest.approx(0.9, abs=1e-6) and found["udr_spearman"] > 0.95
    noisier = [score("udr", runs_of(z, noise=sd))["udr"] for sd in (0, 0.5, 2)]
    assert noisier == sorted(noisier, reverse=True)
    rotations = [np.linalg.qr(np.random.default_rng(i).standard_normal((4, 4)))[0] for i in range(3)]
    assert score("udr", [z @ q for q in rotations])["udr"] < 0.6
    odd = score("udr", [*runs_of(z), np.random.default_rng(9).standard_normal((4000, 4))])
    assert odd["udr_3"] < 0.1 < 0.8 < odd["udr_0"]


def test_latents_out_of_use_do_not_count_in_udr():
    z = np.random.default_rng(0).standard_normal((1000, 3)) * [1, 1, 1e-3]
    tables = [Codes(x, np.zeros((1000, 0), int), (), (), logvar=np.zeros((1000, 3))) for x in (z, z[::-1].copy())]
    assert [in_use(table, 0.01).tolist() for table in tables] == [[0, 1], [0, 1]]
    assert in_use(replace(tables[0], logvar=None), 0.01).tolist() == [0, 1, 2]


def test_each_side_of_a_pair_of_runs_weighs_the_same():
    # The second run has a latent out of use, and the first one has one that the other lacks.
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4000, 3))
    b = np.stack([-a[:, 2], 0.001 * rng.standard_normal(4000), a[:, 0]], axis=1)
    runs = [Codes(x, np.zeros((4000, 0), int), (), (), logvar=np.zeros_like(x)) for x in (a, b)]
    # A latent that has a twin counts 0.9 (1 by rank), one that has none 0 (by rank next to nothing).
    matched = np.mean([np.mean([0.9, 0, 0.9]), np.mean([0.9, 0.9])])
    found = score("udr", runs)
    assert found["udr"] == found["udr_0"] == found["udr_1"] == pytest.approx(matched, abs=1e-6)
    assert found["udr_spearman"] == pytest.approx(5 / 6, abs=0.03)


def test_rank_correlations_are_those_of_scipy_and_of_cramer():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((300, 2)), rng.integers(5, size=(300, 2)).astype(float)
    codes = [Codes(x, np.zeros((300, 0), int), (), ()) for x in (a, b)]
    bases = [_bases(table, np.arange(2)) for table in codes]
    np.testing.assert_allclose(rank_correlations(*bases), np.abs(spearmanr(a, b)[0][:2, 2:]), atol=1e-12)
    x, y = rng.integers(3, size=300), rng.integers(4, size=300)
    found = rank_correlations([_indicators(x)], [_indicators(y)])[0, 0]
    assert found == pytest.approx(association(contingency(x, y), method="cramer"))


def test_runs_that_are_refused():
    x, factors = np.random.default_rng(0).standard_normal((60, 2)), np.arange(60)[:, None] % 3
    assert score("udr", [x]).notes == {"udr": "needs two runs or more"}
    with pytest.raises(ValueError, match=r"'udr' compares several runs of one model: give a list of Codes or \(n, c\)"):
        score("udr", x)
    with pytest.raises(ValueError, match="score it apart"):
        score(["udr", "mig"], [x, x], factors)
    with pytest.raises(ValueError, match="run 1 has other rows than run 0"):
        score("udr", [x, x[:50]])
    tables = [Codes(x, f, ("a",), (3,)) for f in (factors, factors[::-1])]
    with pytest.raises(ValueError, match="run 1 has other rows than run 0"):
        score("udr", tables)


# Shared maths


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_are_those_of_the_study(dtype):
    values = np.random.default_rng(0).standard_normal((2000, 4)).astype(dtype)
    values[:, 3] = np.round(values[:, 3])
    expected = [np.digitize(x, np.histogram(x, 20)[1][:-1]) - 1 for x in values.T]
    assert np.array_equal(discretise(values), np.stack(expected, axis=1))


def test_partition_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    for k in (1, 3, 7):
        x, y = rng.integers(k, size=500), rng.integers(4, size=500)
        y = np.where(rng.random(500) < 0.4, x % 4, y)
        found = partition_scores(contingency(x, y))
        assert found["_ari"] == pytest.approx(adjusted_rand_score(x, y))
        assert found["_nmi"] == pytest.approx(normalized_mutual_info_score(x, y))
        assert mutual_information(contingency(x, y)) == pytest.approx(mutual_info_score(x, y))


def test_tables():
    found = tables(replace(perfect(), class_factor="kind"))
    assert found.keys() == {"mutual_information", "mig", "confusion_c0", "covariance", "kl"}
    for rows, columns, matrix in found.values():
        assert matrix.shape == (len(rows), len(columns)) and np.isfinite(matrix).all()
    assert found["confusion_c0"][2].sum() == 1500 and found["kl"][2][-1, 0] == pytest.approx(np.log(3))
    np.testing.assert_allclose(found["covariance"][2].diagonal(), 2, atol=1e-6)
    assert tables(Codes(np.zeros((4, 1)), np.zeros((4, 0), int), (), ())).keys() == {"covariance"}


# Points


def grid_codes():
    factors = np.stack(np.unravel_index(np.arange(60), SIZES), axis=1)
    return Codes(factors.astype(float), factors, NAMES, SIZES, grid=True)


def test_points():
    plain = noisy(0.3)
    train, test = points(plain, np.random.default_rng(0), 10_000, 400)
    assert (train.n, test.n) == (1000, 400)
    assert not {row.tobytes() for row in train.mean} & {row.tobytes() for row in test.mean}
    fixed = replace(plain.select(slice(900)), test=plain.select(slice(900, None)))
    train, test = points(fixed, np.random.default_rng(0), 500, 100)
    assert np.array_equal(train.mean, plain.mean[:500]) and np.array_equal(test.mean, plain.mean[900:1000])
    train, test = points(grid_codes(), np.random.default_rng(7), 30, 30)
    assert len({row.tobytes() for row in np.concatenate([train.mean, test.mean])}) == 60
    assert np.array_equal(train.mean, train.factors)
    assert sample(grid_codes(), np.random.default_rng(7), 10).n == 10


def test_a_sub_grid_is_a_grid():
    factors = np.stack(np.unravel_index(np.arange(60), SIZES), axis=1) * [1, 2, 3]
    codes = Codes(factors.astype(float), factors, NAMES, (3, 8, 15), grid=True)
    assert run("factorvae_score", codes)["factorvae_score"] == 1
    assert run("betavae_score", codes)["betavae_score"] == 1


def repeated(copies=25, noise=0.0):
    """The grid several times over, each time with codes of its own: a class and two continuous latents."""
    factors = np.tile(np.stack(np.unravel_index(np.arange(60), SIZES), axis=1), (copies, 1))
    rng = np.random.default_rng(0)
    mean = factors[:, 1:] + rng.uniform(-0.2, 0.2, (60 * copies, 2)) + noise * rng.normal(size=(60 * copies, 2))
    probs = (np.eye(3)[factors[:, 0]],)
    logvar, recon = np.full_like(mean, -4), np.ones(len(mean))
    known = {"attributes": factors + rng.normal(size=factors.shape), "attribute_names": ("a", "b", "c")}
    return Codes(mean, factors, NAMES, SIZES, logvar, probs, recon, class_factor="kind", grid=True, **known)


@pytest.mark.parametrize("name", sorted(KNOWN))
@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
def test_a_grid_several_times_over(name, kind):
    """Scored as the same rows are that are not said to be a grid."""
    metric = getattr(import_module(f"metrics.{name}"), name)
    for codes in (repeated(), repeated(noise=1.0)):
        grid, plain = (
            run_metric(metric, given(name, one), kind(0), SMALL.get(name, {}))
            for one in (codes, replace(codes, grid=False))
        )
        assert grid.keys() == plain.keys() and grid.notes == plain.notes
        for key, value in grid.items():
            assert value == pytest.approx(plain[key], abs=0.06, nan_ok=key in grid.notes), key


def test_all_copies_of_a_grid_are_drawn_from():
    codes = repeated()
    codes = replace(codes, mean=np.repeat(np.arange(25.0), 60)[:, None], logvar=None)
    assert codes.copies == 25
    for rng in (np.random.default_rng(0), np.random.RandomState(0)):
        held, rows = groups(codes, rng, [0, 1, 2], 200, 16)
        assert len(np.unique(codes.mean[rows])) == 25
        for number, batch in zip(held, rows, strict=True):
            assert len(np.unique(codes.factors[batch, number])) == 1
        held, first, second = pairs(codes, rng, [0, 1, 2], 200, 16)
        assert (codes.factors[first, held[:, None]] == codes.factors[second, held[:, None]]).all()
        assert (codes.mean[first] != codes.mean[second]).any()
        assert len(np.unique(codes.mean[any_rows(codes, rng, 5000)])) == 25
    train, test = points(repeated(), np.random.RandomState(0), 10_000, 400)
    assert (train.n, test.n) == (1000, 400)
    assert not {row.tobytes() for row in train.mean} & {row.tobytes() for row in test.mean}


def test_a_value_that_one_row_has_is_not_voted_on():
    factors = np.stack([np.arange(40), np.arange(40) % 4], axis=1)
    found = score("factorvae_score", factors.astype(float), factors)
    assert "no two images share a value" in found.notes["factorvae_score"]


def test_protocol_of_kim_and_mnih():
    found = score("factorvae_score", noisy(0.5), protocol="kim")
    assert found.keys() == {"factorvae_score_train", "factorvae_score_test"}


# Bad input


def bad(array, rows, value):
    array = array.astype(float)
    array[rows] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda c: {"mean": bad(c.mean, [7, 9], np.nan)}, r"mean: row 7 is not finite \(2 such rows\)"),
        (lambda c: {"mean": bad(c.mean, 3, np.inf)}, "mean: row 3"),
        (lambda c: {"mean": bad(c.mean, 3, 1e20)}, "mean: row 3 is beyond 1e15"),
        (lambda c: {"logvar": bad(c.logvar, 4, -np.inf)}, "logvar: row 4"),
        (lambda c: {"logvar": bad(c.logvar, 4, 1e3)}, "logvar: row 4 is beyond 700"),
        (lambda c: {"recon": bad(c.recon, 4, np.inf)}, "recon: row 4"),
        (lambda c: {"probs": (bad(c.probs[0], 5, np.nan),)}, r"probs\[0\]: row 5 is not finite"),
        (lambda c: {"probs": (bad(c.probs[0], 5, 0.5),)}, r"probs\[0\]: row 5 does not sum to 1"),
        (lambda c: {"probs": (c.probs[0][:-1],)}, r"probs\[0\] is"),
        (lambda c: {"logvar": c.logvar[:, :1]}, "logvar is"),
        (lambda c: {"recon": c.recon[:-1]}, "recon is"),
        (lambda c: {"factors": c.factors[:-1]}, "factors must be"),
        (lambda c: {"factors": c.factors.astype(float)}, "factors must be"),
        (lambda c: {"factors": c.factors - (np.arange(c.n) == 6)[:, None] * 9}, "factors: row 6 is not in"),
        (lambda c: {"factor_sizes": (3, 4, 4)}, "factors: row"),
        (lambda c: {"factor_names": ("a", "b")}, "names"),
        (lambda c: {"factor_names": ("kind", "b", "b")}, "unique"),
        (lambda c: {"class_factor": "digit"}, "class_factor 'digit'"),
        (lambda c: {"mean": c.mean.astype(int)}, "mean must be"),
        (lambda c: {"mean": c.mean[:, :0], "logvar": None, "probs": ()}, "one latent"),
        (lambda c: {"grid": True}, "factors: row 0 is not in the grid's order"),
        (lambda c: {"test": replace(c, mean=c.mean[:, :1], logvar=None)}, "test rows have other latent_names"),
    ],
)
def test_codes_that_are_refused(changes, message):
    codes = perfect()
    with pytest.raises(ValueError, match=message):
        replace(codes, **changes(codes))


def test_a_grid_of_too_few_or_disordered_rows_is_refused():
    codes = grid_codes()
    with pytest.raises(ValueError, match="there is no grid without factors"):
        replace(codes, factors=codes.factors[:, :0], factor_names=(), factor_sizes=())
    with pytest.raises(ValueError, match=r"a grid of \(3, 4, 5\) values has 60 rows or a multiple of it, not 90"):
        replace(codes, mean=np.zeros((90, 1)), factors=codes.factors[np.arange(90) % 60])
    with pytest.raises(ValueError, match="factors: row 0 is not in the grid's order"):
        replace(codes, factors=codes.factors[::-1])


# score()


def test_names_and_protocols_that_do_not_exist():
    x = np.zeros((4, 1))
    with pytest.raises(ValueError, match="unknown metric 'mgi'; did you mean 'mig'\\? available: active_units"):
        score(["mgi"], x)
    with pytest.raises(ValueError, match="unknown protocol 'stduy'; did you mean 'study'"):
        score("mig", x, protocol="stduy")
    assert effective_protocol(import_module("metrics.mig"), "kim") == "study"


def test_functions_and_installed_plugins_are_scored(tmp_path, monkeypatch):
    source = """PROTOCOLS = {"study": {"scale": 1.0}, "double": {"scale": 2.0}}

def spread(codes, rng, *, scale=1.0):
    return {"spread": scale * float(codes.mean.std())}
"""
    (tmp_path / "spread.py").write_text(source)
    info = tmp_path / "spread_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: spread-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[disentangle_bench.metrics]\nspread = spread\n")
    monkeypatch.syspath_prepend(tmp_path)
    x = np.random.default_rng(0).standard_normal((50, 2))
    installed = score(["spread", "mig"], x, (x > 0).astype(int))
    assert installed["spread"] == pytest.approx(x.std()) and "mig" in installed
    found = plugins.discover(())
    assert "spread" not in plan.metric_names([], found) and plan.metric_names(["spread"], found) == ("spread",)
    of_file = score(import_module("spread").spread, x, protocol="double")
    assert of_file == {"spread": pytest.approx(2 * x.std())}

    def reach(codes, rng):
        return {"reach": float(np.abs(codes.mean).max())}

    assert score([reach, "active_units"], x)["reach"] == np.abs(x).max()
    with pytest.raises(ValueError, match="unknown metric 'spraed'; did you mean 'spread'"):
        score("spraed", x)
    with pytest.raises(ValueError, match="unknown protocol 'doubel'; did you mean 'double'"):
        score(import_module("spread").spread, x, protocol="doubel")


def test_a_metric_needs_a_name():
    factors = factor_rows(300)
    with pytest.raises(ValueError, match="a function with a name"):
        score(partial(import_module("metrics.mig").mig, bins=4), factors.astype(float), factors)


def test_scores_of_arrays():
    factors = factor_rows(300)
    kind = factors[:, 0]
    found = score(
        ["mig", "discrete_accuracy"], factors[:, 1:], factors, classes=kind, factor_names=NAMES, class_factor=0
    )
    assert isinstance(found, Scores) and isinstance(found, dict)
    assert found["mig"] > 0.9 and found["discrete_accuracy"] == 1 and found["mig_kind"] > 0.9
    same = [kind, kind[:, None], [kind], one_hot(kind), [one_hot(kind)], kind.tolist()]
    assert (
        len(
            {score("discrete_accuracy", factors, factors, classes=c, class_factor=0)["discrete_accuracy"] for c in same}
        )
        == 1
    )
    split = score(
        "probe_accuracy",
        factors[:200, 1:],
        factors[:200],
        codes_test=factors[200:, 1:],
        factors_test=factors[200:],
        classes=kind[:200],
        classes_test=kind[200:],
        class_factor="f0",
    )
    assert split["probe_accuracy"] == 1


def test_a_single_factor_is_the_class_and_of_several_the_reason_names_the_argument():
    digit = np.arange(60) % 3
    codes, classes = np.zeros((60, 1)), (digit + 1) % 3
    assert score("discrete_accuracy", codes, digit, classes=classes)["discrete_accuracy"] == 1.0
    several = score("discrete_accuracy", codes, np.stack([digit, digit], 1), classes=classes)
    assert "class_factor=" in several.notes["discrete_accuracy"]


def test_arrays_that_are_refused():
    x, y = np.zeros((6, 2)), np.zeros((6, 1), dtype=np.int64)
    with pytest.raises(ValueError, match="test rows: mean: row 0 is not finite"):
        score("mig", x, y, codes_test=x + np.nan, factors_test=y)
    with pytest.raises(ValueError, match="codes_test needs factors_test"):
        score("mig", x, y, codes_test=x)
    with pytest.raises(ValueError, match="need codes_test"):
        score("mig", x, y, factors_test=y)
    with pytest.raises(ValueError, match="classes must be non-negative integers"):
        score("mig", x, y, classes=[np.full(6, -1)])
    with pytest.raises(ValueError, match="classes has 1 latents, classes_test has 0"):
        score("mig", x, y, codes_test=x, factors_test=y, classes=y[:, 0])
    with pytest.raises(ValueError, match="codes must be"):
        score("mig", x[0], y)
    with pytest.raises(ValueError, match="brings its own"):
        score("mig", perfect(), y)


def test_each_metric_has_its_own_draws():
    together = score(["sap", "betavae_score"], noisy(0.5), protocol="quick", seed=3)
    alone = score("betavae_score", noisy(0.5), protocol="quick", seed=3)
    assert alone.items() <= together.items()
    assert alone != score("betavae_score", noisy(0.5), protocol="quick", seed=4)
    assert metric_rng(0, "mig").integers(1000) == metric_rng(0, "mig").integers(1000)


def test_what_a_metric_may_return():
    def plain(codes, rng):
        return {"plain": 1, "plain_more": NotApplicable("why")}

    def silent(codes, rng):
        return {"silent": float("nan")}

    def other(codes, rng):
        return {"another": 1.0}

    found = run_metric(plain, perfect(), np.random.default_rng(0), {})
    assert found["plain"] == 1 and found.notes == {"plain_more": "why"}
    with pytest.raises(ValueError, match="returned nan for 'silent'"):
        run_metric(silent, perfect(), np.random.default_rng(0), {})
    with pytest.raises(ValueError, match="keys start with the metric's name"):
        run_metric(other, perfect(), np.random.default_rng(0), {})


# Ordinal latents: quantised codes.
QUANTISED = ("mig", "mig_sup", "dcimig", "jemmig", "rmig", "modularity", "infomec")
LEVELS = np.array([-9.0, 0.0, 0.001, 0.5, 70.0])  # of which equal-width bins see two or three


def quantised(factors, **changes):
    """Every factor in an ordinal latent of its own, as numbers far from evenly spaced."""
    return Codes(LEVELS[factors], factors, ("kind", "size", "place"), (3, 4, 5), ordinal=True, **changes)


@pytest.mark.parametrize("name", QUANTISED)
def test_a_perfect_quantised_code_is_perfect_wherever_its_values_lie(name):
    codes = quantised(factor_rows())
    found, evenly = run(name, codes), run(name, replace(codes, mean=codes.factors.astype(float)))
    best = [key for key in found if key in (name, f"{name}_informative", f"{name}_modularity", f"{name}_compactness")]
    assert best and all(found[key] > 0.97 for key in best)  # what chance leaves of 1,500 rows
    # a regression sees the numbers, everything else their order alone (modularity's explicitness)
    same = [key for key in found if "explicitness" not in key or name == "infomec"]
    assert all(found[key] == pytest.approx(evenly[key], abs=1e-6) for key in same)


@pytest.mark.parametrize("name", QUANTISED)
def test_random_quantised_codes_tell_nothing(name):
    codes = quantised(np.random.default_rng(3).permutation(factor_rows()))
    random = replace(codes, factors=factor_rows())
    found = run(name, random)
    key = {"modularity": "modularity_informative", "jemmig": "jemmig_joint", "infomec": "infomec_explicitness"}
    assert found[key.get(name, name)] < 0.02


def test_bins_of_equal_width_lose_what_values_keep():
    codes = quantised(factor_rows())
    assert run("mig", codes)["mig"] > 0.99 > run("mig", replace(codes, ordinal=False))["mig"] + 0.2


def test_an_ordinal_latent_may_have_more_values_than_bins():
    factors = np.random.default_rng(0).integers([32, 40], size=(10_000, 2))
    codes = Codes(factors**2.0, factors, ("a", "b"), (32, 40), ordinal=True)
    assert run("mig", codes)["mig"] > 0.97 > run("mig", replace(codes, ordinal=False))["mig"]


def test_a_perfect_code_of_ten_values_has_the_mig_that_the_documentation_says():
    sizes = np.array([3, 6, 40, 32, 32])
    factors = factor_grid(tuple(sizes))[np.random.default_rng(0).integers(sizes.prod(), size=10_000)]
    tens = np.where(sizes > 10, factors * 10 // sizes, factors)
    codes = Codes(tens.astype(float), factors, tuple("abcde"), tuple(sizes), ordinal=True)
    assert run("mig", codes)["mig"] == pytest.approx(0.786, abs=0.002)


def test_infomec_of_a_quantised_code_agrees_with_scikit_learns_information():
    rng, factors = np.random.default_rng(4), factor_rows()
    noisy = np.where(rng.random(factors.shape) < 0.3, rng.integers(3, size=factors.shape), factors)
    noisy[:, 0] = (noisy[:, 0] + factors[:, 1]) % 5
    noisy = np.hstack([noisy, np.full((len(noisy), 1), 2)])
    mean = LEVELS[noisy] * [1, 1, 1e-3, 1]  # a narrow latent counts, a constant one does not
    found = run("infomec", replace(quantised(factors), mean=mean))
    shares = np.array([[mutual_info_score(noisy[:, i], factors[:, j]) / mutual_info_score(factors[:, j], factors[:, j])
                        for j in range(3)] for i in range(3)])  # fmt: skip
    modularity = ((shares.max(1) / shares.sum(1)).mean() - 1 / 3) / (2 / 3)
    compactness = ((shares.max(0) / shares.sum(0)).mean() - 1 / 3) / (2 / 3)
    assert found["infomec_modularity"] == pytest.approx(modularity, abs=1e-9)
    assert found["infomec_compactness"] == pytest.approx(compactness, abs=1e-9)
    explained = []
    for truth in factors.T:
        x = OneHotEncoder().fit_transform(noisy)
        model = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100).fit(x, truth)
        explained.append(1 - log_loss(truth, model.predict_proba(x)) / np.log(len(model.classes_)))
    assert found["infomec_explicitness"] == pytest.approx(np.mean(explained), abs=1e-3)


@pytest.mark.parametrize("name", ["infomec", "rmig", "jemmig", "unsupervised"])
def test_a_class_beside_ordinal_latents_is_one_of_them(name):
    factors = factor_rows()
    apart = replace(quantised(factors), mean=LEVELS[factors[:, 1:]], probs=(one_hot(factors[:, 0]),))
    found, whole = run(name, apart), run(name, quantised(factors))
    same = [key for key in whole if "wasserstein" not in key and "total_correlation" not in key]
    assert all(found[key] == pytest.approx(whole[key], abs=1e-3) for key in same)


def test_an_ordinal_flag_beside_a_table_that_lacks_it_is_refused():
    with pytest.raises(ValueError, match="brings its own"):
        score("mig", replace(quantised(factor_rows()), ordinal=False), ordinal=True)
    with pytest.raises(ValueError, match="either both tables are ordinal"):
        replace(quantised(factor_rows()), test=replace(quantised(factor_rows()), ordinal=False))


def test_scores_of_arrays_that_are_quantised():
    factors = factor_rows()
    assert score("mig", LEVELS[factors], factors, ordinal=True)["mig"] == score("mig", quantised(factors))["mig"]


@pytest.mark.parametrize(("changes", "message"), [
    ({"logvar": np.zeros((1500, 3))}, "deterministic, but logvar"),
    ({"mean": np.random.default_rng(0).standard_normal((1500, 3))}, "z0 has 1500 values, and an ordinal latent 256"),
])  # fmt: skip
def test_ordinal_codes_that_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(quantised(factor_rows()), **changes)
