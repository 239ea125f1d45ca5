"""Invariances of the metrics on drawn rewritings of a code, their fall with noise, and agreement with scikit-learn."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy
from scipy.stats import spearmanr
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import (
    adjusted_rand_score,
    completeness_score,
    homogeneity_score,
    mutual_info_score,
    normalized_mutual_info_score,
    roc_auc_score,
)
from test_metrics import (
    DRAWN,
    FALLS,
    ORDER_FREE,
    SCALE_FREE,
    SIGN_FREE,
    assert_same,
    factor_rows,
    noisy,
    perfect,
    run,
    table,
)
from test_metrics_reference import CASES, reference
from test_metrics_reference import table as stored

from metrics import available
from metrics._boosting import boosted_trees
from metrics._information import contingency, discretise, entropy, mutual_information, partition_scores
from metrics.dci import completeness, dci, disentanglement, importances
from metrics.modularity import roc_area
from metrics.sap import squared_correlations

few = settings(max_examples=3, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
many = settings(few, max_examples=30)
seeds = st.integers(0, 2**31 - 1)
finite = st.floats(-10, 10, allow_nan=False).map(lambda v: round(v, 3))
# Learners and starts that see the latents in another order choose otherwise between equals.
TIES = {"cluster_accuracy": 0.06, "dci": 0.06, **DRAWN}


def codes_of(seed, n=400):
    return noisy(0.3).select(np.random.default_rng(seed).permutation(1500)[:n])


@pytest.mark.parametrize("name", sorted(ORDER_FREE))
@few
@given(seed=seeds)
def test_order_of_rows(name, seed):
    codes = codes_of(seed)
    shuffled = codes.select(np.random.default_rng(seed).permutation(codes.n))
    assert_same(run(name, shuffled), run(name, codes))


@pytest.mark.parametrize("name", available())
@few
@given(order=st.permutations(range(3)), seed=seeds)
def test_order_of_latents(name, order, seed):
    codes = codes_of(seed)
    turned = replace(codes, mean=codes.mean[:, order], logvar=codes.logvar[:, order])
    assert_same(run(name, turned), run(name, codes), TIES.get(name, 0.01))


@pytest.mark.parametrize("name", available())
@few
@given(numbers=st.permutations(range(3)), seed=seeds)
def test_numbering_of_classes(name, numbers, seed):
    codes = codes_of(seed)
    renumbered = replace(codes, probs=tuple(p[:, numbers] for p in codes.probs))
    assert_same(run(name, renumbered), run(name, codes), TIES.get(name, 0.01))


@pytest.mark.parametrize("name", sorted(SIGN_FREE))
@few
@given(signs=st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3), seed=seeds)
def test_signs_of_latents(name, signs, seed):
    codes = codes_of(seed)
    assert_same(run(name, replace(codes, mean=codes.mean * signs)), run(name, codes), DRAWN.get(name, 0.03))


@pytest.mark.parametrize("name", sorted(SCALE_FREE))
@few
@given(factor=st.floats(0.01, 100), shift=finite, seed=seeds)
def test_scale_and_shift_of_the_code(name, factor, shift, seed):
    codes = codes_of(seed)
    assert_same(run(name, replace(codes, mean=codes.mean * factor + shift)), run(name, codes), 0.03)


@pytest.mark.parametrize("name", sorted(FALLS))
@few
@given(sd=st.floats(0.1, 0.5))
def test_falls_as_noise_grows(name, sd):
    assert run(name, noisy(sd))[FALLS[name]] > run(name, noisy(8 * sd))[FALLS[name]]


# scikit-learn, numpy and scipy


def columns(seed, n=200):
    """Two columns of labels that are alike in some rows."""
    rng = np.random.default_rng(seed)
    x, y = (rng.integers(rng.integers(1, 9), size=n) for _ in range(2))
    return x, np.where(rng.random(n) < rng.random(), x, y)


@many
@given(seed=seeds)
def test_information_is_that_of_scikit_learn(seed):
    x, y = columns(seed)
    information = mutual_information(contingency(x, y))
    assert information == pytest.approx(mutual_info_score(x, y), abs=1e-12)
    assert entropy(x) == pytest.approx(scipy_entropy(np.bincount(x)), abs=1e-12)
    if entropy(x) and entropy(y):
        assert information / entropy(y) == pytest.approx(homogeneity_score(y, x), abs=1e-9)
        assert information / entropy(x) == pytest.approx(completeness_score(y, x), abs=1e-9)


@many
@given(seed=seeds)
def test_partition_scores_are_those_of_scikit_learn(seed):
    x, y = columns(seed)
    found = partition_scores(contingency(x, y))
    assert found["_nmi"] == pytest.approx(normalized_mutual_info_score(x, y), abs=1e-9)
    assert found["_ari"] == pytest.approx(adjusted_rand_score(x, y), abs=1e-9)


@many
@given(seed=seeds, bins=st.integers(2, 30))
def test_bins_are_those_of_numpy(seed, bins):
    values = np.random.default_rng(seed).standard_normal((300, 1))
    found = np.bincount(discretise(values, bins)[:, 0], minlength=bins)
    assert np.array_equal(found, np.histogram(values, bins)[0])


@many
@given(seed=seeds)
def test_roc_area_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth, scores = rng.integers(2, size=(100, 3)).astype(bool), rng.integers(20, size=(100, 3)) / 20
    assert roc_area(truth, scores) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)


@many
@given(seed=seeds)
def test_squared_correlations_are_those_of_numpy(seed):
    rng, factors = np.random.default_rng(seed), factor_rows(300, seed)
    mean = rng.standard_normal((300, 2)) + factors[:, :2] * rng.random(2)
    found = squared_correlations(table(mean, (), factors), factors)
    expected = np.corrcoef(mean, factors, rowvar=False)[:2, 2:] ** 2
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("k", [2, 4])
@few
@given(seed=seeds)
def test_boosted_trees_are_those_of_scikit_learn(k, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((240, 4)).astype(np.float32)
    y = np.digitize(x[:, 0] + 0.5 * x[:, 1] + 0.3 * rng.standard_normal(240), np.linspace(-1, 1, k + 1)[1:-1])
    importance, on_train, on_test = boosted_trees(x[:160], y[:160], x[160:], seed)
    model = GradientBoostingClassifier(random_state=0).fit(x[:160], y[:160])
    np.testing.assert_allclose(importance, model.feature_importances_, atol=0.02)
    assert np.mean(on_train == model.predict(x[:160])) > 0.98 and np.mean(on_test == model.predict(x[160:])) > 0.94


# Learners of DCI

REGRESSIONS = [(case, learner) for case in CASES for learner in ("rf", "lasso")]
SMALL_FORESTS = {"norb_mixed", "perfect", "perfect_dead", "constant", "joint_code"}


@pytest.mark.parametrize(
    ("case", "learner"),
    [
        pytest.param(c, m, marks=pytest.mark.slow if m == "rf" and c not in SMALL_FORESTS else ())
        for c, m in REGRESSIONS
    ],
)
def test_regressions_of_the_original_paper(case, learner):
    tolerance, known = {"rf": 0.02, "lasso": 1e-6}[learner], reference(case, f"qedr_{learner}", "full")
    found = dci(stored(case, "full"), np.random.RandomState(123), learners=(learner,))
    if case == "constant":  # The reference has nan or an error where nothing varies.
        assert found[f"dci_{learner}_disentanglement"] == found[f"dci_{learner}_completeness"] == 0
        assert found[f"dci_{learner}_informativeness_nrmse"] == pytest.approx(1, abs=1e-3)
        return
    pairs = [("", "_test"), ("_train", "_train")]
    for ours, theirs in pairs:
        expected = known[f"informativeness_nrmse{theirs}"]
        assert found[f"dci_{learner}_informativeness_nrmse{ours}"] == pytest.approx(expected, abs=tolerance)
    for key in ("disentanglement", "completeness"):
        if known[key] != "nan":
            assert found[f"dci_{learner}_{key}"] == pytest.approx(known[key], abs=tolerance)


@pytest.mark.parametrize("case", [case for case in CASES if case != "constant"])
def test_lasso_weights(case):
    codes = stored(case, "full")
    found, _ = importances(codes, codes.test, list(range(len(codes.factor_names))), "lasso", np.random.RandomState(0))
    known = np.array(reference(case, "qedr_lasso", "full")["importance_matrix"])
    np.testing.assert_allclose(found, known, atol=1e-5)
    used = known[known.sum(axis=1) > 0]
    assert disentanglement(found) == pytest.approx(disentanglement(used), abs=1e-4)
    assert completeness(found) == pytest.approx(completeness(known), abs=1e-4)


def test_a_score_does_not_depend_on_the_other_learners():
    alone, both = (run("dci", perfect(), learners=learners) for learners in (("rf",), ("lasso", "rf")))
    assert alone.items() <= both.items()
    with pytest.raises(ValueError, match="unknown learner 'forest'; available: gbt, hist, rf, lasso"):
        run("dci", perfect(), learners=("forest",))


def mixed(seed):
    """A code from disentangled to fully mixed, with more or less noise and some dead latents."""
    rng = np.random.default_rng(seed)
    factors = factor_rows(1200, seed)
    z = (factors - factors.mean(axis=0)) / factors.std(axis=0)
    turned = np.linalg.qr(np.eye(3) + 2 * rng.random() * rng.standard_normal((3, 3)))[0]
    dead = 0.05 * rng.standard_normal((1200, rng.integers(3)))
    mean = np.hstack([z @ turned + rng.random() * rng.standard_normal(z.shape), dead])
    return table(mean, (), factors, class_factor=None)


@pytest.mark.slow
def test_histogram_trees_rank_codes_like_exact_ones():
    found = [run("dci", mixed(seed), learners=("gbt", "hist")) for seed in range(30)]
    for key in ("disentanglement", "completeness", "informativeness"):
        exact, approximate = ([scores[f"{name}_{key}"] for scores in found] for name in ("dci", "dci_hist"))
        assert spearmanr(exact, approximate).statistic > 0.97
        np.testing.assert_allclose(approximate, exact, atol=0.05)
