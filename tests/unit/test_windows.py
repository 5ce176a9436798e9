import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.operators.windows.assigners import Slicing, SlidingWindows, TumblingWindows

times = st.integers(-10_000, 10_000)
sizes = st.integers(1, 60)


@st.composite
def assigners(draw):
    size = draw(sizes)
    offset = draw(st.integers(-100, 100))
    if draw(st.booleans()):
        return TumblingWindows(size, offset)
    return SlidingWindows(size, draw(st.integers(1, size)), offset)


@given(assigner=assigners(), time=times)
def test_a_slice_is_in_just_the_windows_that_contain_its_times(assigner, time):
    slicing = Slicing.of(assigner)
    number = slicing.slice_of(time)
    assert slicing.slice_start(number) <= time < slicing.slice_end(number)

    windows = slicing.windows_of(number)

    around = range(windows.start - 3, windows.stop + 3)
    containing = [w for w in around if slicing.window_start(w) <= time < slicing.window_end(w)]
    assert containing == list(windows)
    assert all(number in slicing.slices_of(window) for window in windows)
    assert slicing.last_end_of(number) == slicing.window_end(windows[-1])


@given(assigner=assigners(), window=st.integers(-100, 100))
def test_the_slices_of_a_window_cover_it(assigner, window):
    slicing = Slicing.of(assigner)
    slices = slicing.slices_of(window)
    assert slicing.slice_start(slices[0]) == slicing.window_start(window)
    assert slicing.slice_end(slices[-1]) == slicing.window_end(window)


@given(assigner=assigners(), watermark=times)
def test_a_watermark_completes_the_windows_that_end_by_it(assigner, watermark):
    slicing = Slicing.of(assigner)
    window = slicing.next_window(watermark)
    assert slicing.window_end(window - 1) <= watermark < slicing.window_end(window)
    first = slicing.first_open_slice(watermark)
    assert slicing.last_end_of(first - 1) <= watermark < slicing.last_end_of(first)
    unfinished = slicing.first_unfinished_slice(watermark)
    assert slicing.slice_end(unfinished - 1) <= watermark < slicing.slice_end(unfinished)


@given(assigner=assigners(), shift=st.integers(-5, 5))
def test_windows_start_at_the_offset_and_every_slide_from_it(assigner, shift):
    slicing = Slicing.of(assigner)
    start = assigner.offset + shift * assigner.slide
    assert (start - slicing.window_start(0)) % slicing.slide == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TumblingWindows(0), r"TumblingWindows\(size=0, offset=0\): size must be positive"),
        (lambda: SlidingWindows(10, 0), "size and slide must be positive"),
        (lambda: SlidingWindows(10, 15), "slide exceeds size by 5, so rows would fall between"),
    ],
)
def test_windows_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
