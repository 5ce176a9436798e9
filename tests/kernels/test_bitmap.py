import naive_bitmap as naive
import numpy as np
import numpy.testing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hpcstream.kernels import bitmap


@st.composite
def bitmaps_and_cuts(draw):
    bits = draw(arrays(np.uint8, st.integers(1, 12)))
    first_bit = draw(st.integers(0, 7))
    n_rows = draw(st.integers(0, 8 * len(bits) - first_bit))
    cuts = draw(st.lists(st.integers(0, n_rows), max_size=5))
    return bits, first_bit, np.array([0, *sorted(cuts), n_rows], dtype=np.int64)


def gathered(bits, first_bit, order, offsets):
    starts = np.arange(len(offsets) - 1, dtype=np.int64) * 16
    memory = np.full(16 * len(starts), 0xAA, dtype=np.uint8)
    bitmap.gather_bits(bits, first_bit, order, offsets, starts, memory)
    runs = zip(starts, np.diff(offsets), strict=True)
    return [
        np.unpackbits(memory[start:], count=n_rows, bitorder="little") for start, n_rows in runs
    ]


def assert_equal_runs(runs, expected):
    for run, expected_run in zip(runs, expected, strict=True):
        npt.assert_array_equal(run, expected_run)


@given(bitmaps_and_cuts(), st.randoms(use_true_random=False))
def test_gather_bits_in_an_order_matches_naive(case, random):
    bits, first_bit, offsets = case
    order = list(range(offsets[-1]))
    random.shuffle(order)
    order = np.array(order, dtype=np.int32)
    expected = naive.gather_bits(bits, first_bit, order, offsets)
    assert_equal_runs(gathered(bits, first_bit, order, offsets), expected)


@given(bitmaps_and_cuts())
def test_gather_bits_as_they_lie_matches_naive(case):
    bits, first_bit, offsets = case
    as_they_lie = np.empty(0, dtype=np.int32)
    expected = naive.gather_bits(bits, first_bit, np.arange(offsets[-1]), offsets)
    assert_equal_runs(gathered(bits, first_bit, as_they_lie, offsets), expected)
