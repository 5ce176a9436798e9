import gc
import uuid
import weakref
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.columns.event_time import TIME_COLUMN
from hpcstream.exchange.wire.format import WireFormat
from hpcstream.memory.pool import BufferPool

INT32 = st.integers(-(2**31), 2**31 - 1)
INT64 = st.integers(-(2**63), 2**63 - 1)
BYTES = st.binary(max_size=40)
TEXT = st.text(max_size=20)
CENTS = INT64.map(lambda cents: Decimal(cents).scaleb(-2))

NATIVE = {
    pa.int8(): st.integers(-128, 127),
    pa.uint16(): st.integers(0, 2**16 - 1),
    pa.int32(): INT32,
    pa.int64(): INT64,
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.timestamp("us", "Europe/Oslo"): st.integers(-(2**53), 2**53),
    pa.duration("s"): st.integers(-(2**31), 2**31),
    pa.decimal64(10, 2): st.integers(0, 10**8).map(lambda cents: Decimal(cents).scaleb(-2)),
    pa.decimal128(24, 2): CENTS,
    pa.decimal256(60, 2): CENTS,
    pa.binary(5): st.binary(min_size=5, max_size=5),
    pa.binary(0): st.just(b""),
    pa.string(): TEXT,
    pa.large_string(): TEXT,
    pa.string_view(): TEXT,
    pa.binary(): BYTES,
    pa.large_binary(): BYTES,
    pa.null(): st.none(),
}
FOREIGN = {
    pa.list_(pa.int32()): st.lists(INT32, max_size=3),
    pa.struct({"x": pa.int64(), "y": pa.string()}): st.fixed_dictionaries({"x": INT64, "y": TEXT}),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["JFK", "LAX", ""]),
    pa.dictionary(pa.uint32(), pa.int64(), ordered=True): INT64,
    pa.map_(pa.string(), pa.int8()): st.just([("a", 1)]),
    pa.uuid(): st.uuids().map(lambda u: u.bytes),
}
VALUES = NATIVE | FOREIGN


@st.composite
def arrays(draw, n_rows):
    data_type = draw(st.sampled_from(list(VALUES)))
    values = VALUES[data_type]
    nullable = draw(st.sampled_from([values, values | st.none(), st.none()]))
    # Rows before and after make the array a slice.
    before, after = draw(st.integers(0, 9)), draw(st.integers(0, 2))
    n_values = before + n_rows + after
    items = draw(st.lists(nullable, min_size=n_values, max_size=n_values))
    return pa.array(items, data_type)[before : before + n_rows]


@st.composite
def batches(draw):
    n_rows = draw(st.integers(0, 12))
    n_columns = draw(st.integers(0, 4))
    columns = {f"c{i}": draw(arrays(n_rows)) for i in range(n_columns)}
    columns[TIME_COLUMN] = pa.array(range(n_rows), pa.int64())
    return pa.record_batch(columns)


@st.composite
def offsets_for(draw, n_rows):
    n_cuts = draw(st.integers(0, 5))
    cuts = draw(st.lists(st.integers(0, n_rows), min_size=n_cuts, max_size=n_cuts))
    return np.array([0, *sorted(cuts), n_rows], dtype=np.int64)


@pytest.fixture(scope="module")
def pool():
    return BufferPool()


def sent(batch, order, offsets, pool):
    """Encode a batch, and decode it at every consumer."""
    wire = WireFormat(batch.schema, pool)
    message = wire.encode(batch, order, offsets)
    blocks = zip(message.displacements, message.counts, message.rows, strict=True)
    return [wire.decode(message.data[at : at + n].copy(), int(rows)) for at, n, rows in blocks]


def rows_of(batch, order, offsets):
    rows = batch.to_pylist()
    return [[rows[row] for row in order[first:stop]] for first, stop in pairwise(offsets)]


def assert_received(received, batch, order, offsets):
    for got in received:
        got.validate(full=True)
        assert got.schema == batch.schema
    assert [got.to_pylist() for got in received] == rows_of(batch, order, offsets)


@settings(max_examples=100)
@given(st.data())
def test_every_partition_receives_its_rows_in_order(pool, data):
    batch = data.draw(batches())
    order = np.array(data.draw(st.permutations(range(batch.num_rows))), dtype=np.int32)
    offsets = data.draw(offsets_for(batch.num_rows))
    assert_received(sent(batch, order, offsets, pool), batch, order, offsets)


@settings(max_examples=60)
@given(st.data())
def test_rows_that_stay_in_order_are_cut_at_the_offsets(pool, data):
    batch = data.draw(batches())
    offsets = data.draw(offsets_for(batch.num_rows))
    as_they_lie = np.arange(batch.num_rows)
    assert_received(sent(batch, None, offsets, pool), batch, as_they_lie, offsets)


@pytest.mark.parametrize(
    "data_type", [*VALUES, pa.dictionary(pa.int64(), pa.list_(pa.int8()))], ids=str
)
def test_a_column_of_nothing_but_nulls_round_trips(pool, data_type):
    batch = pa.record_batch({"c": pa.nulls(5, data_type)})
    order, offsets = np.array([4, 2, 0, 1, 3]), np.array([0, 2, 2, 5])
    assert_received(sent(batch, order, offsets, pool), batch, order, offsets)


