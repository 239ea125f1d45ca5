"""Comparisons of models: against scipy, published examples and simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from benchmark.statistics import differences

# Student (1908): extra hours of sleep by two drugs, ten patients
SLEEP = ([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0], [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
# Fisher (1935), section 21: Darwin's maize, crossed less self-fertilised, in eighths of an inch
MAIZE = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]


def test_welch_of_students_sleep_data():
    low, high, p = differences.welch(*SLEEP)
    assert (low, high, p) == pytest.approx((-3.3654832, 0.2054832, 0.07939414), abs=1e-7)  # R's t.test


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 5), (5, 9), (40, 30)])
def test_welch_agrees_with_scipy(n, m):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0, 1, n), rng.normal(0.5, 3, m)
    expected = scipy_stats.ttest_ind(a, b, equal_var=False)
    interval = expected.confidence_interval()
    assert differences.welch(a, b) == pytest.approx((interval.low, interval.high, expected.pvalue))


def test_constant_scores_and_single_runs():
    assert differences.welch([1, 1], [1, 1]) == (0, 0, 1)
    assert differences.welch([1, 1, 1], [2, 2, 2]) == (-1, -1, 0)
    assert np.isnan(differences.welch([1], [1, 2])).all() and np.isnan(differences.permutation_test([1.0], [1.0, 2.0]))
    assert differences.permutation_test([1, 1, 1], [1, 1, 1]) == 1
    assert differences.permutation_test([1, 1, 1, 1], [2, 2, 2, 2]) == pytest.approx(2 / 70)
    assert np.isnan(differences.hedges_g([1, 1], [2, 2])).all()


@pytest.mark.parametrize(("n", "m"), [(3, 3), (5, 5), (4, 7)])
def test_permutation_test_agrees_with_scipys_enumeration(n, m):
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = rng.normal(0.8, 1, n), rng.normal(0, 2, m)

        def t(x, y, axis):
            error = np.sqrt(x.var(axis=axis, ddof=1) / x.shape[axis] + y.var(axis=axis, ddof=1) / y.shape[axis])
            return np.abs(x.mean(axis=axis) - y.mean(axis=axis)) / error

        expected = scipy_stats.permutation_test((a, b), t, n_resamples=np.inf, alternative="greater", vectorized=True)
        assert differences.permutation_test(a, b) == pytest.approx(expected.pvalue)


def test_permutation_test_by_random_splits_is_near_the_enumeration():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.9, 1, 9), rng.normal(0, 1, 9)
    assert differences.permutation_test(a, b) == pytest.approx(differences.welch(a, b)[2], abs=0.02)
    assert differences.permutation_test(a, b) == differences.permutation_test(a, b)
    assert differences.permutation_test(a, a + 100) == pytest.approx(1e-4, abs=2e-4)


def test_sign_flips_of_darwins_maize():
    assert differences.sign_flip_test(MAIZE) == pytest.approx(2 * 863 / 2**15)  # Fisher counted 863
    assert differences.sign_flip_test([1, 2, 3, 4, 5]) == 2 / 32


def test_holm_of_published_examples():
    # R's p.adjust; the documentation of pingouin
    assert differences.holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert differences.holm([0.5, 0.003, 0.32, 0.054, 0.0003]) == pytest.approx([0.64, 0.012, 0.64, 0.162, 0.0015])
    assert differences.holm([0.02, np.nan, 0.04]) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)


def test_hedges_g_and_its_interval():
    # the interval holds the effects whose noncentral t has the observed one between its 2.5 and 97.5 % points
    rng = np.random.default_rng(0)
    for shift in (-3, -0.2, 0, 1, 6):
        a, b = rng.normal(shift, 1, 6), rng.normal(0, 1, 5)
        g, low, high = differences.hedges_g(a, b)
        t = scipy_stats.ttest_ind(a, b).statistic
        correct = g / (t * np.sqrt(1 / 6 + 1 / 5))
        assert correct == pytest.approx(1 - 3 / (4 * 9 - 1), abs=1e-3)  # Hedges' approximation
        for end, tail in ((low, 0.975), (high, 0.025)):
            shifted = end / correct / np.sqrt(1 / 6 + 1 / 5)
            assert scipy_stats.nct.cdf(t, 9, shifted) == pytest.approx(tail, abs=1e-4)


def test_seeds_needed_are_those_of_the_tables():
    # Cohen (1988), table 2.4: two-sided 5 %, power 0.80
    assert [differences.seeds_needed(d) for d in (0.2, 0.5, 0.8)] == [394, 64, 26]
    assert differences.seeds_needed(0) == np.inf and np.isnan(differences.seeds_needed(np.nan))
    assert differences.seeds_needed(100) == differences.least_seeds(0.05) == 4
    assert differences.seeds_needed(100, alpha=0.005) == 6


@pytest.mark.parametrize("effect", [2.5, 1.5])
def test_so_many_seeds_do_have_the_power(effect):
    rng = np.random.default_rng(0)
    n = int(differences.seeds_needed(effect))
    p = differences.permutation_test(rng.normal(effect, 1, (1000, n)), rng.normal(0, 1, (1000, n)), draws=1999)
    assert 0.77 < np.mean(p <= 0.05) < 0.95


@pytest.mark.parametrize(("n", "repeats"), [(5, 2000), (10, 1000), (50, 400)])
def test_coverage_and_false_positives(n, repeats):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(repeats, n)), rng.normal(size=(repeats, n))
    found = np.array([differences.welch(x, y) for x, y in zip(a, b, strict=True)])
    assert 0.93 < np.mean((found[:, 0] < 0) & (found[:, 1] > 0)) < 0.97
    assert 0.02 < np.mean(differences.permutation_test(a, b, draws=999) <= 0.05) < 0.07
    g = np.array([differences.hedges_g(x + 1, y) for x, y in zip(a[:1000], b[:1000], strict=True)])
    assert 0.93 < np.mean((g[:, 1] < 1) & (g[:, 2] > 1)) < 0.975


def test_a_family_has_a_false_positive_in_5_of_100_at_most():
    rng = np.random.default_rng(0)
    models = rng.normal(size=(3, 1500, 5))
    p = np.stack([differences.permutation_test(models[i], models[j]) for i, j in ((0, 1), (0, 2), (1, 2))], axis=1)
    assert np.mean([differences.holm(row).min() <= 0.05 for row in p]) < 0.06


def long_table(seeds):
    """Scores by model, one for each seed."""
    return pd.concat([long(model=m, seed=range(len(v)), value=v) for m, v in seeds.items()], ignore_index=True)


def long(**columns):
    base = {"dataset": "blobs", "config": "c", "kind": "run", "metric": "m", "protocol": "study", "steps": 10,
            "draw": 0, "better": "higher", "over_runs": False}  # fmt: skip
    return pd.DataFrame({**base, **columns})


NO_FAILURES = pd.DataFrame(columns=["dataset", "model", "config", "seed", "steps"])


def models(n=6, **means):
    rng = np.random.default_rng(0)
    parts = [long(model=name, seed=range(n), value=rng.normal(mean, 1, n)) for name, mean in means.items()]
    return pd.concat(parts, ignore_index=True)


def test_comparisons_of_three_models():
    table = differences.comparisons(models(a=0, b=0, c=9), NO_FAILURES)
    assert list(table) == differences.COMPARISONS
    table = table.set_index(["model_a", "model_b"])
    assert table.loc[("a", "c"), "verdict"] == table.loc[("b", "c"), "verdict"] == "b"
    assert table.loc[("a", "b"), "verdict"] == "not shown" and set(table["family"]) == {3}
    assert (table["p_holm"] >= table["p"]).all() and (table["design"] == "independent").all()
    assert table.loc[("a", "c"), "a_above_b"] == 0 and table.loc[("a", "c"), "hedges_g"] < -3
    row = table.loc[("a", "b")]
    assert row["seeds_low"] <= row["seeds_needed"] and np.isnan(row["seeds_high"])
    assert row["difference"] == pytest.approx(row["mean_a"] - row["mean_b"])


def test_an_interval_that_holds_0_shows_nothing_though_the_test_passes():
    """The MIG of five β-VAEs and two VAEs after 100,000 steps on dSprites."""
    values = {"betavae": [0.386, 0.115, 0.088, 0.096, 0.066], "vae": [0.065, 0.020]}
    scores = pd.concat([models(n=len(x), **{name: 0}).assign(value=x) for name, x in values.items()])
    row = differences.comparisons(scores, NO_FAILURES).iloc[0]
    assert row["p_holm"] <= 0.05 and row["ci_low"] < 0 < row["ci_high"] and row["verdict"] == "not shown"


def test_less_is_better_turns_the_verdict_and_descriptive_scores_have_none():
    scores = models(a=0, b=9)
    for better, verdict in (("lower", "a"), ("higher", "b"), ("neither", "differ")):
        assert differences.comparisons(scores.assign(better=better), NO_FAILURES)["verdict"].tolist() == [verdict]


def test_other_protocols_steps_and_floors_are_never_compared():
    scores = models(a=0, b=0)
    for column, value in (("protocol", "kim"), ("steps", 20), ("dataset", "mnist"), ("kind", "floor")):
        other = scores.assign(**{column: scores[column].where(scores["model"] == "a", value)})
        assert differences.comparisons(other, NO_FAILURES).empty, column


def test_seeds_pair_a_sweep_of_one_model_but_never_two_models():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 10, 8)
    one, two = (long(model="a", config=c, seed=range(8), value=shared + s + rng.normal(0, 0.1, 8)) for c, s in
                (("x", 0), ("y", 1)))  # fmt: skip
    row = differences.comparisons(pd.concat([one, two]), NO_FAILURES).iloc[0]
    assert row["design"] == "paired" and row["verdict"] == "b" and row["ci_high"] < -0.8
    row = differences.comparisons(pd.concat([one, two.assign(model="b")]), NO_FAILURES).iloc[0]
    assert row["design"] == "independent" and row["verdict"] == "not shown"
    for n, design in ((5, "independent"), (6, "paired")):
        few = pd.concat([one, two]).query(f"seed < {n}")
        assert set(differences.comparisons(few, NO_FAILURES)["design"]) == {design}
    third = pd.concat([one, two, two.assign(config="z")]).query("seed < 6")  # 2/64 cannot pass among three pairs
    assert set(differences.comparisons(third, NO_FAILURES)["design"]) == {"independent"}


def test_one_seed_shows_nothing_and_failures_are_counted():
    failed = pd.DataFrame({"dataset": "blobs", "model": "a", "config": "c", "seed": [7, 8], "steps": 10})
    row = differences.comparisons(models(n=1, a=0, b=9), failed).iloc[0]
    assert row["verdict"] == "not shown" and np.isnan(row["p"]) and row["failed_a"] == 2 and row["failed_b"] == 0


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-6, 0.0])
def test_samples_that_lie_apart_have_the_smallest_p_there_is(spread):
    rng = np.random.default_rng(0)
    for _ in range(50):
        a, b = 0.9 + spread * rng.standard_normal(5), 0.1 + spread * rng.standard_normal(5)
        assert differences.permutation_test(a, b) == pytest.approx(2 / 252)


def test_hedges_g_far_out_ends_and_meets_the_exact_inverse():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(5), rng.standard_normal(5)
    a, b = (a - a.mean()) / a.std(), (b - b.mean()) / b.std()
    near, far = (np.array(differences.hedges_g(a + d, b)) / d for d in (550.0, 650.0))  # t below and above 1000
    assert np.allclose(near, far, rtol=2e-3)
    assert np.isfinite(differences.hedges_g(a + 1e8, b)).all()


def test_a_family_counts_the_pairs_that_can_be_tested():
    """Two models with four seeds and one with a single seed: two of the three pairs have no p-value."""
    seeds = {"a": [1.0, 1.1, 1.2, 1.3], "b": [2.0, 2.1, 2.2, 2.3], "c": [1.5]}
    table = differences.comparisons(long_table(seeds), NO_FAILURES)
    assert sorted(table["p"].isna()) == [False, True, True] and set(table["family"]) == {1}
    tested = table.dropna(subset=["p"]).iloc[0]
    assert tested["p_holm"] == tested["p"] == pytest.approx(2 / 70) and tested["verdict"] in ("a", "b")


def test_nothing_is_concluded_of_a_model_most_of_whose_runs_are_dead():
    seeds = {"a": [1.0, 1.1, 1.2, 1.3], "b": [2.0, 2.1, 2.2, 2.3], "c": [9.0, 9.1, 9.2, 9.3]}
    scores = long_table(seeds)
    units = scores.assign(metric="active_units", better="neither", value=1.0)
    units.loc[(units["model"] == "c") & (units["seed"] > 0), "value"] = 0.0
    table = differences.comparisons(pd.concat([scores, units]), NO_FAILURES)
    table = table[table["metric"] == scores["metric"].iloc[0]].set_index(["model_a", "model_b"])
    assert table.loc[("a", "b"), "verdict"] == "b" and table.loc[("a", "b"), "family"] == 1
    for pair in (("a", "c"), ("b", "c")):
        assert table.loc[pair, "verdict"] == "not learned" and np.isnan(table.loc[pair, "p_holm"])
