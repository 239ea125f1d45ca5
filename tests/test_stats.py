import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from benchmark import stats


def test_t_interval_agrees_with_scipy():
    x = np.random.default_rng(0).normal(3, 2, 7)
    expected = scipy_stats.t.interval(0.95, len(x) - 1, loc=x.mean(), scale=scipy_stats.sem(x))
    assert stats.t_interval(x) == pytest.approx(expected)


def test_t_interval_of_a_textbook_example():
    # Student (1908), table of Cushny and Peebles: additional hours of sleep, mean 1.58, 95 % interval 0.70 to 2.46
    x = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    assert stats.t_interval(x) == pytest.approx((0.70, 2.46), abs=0.005)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_a_95_percent_interval_covers_the_mean_95_times_in_100(n):
    samples = np.random.default_rng(0).normal(size=(4000, n))
    hits = np.mean([low < 0 < high for low, high in map(stats.t_interval, samples)])
    assert 0.94 < hits < 0.96


def test_one_value_has_no_interval():
    assert np.isnan(stats.t_interval([0.3])).all()


def test_interquartile_mean():
    assert stats.interquartile_mean([100, 1, 2, -50]) == 1.5
    assert stats.interquartile_mean([5]) == 5


def table(**columns):
    base = {"dataset": "blobs", "config": "c", "kind": "run", "metric": "m", "protocol": "study", "steps": 10,
            "draw": 0, "better": "higher"}  # fmt: skip
    return pd.DataFrame({**base, **columns})


NO_FAILURES = pd.DataFrame(columns=["dataset", "model", "config", "seed", "steps"])


def test_summary_over_seeds():
    scores = table(model="a", seed=[0, 1, 2, 3], value=[1.0, 2.0, 3.0, np.nan])
    row = stats.summarise(scores, NO_FAILURES).iloc[0]
    assert (row["n"], row["mean"], row["median"], row["best"], row["failed"]) == (3, 2, 2, 3, 0)
    assert row["std"] == pytest.approx(1.0)


def test_draws_are_averaged_before_seeds_so_they_do_not_narrow_the_interval():
    one = table(model="a", seed=[0, 1], value=[1.0, 2.0])
    many = table(model="a", seed=[0, 0, 1, 1], draw=[0, 1, 0, 1], value=[0.5, 1.5, 1.5, 2.5])
    first, second = (stats.summarise(scores, NO_FAILURES).iloc[0] for scores in (one, many))
    assert first["ci_low"] == pytest.approx(second["ci_low"]) and second["n"] == 2


def test_configurations_and_protocols_are_never_averaged():
    scores = table(model="a", seed=0, value=[1.0, 2.0, 3.0], config=["x", "y", "y"], protocol=["study", "study", "kim"])
    assert len(stats.summarise(scores, NO_FAILURES)) == 3


def test_best_is_the_least_where_lower_is_better_and_failures_are_counted():
    scores = table(model="a", seed=[0, 1], value=[1.0, 2.0], better="lower")
    failed = pd.DataFrame({"dataset": "blobs", "model": ["a", "a", "b"], "config": "c", "seed": [0, 2, 0], "steps": 10})
    summary = stats.summarise(scores, failed).set_index("model")
    assert summary.loc["a", "best"] == 1 and summary.loc["a", "failed"] == 1  # seed 0 has this score
    assert summary.loc["b", "metric"] == "none" and summary.loc["b", "n"] == 0 and summary.loc["b", "failed"] == 1


@pytest.mark.parametrize(("n", "repeats"), [(5, 800), (10, 800), (50, 400)])
def test_the_simulated_coverage_is_what_the_docstrings_state(n, repeats):
    samples = np.random.default_rng(n).normal(size=(repeats, n))
    hits = np.mean([low < 0 < high for low, high in map(stats.iqm_interval, samples)])
    assert 0.92 < hits < 0.97
    low, high, stated = (np.array(column) for column in zip(*map(stats.median_interval, samples), strict=True))
    assert np.mean((low < 0) & (high > 0)) == pytest.approx(stated[0], abs=0.025)


def test_a_bootstrap_of_the_pooled_iqm_is_too_short_for_five_seeds():
    samples = np.random.default_rng(0).normal(size=(300, 2, 5))
    hits = np.mean([low < 0 < high for _, low, high in (stats.pooled_iqm(pair, draws=500) for pair in samples)])
    assert 0.86 < hits < 0.94


