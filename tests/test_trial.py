"""A user's metrics are tried before any work: what is told, and what is not refused."""

import pytest
from test_command import here  # noqa: F401

METRIC = 'def mine(codes, rng):\n    return {"mine": 1.0}\n'
BY_LENGTH = """
def mine(codes, rng, k=0):
    return {"mine": lost if k else 1.0}

PROTOCOLS = {"study": {"k": 1}, "quick": {}}
"""
TAKES_ALL = """
def mine(codes, rng, **settings):
    return {"mine": float(settings["bins"])}

PROTOCOLS = {"study": {"bins": 2}}
"""
WRAPPED = """
from functools import wraps

def with_three(metric):
    @wraps(metric)
    def call(codes, rng):
        return metric(codes, rng, 3)
    return call

@with_three
def mine(codes, rng, bins):
    return {"mine": float(bins)}
"""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (METRIC.replace("1.0", '"1"'), "mine is a str, needed a number or NotApplicable(reason) (mine.py:2)"),
        (METRIC.replace("1.0", "codes.maen"), "mine.py, line 2: AttributeError: 'Codes' object has no attribute"),
        (METRIC.replace("1.0", "lost"), "mine.py, line 2: NameError: name 'lost' is not defined"),
        (METRIC.replace(", rng", ""), "cannot call mine(codes, rng): too many positional arguments (mine.py:1)"),
        (METRIC + 'PROTOCOLS = {"study": {"bin": 2}}', "cannot call mine(codes, rng, bin=…): got an unexpected"),
        (METRIC + "PROTOCOLS = None", "PROTOCOLS is None, needed a dict of dicts (mine.py:3)"),
        (METRIC + "DESCRIPTIVE = None", "DESCRIPTIVE is None, needed a set of keys that start with 'mine' (mine.py:3)"),
        (BY_LENGTH, "mine.py, line 3: NameError: name 'lost' is not defined"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_users_metric_is_found_before_any_work(here, tmp_path, code, message):  # noqa: F811
    (tmp_path / "mine.py").write_text(code)
    own = ["--plugin", tmp_path / "mine.py", "--metrics", "mine", "--protocol", "study"]
    status, out, err = here("--models", "vae", "--datasets", "blobs", *own, "--results", tmp_path / "r")
    assert status == 2 and not out and "metric 'mine': " in err and message in err, err
    assert len(err.strip().splitlines()) == 1 and not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (METRIC.replace("1.0", "codes.test.n"), "fails on made-up codes, and may on those of runs: mine.py, line 2: "),
        (METRIC.replace("1.0", "[x := 1.0 for _ in range(codes.grid)] and x or x"), "fails on made-up codes, and may"),
        (METRIC.replace("1.0", 'float("nan")'), "gave nan for 'mine' on made-up codes; a run would fail: give NotAppl"),
        (TAKES_ALL, ""),
        (WRAPPED, ""),
    ],
)  # fmt: skip
def test_what_only_made_up_codes_may_lack_is_a_warning(here, tmp_path, code, message):  # noqa: F811
    (tmp_path / "mine.py").write_text(code)
    own = ["--plugin", tmp_path / "mine.py", "--metrics", "mine", "--dry-run"]
    status, out, err = here("--models", "vae", "--datasets", "blobs", *own)
    assert status == 0 and message in out and ("made-up" in out) == bool(message), f"{out}{err}"
