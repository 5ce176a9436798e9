"""HDF5 tables: ours and those of others, with frames, and as committed parts."""

from __future__ import annotations

import base64

import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.connectors.formats.hdf5.format import hdf5_source
from hpcstream.connectors.formats.hdf5.writer import Hdf5Parts
from hpcstream.connectors.parts.sinks import hdf5_sink
from hpcstream.errors import ConnectorError
from tests.unit.connectors.sink_contract import SinkContract
from tests.unit.connectors.source_contract import SourceContract, read_all, sample_table

h5py = pytest.importorskip("h5py")


def write(path, table, group="/"):
    with pa.OSFile(str(path), "wb") as file:
        writer = Hdf5Parts(group).open(file, table.schema)
        for start in range(0, max(table.num_rows, 1), 300):
            writer.write_table(table.slice(start, 300))
        writer.close()
    return path


class TestHdf5Source(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        write(tmp_path / "a.h5", sample_table().slice(0, 450))
        write(tmp_path / "b.h5", sample_table().slice(450))
        return hdf5_source(tmp_path, event_time="time", unit="ms", split_rows=200)

    def test_splits_are_ranges_of_rows(self, source):
        assert [split.n_rows for split in source.list_splits()] == [200, 200, 50, 200, 200, 150]


class TestHdf5Sink(SinkContract):
    extension = "h5"

    def make(self, path, **options):
        return hdf5_sink(path, **options)

    def read(self, path):
        source = hdf5_source(path)
        return pa.Table.from_pylist(read_all(source), schema=source.schema)


def test_types_and_nulls_come_back(tmp_path):
    frames = pa.FixedSizeListArray.from_arrays(pa.array(range(24), pa.uint16()), 6)
    table = pa.table(
        {
            "at": pa.array([1, None, 3, 4], pa.timestamp("us", "UTC")),
            "day": pa.array([1, 2, None, 4], pa.date32()),
            "flag": [True, None, False, True],
            "name": ["a", "", None, "é"],
            "frame": frames,
            "number": pa.array([1, 2, 3, None], pa.uint64()),
        }
    )
    source = hdf5_source(write(tmp_path / "a.h5", table, "run/1"), table="run/1")

    assert pa.Table.from_pylist(read_all(source), source.schema).equals(table)


def test_files_of_others_are_read_by_their_datasets_and_frames_are_lists(tmp_path):
    path = tmp_path / "detector.h5"
    frames = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    with h5py.File(path, "w") as file:
        file["entry/frame"] = frames
        file["entry/time"] = np.array([10, 20])
        file["entry/label"] = ["x", "y"]

    source = hdf5_source(path, table="entry")

    assert source.schema.field("frame").type == pa.list_(pa.list_(pa.float32(), 4), 3)
    rows = read_all(source)
    assert [row["time"] for row in rows] == [10, 20]
    assert [row["label"] for row in rows] == ["x", "y"]
    assert np.array_equal(np.array([row["frame"] for row in rows]), frames)


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(ConnectorError, match="not a readable HDF5 file"):
        hdf5_source(path)
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = np.arange(3), np.arange(4)
    with pytest.raises(ConnectorError, match="datasets differ in length"):
        hdf5_source(path)
    with pytest.raises(
        ConnectorError,
        match=r"has no '/x'; in '/' is a, b; groups that have rows: / .a: 3 rows, b: 4 rows.",
    ):
        hdf5_source(path, table="x")


def test_a_column_that_hdf5_has_no_dataset_for_is_refused_before_any_row(tmp_path):
    sink = hdf5_sink(tmp_path)
    with pytest.raises(ConnectorError, match="HDF5 datasets hold numbers, times and strings"):
        sink.begin(pa.schema({"a": pa.list_(pa.int64())}), 0, 1, 0)


def test_a_job_reads_and_writes_hdf5(tmp_path):
    write(tmp_path / "in.h5", sample_table())
    job = hs.Job("hdf5")
    rows = job.read_hdf5(tmp_path / "in.h5", event_time="time", event_time_unit="ms")
    rows.filter(col("small") == 1).select("key", "value").write_hdf5(tmp_path / "out")
    job.run(show=False)

    written = read_all(hdf5_source(tmp_path / "out"))
    expected = [row for row in sample_table().to_pylist() if row["small"] == 1]
    assert written == [{"key": row["key"], "value": row["value"]} for row in expected]


def old_file(path, columns, masks):
    """Write a table as earlier versions did: masks by name, nothing else in the schema."""
    schema = pa.schema([(name, column.type) for name, column in columns.items()])
    with h5py.File(path, "w") as file:
        file.attrs["arrow_schema"] = base64.b64encode(schema.serialize().to_pybytes()).decode()
        for name, column in columns.items():
            file[name] = column.fill_null(0).to_numpy(zero_copy_only=False)
        for name, valid in masks.items():
            file[f"{name}.valid"] = np.array(valid, dtype=np.uint8)


def test_files_of_earlier_versions_are_read_with_their_nulls(tmp_path):
    columns = {"x": pa.array([1, 2, 3]), "a/b": pa.array([1.5, 2.5, 3.5])}
    old_file(tmp_path / "a.h5", columns, {"x": [1, 0, 1], "a/b": [0, 1, 1]})
    found = hdf5_source(tmp_path / "a.h5")
    assert found.schema.names == ["x", "a/b"]
    assert [tuple(row.values()) for row in read_all(found)] == [(1, None), (None, 2.5), (3, 3.5)]

    columns = {"x": pa.array([1, 2]), "x.valid": pa.array([0, 7])}
    old_file(tmp_path / "b.h5", columns, {})
    assert read_all(hdf5_source(tmp_path / "b.h5")) == [
        {"x": 1, "x.valid": 0},
        {"x": 2, "x.valid": 7},
    ]


def test_masks_are_marked_and_a_column_of_others_named_so_is_a_column(tmp_path):
    table = pa.table({"x": [1, None], "x.valid": [5, 0]})
    with h5py.File(write(tmp_path / "a.h5", table), "a") as file:
        assert file["x.valid_"].attrs["mask_of"] == "x"
        del file.attrs["arrow_schema"]  # as a tool does that copies datasets alone
    assert read_all(hdf5_source(tmp_path / "a.h5")) == table.to_pylist()

    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"], file["x.valid"] = [1, 2], [5, 0]
    assert read_all(hdf5_source(tmp_path / "b.h5")) == [
        {"x": 1, "x.valid": 5},
        {"x": 2, "x.valid": 0},
    ]


def test_an_attribute_that_does_not_fit_the_datasets_is_refused(tmp_path):
    path = write(tmp_path / "a.h5", pa.table({"x": [1, 2], "y": ["a", "b"]}))
    with h5py.File(path, "a") as file:
        del file["x"]
        file["x"] = [0.5, 1.5]
    with pytest.raises(ConnectorError, match=r"a\.h5': /x is of type float64 .* says int64"):
        hdf5_source(path)
    with h5py.File(path, "a") as file:
        file.attrs["arrow_schema"] = "no schema"
    with pytest.raises(ConnectorError, match="its attribute 'arrow_schema' is damaged"):
        hdf5_source(path)


@pytest.mark.parametrize(
    "data_type",
    [pa.binary(), pa.list_(pa.int8()), pa.decimal128(5), pa.struct([("a", pa.int8())]), pa.null()],
    ids=str,
)
def test_a_column_that_has_no_dataset_is_named(tmp_path, data_type):
    sink = hdf5_sink(tmp_path)
    with pytest.raises(ConnectorError, match="column 'odd': HDF5 datasets hold numbers, times and"):
        sink.begin(pa.schema({"x": pa.int64(), "odd": data_type}), 0, 1, 0)


def test_a_job_says_what_a_file_cannot_hold_where_the_sink_is_declared(tmp_path):
    rows = hs.Job("declared").from_batches(pa.table({"x": [1], "odd": [[1, 2]]}))
    with pytest.raises(ConnectorError, match=r"column 'odd': HDF5 datasets hold .*select"):
        rows.write_hdf5(tmp_path / "out")
    assert not (tmp_path / "out").exists()
