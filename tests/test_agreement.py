import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from test_differences import long

from benchmark.statistics import agreement
from metrics import Codes

RNG = np.random.default_rng(0)
FACTORS = np.arange(400)[:, None] % 4
HOT = np.eye(4)


def codes(z, classes=None, logvar=None):
    probs = () if classes is None else (HOT[classes],)
    return Codes(z, FACTORS, ("a",), (4,), logvar=logvar, probs=probs)


def value(one, other, kind="latents"):
    rows = [row for row in agreement.seed_agreement({0: one, 1: other}) if str(row["a"]).startswith(kind)]
    return rows[0]["value"], rows[0]["note"]


def test_the_same_latents_up_to_order_and_sign_agree_fully():
    z = RNG.normal(size=(400, 3))
    assert value(codes(z), codes(-2 * z[:, [2, 0, 1]] + 1))[0] == pytest.approx(1)


def test_latents_that_the_other_run_lacks_count_as_nothing():
    z = RNG.normal(size=(400, 4))
    assert value(codes(z), codes(z[:, :2]))[0] == pytest.approx(0.5)
    assert value(codes(z[:, :2]), codes(RNG.normal(size=(400, 2))))[0] < 0.15
    # the second latent has no KL, so it is not in use
    idle = codes(z[:, :2] * [1, 1e-3], logvar=np.zeros((400, 2)))
    assert value(idle, codes(z[:, :1]))[0] == pytest.approx(1)


def test_classes_agree_up_to_renumbering_and_collapsed_runs_have_a_note():
    z, classes = RNG.normal(size=(400, 1)), FACTORS[:, 0]
    assert value(codes(z, classes), codes(z, (classes + 1) % 4), "classes")[0] == 1
    half = np.where(np.arange(400) < 200, classes, (classes + 1) % 4)
    assert value(codes(z, classes), codes(z, half), "classes")[0] == 0.5
    found, note = value(codes(z, classes), codes(z, 0 * classes), "classes")
    assert np.isnan(found) and note == "a run uses one class"
    found, note = value(codes(0 * z, classes), codes(z, classes))
    assert np.isnan(found) and "no continuous latent" in note


def test_runs_of_other_images_are_not_compared():
    z = RNG.normal(size=(400, 1))
    assert agreement.seed_agreement({0: codes(z), 1: codes(z).select(slice(200))}) == []


def test_spearman_agrees_with_scipy_and_covers():
    a, b = RNG.normal(size=(2, 20))
    assert agreement.spearman(a, b)[0] == pytest.approx(scipy_stats.spearmanr(a, b).statistic)
    assert np.isnan(agreement.spearman(a, 0 * b)).all() and np.isnan(agreement.spearman(a[:2], b[:2])).all()
    assert agreement.spearman(a, a)[0] == 1
    hits = []
    for _ in range(300):
        x = RNG.normal(size=15)
        y = 0.6 * x + 0.8 * RNG.normal(size=15)
        low, high = agreement.spearman(x, y)[1:]
        hits.append(low < 6 / np.pi * np.arcsin(0.3) < high)  # the rank correlation of a normal pair with 0.6
    assert 0.91 < np.mean(hits) < 0.985


def scores(**keys):
    return pd.concat([long(model="a", seed=range(len(v)), metric=key, value=v) for key, v in keys.items()])


def test_metrics_agree_on_what_is_better():
    table = scores(mig=[1.0, 2, 3, 4, 5], sap=[2.0, 3, 4, 5, 6], loss=[5.0, 4, 3, 2, 1], size=[1.0, 2, 3, 4, 5])
    table.loc[table["metric"] == "loss", "better"] = "lower"
    table.loc[table["metric"] == "size", "better"] = "neither"
    found = agreement.metric_agreement(table, ["mig", "sap", "loss", "size"])
    assert list(found) == agreement.AGREEMENT and found["value"].tolist() == pytest.approx([1, 1, 1])
    assert set(found["n"]) == {5}


def test_regret_of_choosing_without_labels():
    table = scores(udr=[0.1, 0.9, 0.5], mig=[0.2, 0.3, 0.6], reconstruction=[9.0, 8.0, 7.0])
    table.loc[table["metric"] == "reconstruction", "better"] = "lower"
    found = agreement.selection(table, ["mig", "udr", "reconstruction"]).set_index("criterion")
    assert found.loc["udr", "regret"] == pytest.approx(0.3) and found.loc["udr", "chosen"] == "c seed 1"
    assert found.loc["udr", "random_regret"] == pytest.approx(0.6 - 1.1 / 3)
    assert found.loc["reconstruction", "regret"] == 0 and list(found["metric"]) == ["mig", "mig"]
