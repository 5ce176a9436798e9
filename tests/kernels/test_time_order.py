import naive_time_order as naive
import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import time_order

LEAST, GREATEST = -(2**63), 2**63 - 1
FEW, ANY = st.integers(0, 3), st.integers(LEAST, GREATEST)


def read_only(values):
    array = np.array(values, dtype=np.int64)
    array.setflags(write=False)
    return array


def ordered(times, orders, places):
    n_runs = time_order.count_runs(times, orders, places)
    rows, bins = np.empty(len(times), np.uint32), np.empty(time_order.BINS, np.int64)
    keys, scratch = np.empty(2 * len(times), np.uint64), np.empty(len(times), np.uint32)
    time_order.order_rows(times, orders, places, n_runs, bins, keys, scratch, rows)
    return n_runs, rows


def assert_as_naive(times, orders, places):
    given_rows = [read_only(values) for values in (times, orders, places)]
    n_runs, rows = ordered(*given_rows)
    assert n_runs == naive.count_runs(times, orders, places)
    npt.assert_array_equal(rows, naive.order_rows(times, orders, places))


@st.composite
def rows_of_any_times(draw):
    times = draw(st.sampled_from([FEW, ANY, st.integers(10**15, 10**15 + 5000)]))
    n_rows = draw(st.integers(1, 60))
    columns = [draw(st.lists(one, min_size=n_rows, max_size=n_rows)) for one in (times, FEW, FEW)]
    return (*columns[:2], columns[2] if draw(st.booleans()) else [])


@given(rows_of_any_times())
def test_rows_are_ordered_as_naive_does(rows):
    assert_as_naive(*rows)


@given(st.integers(1, 12), st.integers(1, 30))
def test_runs_are_merged_and_counted(n_runs, length):
    times = [time for run in range(n_runs) for time in range(run % 3, run % 3 + length)]
    orders = [run * 7 % 5 for run in range(n_runs) for _ in range(length)]
    assert_as_naive(times, orders, [])


@pytest.mark.parametrize("spread", [1, 1 << 11, 1 << 23, 1 << 62])
def test_many_rows_of_any_spread_are_ordered(spread):
    random = np.random.default_rng(spread)
    times, orders = random.integers(-spread, spread, 5000), random.integers(0, 9, 5000)
    n_runs, rows = ordered(read_only(times), read_only(orders), read_only([]))
    assert n_runs > 8
    npt.assert_array_equal(rows, np.lexsort((orders, times)))