def test_the_median_lies_between_order_statistics():
    x = np.random.default_rng(0).normal(size=10)
    low, high, coverage = stats.median_interval(x)
    assert (low, high) == (np.sort(x)[1], np.sort(x)[8]) and coverage == pytest.approx(0.978515625)
    expected = scipy_stats.quantile_test(x, p=0.5).confidence_interval(0.95)
    assert (low, high) == (expected.low, expected.high)
    assert stats.median_interval([2.0, 1.0]) == (1, 2, 0.5)


def test_robust_intervals_of_equal_values_have_no_width():
    assert stats.iqm_interval([2, 2, 2, 2, 2]) == (2, 2)
    assert stats.pooled_iqm([[2, 2], [2, 2]]) == (2, 2, 2)


def test_collapsed_runs_are_those_that_carry_nothing_or_use_one_class():
    scores = pd.concat(
        [
            table(model="a", seed=[0, 1, 2], metric="active_units", value=[0.0, 3.0, 3.0]),
            table(model="a", seed=[0, 1, 2], metric="kl_total", value=[0.5, 0.001, 9.0]),
            table(model="b", seed=[0, 1], metric="discrete_accuracy_used", value=[1.0, 2.0]),
            table(model="c", seed=[0, 1], metric="active_units_categorical", value=[0.0, 1.0]),
            table(model="c", seed=[0, 1], metric="kl_categorical", value=[0.1, 0.1]),
            table(model="vae", seed=[0], metric="active_units_categorical", value=[0.0]),
            table(model="pca", seed=[0], metric="active_units", value=[0.0], kind="floor"),
        ]
    )
    found = stats.collapses(scores)
    assert list(zip(found["model"], found["seed"], strict=True)) == [("a", 0), ("a", 1), ("b", 0), ("c", 0)]
    assert list(found["reason"]) == ["the latents carry nothing"] * 2 + ["the categorical latent uses one class"] * 2


def test_spread_shows_scores_with_and_without_collapsed_runs_and_pools_data_sets():
    units = table(model="a", seed=[0, 1, 2], metric="active_units", value=[0.0, 3.0, 3.0])
    scores = pd.concat([units, table(model="a", seed=[0, 1, 2], value=[1.0, 4.0, 5.0])])
    scores = pd.concat([scores, scores.assign(dataset="mnist", config="d")])
    rows = stats.spread(scores, NO_FAILURES).query("metric == 'm'").set_index("dataset")
    row = rows.loc["blobs"]
    assert (row["n"], row["collapsed"], row["worst"], row["best"]) == (3, 1, 1, 5)
    assert row["mean"] == pytest.approx(10 / 3) and row["mean_without_collapsed"] == 4.5
    assert rows.loc["all", "n"] == 6 and rows.loc["all", "iqm"] == stats.interquartile_mean([1, 4, 5, 1, 4, 5])
    swept = pd.concat([scores, scores[scores["dataset"] == "mnist"].assign(config="e")])
    assert "all" not in set(stats.spread(swept, NO_FAILURES)["dataset"])


def test_variance_components_by_hand_and_by_simulation():
    # mean squares: 16 between, 2 within, so (16 - 2) / 2 = 7 for the seeds
    scores = table(model="a", seed=[0, 0, 1, 1], draw=[0, 1, 0, 1], value=[1.0, 3.0, 5.0, 7.0])
    row = stats.variance_components(scores).iloc[0]
    assert (row["seed_variance"], row["draw_variance"], row["seed_share"]) == pytest.approx((7, 2, 7 / 9))
    rng = np.random.default_rng(0)
    seeds = np.repeat(np.arange(300), 4)
    value = rng.normal(0, 2, 300)[seeds] + rng.normal(0, 1, 1200)
    many = table(model="a", seed=seeds, draw=np.tile(range(4), 300), value=value).drop(index=[0, 1, 7])
    row = stats.variance_components(many).iloc[0]
    assert row["seed_variance"] == pytest.approx(4, rel=0.2) and row["draw_variance"] == pytest.approx(1, rel=0.1)
    assert stats.variance_components(table(model="a", seed=[0, 1], value=[1.0, 2.0])).empty
