import math
from itertools import pairwise

import naive_exact_sums as naive
import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import exact_sums


@pytest.fixture(autouse=True, scope="module")
def _integers_wrap():
    """Without compilation NumPy warns of the bits that a shift drops."""
    with np.errstate(over="ignore"):
        yield


N_SLOTS = 3
LARGEST = 1.7976931348623157e308
ANY = st.floats() | st.sampled_from([5e-324, -5e-324, LARGEST, -LARGEST, 1.0, 2.0**-53, 2.0**970])
FINITE = ANY.filter(math.isfinite)


def rows_of(values):
    rows = st.tuples(st.integers(0, N_SLOTS - 1), values)
    return st.lists(rows, max_size=40)


def limbs_of(rows):
    slots = np.array([slot for slot, _ in rows], dtype=np.uint32)
    bits = np.array([value for _, value in rows], dtype=np.float64).view(np.int64)
    limbs = np.zeros(N_SLOTS * exact_sums.WIDTH, np.int64)
    exact_sums.add_exactly(slots, bits, limbs)
    return limbs


def rounded(limbs):
    bits = np.empty(len(limbs) // exact_sums.WIDTH, np.int64)
    exact_sums.round_sums(limbs, np.empty(exact_sums.LIMBS, np.int64), bits)
    return bits.view(np.float64)


def naive_sums(rows):
    return naive.exact_sums([slot for slot, _ in rows], [value for _, value in rows], N_SLOTS)


@given(rows=rows_of(ANY))
def test_sums_are_those_of_all_digits_rounded_once(rows):
    npt.assert_array_equal(rounded(limbs_of(rows)), naive_sums(rows))


@given(rows=rows_of(FINITE), small=rows_of(st.floats(-1e-300, 1e-300)), seed=st.integers(0, 99))
def test_what_cancels_leaves_the_digits_of_the_rest(rows, small, seed):
    cancelling = rows + small + [(slot, -value) for slot, value in rows]
    np.random.default_rng(seed).shuffle(cancelling)
    cancelling = [(int(slot), float(value)) for slot, value in cancelling]
    npt.assert_array_equal(rounded(limbs_of(cancelling)), naive_sums(small))


@given(rows=rows_of(ANY), cuts=st.lists(st.integers(0, 40), max_size=4), is_range=st.booleans())
def test_parts_merged_in_any_tree_have_the_same_bits(rows, cuts, is_range):
    ends = [0, *sorted(cuts), len(rows)]
    parts = [limbs_of(rows[a:b]) for a, b in pairwise(ends)]
    targets = np.uint64(0) if is_range else np.arange(N_SLOTS, dtype=np.uint32)
    while len(parts) > 1:
        exact_sums.merge_exactly(targets, parts.pop(), parts[len(parts) // 2])
    npt.assert_array_equal(rounded(parts[0]).view(np.int64), rounded(limbs_of(rows)).view(np.int64))


@pytest.mark.parametrize("value", [LARGEST, -LARGEST, 5e-324, -1.0, 2.0**-1022, 1 + 2.0**-52])
def test_repeated_values_carry_from_limb_to_limb(value):
    """Doubling a sum by merges is as many additions as no test can do one by one."""
    limbs = limbs_of([(0, value)] * 3000 + [(1, -value)] * 3000)
    every = np.arange(N_SLOTS, dtype=np.uint32)
    for _ in range(40):
        exact_sums.merge_exactly(every, limbs.copy(), limbs)
    exact_sums.add_exactly(np.zeros(1, np.uint32), np.array([-value]).view(np.int64), limbs)
    n_values = 3000 * 2**40
    exact = naive.nearest(naive.Fraction(value) * (n_values - 1))
    npt.assert_array_equal(
        rounded(limbs), [exact, naive.nearest(-naive.Fraction(value) * n_values), 0]
    )


@given(rows=rows_of(st.floats(-1e150, 1e150).filter(lambda x: x == 0 or abs(x) > 1e-140)))
def test_sums_of_squares_have_all_digits(rows):
    slots = np.array([slot for slot, _ in rows], dtype=np.uint32)
    values = np.array([value for _, value in rows], dtype=np.float64)
    limbs = np.zeros(N_SLOTS * exact_sums.WIDTH, np.int64)
    exact_sums.add_squares_exactly(slots, values, limbs)
    squares = [naive.Fraction(value) ** 2 for _, value in rows]
    expected = [0.0] * N_SLOTS
    for wanted in range(N_SLOTS):
        here = [square for (slot, _), square in zip(rows, squares, strict=True) if slot == wanted]
        expected[wanted] = naive.nearest(sum(here, naive.Fraction(0)))
    npt.assert_array_equal(rounded(limbs), expected)


def test_ties_go_to_the_even_number():
    one, half, least = 1.0, 2.0**-53, 5e-324
    rows = [(0, one), (0, half), (1, one), (1, half), (1, least), (2, one + 2 * half), (2, half)]
    assert rounded(limbs_of(rows)).tolist() == [1.0, 1 + 2 * half, 1 + 4 * half]


def test_the_largest_float_is_exceeded_from_half_a_unit_on():
    rows = [
        (0, LARGEST),
        (0, 2.0**969),
        (1, LARGEST),
        (1, 2.0**970),
        (2, -LARGEST),
        (2, -(2.0**970)),
    ]
    assert rounded(limbs_of(rows)).tolist() == [LARGEST, math.inf, -math.inf]


def test_warm_up_compiles_every_kernel():
    exact_sums.warm_up()
