"""Rows as text: any value of any type, in one line of bounded length."""

from __future__ import annotations

import datetime as dt
import uuid
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.columns.shown_rows import shown_rows, value_texts
from hpcstream.columns.shown_times import span_text, time_texts

INT64 = st.integers(-(2**63), 2**63 - 1)
UNITS = ("s", "ms", "us", "ns")
TIMES = [
    *(pa.timestamp(unit) for unit in UNITS),
    *(pa.timestamp(unit, zone) for unit in UNITS for zone in ("UTC", "Europe/Berlin", "-03:30")),
    *(pa.duration(unit) for unit in UNITS),
    *(pa.time64("us"), pa.time64("ns"), pa.date64()),
]
ENCODINGS = {
    "plain": lambda array: array,
    "dictionary": lambda array: array.dictionary_encode(),
    "run ends": pc.run_end_encode,
    "list": lambda array: pa.array([array.to_pylist()], pa.list_(array.type)),
    "large list": lambda array: pa.array([array.to_pylist()], pa.large_list(array.type)),
    "list view": lambda array: pa.array([array.to_pylist()], pa.list_view(array.type)),
    "struct": lambda array: pa.StructArray.from_arrays([array], ["a"]),
    "map": lambda array: pa.array(
        [[(str(i), v) for i, v in enumerate(array.to_pylist())]], pa.map_(pa.string(), array.type)
    ),
}


def text_of(value, data_type=None):
    (text,) = value_texts(pa.array([value], data_type))
    return text


@given(st.sampled_from(TIMES), st.lists(INT64 | st.none(), max_size=5))
def test_any_count_of_any_unit_of_time_is_shown(data_type, ticks):
    array = pa.array(ticks, pa.int64()).cast(data_type) if data_type != pa.date64() else None
    if array is None:
        array = pa.Array.from_buffers(
            data_type, len(ticks), pa.array([t or 0 for t in ticks], pa.int64()).buffers()
        )

    texts = value_texts(array)

    assert len(texts) == len(ticks)
    assert all(text and "\n" not in text for text in texts)


@given(st.datetimes(), st.sampled_from([None, "UTC", "Asia/Kolkata"]))
def test_a_time_that_python_knows_is_shown_as_python_shows_it_but_for_zeros(when, zone):
    when = when.replace(fold=0)
    aware = when if zone is None else when.replace(tzinfo=dt.UTC)
    try:
        expected = str(aware if zone is None else aware.astimezone(ZoneInfo(zone)))
    except OverflowError:
        return

    shown = text_of(aware, pa.timestamp("us", zone))

    fraction = expected[19:26]
    if fraction.startswith(".") and fraction.endswith("000"):
        expected = expected.replace(fraction, fraction[:4])
    assert shown == expected


@pytest.mark.parametrize(
    ("ticks", "unit", "shown"),
    [
        (253_402_300_800, "s", "10000-01-01 00:00:00"),
        (1_772_323_207_123_456_789, "ns", "2026-03-01 00:00:07.123456789"),
        (1_500, "ms", "1970-01-01 00:00:01.500"),
        (-1, "us", "1969-12-31 23:59:59.999999"),
        (2**62, "d", f"{2**62} d"),
        (0, "d", "1970-01-01"),
        (-(2**63), "us", f"{-(2**63)} us"),
    ],
)
def test_points_in_time(ticks, unit, shown):
    assert time_texts(np.array([ticks]), unit) == [shown]


def test_spans_have_days_and_a_sign():
    assert span_text(86_400 * 2 + 3_661, "s") == "2 days 01:01:01"
    assert span_text(-1_500, "ms") == "-00:00:01.500"


def test_integers_of_event_time_are_shown_as_dates_and_others_are_not():
    batch = pa.record_batch({"t": [0, None], "n": [0, 1], "s": ["a", "b"]})

    assert shown_rows(batch, {"t": "ms", "s": "ms"}) == [
        ("1970-01-01 00:00:00", "0", "a"),
        ("None", "1", "b"),
    ]


PLAIN = st.sampled_from(
    [
        (pa.int64(), INT64),
        (pa.uint8(), st.integers(0, 255)),
        (pa.float64(), st.floats()),
        (pa.bool_(), st.booleans()),
        (pa.string(), st.text(st.characters(codec="utf-8"))),
        (pa.large_string(), st.text(st.characters(codec="utf-8"))),
        (pa.binary(), st.binary()),
        (pa.decimal128(9, 2), st.decimals(-(10**6), 10**6, places=2)),
        (pa.date32(), st.dates()),
    ]
)


@settings(max_examples=60)
@given(st.data(), PLAIN, st.sampled_from(sorted(ENCODINGS)))
def test_a_value_of_any_type_and_encoding_takes_one_line_of_bounded_length(data, plain, encoding):
    data_type, values = plain
    array = pa.array(data.draw(st.lists(values | st.none(), max_size=9)), data_type)
    if encoding in ("dictionary", "run ends") and data_type == pa.large_string():
        return
    encoded = ENCODINGS[encoding](array)

    texts = value_texts(encoded)

    assert len(texts) == len(encoded)
    assert all(text.isprintable() and len(text) < 600 for text in texts)
    if encoding in ("plain", "dictionary", "run ends") and data_type == pa.int64():
        assert texts == [str(v) for v in array.to_pylist()]


def test_a_frame_of_a_detector_is_shortened():
    frame = pa.array([np.zeros((512, 512), np.int32).tolist()])

    (text,) = value_texts(frame)

    assert text == "[" + "[0, 0, 0, ... 509 more], " * 3 + "... 509 more]"


def test_a_long_text_is_shortened_and_what_moves_the_cursor_is_escaped():
    assert text_of("x" * 99) == f"{'x' * 61}... (99 characters)"
    assert text_of("a\nb\x1b[2J") == r"a\nb\x1b[2J"
    assert text_of(["a", None]) == "['a', None]"


def test_values_that_python_cannot_decode_or_show_are_shown():
    bad = pa.StringArray.from_buffers(
        1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")
    )
    one = uuid.UUID(int=7)

    assert value_texts(bad) == [r"b'\xff\xfe'"]
    assert value_texts(pa.array([one.bytes], pa.uuid())) == [str(one)]
    assert text_of([2**62], pa.list_(pa.timestamp("s"))) == "[146138514283-06-19 07:45:04]"
    assert text_of({"a": 0.1}, pa.struct([("a", pa.float32())])) == "{a: 0.1}"
    assert text_of(pa.MonthDayNano([1, 2, 3])).startswith("MonthDayNano(")
