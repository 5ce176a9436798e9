import naive_accumulate as naive
import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import accumulate


@pytest.fixture(autouse=True, scope="module")
def _integers_wrap():
    """Without compilation NumPy warns of the wrapping that kernels want."""
    with np.errstate(over="ignore"):
        yield


N_SLOTS = 4
INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
FLOATS = st.floats(-1e6, 1e6) | st.just(float("nan"))


def rows_of(values):
    return st.lists(st.tuples(st.integers(0, N_SLOTS - 1), values), max_size=60)


def columns(rows, dtype):
    slots = np.array([slot for slot, _ in rows], dtype=np.uint32)
    values = np.array([value for _, value in rows], dtype=dtype)
    values.setflags(write=False)
    return slots, values


@pytest.mark.parametrize(
    ("kernel", "dtype", "values"),
    [(accumulate.add_integers, np.int64, INT64), (accumulate.add_unsigned, np.uint64, UINT64)],
)
@given(data=st.data())
def test_integer_sums_are_exact_whatever_the_order(kernel, dtype, values, data):
    slots, added = columns(data.draw(rows_of(values)), dtype)
    sums, carries = np.zeros(N_SLOTS, np.int64), np.zeros(N_SLOTS, np.int64)
    kernel(slots, added, sums, carries)
    totals = [int(low) + (int(high) << 64) for low, high in zip(sums, carries, strict=True)]
    assert totals == naive.exact_sums(slots, added, N_SLOTS)


@given(rows=rows_of(INT64))
def test_merged_integer_sums_equal_the_sum_of_all(rows):
    slots, values = columns(rows, np.int64)
    sums, carries = np.zeros((2, N_SLOTS), np.int64), np.zeros((2, N_SLOTS), np.int64)
    half = len(slots) // 2
    accumulate.add_integers(slots[:half], values[:half], sums[0], carries[0])
    accumulate.add_integers(slots[half:], values[half:], sums[1], carries[1])
    every = np.arange(N_SLOTS, dtype=np.uint32)
    accumulate.add_integers(every, sums[1], sums[0], carries[0])
    accumulate.add_counts(every, carries[1], carries[0])
    totals = [int(low) + (int(high) << 64) for low, high in zip(sums[0], carries[0], strict=True)]
    assert totals == naive.exact_sums(slots, values, N_SLOTS)


@given(rows=rows_of(FLOATS))
def test_nan_is_greater_than_any_float(rows):
    slots, values = columns(rows, np.float64)
    least, greatest = np.full(N_SLOTS, np.nan), np.full(N_SLOTS, -np.inf)
    accumulate.keep_least_float(slots, values, least)
    accumulate.keep_greatest_float(slots, values, greatest)
    npt.assert_array_equal(least, naive.extremes(slots, values, N_SLOTS, min))
    npt.assert_array_equal(greatest, naive.extremes(slots, values, N_SLOTS, max))


@pytest.mark.parametrize(("dtype", "values"), [(np.int64, INT64), (np.uint64, UINT64)])
@given(data=st.data())
def test_integer_extremes(dtype, values, data):
    slots, compared = columns(data.draw(rows_of(values)), dtype)
    limits = np.iinfo(dtype)
    least = np.full(N_SLOTS, limits.max, dtype)
    greatest = np.full(N_SLOTS, limits.min, dtype)
    accumulate.keep_least(slots, compared, least)
    accumulate.keep_greatest(slots, compared, greatest)
    for slot in range(N_SLOTS):
        here = [int(v) for v in compared[slots == slot]]
        assert least[slot] == min(here, default=limits.max)
        assert greatest[slot] == max(here, default=limits.min)


@given(rows=rows_of(st.floats(-1e3, 1e3)), cut=st.integers(0, 60))
def test_moments_in_two_merged_parts_equal_those_of_all(rows, cut):
    slots, values = columns(rows, np.float64)
    parts = []
    for part in (slice(None, cut), slice(cut, None)):
        state = [np.zeros(N_SLOTS) for _ in range(3)]
        accumulate.add_moments(slots[part], values[part], *state)
        parts.append(state)
    accumulate.merge_moments(np.arange(N_SLOTS, dtype=np.uint32), *parts[1], *parts[0])
    expected = np.array(naive.moments(slots, values, N_SLOTS)).T
    npt.assert_allclose(parts[0], expected, rtol=1e-9, atol=1e-6)


@given(rows=rows_of(st.tuples(st.integers(0, 3), INT64)))
def test_first_and_last_go_by_time_then_order(rows):
    slots = np.array([slot for slot, _ in rows], dtype=np.uint32)
    times = np.array([time for _, (time, _) in rows], dtype=np.int64)
    values = np.array([value for _, (_, value) in rows], dtype=np.int64)
    orders = np.arange(len(rows))[::-1].copy()
    for keep, start, pick in (
        (accumulate.keep_first, 2**63 - 1, min),
        (accumulate.keep_last, -(2**63), max),
    ):
        state = [np.full(N_SLOTS, start), np.full(N_SLOTS, start), np.zeros(N_SLOTS, np.int64)]
        keep(slots, times, orders, values, *state)
        expected = naive.edges(slots, times, orders, values, N_SLOTS, pick)
        got = [None if t == start else int(v) for t, v in zip(state[0], state[2], strict=True)]
        assert got == expected


