"""What a source may promise, and what a task may believe."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, least_mark
from hpcstream.runtime.watermark import BoundedWatermark, SplitWatermark, WatermarkTracker

times = st.integers(-(2**62), 2**62)


marks = st.none() | st.integers(-9, 9) | st.just(MAX_TIME)


@given(st.lists(st.tuples(marks, marks, marks)))
def test_watermark_never_goes_back(rounds):
    tracker = WatermarkTracker(n_inputs=3)
    seen = [tracker.watermark]

    for of_inputs in rounds:
        for index, mark in enumerate(of_inputs):
            tracker.receive(index, mark)
        moved = tracker.advance()
        assert moved == (tracker.watermark > seen[-1])
        seen.append(tracker.watermark)

    assert seen == sorted(seen)


@given(st.lists(marks, max_size=5))
def test_marks_together_are_the_least_active_one_and_the_end_only_if_all_have_ended(given_marks):
    together = least_mark(given_marks)

    active = sorted(mark for mark in given_marks if mark not in (None, MAX_TIME))
    if active:
        assert together == active[0]
    elif None in given_marks:
        assert together is None
    else:
        assert together == MAX_TIME


def tracked(*rounds):
    """Return a tracker that took rounds, given as the marks of all inputs."""
    tracker = WatermarkTracker(n_inputs=len(rounds[0]))
    for of_inputs in rounds:
        for index, mark in enumerate(of_inputs):
            tracker.receive(index, mark)
        tracker.advance()
    return tracker


def test_the_slowest_active_input_holds_time_back():
    assert tracked((10, 4)).watermark == 4


def test_an_idle_input_does_not():
    tracker = tracked((10, 4), (10, None))
    assert (tracker.mark, tracker.watermark) == (10, 10)

    tracker = tracked((10, 4), (10, None), (None, None))
    assert (tracker.mark, tracker.watermark) == (None, 10)


def test_an_input_that_wakes_holds_time_back_where_it_is_and_not_where_it_was():
    tracker = tracked((10, 4), (10, None), (30, 12))

    assert (tracker.mark, tracker.watermark) == (12, 12)


def test_what_is_promised_goes_back_with_an_input_that_wakes_and_the_watermark_does_not():
    tracker = tracked((10, 4), (10, None), (10, 5))

    assert (tracker.mark, tracker.watermark) == (5, 10)


def test_an_input_that_has_ended_is_left_out_until_all_have():
    assert tracked((10, MAX_TIME)).watermark == 10
    assert tracked((10, 5), (None, MAX_TIME)).watermark == 5
    assert tracked((MAX_TIME, MAX_TIME)).watermark == MAX_TIME


def test_inputs_of_one_round_count_together_only():
    tracker = tracked((10, None))

    tracker.receive(0, 90)  # of the next round, as 20 is
    tracker.receive(1, 20)
    tracker.advance()

    assert tracker.watermark == 20


def test_a_row_at_the_end_of_time_does_not_end_the_stream():
    split = SplitWatermark(0)
    split.see(MAX_TIME)

    assert split.watermark == MAX_TIME - 1


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
