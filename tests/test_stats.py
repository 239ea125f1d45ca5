import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from benchmark.statistics import stats


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


@pytest.mark.parametrize(("better", "name"), [("higher", "pca"), ("lower", "constant"), ("neither", None)])
def test_the_best_mean_has_a_name(better, name):
    assert stats.best_named({"pca": 0.4, "noise": 0.1, "constant": 0.1, "ica": 0.4 - 1e-9}, better) == name
    assert stats.best_named({}, better) is None


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
def test_the_simulated_coverage_is_what_the_documentation_states(n, repeats):
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


def levels(constant=200.0, entropy=100.0, **same):
    """Floor and ceiling of the reconstruction: a run at 199 or worse is dead."""
    floor = table(model="constant", seed=0, metric="reconstruction", value=[constant], kind="floor", **same)
    return pd.concat([floor, table(model="factors", seed=0, metric="reconstruction", value=[entropy], kind="ceiling")])


def test_dead_runs_carry_nothing_and_dead_classes_are_one():
    scores = pd.concat(
        [
            levels(),
            table(model="a", seed=[0, 1, 2], metric="active_units", value=[0.0, 3.0, 3.0]),
            table(model="a", seed=[0, 1, 2], metric="kl_total", value=[0.5, 0.009, 9.0]),
            table(model="a", seed=[3, 4, 5], metric="reconstruction", value=[198.9, 199.0, 250.0]),
            table(model="a", seed=[3, 4, 5], metric="active_units", value=3.0),
            table(model="b", seed=[0, 1], metric="discrete_accuracy_used", value=[1.0, 2.0]),
            table(model="b", seed=[0, 1], metric="active_units", value=[1.0, 2.0]),
            table(model="c", seed=[0, 1], metric="active_units_categorical", value=[0.0, 1.0]),
            table(model="c", seed=[0, 1], metric="kl_categorical", value=[0.1, 0.1]),
            table(model="vae", seed=[0], metric="active_units_categorical", value=[0.0]),
            table(model="none", seed=[0], metric="mig", value=[0.9]),
            table(model="none", seed=[1], metric="kl_total", value=[np.nan]),
            table(model="pca", seed=[0], metric="active_units", value=[0.0], kind="floor"),
        ]
    )
    found = stats.states(scores).set_index(["model", "seed"])
    assert dict(found["state"]) == {
        ("a", 0): "dead", ("a", 1): "dead", ("a", 2): "live", ("a", 3): "live", ("a", 4): "dead", ("a", 5): "dead",
        ("b", 0): "live", ("b", 1): "live", ("c", 0): "unknown", ("c", 1): "unknown", ("vae", 0): "unknown",
        ("none", 0): "unknown", ("none", 1): "unknown",
    }  # fmt: skip
    assert dict(found["class_state"][found["class_state"] != ""]) == {
        ("b", 0): "dead", ("b", 1): "live", ("c", 0): "dead", ("c", 1): "live"
    }  # fmt: skip
    reasons = [
        "no latent is in use",
        "the KL is below 0.01 nats",
        "",
        "",
        *["it reconstructs no better than a constant image"] * 2,
    ]
    assert list(found.loc["a", "reason"]) == reasons and found.loc[("b", 0), "reason"] == "it uses one class"


def test_a_level_of_another_protocol_or_data_set_kills_nobody():
    run = table(model="a", seed=[0], metric="reconstruction", value=[300.0])
    for other in (levels(protocol="quick"), levels(dataset="mnist"), run):
        assert list(stats.states(pd.concat([run, other]))["state"]) == ["unknown"]
    assert list(stats.states(pd.concat([run, levels()]))["state"]) == ["dead"]


