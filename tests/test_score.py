"""What `metrics.score` takes and refuses, and what a metric of one's own may return."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch

from metrics import score

LABELS = np.array(["a", "b", "c"] * 20)
DIGIT = np.unique(LABELS, return_inverse=True)[1]
MASKED = np.ma.masked_equal(DIGIT, 2)
TWO = np.stack([DIGIT, DIGIT], 1)
TESTED = dict(codes_test=DIGIT[:, None], factors_test=DIGIT)
MISTAKES = {
    "factors of text": (dict(factors=LABELS), r"factors must be \(60, f\) integers, not \(60,\) <U1; number labels"),
    "test factors of text": (dict(TESTED, factors_test=LABELS), "factors_test must be .* those of test rows alike"),
    "factors of fractions": (dict(factors=DIGIT / 2), r"factors must be \(60, f\) integers, not \(60,\) float64$"),
    "factors in a cube": (dict(factors=TWO[None]), r"factors must be \(60, f\) integers, not \(1, 60, 2\)"),
    "ragged factors": (dict(factors=[[1], [1, 2]]), "factors is no array: .*inhomogeneous"),
    "fewer test factors": (dict(TESTED, factors=TWO), "factors_test has 1 columns, factors 2"),
    "masked factors": (dict(factors=MASKED), "factors has masked values; leave out their rows"),
    "masked values in a list": (dict(factors=list(MASKED)), "factors has masked values"),
    "masked codes": (dict(codes=MASKED[:, None]), "codes has masked values"),
    "masked classes": (dict(classes=[MASKED]), "classes has masked values"),
    "masked attributes": (dict(attributes=MASKED[:, None]), "attributes has masked values"),
    "attributes of text": (dict(attributes=LABELS[:, None]), r"attributes must be \(n, c\) numbers, not \(60, 1\) <U1"),
    "ids for values": (dict(factors=10**9 * DIGIT), "'f0' has the value 2000000000, and 9999 is the most"),
    "classes of text": (dict(classes=LABELS), r"classes must be non-negative integers .* not \(60,\) <U1; number"),
    "columns of text": (dict(classes=[LABELS]), r"classes must be non-negative integers .* not \(60,\) <U1; number"),
    "test classes of text": (dict(TESTED, classes=DIGIT, classes_test=LABELS), "classes_test must be non-negative"),
    "ids for classes": (dict(classes=10**8 * DIGIT), "classes reach 200000000 in 60 rows: number those that occur"),
    "negative classes": (dict(classes=DIGIT - 1), "classes must be non-negative integers, and -1 is among them"),
    "one class": (dict(classes=3), r"classes must be non-negative integers .*, not \(\) int64$"),
    "a table as lists": (dict(classes=np.eye(3)[DIGIT].tolist()), r"or a list of such arrays, not \(3,\) float64$"),
    "classes of other rows": (dict(classes=DIGIT[:5]), r"classes must be non-negative integers \(60,\) .*, not \(5,\)"),
    "a factor that is not there": (dict(class_factor=1), r"class_factor 1 is none of the factors \('f0',\), nor"),
    "a factor before the first": (dict(class_factor=-1), "class_factor -1 is none of the factors"),
    "a factor of two names": (dict(class_factor=["f0", "f0"]), "is none of the factors"),
    "names that are a text": (dict(factor_names="a"), "factor_names must be a list of names, not 'a'"),
    "sizes that are a text": (dict(factor_sizes="3"), "factor_sizes must be a list of integers, one a factor, not '3'"),
    "sizes with fractions": (dict(factor_sizes=[3.5]), r"factor_sizes must be a list of integers, .* not \[3.5\]"),
    "a size": (dict(factor_sizes=3), "factor_sizes must be a list of integers, one a factor, not 3"),
    "a seed of text": (dict(seed="0"), "seed must be an integer from 0 on, a Generator or a RandomState, not '0'"),
    "no seed": (dict(seed=None), "seed must be an integer from 0 on, .*, not None"),
    "a negative seed": (dict(seed=-1), "seed must be an integer from 0 on, .*, not -1"),
    "no metric": (dict(metrics=[]), "no metric is named; there are .*, mig, "),
    "no protocol": (dict(protocol=None), "unknown protocol None; available: .*quick, .*study"),
}


@pytest.mark.parametrize("given, message", MISTAKES.values(), ids=MISTAKES)
def test_arguments_that_are_refused(given, message):
    good = {"codes": DIGIT[:, None].astype(float), "factors": DIGIT}
    assert score("mig", **good)["mig"] == pytest.approx(1)
    with pytest.raises(ValueError, match=message):
        score(**{"metrics": "mig", **good, **given})


FINE = {
    "nothing masked": dict(factors=np.ma.masked_equal(DIGIT, 9)),
    "no classes": dict(classes=[]),
    "names of a table": dict(factor_names=pd.DataFrame({"digit": DIGIT}).columns, class_factor="digit"),
    "a factor by number": dict(factors=TWO, class_factor=np.int64(1)),
    "sizes": dict(factor_sizes=np.array([7])),
    "a tensor": dict(codes=torch.as_tensor(DIGIT)[:, None]),
    "a frame with a column _mask": dict(factors=pd.DataFrame({"_mask": DIGIT})),
}


@pytest.mark.parametrize("given", FINE.values(), ids=FINE)
def test_arguments_that_are_taken(given):
    assert score(["mig"], **{"codes": DIGIT[:, None], "factors": DIGIT, **given})["mig"] == pytest.approx(1)


def test_classes_of_a_large_codebook_and_a_table_beside_it():
    found = score("discrete_accuracy", DIGIT[:, None], DIGIT, classes=[np.r_[4095, DIGIT[1:]], np.eye(3)[DIGIT]])
    assert found["discrete_accuracy_many_to_one"] == 1


@pytest.mark.parametrize("returned, message", [
    (None, "metric 'mine' returned None; return a dictionary of numbers"),
    (0.5, "metric 'mine' returned 0.5; return a dictionary of numbers"),
    ({"mine": "high"}, "metric 'mine' returned 'high' for 'mine'; return a number"),
    ({"mine": [0.5]}, r"metric 'mine' returned \[0.5\] for 'mine'; return a number"),
    ({"mine": b"1"}, "metric 'mine' returned b'1' for 'mine'; return a number"),
    ({"mine": np.float32("nan")}, r"returned .*nan.* for 'mine'; return NotApplicable\(reason\) instead"),
    ({1: 0.5}, "metric 'mine' returned the key 1; keys start with"),
])  # fmt: skip
def test_what_a_metric_of_ones_own_may_not_return(returned, message):
    def mine(codes, rng):
        return returned

    with pytest.raises(ValueError, match=message):
        score(mine, DIGIT[:, None].astype(float), DIGIT)


@pytest.mark.parametrize("value", [1, True, 2**70, Fraction(1, 2), Decimal("0.5"), np.float32(0.5), np.array(0.5),
                                   torch.tensor(0.5, dtype=torch.bfloat16)],
                         ids=repr)  # fmt: skip
def test_what_a_metric_of_ones_own_may_return(value):
    def mine(codes, rng):
        return {"mine": value}

    assert score(mine, DIGIT[:, None], DIGIT) == {"mine": float(value)}
