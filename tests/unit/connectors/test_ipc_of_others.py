"""Arrow IPC that other tools wrote: read right, or refused by name."""

from __future__ import annotations

import ctypes
import datetime as dt
import decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.connectors.formats.ipc.format import ipc_source
from hpcstream.connectors.parts.formats import IpcParts
from hpcstream.connectors.parts.sinks import ipc_sink
from hpcstream.errors import ConnectorError
from tests.unit.connectors.source_contract import read_all

blocks = st.lists(st.lists(st.none() | st.sampled_from("abcde"), max_size=6), max_size=6)


def encoded(texts, index):
    plain = pa.array(texts, pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(plain.indices.cast(index), plain.dictionary)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ipc")


@settings(max_examples=60)
@given(
    given_blocks=blocks,
    index=st.sampled_from([pa.int8(), pa.int32()]),
    deltas=st.booleans(),
    compression=st.sampled_from([None, "lz4", "zstd"]),
    max_rows=st.sampled_from([1, 3, 100]),
)
def test_streams_whose_dictionaries_grow_or_are_replaced(
    folder, given_blocks, index, deltas, compression, max_rows
):
    path = folder / "a.arrows"
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas, compression=compression)
    schema = pa.schema({"d": pa.dictionary(index, pa.string()), "l": pa.list_(pa.string())})
    with pa.ipc.new_stream(path, schema, options=options) as writer:
        for texts in given_blocks:
            lists = pa.array([[text, None] for text in texts], pa.list_(pa.string()))
            writer.write_batch(pa.record_batch([encoded(texts, index), lists], schema=schema))

    rows = read_all(ipc_source(path), max_rows=max_rows)

    expected = [text for texts in given_blocks for text in texts]
    assert [row["d"] for row in rows] == expected
    assert [row["l"] for row in rows] == [[text, None] for text in expected]


@settings(max_examples=40)
@given(given_blocks=blocks, max_rows=st.sampled_from([1, 3, 100]))
def test_dictionaries_inside_of_nested_columns_are_written_and_read(folder, given_blocks, max_rows):
    path = folder / "a.arrow"
    data_type = pa.list_(pa.dictionary(pa.int32(), pa.string()))
    with pa.OSFile(str(path), "wb") as file:
        writer = IpcParts().open(file, pa.schema({"x": data_type}))
        for texts in given_blocks:
            lists = pa.array([[text] for text in texts], pa.list_(pa.string())).cast(data_type)
            writer.write_table(pa.table({"x": lists}))
        writer.close()
    found = [row["x"] for row in read_all(ipc_source(path), max_rows=max_rows)]
    assert found == [[text] for texts in given_blocks for text in texts]


def test_run_ends_views_and_labels_are_read_as_plain_columns(tmp_path):
    table = pa.table(
        {
            "runs": pc.run_end_encode(pa.array([1, 1, None, 2])),
            "view": pa.array(["a", None, "b" * 40, ""], pa.string_view()),
            "lists": pa.array([[1], None, [], [2, 3]], pa.list_view(pa.int64())),
            "flag": pa.ExtensionArray.from_storage(
                pa.bool8(), pa.array([1, 0, None, 1], pa.int8())
            ),
            "month": pa.array(
                [(1, 2, 3), None, (0, 0, 0), (1, 0, 0)], pa.month_day_nano_interval()
            ),
        }
    )
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    assert read_all(ipc_source(tmp_path), max_rows=3) == [
        {"runs": 1, "view": "a", "lists": [1], "flag": True, "month": (1, 2, 3)},
        {"runs": 1, "view": None, "lists": None, "flag": False, "month": None},
        {"runs": None, "view": "b" * 40, "lists": [], "flag": None, "month": (0, 0, 0)},
        {"runs": 2, "view": "", "lists": [2, 3], "flag": True, "month": (1, 0, 0)},
    ]


def test_dictionaries_of_floats_are_refused_before_any_row(tmp_path):
    data_type = pa.dictionary(pa.int32(), pa.float64())
    for nested in (data_type, pa.list_(data_type), pa.struct([("a", data_type)])):
        with pytest.raises(ConnectorError, match=r"arrow cannot hold .*column 'f' is .*double"):
            ipc_sink(tmp_path).check(pa.schema({"n": pa.int64(), "f": nested}))


VALUES = {
    pa.string(): "a",
    pa.large_binary(): b"a",
    pa.binary(3): b"abc",
    pa.int8(): 7,
    pa.bool_(): True,
    pa.decimal128(5, 2): decimal.Decimal("1.50"),
    pa.date64(): dt.date(2020, 1, 1),
    pa.time64("us"): dt.time(1, 2),
    pa.duration("s"): dt.timedelta(seconds=3),
    pa.timestamp("us", "UTC"): dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
}


@pytest.mark.parametrize("data_type", VALUES, ids=str)
@pytest.mark.parametrize("nested", [False, True], ids=["plain", "in lists"])
def test_a_dictionary_may_be_without_values_until_a_later_block(tmp_path, data_type, nested):
    blocks = [[None, None], [VALUES[data_type]], [None, VALUES[data_type]]]
    columns = [pa.array(block, data_type).dictionary_encode() for block in blocks]
    if nested:
        columns = [pa.ListArray.from_arrays(range(len(c) + 1), c) for c in columns]
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file:
        writer = IpcParts().open(file, pa.schema({"x": columns[0].type}))
        for column in columns:
            writer.write_table(pa.table({"x": column}))
        writer.close()

    expected = [[one] if nested else one for block in blocks for one in block]
    assert [row["x"] for row in read_all(ipc_source(tmp_path))] == expected


class CSchema(ctypes.Structure):
    """A schema of the Arrow C data interface: the way to types that pyarrow has no name for."""


Release = ctypes.CFUNCTYPE(None, ctypes.POINTER(CSchema))
CSchema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(CSchema))),
    ("dictionary", ctypes.POINTER(CSchema)),
    ("release", Release),
    ("private_data", ctypes.c_void_p),
]


@Release
def release(schema):
    schema.contents.release = Release()


@pytest.mark.parametrize("interval", [b"tiM", b"tiD"], ids=["months", "days"])
def test_an_interval_that_pyarrow_does_not_know_is_refused_by_name(tmp_path, interval):
    took = CSchema(interval, b"took", None, 2, 0, None, None, release)
    n = CSchema(b"c", b"n", None, 2, 0, None, None, release)
    children = (ctypes.POINTER(CSchema) * 2)(ctypes.pointer(n), ctypes.pointer(took))
    root = CSchema(b"+s", b"", None, 0, 2, children, None, release)
    schema = pa.Schema._import_from_c(ctypes.addressof(root))
    number = pa.int32() if interval == b"tiM" else pa.int64()
    rows = pa.StructArray.from_arrays(
        [pa.array([7], pa.int8()), pa.array([1], number)], schema.names
    )
    batch = pa.RecordBatch.from_struct_array(rows.view(pa.struct(list(schema))))
    with pa.ipc.new_file(tmp_path / "a.arrow", batch.schema) as writer:
        writer.write_batch(batch)

    source = ipc_source(tmp_path)
    assert read_all(source.project(["n"])) == [{"n": 7}]
    with pytest.raises(ConnectorError, match=r"a\.arrow': column 'took' is of type .*_interval"):
        read_all(source)
