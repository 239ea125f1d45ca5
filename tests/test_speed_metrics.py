"""The plain forms that metrics are timed against: one for each metric, and equal to it in value. Nothing is timed."""

import pytest
from sklearn.exceptions import ConvergenceWarning

from benchmark.timing import plain_metrics
from benchmark.timing.speed_metrics import codes_for, grid_codes, main, ours, plain
from metrics import available

SMALL = (3, 4, 5, 12)
# Boosted trees part where two splits are as good; votes and k-means draw otherwise; fits stop at their tolerances;
# neighbours are told apart by a random jitter; some sums are in single precision.
TOLERANCE = {
    "attributes": 1e-6,
    "betavae_score": 0.02,
    "cluster_accuracy": 0.05,
    "dci": 4e-3,
    "downstream": 0.02,
    "factorvae_score": 0.02,
    "infomec": 1e-5,
    "irs": 1e-6,
    "kl": 1e-6,
    "modularity": 1e-5,
    "probe_accuracy": 0.01,
    "sap": 2e-3,
}


def test_every_metric_has_a_plain_form():
    missing = [name for name in available() if not callable(getattr(plain_metrics, name, None))]
    assert not missing, (
        f"write the plain forms of {missing} into benchmark/timing/plain_metrics.py, under the metrics' names"
    )


@pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}")
@pytest.mark.parametrize("name", available())
def test_plain_forms_agree_with_the_metrics(name):
    codes = codes_for(name, grid_codes(SMALL), 400)
    settings = {"sizes": (10, 100)} if name == "downstream" else {}
    expected, found = plain(name, codes), ours(name, codes, **settings)
    assert expected and expected.keys() <= found.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=TOLERANCE.get(name, 1e-9)), key


def test_the_table_is_printed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["speed_metrics", "--metrics", "mig", "kl", "--points", "300", "--repeats", "1"])
    main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["metric", "mig", "kl"]
