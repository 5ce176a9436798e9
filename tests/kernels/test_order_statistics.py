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


def test_warm_up_compiles_every_kernel():
    order_statistics.warm_up()
