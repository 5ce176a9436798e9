import naive_calendar as naive
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import calendar


@st.composite
def periods_and_times(draw):
    origin = draw(st.sampled_from([0, -7, 2**62, -(2**62)]))
    lengths = draw(st.lists(st.sampled_from([0, 1, 23, 24, 25, 900]), min_size=1, max_size=12))
    starts = origin + np.cumsum([0, *lengths])
    if starts[-1] == origin:
        starts[-1] += 1
    times = draw(st.lists(st.integers(int(starts[0]), int(starts[-1]) - 1), max_size=30))
    return np.array(times, dtype=np.int64), starts.astype(np.int64), draw(st.integers(-9, 9))


@given(periods_and_times())
def test_numbers_of_times_match_naive(case):
    times, starts, first = case
    out = np.empty(len(times), dtype=np.int64)
    calendar.numbers_of_times(times, starts, first, out)
    assert out.tolist() == naive.numbers_of_times(times, starts, first)
