"""Columns as the engine has them: the same values, one way of writing them."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream.columns.types.plain import plain_batch, plain_column, plain_table, plain_type
from hpcstream.testing import run_ranks

VALUES = ["b", None, "a", None, "b"]
RUNS = pa.RunEndEncodedArray.from_arrays([1, 2, 3, 4, 5], pa.array(VALUES))
WAYS = {
    "plain": pa.array(VALUES),
    "view": pa.array(VALUES, pa.string_view()),
    "runs": RUNS,
    "runs of a slice": pa.concat_arrays([RUNS, RUNS]).slice(5),
    "narrow indices": pa.array(VALUES).dictionary_encode().cast(pa.dictionary(pa.int8(), "string")),
    "null among the values": pa.DictionaryArray.from_arrays(
        pa.array([3, 0, 2, None, 1], pa.uint16()), pa.array([None, "b", "a", "b"])
    ),
    "views in a dictionary": pa.DictionaryArray.from_arrays(
        pa.array([1, 0, 2, None, 1]), pa.array([None, "b", "a"], pa.string_view())
    ),
    "a label over views": pa.ExtensionArray.from_storage(
        pa.json_(pa.string_view()), pa.array(VALUES, pa.string_view())
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_plain_column_has_the_same_values_and_one_kind_of_null(way):
    array = WAYS[way]

    plain = plain_column(array, plain_type(array.type))

    assert plain.type == plain_type(array.type) == plain_type(plain.type)
    assert plain.to_pylist() == VALUES
    assert plain.null_count == 2
    plain.validate(full=True)


@given(
    entries=st.lists(st.none() | st.integers(0, 3), min_size=1, max_size=5),
    data=st.data(),
    index=st.sampled_from([pa.int8(), pa.uint8(), pa.int32(), pa.uint32(), pa.int64()]),
)
def test_nulls_of_any_dictionary_move_to_its_indices(entries, data, index):
    place = st.none() | st.integers(0, len(entries) - 1)
    places = data.draw(st.lists(place, max_size=8))
    array = pa.DictionaryArray.from_arrays(pa.array(places, index), pa.array(entries, pa.int16()))
    start = data.draw(st.integers(0, len(places)))

    plain = plain_column(array.slice(start), plain_type(array.type))

    assert plain.to_pylist() == array.slice(start).to_pylist()
    assert plain.dictionary.null_count == 0


def test_what_is_plain_is_not_copied():
    batch = pa.record_batch({"a": [1, 2], "b": pa.array(["x", None]).dictionary_encode()})

    assert plain_batch(batch, batch.schema) is batch


def test_booleans_of_bytes_are_booleans():
    array = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1, -3, None], pa.int8()))

    assert plain_column(array, plain_type(array.type)).equals(pa.array([False, True, True, None]))


def test_a_table_is_made_plain_chunk_by_chunk():
    table = pa.table({"k": pa.chunked_array([WAYS["view"], WAYS["view"].slice(2)])})

    assert plain_table(table).equals(pa.table({"k": pa.array(VALUES + VALUES[2:], "large_string")}))


def test_a_function_may_return_any_way_of_writing_a_column():
    def encoded(batch):
        places = pa.array([0, 1, 0, 2], pa.int8()).slice(0, batch.num_rows)
        days = pa.array([None, dt.date(2000, 1, 1), dt.date(2001, 1, 1)])
        return batch.append_column("day", pa.DictionaryArray.from_arrays(places, days))

    def build():
        job = hs.Job("encoded")
        rows = job.from_batches(pa.table({"t": range(4)}), event_time="t", event_time_unit="ms")
        days = rows.map_batches(encoded).key_by("day").window(hs.tumbling("1h"))
        return job, days.agg(n=hs.count()).collect()

    found = run_ranks(2, build).table.select(["day", "n"]).to_pylist()
    expected = {None: 2, dt.date(2000, 1, 1): 1, dt.date(2001, 1, 1): 1}
    assert {row["day"]: row["n"] for row in found} == expected


def test_rows_that_arrow_cannot_make_a_column_of_are_refused_by_name():
    days = pa.array([dt.date(2000, 1, 1)]).dictionary_encode()
    stream = hs.Job("rows").from_batches(pa.table({"day": days}))

    with pytest.raises(hs.PlanError, match=r"flat_map.*dictionary.*'day'"):
        stream.flat_map(lambda row: row)
