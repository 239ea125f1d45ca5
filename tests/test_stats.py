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