def test_a_subset_of_the_rows_may_be_sent_in_any_integer_order(pool):
    batch = pa.record_batch({"a": [1, 2, 3], "s": ["x", None, "z"], "l": [[1], [2], None]})
    for dtype in (np.int32, np.int64, np.uint32):
        order, offsets = np.array([2, 1], dtype=dtype), np.array([0, 1, 2])
        assert_received(sent(batch, order, offsets, pool), batch, order, offsets)


def test_a_batch_without_columns_keeps_its_number_of_rows(pool):
    batch = pa.record_batch({"a": [1, 2, 3]}).select([])
    received = sent(batch, np.array([0, 2, 1]), np.array([0, 1, 3]), pool)
    assert [(got.num_rows, got.num_columns) for got in received] == [(1, 0), (2, 0)]


def test_schema_metadata_and_extension_types_survive(pool):
    column = pa.array([uuid.UUID(int=7).bytes], pa.uuid())
    schema = pa.schema([pa.field("u", pa.uuid(), metadata={"unit": "m"})], metadata={"by": "us"})
    (got,) = sent(pa.record_batch([column], schema), None, np.array([0, 1]), pool)
    assert got.schema.equals(schema, check_metadata=True)
    assert got["u"].to_pylist() == [uuid.UUID(int=7)]


def test_a_partition_without_rows_costs_no_byte(pool):
    batch = pa.record_batch({"a": [1, 2], "s": ["x", "y"], "l": [[1], [2]]})
    message = WireFormat(batch.schema, pool).encode(batch, None, np.array([0, 0, 2, 2]))
    assert message.counts.tolist()[::2] == [0, 0]
    assert message.rows.tolist() == [0, 2, 0]
    empty = WireFormat(batch.schema, pool).encode(batch[:0], None, np.array([0, 0, 0]))
    assert (empty.data.size, empty.counts.tolist()) == (0, [0, 0])


def test_blocks_and_buffers_begin_at_multiples_of_64(pool):
    batch = pa.record_batch({"a": [1, 2, None] * 11, "s": ["abc", "d", None] * 11})
    wire = WireFormat(batch.schema, pool)
    message = wire.encode(batch, None, np.array([0, 5, 12, 33]))
    assert not np.any(message.displacements % 64)
    assert not np.any(message.counts % 64)
    assert message.counts.sum() == message.data.size
    got = wire.decode(message.data[: message.counts[0]], 5)
    buffers = [buffer for column in got.columns for buffer in column.buffers()]
    assert [buffer.address % 64 for buffer in buffers] == [0] * 5


def test_a_decoded_batch_is_views_that_keep_the_memory_alive():
    batch = pa.record_batch({"a": range(100), "s": [str(i) for i in range(100)]})
    pool = BufferPool()
    wire = WireFormat(batch.schema, pool)
    message = wire.encode_whole(batch)
    owner = weakref.ref(message.data)
    address = message.data.__array_interface__["data"][0]
    got = wire.decode(message.data, 100)
    assert address < got["a"].buffers()[1].address < address + message.data.size
    del message
    gc.collect()
    assert owner() is not None
    assert got.equals(batch)
    del got
    gc.collect()
    assert owner() is None


def test_a_block_carries_the_dictionary_entries_that_its_rows_use(pool):
    schema = pa.schema({"d": pa.dictionary(pa.int32(), pa.string())})
    wire = WireFormat(schema, pool)
    airports = pa.array(["JFK", None, "LAX", "OSL"])
    for dictionary in (airports, airports, airports[1:], pa.array(["a", "b", None])):
        column = pa.DictionaryArray.from_arrays(pa.array([2, None, 0, 1], pa.int32()), dictionary)
        batch = pa.record_batch([column], schema)
        message = wire.encode(batch, np.array([3, 2, 1, 0]), np.array([0, 3, 3, 4]))
        first = wire.decode(message.data[: message.counts[0]], 3)
        assert first["d"].to_pylist() == column.to_pylist()[:0:-1]
        assert len(first["d"].dictionary) == 2


def test_a_broadcast_message_sends_one_block_to_everyone(pool):
    batch = pa.record_batch({"a": [1, None, 3]})
    wire = WireFormat(batch.schema, pool)
    message = wire.encode_whole(batch).to_everyone(3)
    assert message.displacements.tolist() == [0, 0, 0]
    assert message.counts.tolist() == [message.data.size] * 3
    assert wire.decode(message.data, int(message.rows[2])).equals(batch)


def test_a_format_serves_messages_of_changing_shape(pool):
    schema = pa.schema({"a": pa.int64(), "s": pa.string(), "l": pa.list_(pa.int8())})
    wire = WireFormat(schema, pool)
    with_nulls = pa.record_batch([[1, None], [None, "abc"], [[1], None]], schema)
    without = pa.record_batch([[3, 4], ["", "defgh"], [[2], [3]]], schema)
    for batch in (with_nulls, without, with_nulls):
        for offsets in (np.array([0, 2]), np.array([0, 1, 2]), np.array([0, 2, 2])):
            message = wire.encode(batch, None, offsets)
            first = wire.decode(message.data[: message.counts[0]], int(message.rows[0]))
            assert first.equals(batch[: offsets[1]])


def test_a_block_of_another_row_count_is_noticed(pool):
    batch = pa.record_batch({"a": [1, 2]})
    wire = WireFormat(batch.schema, pool)
    with pytest.raises(AssertionError, match="expected a block of 3 rows, got 2"):
        wire.decode(wire.encode_whole(batch).data, 3)
