"""Times in time zones against Python's `zoneinfo` and a search for the first instant of a day."""

from __future__ import annotations

import datetime as dt
import functools
import zoneinfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcstream.expressions.expression import Expression, col

ZONES = sorted(zoneinfo.available_timezones() - {"Factory", "localtime"})
ODD = [
    "Africa/Cairo",  # the clock leaps over midnight
    "America/Havana",  # midnight comes twice
    "America/Sao_Paulo",
    "America/St_Johns",  # a minute after midnight, by half an hour
    "Asia/Beirut",
    "Asia/Kathmandu",  # 45 minutes
    "Australia/Lord_Howe",  # an hour more or less by half of one
    "Pacific/Apia",  # a day that never was
    "Africa/Monrovia",  # 44.5 minutes, until 1972
]
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(1)
FIRST, LAST = -3_700_000_000, 2_100_000_000  # 1852 to 2036: Arrow knows no later summer time
UNITS = st.sampled_from(["s", "ms", "us", "ns"])
CLOCK = {"s": 1, "15min": 900, "90min": 5400, "1h": 3600, "6h": 21600}


def local(instant: int, zone: zoneinfo.ZoneInfo) -> dt.datetime:
    """Return what the clock shows, without its zone."""
    return (EPOCH + dt.timedelta(seconds=instant)).astimezone(zone).replace(tzinfo=None)


def seconds(naive: dt.datetime) -> int:
    return round((naive - dt.datetime(1970, 1, 1)).total_seconds())


def begin_of_days(shown: dt.datetime, every: str) -> dt.datetime:
    """Return the midnight at which an interval of days begins."""
    day = dt.datetime(shown.year, shown.month, shown.day)
    return {
        "1d": day,
        "1w": day - day.weekday() * DAY,
        "1mo": day.replace(day=1),
        "q": day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1),
        "1y": day.replace(month=1, day=1),
    }[every]


def first_instant(midnight: dt.datetime, zone: zoneinfo.ZoneInfo) -> int:
    """Return the first instant at which the clock shows midnight, or has leapt over it."""
    utc = seconds(midnight)
    span = range(utc - 108_000, utc + 108_000, 900)
    offsets = {seconds(local(u, zone)) - u for u in span}
    at = sorted(utc - offset for offset in offsets if local(utc - offset, zone) == midnight)
    if at:
        return at[0]
    high = next(u for u in span if local(u, zone) > midnight)
    low = high - 900
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if local(middle, zone) > midnight else (middle, high)
    return high


@functools.lru_cache
def transitions(name: str) -> list[int]:
    """Return instants near those where a clock is set, found by looking at every week."""
    zone = zoneinfo.ZoneInfo(name)
    weeks = range(0, LAST, 604_800)
    changes = [u for u in weeks if offset(u, zone) != offset(u + 604_800, zone)]
    found = []
    for low in changes[-12:]:
        high = low + 604_800
        while high - low > 1:
            middle = (low + high) // 2
            same = offset(middle, zone) == offset(low, zone)
            low, high = (middle, high) if same else (low, middle)
        found.append(high)
    return found or [0]


def offset(instant: int, zone: zoneinfo.ZoneInfo) -> int:
    return seconds(local(instant, zone)) - instant


@st.composite
def moments(draw):
    """Draw a zone and instants, most of them near a change of its clock."""
    name = draw(st.sampled_from(ODD) | st.sampled_from(ZONES))
    near = st.builds(
        int.__add__, st.sampled_from(transitions(name)), st.integers(-100_000, 100_000)
    )
    return name, draw(st.lists(near | st.integers(FIRST, LAST), min_size=1, max_size=8))


def evaluate(expression: Expression, times: pa.Array) -> pa.Array:
    out = expression.evaluate(pa.record_batch({"t": times}))
    assert out.type == expression.data_type(pa.schema([("t", times.type)]))
    return out


def array(instants, name, unit):
    return pa.array(instants, pa.timestamp("s", name)).cast(pa.timestamp(unit, name))


