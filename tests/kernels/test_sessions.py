import naive_sessions as naive
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import sessions

N_SLOTS = 8
words = st.integers(-(2**40), 2**40)
rows = st.lists(st.tuples(st.integers(0, N_SLOTS - 1), words, words), max_size=30)


def new_spans():
    return np.full(N_SLOTS, 2**63 - 1), np.full(N_SLOTS, -(2**63))


@given(rows)
def test_keep_span_matches_naive(rows):
    slots, firsts, lasts = (
        (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 3
    )
    spans = new_spans()
    arrays = np.array(slots, np.uint32), np.array(firsts, np.int64), np.array(lasts, np.int64)
    sessions.keep_span(*arrays, *spans)
    least, greatest = naive.keep_span(slots, firsts, lasts, N_SLOTS)
    assert (spans[0].tolist(), spans[1].tolist()) == (least, greatest)


@given(st.lists(words, max_size=N_SLOTS - 2), st.integers(1, 2))
def test_slots_side_by_side_are_those_from_the_first_on(values, start):
    spans, others = new_spans(), new_spans()
    times = np.array(values, np.int64)
    sessions.keep_span(np.uint64(start), times, times, *spans)
    slots = np.arange(start, start + len(values), dtype=np.uint32)
    sessions.keep_span(slots, times, times, *others)
    assert (spans[0].tolist(), spans[1].tolist()) == (others[0].tolist(), others[1].tolist())


@given(
    st.lists(st.integers(0, 40), min_size=N_SLOTS, max_size=N_SLOTS),
    st.lists(st.integers(0, 40), min_size=N_SLOTS, max_size=N_SLOTS),
    st.lists(
        st.tuples(st.integers(1, 3), st.sampled_from([0, 4, 5, 6, 7])), unique_by=lambda p: p[0]
    ),
    st.integers(1, 20),
)
def test_divide_matches_naive(firsts, lasts, pairs, gap):
    slots, following = (np.array([p[n] for p in pairs], np.uint32) for n in range(2))
    expected = naive.divide(slots.tolist(), following.tolist(), firsts, lasts, gap)
    sources, ended = np.empty_like(slots), np.empty_like(slots)
    spans = np.array(firsts, np.int64), np.array(lasts, np.int64)

    n = sessions.divide(slots, following, spans, gap, sources, ended)

    joined = list(zip(sources[:n].tolist(), following[:n].tolist(), strict=True))
    assert (joined, ended[: len(slots) - n].tolist()) == expected