def test_the_rate_of_dead_runs_has_an_exact_interval():
    scores = table(model="a", seed=[0, 1, 2, 3, 4], metric="active_units", value=[0.0, 0.0, 0.0, 0.0, 3.0])
    row = stats.dead_rates(scores).iloc[0]
    assert (row["runs"], row["dead"], row["rate"]) == (5, 4, 0.8)
    assert (row["low"], row["high"]) == pytest.approx((0.2836, 0.9949), abs=1e-4)  # Clopper and Pearson's tables
    none = stats.dead_rates(scores.assign(value=3.0)).iloc[0]
    assert none["low"] == 0 and none["high"] == pytest.approx(1 - 0.025 ** (1 / 5))
    assert stats.unlearned(stats.dead_rates(scores)) == {("blobs", "a", "c"): "4 of 5 runs"}
    assert not stats.unlearned(stats.dead_rates(scores.assign(value=[0.0, 0.0, 3.0, 3.0, 3.0])))
    half = table(model="a", seed=[0, 1, 2, 3], metric="active_units", value=[0.0, 0.0, 3.0, 3.0])
    assert not stats.unlearned(stats.dead_rates(half))  # most is more than half


def test_classes_that_are_dead_leave_the_other_scores_alone():
    scores = pd.concat(
        [
            table(model="a", seed=[0, 1], metric="active_units", value=2.0),
            table(model="a", seed=[0, 1], metric="discrete_accuracy_used", value=1.0),
            table(model="a", seed=[0, 1], metric="discrete_accuracy", value=0.3),
        ]
    )
    rates = stats.dead_rates(scores)
    assert not stats.unlearned(rates, "mig")
    assert stats.unlearned(rates, "discrete_accuracy_nmi") == {("blobs", "a", "c"): "the class of 2 of 2 runs"}
    marked = stats.with_state(scores, scores)
    assert set(marked.loc[marked["dead"], "metric"]) == {"discrete_accuracy", "discrete_accuracy_used"}


def test_dead_runs_are_never_the_best_and_spread_has_their_rate_and_the_mean_of_the_live():
    units = table(model="a", seed=[0, 1, 2], metric="active_units", value=[0.0, 3.0, 3.0])
    scores = pd.concat([units, table(model="a", seed=[0, 1, 2], value=[9.0, 4.0, 5.0])])
    assert stats.summarise(scores, NO_FAILURES).query("metric == 'm'").iloc[0]["best"] == 5
    scores = pd.concat([scores, scores.assign(dataset="mnist", config="d")])
    found = stats.spread(scores, NO_FAILURES)
    row = found.query("metric == 'm' and dataset == 'blobs'").iloc[0]
    assert (row["n"], row["dead"], row["worst"], row["best"]) == (3, 1, 4, 5)
    assert row["mean"] == 6 and row["mean_of_live"] == 4.5
    rate = found.query("metric == 'dead_runs' and dataset == 'blobs'").iloc[0]
    assert (rate["n"], rate["dead"], rate["mean"]) == (3, 1, pytest.approx(1 / 3))
    assert (rate["mean_low"], rate["mean_high"]) == pytest.approx((0.0084, 0.9057), abs=1e-4)
    pooled = found.query("dataset == 'all' and metric == 'm'").iloc[0]
    assert pooled["n"] == 6 and pooled["iqm"] == stats.interquartile_mean([9, 4, 5, 9, 4, 5])
    swept = pd.concat([scores, scores[scores["dataset"] == "mnist"].assign(config="e")])
    assert "all" not in set(stats.spread(swept, NO_FAILURES)["dataset"])


def test_runs_are_pooled_over_data_sets_at_one_length():
    scores = pd.concat([table(model="a", seed=[0, 1], value=[1.0, 2.0], dataset=d, config=f"{d} {n}", steps=n)
                        for d, lengths in (("blobs", (10, 20)), ("mnist", (10, 20, 30))) for n in lengths])  # fmt: skip
    pooled = stats.spread(scores, NO_FAILURES).query("dataset == 'all'")
    assert pooled["steps"].tolist() == [10, 20] and set(pooled["n"]) == {4}


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
