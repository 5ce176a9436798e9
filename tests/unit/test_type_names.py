"""Types by name: whatever a type prints is read back as the same type."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream import col
from hpcstream.columns.types.names import type_of_name

UNITS = ["s", "ms", "us", "ns"]
SIMPLE = [
    *(pa.null(), pa.bool_(), pa.float16(), pa.float32(), pa.float64()),
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
    *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    *(pa.string(), pa.large_string(), pa.string_view()),
    *(pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(1), pa.binary(16)),
    *(pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    *(pa.duration(unit) for unit in UNITS),
    *(pa.timestamp(unit) for unit in UNITS),
    *(pa.decimal32(5, 2), pa.decimal64(18, 0), pa.decimal128(10, 2), pa.decimal256(76, -3)),
    *(pa.month_day_nano_interval(), pa.uuid(), pa.json_(), pa.bool8()),
    pa.opaque(pa.binary(), "geometry", "postgis"),
    pa.fixed_shape_tensor(pa.float32(), [2, 3]),
    pa.fixed_shape_tensor(pa.int8(), [2, 3], ["a", "b"], [1, 0]),
]
ZONES = st.sampled_from(["UTC", "Europe/Paris", "+05:30", "America/Argentina/Buenos_Aires"])
NAMES = st.sampled_from(["item", "", "a", "a b", "a: b", "a, b: int8", "x>", "Größe", "not null"])
INDEX_TYPES = st.sampled_from([pa.int8(), pa.int32(), pa.uint64()])


@st.composite
def fields(draw, types):
    data_type = draw(types)
    return pa.field(draw(NAMES), data_type, pa.types.is_null(data_type) or draw(st.booleans()))


def nested(types):
    one = fields(types)
    several = st.lists(one, min_size=1, max_size=3)
    runs = types.filter(lambda t: not pa.types.is_run_end_encoded(t))
    return st.one_of(
        st.builds(pa.list_, one),
        st.builds(pa.large_list, one),
        st.builds(pa.list_view, one),
        st.builds(pa.large_list_view, one),
        st.builds(pa.list_, one, st.integers(0, 9)),
        st.builds(pa.struct, st.lists(one, max_size=3)),
        st.builds(pa.map_, types.filter(lambda t: not pa.types.is_null(t)), types, st.booleans()),
        st.builds(pa.dictionary, INDEX_TYPES, types, st.booleans()),
        st.builds(pa.run_end_encoded, st.sampled_from([pa.int16(), pa.int64()]), runs),
        st.builds(pa.dense_union, several),
        st.builds(pa.sparse_union, several),
    )


TYPES = st.recursive(
    st.sampled_from(SIMPLE) | st.builds(pa.timestamp, st.sampled_from(UNITS), ZONES),
    nested,
    max_leaves=6,
)


@settings(max_examples=200)
@given(data_type=TYPES)
def test_what_a_type_prints_is_read_back_as_the_type(data_type):
    found = type_of_name(str(data_type))

    # One text may be of several types, where fields have the strangest names.
    assert found == data_type or str(found) == str(data_type)


@given(data_type=st.sampled_from(SIMPLE))
def test_simple_types_are_read_back_exactly(data_type):
    assert type_of_name(str(data_type)) == data_type
    assert type_of_name(str(pa.list_(data_type))) == pa.list_(data_type)


@pytest.mark.parametrize(
    ("name", "data_type"),
    [
        ("int64", pa.int64()),
        (" float64 ", pa.float64()),
        ("uuid", pa.uuid()),
        ("list<double>", pa.list_(pa.float64())),
        ("timestamp[ms, UTC]", pa.timestamp("ms", "UTC")),
        ("decimal(7)", pa.decimal128(7, 0)),
        ("decimal128(7,2)", pa.decimal128(7, 2)),
        ("dictionary<values=string, indices=int32>", pa.dictionary(pa.int32(), pa.string())),
        ("map<string, date32, keys_sorted>", pa.map_("string", pa.date32(), True)),
        ("struct<a: struct<b: int8 not null>, c: string>", pa.struct(
            [("a", pa.struct([pa.field("b", pa.int8(), False)])), ("c", pa.string())]
        )),
    ],
)  # fmt: skip
def test_a_type_may_be_written_shorter(name, data_type):
    assert type_of_name(name) == data_type


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("int", "'int64'"),
        ("datetime", "'timestamp[us]'"),
        ("varchar", "'string'"),
        ("flot64", "'float64'"),
        ("decimal128(99, 2)", ""),
        ("list<item: double", ""),
        ("timestamp[us, tz=UTC", ""),
        ("struct<a: nothing>", ""),
        ("", ""),
    ],
)
def test_a_name_of_no_type_says_which_was_meant(name, advice):
    with pytest.raises(ValueError, match="there is no type") as error:
        type_of_name(name)

    assert advice in str(error.value)


def test_many_fields_of_which_one_is_of_no_type_are_refused_at_once():
    fields = ", ".join(f"field {i}: int64" for i in range(100))

    assert len(type_of_name(f"struct<{fields}>")) == 100
    for wrong in (f"struct<{fields}, last: nothing>", f"struct<{fields}> and more"):
        with pytest.raises(ValueError, match="there is no type"):
            type_of_name(wrong)


def test_a_cast_takes_a_type_as_it_is_printed():
    batch = pa.record_batch({"t": ["2001-01-31T10:00:00+01:00"], "x": [1.5]})
    time = col("t").cast("timestamp[us, tz=UTC]")

    assert time.evaluate(batch).to_pylist() == [dt.datetime(2001, 1, 31, 9, tzinfo=dt.UTC)]
    assert str(col("x").cast("decimal128(10, 2)").evaluate(batch)[0]) == "1.50"
    assert eval(repr(time)).equals(time)
