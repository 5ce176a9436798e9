"""Columns of one HDF5 file by their paths, compound datasets, and times in floats."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col
from hpcstream.connectors.formats.float_times import as_event_time
from hpcstream.connectors.formats.hdf5.format import hdf5_source
from hpcstream.connectors.formats.hdf5.growing import growing_hdf5_source
from hpcstream.connectors.formats.hdf5.writer import Hdf5Parts
from hpcstream.errors import ConnectorError, PlanError
from tests.unit.connectors.source_contract import SourceContract, read_all, sample_table

h5py = pytest.importorskip("h5py")

STAMP = "/entry/instrument/NDAttributes/NDArrayTimeStamp"
START_S = 1_772_323_200.0
COLUMNS = {"frame": "/entry/data/data", "t": STAMP}


@pytest.fixture
def scan(tmp_path):
    """A file as a detector writes it: frames and times in groups of their own."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["entry/data/data"] = np.arange(5 * 2 * 3, dtype="<u2").reshape(5, 2, 3)
        file[STAMP] = START_S + np.arange(5) / 10
        file["entry/instrument/NDAttributes/NDArrayUniqueId"] = np.arange(5, dtype="<i4")
        file["entry/title"] = "a scan"
        file["entry/events"] = np.array(
            [(i, (i / 2, -i), b"ab"[: i % 3]) for i in range(4)],
            [("n", ">i4"), ("at", [("x", "<f4"), ("y", "i1")]), ("label", "S2")],
        )
    return tmp_path / "scan.h5"


class TestColumnsByPath(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        for name, part in (("a", sample_table().slice(0, 450)), ("b", sample_table().slice(450))):
            with pa.OSFile(str(tmp_path / f"{name}.h5"), "wb") as file:
                writer = Hdf5Parts("deep/down").open(file, part.schema)
                writer.write_table(part)
                writer.close()
        columns = {name: f"deep/down/{name}" for name in sample_table().schema.names}
        return hdf5_source(tmp_path, columns=columns, event_time="time", unit="ms", split_rows=200)


def test_frames_and_their_times_come_from_different_groups(scan):
    job = hs.Job("mean of frames")
    rows = job.read_hdf5(scan, columns=COLUMNS, event_time="t", event_time_unit="s")
    counts = rows.window_all(hs.tumbling("200ms")).agg(n=hs.count()).collect()
    frames = rows.select("t", "frame").collect()
    job.run(show=False)

    assert counts.table["n"].to_pylist() == [2, 2, 1]
    start = dt.datetime(2026, 3, 1)
    assert frames.table.schema.field("t").type == pa.timestamp("us")
    assert frames.table["t"].to_pylist() == [start + dt.timedelta(seconds=i / 10) for i in range(5)]
    assert frames.table["frame"].to_pylist()[1] == [[6, 7, 8], [9, 10, 11]]


def test_paths_begin_at_the_table_and_rows_can_be_fields_of_a_compound(scan):
    columns = {"x": "events/at/x", "n": "/entry/events/n", "label": "./events/label"}
    source = hdf5_source(scan, table="entry", columns=columns)
    assert read_all(source) == [
        {"x": i / 2, "n": i, "label": ["", "a", "ab"][i % 3]} for i in range(4)
    ]


def test_a_compound_dataset_is_a_table_of_its_fields(scan):
    with h5py.File(scan, "a") as file:
        file["pairs"] = np.array([(1, 0.5), (2, 0.25)], [("a", "<i8"), ("b", "<f8")])
    assert read_all(hdf5_source(scan, table="pairs")) == [{"a": 1, "b": 0.5}, {"a": 2, "b": 0.25}]
    assert [row["y"] for row in read_all(hdf5_source(scan, table="entry/events/at"))] == [
        0,
        -1,
        -2,
        -3,
    ]
    with pytest.raises(ConnectorError, match=r"/entry/events/at has a compound of x, y.*columns="):
        hdf5_source(scan, table="/entry/events")


ELSEWHERE = (
    r"scan\.h5': /: no datasets with rows; groups that have rows: /entry \(events: 4 rows\); "
    r"/entry/data \(data: 5 rows\); /entry/instrument/NDAttributes \(ND.*columns="
)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, ELSEWHERE),
        ({"table": "entry/dat"}, r"has no '/entry/dat'; in '/entry' is .* did you mean 'data'"),
        ({"table": "/entry/data/data"}, r"is a dataset, .* columns=\{'data': '/entry/data/data'\}"),
        ({"table": "/entry/title"}, r"is a dataset, .* columns=\{'title': '/entry/title'\}"),
        ({"columns": {"x": "/entry/data"}}, "/entry/data is a group, not the .*has data"),
        ({"columns": {"x": "/entry/title"}}, "/entry/title is a single value, not the rows"),
        ({"columns": {"x": "/entry/events/m"}}, "without 'm'; its fields are n, at, label"),
        ({"columns": {"x": STAMP + "/x"}}, "is a dataset without 'x'; it has no fields"),
        ({"columns": {"a": STAMP, "b": "/entry/events/n"}}, "differ in length: .*'a': 5, 'b': 4"),
        ({"table": "entry/events", "columns": {"n": "n"}}, "is a dataset; table= beside columns="),
    ],
)
def test_what_is_not_there_is_said_with_what_is(scan, options, said):
    with pytest.raises(ConnectorError, match=said):
        hdf5_source(scan, **options)


