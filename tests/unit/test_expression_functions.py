import datetime as dt
import re

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.errors import PlanError
from hpcstream.expressions.expression import Expression, col, lit

TEXTS = ["Apple pie", "  straße ", None, "", "aaa", "x.y"]


def values(expression, **columns):
    batch = pa.record_batch(columns)
    out = expression.evaluate(batch)
    assert out.type == expression.data_type(batch.schema)
    return out.to_pylist()


@pytest.mark.parametrize(
    ("ours", "python"),
    [
        (col("t").str.lower(), str.lower),
        (col("t").str.length(), len),
        (col("t").str.contains("p"), lambda t: "p" in t),
        (col("t").str.contains("x.y"), lambda t: "x.y" in t),
        (col("t").str.contains("^a+$", regex=True), lambda t: t == "aaa"),
        (col("t").str.starts_with("A"), lambda t: t.startswith("A")),
        (col("t").str.ends_with("e "), lambda t: t.endswith("e ")),
        (col("t").str.replace("a", "b"), lambda t: t.replace("a", "b")),
        (col("t").str.replace("a+", "b", regex=True), lambda t: re.sub("a+", "b", t)),
        (col("t").str.strip(), str.strip),
        (col("t").str.strip("a "), lambda t: t.strip("a ")),
        (col("t").str.strip_start(), str.lstrip),
        (col("t").str.strip_end(), str.rstrip),
        (col("t").str.slice(2), lambda t: t[2:]),
        (col("t").str.slice(1, 3), lambda t: t[1:4]),
        (col("t").str.slice(-3), lambda t: t[-3:]),
        (col("t").str.slice(-3, 2), lambda t: t[-3:][:2] if len(t) >= 3 else t[-3:-1]),
        (col("t").str.slice(-3, 3), lambda t: t[-3:]),
    ],
    ids=lambda case: repr(case) if isinstance(case, Expression) else "python",
)
@pytest.mark.parametrize("data_type", [pa.string(), pa.large_string()], ids=str)
def test_text_functions_do_what_python_does(ours, python, data_type):
    expected = [None if text is None else python(text) for text in TEXTS]

    assert values(ours, t=pa.array(TEXTS, data_type)) == expected


def test_text_functions_take_dictionaries_and_views():
    for column in (pa.array(TEXTS).dictionary_encode(), pa.array(TEXTS, pa.string_view())):
        assert values(col("t").str.upper(), t=column)[:1] == ["APPLE PIE"]
        assert values(col("t").str.len(), t=column) == [9, 9, None, 0, 3, 3]


def test_a_negative_slice_length_is_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        col("t").str.slice(0, -1)


def test_text_becomes_time():
    assert values(col("t").str.to_datetime("%d/%m/%Y"), t=["31/01/2001", None]) == [
        dt.datetime(2001, 1, 31),
        None,
    ]
    assert values(col("t").cast("timestamp[us]"), t=["2001-01-31 10:00"]) == [
        dt.datetime(2001, 1, 31, 10)
    ]
    with pytest.raises(pa.ArrowInvalid) as error:
        values(col("t").str.to_datetime("%Y"), t=["soon"])
    assert "to_datetime" in error.value.__notes__[0]


# Arrow knows no daylight saving after 2037.
MOMENTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2037, 1, 1))
FIELDS = {
    "year": "year",
    "quarter": "quarter",
    "month": "month",
    "week": "week",
    "day": "day",
    "day_of_year": "ordinal_day",
    "weekday": "weekday",
    "day_of_week": "weekday",
    "hour": "hour",
    "minute": "minute",
    "second": "second",
    "date": "date",
}


@pytest.mark.parametrize("zone", [None, "America/New_York"])
@settings(max_examples=20)
@given(moments=st.lists(st.none() | MOMENTS, min_size=1, max_size=8))
def test_time_fields_equal_those_of_polars(zone, moments):
    times = pa.array(moments, pa.timestamp("us", zone))
    polars = pl.from_arrow(pa.table({"t": times}))
    for ours, theirs in FIELDS.items():
        expected = polars.select(r=getattr(pl.col("t").dt, theirs)())["r"].to_list()
        assert values(getattr(col("t").dt, ours)(), t=times) == expected, ours


@settings(max_examples=30)
@given(
    moments=st.lists(MOMENTS, min_size=1, max_size=8),
    every=st.sampled_from(["1s", "15min", "2h", "1d", "1w", "1mo", "1q", "1y", "d"]),
)
def test_truncation_equals_that_of_polars(moments, every):
    times = pa.array(moments, pa.timestamp("us"))
    theirs = pl.col("t").dt.truncate(every.replace("min", "m") if every != "d" else "1d")
    expected = pl.from_arrow(pa.table({"t": times})).select(r=theirs)["r"].to_list()

    assert values(col("t").dt.truncate(every), t=times) == expected


