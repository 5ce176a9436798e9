"""`var(exact=True)` and `std(exact=True)` against fractions, on any number of ranks."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.testing import run_ranks

CALLS = {
    "var": col("x").var(exact=True),
    "std": col("x").std(exact=True),
    "of_all": col("x").var(ddof=0, exact=True),
}
RANDOM = np.random.default_rng(3)
NORMAL = RANDOM.normal(size=60)
VALUES = {
    "normal": NORMAL,
    "integers": RANDOM.integers(-(2**52), 2**52, 60),
    "small": NORMAL * 1e-120,
    "large": NORMAL * 1e120,
    "far from 0": 1e9 + NORMAL,
    "a last bit": 1e15 + RANDOM.integers(0, 2, 60) / 8,
    "equal": np.full(60, 0.1),
    "wild": NORMAL * 10.0 ** RANDOM.integers(-140, 140, 60),
    "single precision": NORMAL.astype(np.float32),
}


def run(values, ranks, calls=CALLS, **options):
    def build():
        job = hs.Job("exact variances")
        rows = pa.table({"t": np.arange(len(values)), "x": values})
        batches = rows.to_batches(max_chunksize=7)
        stream = job.from_batches(
            batches, event_time="t", event_time_unit="ms", watermark_delay="1s"
        )
        return job, stream.window_all(hs.tumbling("1s")).agg(**calls).collect()

    [row] = run_ranks(ranks, build, batch_rows=10, **options).table.to_pylist()
    return [row[name] for name in calls]


def of_fractions(values):
    """Return the variance, deviation and variance for ``ddof=0``."""
    exact = [Fraction(value) for value in values.tolist()]
    mean = sum(exact) / len(exact)
    squares = sum((value - mean) ** 2 for value in exact)
    variance = float(squares / (len(exact) - 1))
    return [variance, math.sqrt(variance), float(squares / len(exact))]


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_variances_are_those_of_fractions_with_the_same_bits_on_any_ranks(values):
    alone = run(values, 1)

    assert alone == pytest.approx(of_fractions(values), rel=4e-16, abs=0)
    shuffled = np.random.default_rng(1).permutation(values)
    assert all(run(shuffled, ranks) == alone for ranks in (1, 2, 3))


@pytest.mark.parametrize("special", [math.inf, -math.inf, math.nan])
def test_values_that_are_not_finite_have_no_variance(special):
    assert all(math.isnan(each) for each in run(np.array([1.0, special, 2.0]), 2))


def test_one_value_has_no_variance_unless_it_is_divided_by_their_number():
    assert run(np.array([0.3]), 1) == [None, None, 0.0]


def test_squares_beyond_the_largest_float_are_infinite():
    assert run(np.array([1e200, 1.0]), 1) == [math.inf, math.inf, math.inf]


def test_reproducible_variances_are_the_exact_ones():
    plain = {"var": col("x").var(), "std": col("x").std(), "of_all": col("x").var(ddof=0)}
    for ranks in (1, 3, 7):
        assert run(NORMAL, ranks, plain, reproducible=True) == run(NORMAL, 1)
