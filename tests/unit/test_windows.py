import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.operators.windows.assigners.fixed import (
    CumulativeWindows,
    SlidingWindows,
    TumblingWindows,
)

times = st.integers(-10_000, 10_000)
sizes = st.integers(1, 60)


@st.composite
def assigners(draw):
    size = draw(sizes)
    offset = draw(st.integers(-100, 100))
    kind = draw(st.sampled_from(["tumbling", "sliding", "cumulative"]))
    if kind == "tumbling":
        return TumblingWindows(size, offset)
    if kind == "sliding":
        return SlidingWindows(size, draw(st.integers(1, size)), offset)
    return CumulativeWindows(size * draw(st.integers(1, 9)), size, offset)


def bounds_of(slicing, windows):
    starts, ends = slicing.bounds(np.array(list(windows), dtype=np.int64))
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def slice_bounds(slicing, number):
    return slicing.grid.starts_of(np.array([number, number + 1])).tolist()


def last_end_of(slicing, number):
    return bounds_of(slicing, slicing.layout.windows_of(number)[-1:])[0][1]


@given(assigner=assigners(), time=times)
def test_a_slice_is_in_just_the_windows_that_contain_its_times(assigner, time):
    slicing = assigner.slicing()
    number = slicing.grid.number_at(time)
    assert slicing.grid.numbers_of(np.array([time])).tolist() == [number]
    start, end = slice_bounds(slicing, number)
    assert start <= time < end

    windows = slicing.layout.windows_of(number)

    around = range(windows.start - 99, windows.stop + 99)
    bounds = bounds_of(slicing, around)
    containing = [
        w for w, (first, stop) in zip(around, bounds, strict=True) if first <= time < stop
    ]
    assert containing == list(windows)
    assert all(number in slicing.layout.slices_of(window) for window in windows)


@given(assigner=assigners(), window=st.integers(-100, 100))
def test_the_slices_of_a_window_cover_it(assigner, window):
    slicing = assigner.slicing()
    slices = slicing.layout.slices_of(window)
    ((start, end),) = bounds_of(slicing, [window])
    assert slice_bounds(slicing, slices[0])[0] == start
    assert slice_bounds(slicing, slices[-1])[1] == end == slicing.store_end(window)
    assert len(slices) <= slicing.layout.most_slices
    firsts, stops = slicing.layout.ranges_of(np.array([window]))
    assert (firsts[0], stops[0]) == (slices.start, slices.stop)


@given(assigner=assigners(), watermark=times)
def test_a_watermark_completes_the_windows_that_end_by_it(assigner, watermark):
    slicing = assigner.slicing()
    window = slicing.next_window(watermark)
    (_, before), (_, after) = bounds_of(slicing, [window - 1, window])
    assert before <= watermark < after
    first = slicing.first_open_slice(watermark)
    assert last_end_of(slicing, first - 1) <= watermark < last_end_of(slicing, first)
    unfinished = slicing.first_unfinished_slice(watermark)
    assert slice_bounds(slicing, unfinished - 1)[1] <= watermark
    assert watermark < slice_bounds(slicing, unfinished)[1]


@given(assigner=assigners(), shift=st.integers(-5, 5))
def test_windows_start_at_the_offset_and_every_slide_from_it(assigner, shift):
    slide = assigner.key()[1] if assigner.key()[0] != "cumulative" else assigner.size
    time = assigner.offset + shift * slide
    slicing = assigner.slicing()
    windows = slicing.layout.windows_of(slicing.grid.number_at(time))
    assert time in [start for start, _ in bounds_of(slicing, windows)]


def test_cumulating_windows_grow_by_a_step_and_begin_anew_after_their_size():
    slicing = CumulativeWindows(30, 10, 5).slicing()
    assert bounds_of(slicing, range(4)) == [(5, 15), (5, 25), (5, 35), (35, 45)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TumblingWindows(0), r"TumblingWindows\(size=0, offset=0\): size must be positive"),
        (lambda: SlidingWindows(10, 0), "size and slide must be positive"),
        (lambda: SlidingWindows(10, 15), "slide exceeds size by 5, so rows would fall between"),
        (
            lambda: CumulativeWindows(10, 4),
            "size=10, step=4.*: size must be a whole number of steps",
        ),
        (
            lambda: CumulativeWindows(10, 0),
            "size=10, step=0.*: size must be a whole number of steps",
        ),
    ],
)
def test_windows_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
