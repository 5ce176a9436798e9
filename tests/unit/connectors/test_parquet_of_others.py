"""Parquet that other tools wrote, or that was damaged: read right, or refused by name."""

from __future__ import annotations

import datetime as dt

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.connectors.formats.parquet.format import parquet_source
from hpcstream.errors import ConnectorError
from tests.unit.connectors.source_contract import read_all

EPOCH = dt.datetime(1970, 1, 1)


def int96(path, times, unit="us", **others):
    table = pa.table({"t": pa.array(times, pa.timestamp(unit)), **others})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True, row_group_size=40)
    return path


@given(times=st.lists(st.none() | st.datetimes(), min_size=1, max_size=99))
def test_int96_times_of_any_year_are_those_in_the_file(tmp_path_factory, times):
    path = int96(tmp_path_factory.mktemp("int96") / "a.parquet", times)

    assert [row["t"] for row in read_all(parquet_source(path), max_rows=17)] == times


def test_int96_times_are_found_at_any_depth_and_beside_others(tmp_path):
    times = [EPOCH, dt.datetime(9999, 12, 31), None]
    struct = pa.array([{"t": t, "n": 1} for t in times])
    path = int96(tmp_path / "a.parquet", times, s=struct, l=pa.array([times, [], None]))

    rows = read_all(parquet_source(path))

    assert [row["s"]["t"] for row in rows] == times
    assert [row["l"] for row in rows] == [times, [], None]


def test_int96_times_that_the_unit_does_not_hold_are_refused_with_the_other_unit(tmp_path):
    fine = int96(tmp_path / "fine.parquet", [1_000] * 50 + [1_001], "ns")
    with pytest.raises(ConnectorError, match=r"fine.*'t' \(INT96\) has nanoseconds.*unit='ns'"):
        read_all(parquet_source(fine))
    exact = parquet_source(fine, int96_unit="ns")
    assert exact.schema.field("t").type == pa.timestamp("ns")
    assert len(read_all(exact)) == 51

    far = int96(tmp_path / "far.parquet", [EPOCH, dt.datetime(2300, 1, 1)])
    with pytest.raises(ConnectorError, match=r"far.*beyond 1677 to 2262.*leave it at 'us'"):
        read_all(parquet_source(far, int96_unit="ns"))
    with pytest.raises(ValueError, match="int96_unit 's': expected 'us' or 'ns'"):
        parquet_source(far, int96_unit="s")


def test_filters_of_int96_times_keep_the_right_rows(tmp_path):
    times = [EPOCH + dt.timedelta(days=3_000 * i) for i in range(200)]
    source = parquet_source(int96(tmp_path / "a.parquet", times), event_time="t")
    late = source.filter(pc.field("t") >= times[150])

    assert [row["t"] for row in read_all(late)] == times[150:]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy"])
def test_a_page_that_its_checksum_does_not_fit_is_refused(tmp_path, version, compression):
    path = tmp_path / "a.parquet"
    table = pa.table({"x": pa.array(range(5_000), pa.int64())})
    pq.write_table(
        table, path, compression=compression, use_dictionary=False, data_page_version=version,
        write_page_checksum=True, column_encoding="PLAIN",
    )  # fmt: skip
    content = bytearray(path.read_bytes())
    assert len(read_all(parquet_source(path), max_rows=5_000)) == 5_000
    content[pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset + 900] ^= 4
    path.write_bytes(content)

    with pytest.raises(ConnectorError, match=r"a\.parquet': cannot decode row group 0"):
        read_all(parquet_source(path), max_rows=5_000)


@pytest.mark.parametrize("n_rows", [400, 1_100, 0])
def test_a_file_of_another_number_of_rows_than_listed_is_named(tmp_path, n_rows):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": range(1_000)}), path, row_group_size=500)
    source = parquet_source(path)
    splits = source.list_splits()
    pq.write_table(pa.table({"x": pa.array(range(n_rows), pa.int64())}), path, row_group_size=600)

    for reading in (source, source.filter(pc.field("x") >= 0)):
        with pytest.raises(ConnectorError, match=r"a\.parquet': row groups 0 to 1 have .* 1000"):
            read_all(reading, splits=splits)


def test_a_column_of_intervals_is_refused_if_it_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    duckdb.sql(f"copy (select 7 x, interval 3 month i, [interval 1 day] l) to '{path}'")
    source = parquet_source(path)

    assert read_all(source.project(["x"])) == [{"x": 7}]
    for name in ("i", "l"):
        with pytest.raises(ConnectorError, match=f"a.parquet': column '{name}' is .*INTERVAL"):
            read_all(source.project([name]))


def latin_1(path, column, data_type):
    """Write texts as binary under a schema that says they are text."""
    table = pa.table({"name": column.view(data_type), "n": range(len(column))})
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize(
    ("column", "data_type"),
    [
        ([b"fine", None, "Zürich".encode(), "Zürich".encode("latin-1")], pa.string()),
        ([[b"fine"], [], None, [b"x", "Zürich".encode("latin-1")]], pa.list_(pa.string())),
    ],
    ids=["text", "nested"],
)
def test_a_text_that_is_not_utf_8_is_refused_and_shown(tmp_path, column, data_type):
    path = latin_1(tmp_path / "a.parquet", pa.array(column), data_type)

    assert len(read_all(parquet_source(path).project(["n"]))) == 4
    with pytest.raises(ConnectorError, match=r"a\.parquet'.*column 'name'.*b'Z\\xfcrich'.*UTF-8"):
        read_all(parquet_source(path))


def test_the_row_of_a_text_that_is_not_utf_8_is_said(tmp_path):
    texts = pa.array([b"fine"] * 300 + [b"\xff"])
    source = parquet_source(latin_1(tmp_path / "a.parquet", texts, pa.string()))
    with pytest.raises(ConnectorError, match="from row group 0 on: column 'name', row 300"):
        read_all(source, max_rows=7)
    with pytest.raises(ConnectorError, match="column 'name'"):
        read_all(parquet_source(tmp_path, dictionary_columns=["name"]))