def test_event_time_that_is_elsewhere_is_found(scan):
    said = rf"'NDArrayTimeStamp' is no column .* is at {STAMP}; .*'data': '/entry/data/data'"
    with pytest.raises(PlanError, match=said):
        hdf5_source(scan, table="/entry/data", event_time="NDArrayTimeStamp", unit="s")
    with pytest.raises(PlanError, match=r"event_time: no column 'nothing' in .data."):
        hdf5_source(scan, table="/entry/data", event_time="nothing", unit="s")


def test_columns_are_names_and_paths(scan):
    with pytest.raises(TypeError, match=r"expected names and paths .*'frame': '/entry/data/data'"):
        hdf5_source(scan, columns=["/entry/data/data"])
    with pytest.raises(TypeError, match=r"got \{'x': 1\}"):
        hdf5_source(scan, columns={"x": 1})
    with pytest.raises(ValueError, match="at least one"):
        hdf5_source(scan, columns={})


def test_nulls_are_nulls_also_by_path_and_through_links(tmp_path):
    table = pa.table(
        {"x": [1, None, 3], "f": pa.array([[1, None], None, [2, 3]], pa.list_(pa.int8(), 2))}
    )
    with pa.OSFile(str(tmp_path / "a.h5"), "wb") as file:
        writer = Hdf5Parts("t").open(file, table.schema)
        writer.write_table(table)
        writer.close()
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["other/link"] = h5py.SoftLink("/t/f")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["far"] = h5py.ExternalLink("a.h5", "/other/link")

    source = hdf5_source(tmp_path / "a.h5", columns={"y": "/t/x", "g": "/other/link"})
    assert read_all(source) == [{"y": r["x"], "g": r["f"]} for r in table.to_pylist()]
    far = hdf5_source(tmp_path / "b.h5", columns={"g": "far"})
    assert [row["g"] for row in read_all(far)] == table["f"].to_pylist()


def test_a_file_that_grows_is_followed_by_paths(tmp_path):
    path = tmp_path / "a.h5"
    now = [0.0]
    with h5py.File(path, "w", libver="latest", locking=False) as file:
        for name in ("entry/data/data", STAMP):
            file.create_dataset(name, (0,), "f8", maxshape=(None,), chunks=(8,))
        file.swmr_mode = True
        source = growing_hdf5_source(
            path, follow_s=5, columns=COLUMNS, event_time="t", unit="s", clock=lambda: now[0]
        )
        assert source.schema.field("t").type == pa.timestamp("us")
        reader = source.open(source.list_splits()[0])
        for name in ("entry/data/data", STAMP):
            file[name].resize((2,))
            file[name][:] = [0.5, 1.5]
            file[name].flush()
        now[0] = 1.0
        second = [dt.datetime(1970, 1, 1, 0, 0, s, 500_000) for s in (0, 1)]
        assert reader.read(9).batch.to_pylist() == [
            {"frame": 0.5, "t": second[0]},
            {"frame": 1.5, "t": second[1]},
        ]
        reader.close()


