"""Doubts about the unit of event time and the delay of the watermark."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream.observability.time_doubts import EventTimes, doubts, united
from hpcstream.testing import run_ranks

TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
units = st.sampled_from(sorted(TICKS))
moments = st.datetimes(dt.datetime(1995, 1, 1), dt.datetime(2090, 1, 1))


def seconds_of(moment: dt.datetime) -> int:
    return int((moment - dt.datetime(1970, 1, 1)).total_seconds())


@given(moments, st.integers(0, 86_400), units, units)
def test_times_of_our_days_in_another_unit_are_doubted_and_the_right_unit_is_named(
    moment, span_s, meant, read_as
):
    first = seconds_of(moment) * TICKS[meant]
    times = EventTimes("S", read_as, first, first + span_s * TICKS[meant])

    said = doubts(times)

    if meant == read_as:
        assert said == []
        return
    (text,) = said
    assert "is the unit right?" in text
    assert f"It is read as {read_as}; as {meant} it would be {moment:%Y-%m-%d}" in text


@given(st.integers(0, 10**6), st.integers(0, 10**6), units)
def test_times_counted_from_zero_are_not_doubted(first, span, unit):
    assert doubts(EventTimes("S", unit, first, first + span)) == []


def test_the_year_58131_is_named():
    ticks = 1_772_280_000_000

    (text,) = doubts(EventTimes("S", "s", ticks, ticks))

    assert "lies in 58131-" in text
    assert "as ms it would be 2026-02-28 12:00:00" in text


def test_a_far_future_that_no_unit_explains_is_doubted_too():
    (text,) = doubts(EventTimes("S", "s", 10**11, 10**11))

    assert text.endswith("is the unit right?")


@pytest.mark.parametrize(("delay", "said"), [(3_601, True), (3_600, False), (0, False)])
def test_a_delay_that_is_longer_than_the_data_is_named(delay, said):
    start = seconds_of(dt.datetime(2026, 3, 1))
    times = EventTimes("S", "s", start, start + 3_600, delay)

    assert bool(doubts(times)) is said
    assert doubts(times, has_ended=False) == []


def test_the_times_of_ranks_are_put_together():
    parts = [
        EventTimes("S", "s", 5, 9, 1),
        EventTimes("S", "s", 2, 7, 1),
        EventTimes("T", "s", 1, 1),
    ]

    assert united(parts) == [EventTimes("S", "s", 2, 9, 1), EventTimes("T", "s", 1, 1)]


@pytest.mark.parametrize("in_the_middle", [False, True])
@pytest.mark.parametrize("ranks", [1, 3])
def test_the_summary_of_a_job_says_it(ranks, in_the_middle):
    start = seconds_of(dt.datetime(2026, 3, 1))
    table = pa.table({"t": np.arange(start, start + 60)})

    def build():
        job = hs.Job("unit")
        given = {} if in_the_middle else {"event_time": "t", "event_time_unit": "ms"}
        stream = job.from_batches(table.to_batches(max_chunksize=10), **given)
        if in_the_middle:
            stream = stream.with_event_time("t", unit="ms", watermark_delay="1h")
        return job, stream.collect()

    result = run_ranks(ranks, build).result

    (times,) = result.event_times
    assert (times.first, times.greatest) == (start, start + 59)
    text = " ".join(str(result).split())
    assert "lies in 1970-01-21 12:" in text
    assert "as s it would be 2026-03-01 00:00:00" in text
    assert ("watermark_delay is 1.0 h, longer than" in text) is in_the_middle
