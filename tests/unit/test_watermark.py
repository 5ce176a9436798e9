"""What a source may promise, and what a task may believe."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hpcstream.event_time import MAX_TIME, MIN_TIME
from hpcstream.runtime.watermark import BoundedWatermark, SplitWatermark, WatermarkTracker

times = st.integers(-(2**62), 2**62)


@given(st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(-9, 9))))
def test_watermark_never_goes_back(events):
    tracker = WatermarkTracker(n_inputs=3)
    seen = [tracker.watermark]

    for input_index, watermark in events:
        moved = tracker.receive(input_index, watermark)
        assert moved == (tracker.watermark > seen[-1])
        seen.append(tracker.watermark)

    assert seen == sorted(seen)


def test_the_slowest_active_input_holds_time_back():
    tracker = WatermarkTracker(n_inputs=2)

    assert not tracker.receive(0, 10)
    assert tracker.receive(1, 4)

    assert tracker.watermark == 4


def test_an_idle_input_does_not():
    tracker = WatermarkTracker(n_inputs=2)
    tracker.receive(0, 10)

    assert tracker.receive(1, None)

    assert tracker.watermark == 10
    assert not tracker.is_idle
    tracker.receive(0, None)
    assert tracker.is_idle
    assert tracker.watermark == 10


def test_a_split_without_rows_promises_nothing():
    assert SplitWatermark(5).watermark == MIN_TIME


@given(st.lists(times, min_size=1), st.integers(0, 100))
def test_a_split_promises_its_greatest_time_less_the_delay(seen, delay):
    split = SplitWatermark(delay)

    for time in seen:
        split.see(time)

    assert split.watermark == max(seen) - delay


def test_a_delay_longer_than_time_itself_promises_nothing():
    split = SplitWatermark(100)
    split.see(MIN_TIME + 5)

    assert split.watermark == MIN_TIME


@st.composite
def splits_of_a_rank(draw):
    """Splits with rows out of order by at most the delay, and perhaps their least time."""
    delay = draw(st.integers(0, 3))
    splits = draw(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=5), max_size=4))
    firsts = [min(rows) for rows in splits]
    return delay, splits, firsts


@given(splits_of_a_rank())
def test_where_first_times_are_known_no_split_to_come_is_behind_the_watermark(given_splits):
    delay, splits, firsts = given_splits
    tracker = BoundedWatermark(list(firsts), delay)

    marks = [tracker.watermark]
    for number, rows in enumerate(splits):
        for time in rows:
            tracker.see(time)
            marks.append(tracker.watermark)
            assert all(tracker.watermark <= first for first in firsts[number + 1 :])
        tracker.next_split()

    assert marks == sorted(marks)
    assert tracker.watermark == MAX_TIME


def test_a_rank_without_splits_has_ended():
    assert BoundedWatermark([], 0).watermark == MAX_TIME


def test_where_first_times_are_not_known_the_split_being_read_says():
    tracker = BoundedWatermark([None, None], 1)

    tracker.see(10)

    assert tracker.watermark == 9
    tracker.next_split()
    tracker.see(5)
    assert tracker.watermark == 9


def test_a_known_time_far_ahead_in_the_list_still_holds_back():
    tracker = BoundedWatermark([0, None, 3], 0)

    tracker.see(10)

    assert tracker.watermark == 3