def ticks(seconds, unit="s"):
    return as_event_time(pa.array(seconds), unit, 0, "t").cast(pa.int64()).to_pylist()


@settings(max_examples=300)
@given(microseconds=st.lists(st.integers(-(10**16), 10**16), max_size=20))
def test_float_seconds_give_back_the_microseconds_that_they_came_from(microseconds):
    assert ticks([us / 10**6 for us in microseconds] + [0.0])[:-1] == [
        int(Decimal(us / 10**6).scaleb(6).to_integral_value("ROUND_HALF_EVEN"))
        for us in microseconds
    ]
    near = [us // 10 for us in microseconds]  # to the year 2001 or so, every one has its own float
    assert ticks([us / 10**6 for us in near] + [0.0])[:-1] == near


def test_other_units_and_times_that_are_none():
    assert ticks([1.5, -2.0], "ms") == [1_500, -2_000]
    assert ticks([1.4, 2.0], "us") == [1, 2]
    assert ticks([1_500.0, 2_499.0], "ns") == [2, 2]
    assert ticks([1.0, None, float("nan")]) == [1_000_000, None, None]
    assert as_event_time(pa.array([1.5], pa.float32()), "s", 0, "t").type == pa.timestamp("us")
    for bad in (float("inf"), 1e300, -1e13):
        with pytest.raises(
            ConnectorError,
            match=rf"t: event time {re.escape(repr(bad))} \(s\) of row 8 does not fit",
        ):
            as_event_time(pa.array([1.0, bad]), "s", 7, "t")


def test_what_a_number_counts_must_be_said_and_integers_become_int64(scan):
    with pytest.raises(
        PlanError, match=r"'t' is a column of double; say what .*event_time_unit='s'"
    ):
        hdf5_source(scan, columns=COLUMNS, event_time="t")
    with h5py.File(scan, "a") as file:
        file["ns"] = np.arange(5, dtype="<u8") * 10**9
        file["far"] = np.array([2**63], dtype="<u8")
    source = hdf5_source(scan, columns={"t": "/ns"}, event_time="t", unit="ns")
    assert source.schema.field("t").type == pa.int64()
    assert [split.last_time for split in source.list_splits()] == [4 * 10**9]
    with pytest.raises(ConnectorError, match="/far: event time does not fit into int64"):
        hdf5_source(scan, columns={"t": "/far"}, event_time="t", unit="ns").list_splits()


def test_a_filter_on_the_time_of_frames(scan):
    job = hs.Job("late frames")
    rows = job.read_hdf5(scan, columns=COLUMNS, event_time="t", event_time_unit="s")
    late = (
        rows.filter(col("t") >= dt.datetime(2026, 3, 1, 0, 0, 0, 300_000)).select("frame").collect()
    )
    job.run(show=False)
    assert late.table["frame"].to_pylist() == [
        [[18, 19, 20], [21, 22, 23]],
        [[24, 25, 26], [27, 28, 29]],
    ]


@pytest.mark.parametrize(
    ("chunks", "n_rows"),
    [(None, 7), ((1, 4, 4), 7), ((3, 4, 4), 6), ((9, 4, 4), 7)],
    ids=["contiguous", "frame by frame", "three frames a chunk", "chunks larger than a split"],
)
def test_a_split_has_as_many_frames_as_ranks_can_hold(tmp_path, monkeypatch, chunks, n_rows):
    frames = np.arange(40 * 16, dtype="<u2").reshape(40, 4, 4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("frame", data=frames, chunks=chunks)
        file["n"] = np.arange(40)
    monkeypatch.setattr("hpcstream.connectors.formats.hdf5.format.SPLIT_BYTES", 7 * (32 + 8) + 7)

    source = hdf5_source(tmp_path / "a.h5")

    assert [split.n_rows for split in source.list_splits()][:-1] == [n_rows] * (39 // n_rows)
    assert [row["n"] for row in read_all(source)] == list(range(40))
