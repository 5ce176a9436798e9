import math

import numpy as np
import numpy.testing as npt
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import order_statistics

N_GROUPS = 4


@given(
    rows=st.lists(st.tuples(st.integers(0, N_GROUPS - 1), st.floats(-1e9, 1e9)), max_size=60),
    fraction=st.floats(0, 1),
)
def test_quantiles_equal_those_of_numpy(rows, fraction):
    groups = np.array([group for group, _ in rows], dtype=np.int64)
    values = np.array([value for _, value in rows], dtype=np.float64)
    offsets, in_order = np.empty(N_GROUPS + 1, np.int64), np.empty(len(rows))
    quantiles = np.empty(N_GROUPS)

    order_statistics.sort_groups(groups, values, N_GROUPS, offsets, in_order)
    order_statistics.interpolate_quantile(offsets, in_order, fraction, quantiles)

    for group in range(N_GROUPS):
        here = values[groups == group]
        npt.assert_array_equal(in_order[offsets[group] : offsets[group + 1]], np.sort(here))
        expected = np.quantile(here, fraction) if len(here) else np.nan
        npt.assert_allclose(quantiles[group], expected, rtol=1e-12, atol=1e-6)


@given(
    values=st.lists(st.floats(-1e300, 1e300), max_size=30), order=st.randoms(use_true_random=False)
)
def test_a_sum_has_the_same_bits_in_any_order_and_loses_no_digits(values, order):
    sums = np.empty(2)
    for place in range(2):
        in_order = np.sort(np.array(values, dtype=np.float64))
        order_statistics.sum_groups(
            np.array([0, len(values)], np.int64), in_order, sums[place : place + 1]
        )
        order.shuffle(values)

    assert sums[0].tobytes() == sums[1].tobytes()
    largest = max(map(abs, values), default=0.0)
    npt.assert_allclose(sums[0], math.fsum(values), rtol=1e-15, atol=1e-29 * largest)


def test_sums_of_what_is_not_finite_are_those_of_ieee():
    for values in ([1.0, np.inf], [-np.inf, 5.0], [-np.inf, np.inf], [1.0, np.nan]):
        out = np.empty(1)
        with np.errstate(invalid="ignore"):  # where kernels are not compiled
            order_statistics.sum_groups(np.array([0, 2], np.int64), np.sort(values), out)
        npt.assert_array_equal(out, [sum(values)])


def test_warm_up_compiles_every_kernel():
    order_statistics.warm_up()