@settings(max_examples=60)
@given(drawn=moments(), unit=UNITS, every=st.sampled_from([*CLOCK]))
@example(("Europe/Berlin", [1603580400, 1603584000, 1603587600, 1603591200]), "s", "1h")
def test_hours_and_less_go_by_the_offset_of_the_instant(drawn, unit, every):
    name, instants = drawn
    zone = zoneinfo.ZoneInfo(name)

    found = evaluate(col("t").dt.truncate(every), array(instants, name, unit))

    assert found.type == pa.timestamp(unit, name)
    shown = [seconds(local(u, zone)) for u in instants]
    expected = [u - s % CLOCK[every] for u, s in zip(instants, shown, strict=True)]
    assert found.cast(pa.timestamp("s", name)).cast(pa.int64()).to_pylist() == expected


@settings(max_examples=60)
@given(
    drawn=moments(),
    unit=st.sampled_from(["s", "us"]),
    every=st.sampled_from(["1d", "1w", "1mo", "q", "1y"]),
)
@example(("America/Sao_Paulo", [1541307600]), "s", "1d")
@example(("America/St_Johns", [1162093530]), "s", "1d")
@example(("Pacific/Apia", [1325307600]), "us", "1d")
def test_days_and_more_begin_with_the_first_instant_of_a_local_day(drawn, unit, every):
    name, instants = drawn
    zone = zoneinfo.ZoneInfo(name)

    found = evaluate(col("t").dt.truncate(every), array(instants, name, unit))

    starts = [begin_of_days(local(u, zone), every) for u in instants]
    expected = [first_instant(midnight, zone) for midnight in starts]
    assert found.cast(pa.timestamp("s", name)).cast(pa.int64()).to_pylist() == expected
    assert all(one <= u for one, u in zip(expected, instants, strict=True))


@settings(max_examples=60)
@given(drawn=moments(), unit=UNITS)
def test_fields_are_those_of_the_clock_and_epochs_those_of_utc(drawn, unit):
    name, instants = drawn
    zone = zoneinfo.ZoneInfo(name)
    times = array(instants, name, unit)
    clock = [local(u, zone) for u in instants]
    functions = col("t").dt
    expected = {
        functions.year(): [c.year for c in clock],
        functions.quarter(): [(c.month + 2) // 3 for c in clock],
        functions.month(): [c.month for c in clock],
        functions.week(): [c.isocalendar().week for c in clock],
        functions.day(): [c.day for c in clock],
        functions.day_of_year(): [c.timetuple().tm_yday for c in clock],
        functions.weekday(): [c.isoweekday() for c in clock],
        functions.hour(): [c.hour for c in clock],
        functions.minute(): [c.minute for c in clock],
        functions.second(): [c.second for c in clock],
        functions.date(): [c.date() for c in clock],
        functions.epoch("s"): instants,
        functions.epoch("ms"): [1000 * u for u in instants],
        functions.strftime("%Y-%m-%d %H:%M"): [c.strftime("%Y-%m-%d %H:%M") for c in clock],
    }

    for function, values in expected.items():
        assert evaluate(function, times).to_pylist() == values, function


@given(
    instants=st.lists(st.integers(-(2**60), 2**60), min_size=1),
    every=st.sampled_from(["1s", "7min", "1h", "1d", "1w"]),
    zone=st.sampled_from(["+05:30", "-00:15", "UTC", None]),
)
def test_years_that_python_cannot_show_are_cut_as_others(instants, every, zone):
    size = {"1s": 1, "7min": 420, "1h": 3600, "1d": 86_400, "1w": 604_800}[every]
    shift = {"+05:30": 19_800, "-00:15": -900}.get(zone, 0)
    origin = -259_200 if every == "1w" else 0  # a Monday
    counts = [instant // 10**5 for instant in instants]  # of years up to 365,000
    times = pa.array(counts, pa.timestamp("s", zone))

    found = evaluate(col("t").dt.truncate(every), times)

    begins = (np.array(counts) + shift - origin) // size * size
    assert found.cast(pa.int64()).to_pylist() == (begins - shift + origin).tolist()


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s"])
def test_epochs_before_1970_are_rounded_down(unit):
    times = pa.array([-1, 0, 1], pa.timestamp(unit, "Asia/Kolkata"))

    assert evaluate(col("t").dt.epoch(unit), times).to_pylist() == [-1, 0, 1]
    assert evaluate(col("t").dt.epoch("s"), times).to_pylist()[:2] == [-1, 0]