@given(
    rows=rows_of(st.tuples(*[st.integers(-1, 1)] * 4)),
    order=st.randoms(use_true_random=False),
)
def test_ties_go_by_order_place_and_value_whatever_comes_first(rows, order):
    shuffled = order.sample(rows, len(rows))
    slots = np.array([slot for slot, _ in shuffled], dtype=np.uint32)
    words = [np.array([row[i] for _, row in shuffled], dtype=np.int64) for i in range(4)]
    for keep, placed, start, pick in (
        (accumulate.keep_first, accumulate.keep_first_placed, 2**63 - 1, min),
        (accumulate.keep_last, accumulate.keep_last_placed, -(2**63), max),
    ):
        whole = tuple(np.full(N_SLOTS, start) for _ in range(4))
        placed(slots, tuple(words), whole)
        short = [np.full(N_SLOTS, start) for _ in range(3)]
        keep(slots, *words[:2], words[3], *short)
        for slot in {slot for slot, _ in rows}:
            own = [row for at, row in rows if at == slot]
            assert tuple(int(word[slot]) for word in whole) == pick(own)
            without_place = pick((time, order, value) for time, order, _, value in own)
            assert tuple(int(word[slot]) for word in short) == without_place
        moved = tuple(np.full(N_SLOTS, start) for _ in range(4))
        placed(np.uint64(0), whole, moved)  # partial results, side by side
        for one, other in zip(whole, moved, strict=True):
            npt.assert_array_equal(one, other)


@given(rows=rows_of(st.booleans()))
def test_nulls_are_counted_and_sent_to_slot_zero(rows):
    slots, valid = columns(rows, np.bool_)
    counts, masked = np.zeros(N_SLOTS, np.int64), np.empty_like(slots)
    accumulate.count_nulls(slots, valid, counts)
    accumulate.mask_slots(slots, valid, masked)
    npt.assert_array_equal(counts, np.bincount(slots[~valid], minlength=N_SLOTS))
    npt.assert_array_equal(masked, np.where(valid, slots, 0))


# What an entry without rows holds, by accumulator, and the words of its partial results.
MERGING = {
    accumulate.add_counts: [0],
    accumulate.add_floats: [0.0],
    accumulate.add_integers: [0, 0],
    accumulate.keep_least: [2**63 - 1],
    accumulate.keep_greatest: [-(2**63)],
    accumulate.keep_least_float: [float("nan")],
    accumulate.keep_greatest_float: [float("-inf")],
    accumulate.merge_moments: [0.0, 0.0, 0.0],
    accumulate.keep_first: [2**63 - 1, 2**63 - 1, 0],
    accumulate.keep_last: [-(2**63), -(2**63), 0],
}


@pytest.mark.parametrize("kernel", MERGING, ids=lambda kernel: kernel.__name__)
@given(data=st.data())
def test_entries_side_by_side_are_merged_as_others_are(kernel, data):
    identities = MERGING[kernel]
    dtype = np.float64 if isinstance(identities[0], float) else np.int64
    any_value = st.sampled_from(identities) | (st.integers(0, 9) if dtype == np.int64 else FLOATS)
    n_parts = 1 if kernel is accumulate.add_integers else len(identities)
    words = st.lists(any_value.map(dtype), min_size=5, max_size=5).map(np.array)
    parts = [data.draw(words) for _ in range(n_parts)]
    before = [np.append(data.draw(words), data.draw(words)) for _ in identities]
    for part in parts:
        part.setflags(write=False)
    one, other = ([array.copy() for array in before] for _ in range(2))

    kernel(np.arange(3, 8, dtype=np.uint32), *parts, *one)
    kernel(np.uint64(3), *parts, *other)

    for left, right in zip(one, other, strict=True):
        npt.assert_array_equal(left, right)


@pytest.mark.parametrize("kernel", MERGING, ids=lambda kernel: kernel.__name__)
@given(data=st.data())
def test_entries_without_rows_change_nothing_they_are_merged_into(kernel, data):
    identities = MERGING[kernel]
    dtype = np.float64 if isinstance(identities[0], float) else np.int64
    value = st.integers(-9, 9) if dtype == np.int64 else st.floats(-1e6, 1e6)
    words = st.lists(value.map(dtype), min_size=5, max_size=5).map(np.array)
    state = [data.draw(words) for _ in identities]
    before = [array.copy() for array in state]
    n_parts = 1 if kernel is accumulate.add_integers else len(identities)
    parts = [np.full(5, identity, dtype=dtype) for identity in identities[:n_parts]]
    for part in parts:
        part.setflags(write=False)

    kernel(np.uint64(0), *parts, *state)

    for left, right in zip(before, state, strict=True):
        npt.assert_array_equal(left, right)


def test_warm_up_compiles_every_kernel():
    accumulate.warm_up()
