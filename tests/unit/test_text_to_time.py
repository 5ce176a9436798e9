"""Texts as times against Python's own strict readers."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col

FORMATS = [
    "%Y-%m-%d",
    "%d/%m/%Y",
    "%Y%m%d",
    "%d.%m.%y",
    "%b %d %Y",
    "%d %B %Y %H:%M:%S",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S%z",
    "%H:%M:%S%z on %d/%m/%Y",
    "%I:%M:%S %p, %m/%d/%Y",
    "%Y %j",
    "%a %b %d %H:%M:%S %Y",
    "100%% of %Y-%m-%d",
]
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
DAYS = st.sampled_from([1, 2, 3, 28, 29, 30, 31]) | st.integers(1, 31)


def read(texts, *format, unit="us"):
    expression = col("text").str.to_datetime(*format, unit=unit)
    batch = pa.record_batch({"text": pa.array(texts, pa.string())})
    out = expression.evaluate(batch)
    assert out.type == expression.data_type(batch.schema)
    return out


@st.composite
def written(draw, form):
    """Draw a text in a format, perhaps of a day that does not exist."""
    month = draw(st.integers(1, 12))
    hour = draw(st.integers(0, 23))
    parts = {
        "%Y": f"{draw(st.integers(1900, 2100)):04}",
        "%y": f"{draw(st.integers(0, 99)):02}",
        "%m": f"{month:02}",
        "%b": MONTHS[month - 1],
        "%B": dt.date(2000, month, 1).strftime("%B"),
        "%d": f"{draw(DAYS):02}",
        "%j": f"{draw(st.sampled_from([1, 59, 60, 365, 366])):03}",
        "%H": f"{hour:02}",
        "%I": f"{hour % 12 + 1:02}",
        "%p": draw(st.sampled_from(["AM", "PM"])),
        "%M": f"{draw(st.integers(0, 59)):02}",
        "%S": f"{draw(st.sampled_from([0, 1, 2, 59, 60, 61])):02}",
        "%z": draw(st.sampled_from(["+0000", "+0530", "-1100", "+1400", "Z"])),
        "%a": draw(st.sampled_from(["Mon", "Sun"])),
        "%%": "%",
    }
    text = form
    for directive, part in parts.items():
        text = text.replace(directive, part)
    return text


def strptime(text, form):
    """As Python's, which lets day 366 of some years be another year's first."""
    moment = dt.datetime.strptime(text, form)
    if "%j" in form and moment.strftime("%Y %j") != text:
        raise ValueError(text)
    return moment


@settings(max_examples=200)
@given(data=st.data(), form=st.sampled_from(FORMATS))
def test_formats_are_read_as_strictly_as_by_python(data, form):
    texts = data.draw(st.lists(written(form), min_size=1, max_size=4))
    expected = []
    for text in texts:
        try:
            moment = strptime(text, form)
            expected.append(moment.astimezone(dt.UTC) if "%z" in form else moment)
        except ValueError:
            with pytest.raises(pa.ArrowInvalid) as error:
                read(texts, form)
            wrong = [t for t in texts if t in str(error.value)]
            assert wrong
            return

    assert read([*texts, None], form).to_pylist() == [*expected, None]


@settings(max_examples=200)
@given(data=st.data(), unit=st.sampled_from(["s", "ms", "us", "ns"]))
def test_iso_texts_are_the_instants_that_python_reads(data, unit):
    day = st.builds("{:04}-{:02}-{:02}".format, st.integers(1700, 2200), st.integers(1, 12), DAYS)
    seconds = st.sampled_from(["", ":00", ":59", ":60", ":07.5", ":07.123456", ":07.123456789"])
    time = st.builds(
        "{}{:02}:{:02}{}".format,
        st.sampled_from("T "),
        st.integers(0, 24),
        st.integers(0, 59),
        seconds,
    )
    zone = st.sampled_from(["", "Z", "+00:00", "+05:30", "-0330", "+14"])
    texts = data.draw(
        st.lists(day | st.builds("{}{}{}".format, day, time, zone), min_size=1, max_size=4)
    )
    expected = []
    for text in texts:
        try:
            moment = dt.datetime.fromisoformat(text)
        except ValueError:
            with pytest.raises(pa.ArrowInvalid) as error:
                read(texts, unit=unit)
            assert any(t in str(error.value) for t in texts)
            return
        expected.append(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC))

    found = read([*texts, None], unit=unit)

    assert found.type == pa.timestamp(unit, "UTC")
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    counts = [None if c is None else c * 10**6 // per_second for c in ticks(found)]
    cut = {"s": 10**6, "ms": 10**3}.get(unit, 1)
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    exact = [(moment - epoch) // dt.timedelta(microseconds=1) for moment in expected]
    assert counts == [*(count // cut * cut for count in exact), None]


def ticks(times):
    return times.cast(pa.int64()).to_pylist()


@pytest.mark.parametrize(
    "text", ["2023-02-29", "2023-02-29T10:00Z", "soon", "", "2023-1-1", "2023-01-01X"]
)
def test_the_first_text_that_is_no_time_is_named(text):
    texts = ["2023-02-28T10:00Z", None, *["2024-02-29"] * 50, text, "also wrong"]

    with pytest.raises(pa.ArrowInvalid, match=f"^'{text}' is not an ISO 8601 time"):
        read(texts)


def test_what_a_format_reads_but_does_not_tell_is_refused_in_the_plan():
    schema = pa.schema([("text", pa.string())])
    for form in ("%G-%V", "%Y %U"):
        with pytest.raises(hs.PlanError, match="ignores its value"):
            col("text").str.to_datetime(form).data_type(schema)
    with pytest.raises(ValueError, match="expected s, ms, us or ns"):
        col("text").str.to_datetime(unit="d")


def test_constants_dictionaries_and_no_rows_are_read_too():
    lit_time = hs.lit("2024-02-29T00:00:00+01:00").str.to_datetime()
    batch = pa.record_batch({"d": pa.array(["29/02/2024", None]).dictionary_encode()})

    assert lit_time.evaluate(batch)[1].as_py() == dt.datetime(2024, 2, 28, 23, tzinfo=dt.UTC)
    day = dt.datetime(2024, 2, 29)
    assert col("d").str.to_datetime("%d/%m/%Y").evaluate(batch).to_pylist() == [day, None]
    assert read([]).to_pylist() == read([], "%Y").to_pylist() == []
    with pytest.raises(hs.PlanError, match="'2023-02-29'"):
        hs.lit("2023-02-29").str.to_datetime().data_type(batch.schema)