@pytest.mark.parametrize("every", ["0h", "5 parsecs", "h5", "", "-1h"])
def test_an_interval_that_is_none_is_refused(every):
    with pytest.raises(ValueError, match="as in '15min'"):
        col("t").dt.truncate(every)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("of", ["s", "ms", "us", "ns"])
def test_epoch_counts_units_rounded_down(unit, of):
    moments = [dt.datetime(2001, 1, 1, 0, 0, 1), dt.datetime(1969, 12, 31, 23, 59, 58), None]
    if of != "s":
        moments[1] = dt.datetime(1969, 12, 31, 23, 59, 58, 999_000)
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    epoch = dt.datetime(1970, 1, 1)
    expected = [
        None if m is None else ((m - epoch) // dt.timedelta(microseconds=1)) * per_second // 10**6
        for m in moments
    ]

    assert values(col("t").dt.epoch(unit), t=pa.array(moments, pa.timestamp(of))) == expected


def test_epoch_of_dates_and_zoned_times_is_that_of_utc():
    day = pa.array([dt.date(1970, 1, 2)])
    zoned = pa.array([0], pa.timestamp("ms", "Asia/Tokyo"))

    assert values(col("t").dt.epoch("ms"), t=day) == [86_400_000]
    assert values(col("t").dt.epoch("s"), t=zoned) == [0]
    with pytest.raises(ValueError, match="expected one of s, ms, us, ns"):
        col("t").dt.epoch("days")


def test_fractions_of_a_second_and_text_of_a_time():
    times = pa.array([1_002_003_004], pa.timestamp("ns"))
    functions = col("t").dt

    assert values(functions.millisecond(), t=times) == [2]
    assert values(functions.microsecond(), t=times) == [3]
    assert values(functions.nanosecond(), t=times) == [4]
    assert values(functions.strftime("%H:%M"), t=times) == ["00:00"]
    assert values(functions.hour(), t=pa.array([dt.date(2001, 1, 1)])) == [0]


def test_a_duration_is_given_in_seconds():
    lengths = pa.array([1500, None], pa.duration("ms"))

    assert values(col("d").dt.total_seconds(), d=lengths) == [1.5, None]
    with pytest.raises(PlanError, match="takes a duration"):
        values(col("d").dt.total_seconds(), d=[1])


@settings(max_examples=40)
@given(numbers=st.lists(st.integers(-(10**6), 10**6), min_size=1), digits=st.integers(0, 3))
def test_rounding_takes_halves_away_from_zero(numbers, digits):
    # Quarters are exact in binary, so that a half is a half.
    column = [number / 4 for number in numbers]
    scale = 10**digits
    exact = [number * scale for number in numbers]
    expected = [
        (1 if quarters >= 0 else -1) * ((abs(quarters) + 2) // 4) / scale for quarters in exact
    ]

    assert values(col("x").round(digits), x=column) == pytest.approx(expected, abs=1e-12)


def test_rounding_of_integers_and_to_whole_numbers():
    assert values(col("n").round(), n=[1, 15]) == [1, 15]
    assert values(col("n").round(-1), n=[14, 15]) == [10, 20]
    assert values(col("x").floor(), x=[-1.5, 1.5]) == [-2.0, 1.0]
    assert values(col("x").ceil(), x=[-1.5, 1.5]) == [-1.0, 2.0]
    assert values(col("n").ceil(), n=[3]) == [3]


def test_functions_of_numbers_equal_those_of_pandas():
    column = [0.25, 1.0, 4.0]
    series = pd.Series(column)

    assert values(col("x").sqrt(), x=column) == series.pow(0.5).tolist()
    assert values(col("x").log().exp(), x=column) == pytest.approx(column)
    assert values(col("n").sqrt(), n=[4, 9]) == [2.0, 3.0]
    assert values(col("x").is_nan(), x=[float("nan"), 1.0, None]) == [True, False, None]
    assert values(col("n").abs(), n=[-3, None]) == [3, None]


def test_casts_are_safe_unless_said_otherwise():
    assert values(col("x").cast("int64", safe=False), x=[1.7]) == [1]
    with pytest.raises(pa.ArrowInvalid, match="truncated"):
        values(col("x").cast(int), x=[1.7])
    with pytest.raises(pa.ArrowInvalid, match="Failed to parse"):
        values(col("x").cast(pa.int8()), x=["a"])
    assert values(col("x").cast(str), x=[1]) == ["1"]
    assert values(col("x").cast(dt.date), x=["2001-01-31"]) == [dt.date(2001, 1, 31)]
    assert values(lit("3").cast("int64") + 1, x=[0]) == [4]


def test_an_unknown_type_is_refused_at_the_call():
    with pytest.raises(ValueError, match="there is no type 'integer64'"):
        col("x").cast("integer64")
    for wrong in (complex, 3):
        with pytest.raises(ValueError, match="expected a pyarrow type"):
            col("x").cast(wrong)


def test_a_cast_that_does_not_exist_is_refused_in_the_plan():
    with pytest.raises(PlanError, match="'cast' of bool"):
        col("x").cast("date32").data_type(pa.schema([("x", pa.bool_())]))
