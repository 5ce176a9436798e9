import datetime as dt

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from hpcstream.connectors.formats.parquet.format import parquet_source
from hpcstream.errors import ConnectorError, PlanError
from tests.unit.connectors.source_contract import SourceContract, read_all, sample_table


class TestParquetOfSeveralFilesAndRowGroups(SourceContract):
    @pytest.fixture
    def source(self, tmp_path, monkeypatch):
        monkeypatch.setattr("hpcstream.connectors.formats.parquet.format.SMALL_SPLIT_ROWS", 100)
        pq.write_table(sample_table().slice(0, 610), tmp_path / "a.parquet", row_group_size=90)
        pq.write_table(sample_table().slice(610), tmp_path / "b.parquet", row_group_size=200)
        return parquet_source(tmp_path, event_time="time", unit="ms")

    def test_a_split_is_a_row_group_or_a_few_small_ones(self, source):
        splits = source.list_splits()
        names = [split.id.rsplit("/", 1)[1] for split in splits]
        assert names[:4] == [
            "a.parquet#rg0-1",
            "a.parquet#rg2-3",
            "a.parquet#rg4-5",
            "a.parquet#rg6",
        ]
        assert names[4:] == ["b.parquet#rg0", "b.parquet#rg1"]
        assert [split.n_rows for split in splits] == [180, 180, 180, 70, 200, 190]

    def test_bounds_come_from_the_statistics(self, source):
        times = sample_table()["time"].to_pylist()
        first = source.list_splits()[0]
        assert (first.first_time, first.last_time) == (min(times[:180]), max(times[:180]))

    def test_row_groups_that_cannot_match_are_not_decoded(self, source, monkeypatch):
        filtered = source.filter(pc.field("time") < 0)
        monkeypatch.setattr(
            "hpcstream.connectors.formats.parquet.format._read",
            lambda *_: pytest.fail("decoded a row group"),
        )
        readers = [filtered.open(split) for split in filtered.list_splits()]
        assert sum(reader.read(10**6).scanned for reader in readers) == 1_000


class TestSkippedRowGroups(SourceContract):
    """With the filters of the contract on data whose statistics exclude much of it."""

    @pytest.fixture
    def source(self, tmp_path):
        pq.write_table(sample_table(), tmp_path / "a.parquet", row_group_size=50)
        return parquet_source(str(tmp_path / "a.parquet"), event_time="time", unit="ms")


class TestDictionaryColumns(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        pq.write_table(sample_table(), tmp_path / "a.parquet", row_group_size=300)
        return parquet_source(tmp_path, event_time="time", unit="ms", dictionary_columns=["key"])

    def test_they_are_dictionaries(self, source):
        assert source.schema.field("key").type == pa.dictionary(pa.int32(), pa.string())

    def test_a_wrong_name_is_named(self, source, tmp_path):
        with pytest.raises(ConnectorError, match="no column 'kee', named in dictionary_columns"):
            parquet_source(tmp_path, dictionary_columns=["kee"])


def test_splits_come_in_event_time_order_whatever_the_files_are_called(tmp_path):
    late, early = sample_table().slice(500), sample_table().slice(0, 500)
    pq.write_table(late, tmp_path / "a.parquet")
    pq.write_table(early, tmp_path / "b.parquet")

    source = parquet_source(tmp_path, event_time="time", unit="ms")

    assert read_all(source) == sample_table().to_pylist()


def test_files_come_in_the_order_of_their_paths_without_event_time(tmp_path):
    pq.write_table(sample_table().slice(0, 500), tmp_path / "b.parquet")
    pq.write_table(sample_table().slice(500), tmp_path / "a.parquet")

    rows = read_all(parquet_source(tmp_path / "*.parquet"))

    assert rows == sample_table().slice(500).to_pylist() + sample_table().slice(0, 500).to_pylist()


@pytest.mark.parametrize(
    ("time_type", "ticks"),
    [
        (pa.timestamp("s"), 1_000),
        (pa.timestamp("ms"), 1),
        (pa.timestamp("us", "UTC"), 1),
        (pa.timestamp("ns"), 1),
        (pa.date32(), 1),
    ],
)
def test_bounds_are_in_the_unit_of_the_column_as_it_is_read(tmp_path, time_type, ticks):
    raw = pa.array([400, -30, 7], pa.int32() if time_type == pa.date32() else pa.int64())
    pq.write_table(pa.table({"t": raw.cast(time_type)}), tmp_path / "a.parquet")

    source = parquet_source(tmp_path, event_time="t")
    (split,) = source.list_splits()

    read = pa.array([row["t"] for row in read_all(source)], source.schema.field("t").type)
    width = pa.int32() if time_type == pa.date32() else pa.int64()
    assert read.cast(width).to_pylist() == [400 * ticks, -30 * ticks, 7 * ticks]
    assert (split.first_time, split.last_time) == (-30 * ticks, 400 * ticks)


def test_bounds_are_not_those_of_a_struct_with_a_field_of_the_same_path(tmp_path):
    nested = pa.array([{"t": 1_000}], pa.struct([("t", pa.int64())]))
    pq.write_table(pa.table({"s": nested, "s.t": [5]}), tmp_path / "a.parquet")
    (split,) = parquet_source(tmp_path, event_time="s.t", unit="ms").list_splits()
    assert split.first_time in (None, 5)


def test_a_row_group_without_statistics_has_no_bounds(tmp_path):
    pq.write_table(sample_table(), tmp_path / "a.parquet", write_statistics=False)
    (split,) = parquet_source(tmp_path, event_time="time", unit="ms").list_splits()
    assert (split.first_time, split.last_time) == (None, None)


def test_dictionaries_and_large_strings_keep_their_type(tmp_path):
    table = pa.table(
        {
            "d": pa.array(["a", None, "b", "a"]).dictionary_encode(),
            "l": pa.array(["x", "y", None, "z"], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    source = parquet_source(tmp_path)
    assert source.schema == table.schema
    assert read_all(source, max_rows=3) == table.to_pylist()


def test_statistics_do_not_hide_nan(tmp_path):
    """They leave NaN out: a group of 5.0 and NaN has the bounds 5.0 and 5.0."""
    pq.write_table(pa.table({"x": [5.0, float("nan")]}), tmp_path / "a.parquet")
    source = parquet_source(tmp_path)
    assert len(read_all(source.filter(pc.field("x") != 5.0))) == 1
    assert len(read_all(source.filter(~(pc.field("x") >= 5.0)))) == 1


def test_a_file_without_rows_has_no_splits(tmp_path):
    pq.write_table(sample_table(0), tmp_path / "a.parquet")
    assert parquet_source(tmp_path, event_time="time", unit="ms").list_splits() == []


def test_metadata_of_other_tools_is_left_out(tmp_path):
    field = pa.field("a", pa.int64(), nullable=False, metadata={"k": "v"})
    table = pa.table([[1, 2]], schema=pa.schema([field], metadata={"pandas": "{}"}))
    pq.write_table(table, tmp_path / "a.parquet")
    source = parquet_source(tmp_path)
    assert source.schema.metadata is None
    assert source.schema.field("a").metadata is None
    assert read_all(source) == [{"a": 1}, {"a": 2}]


def test_columns_may_stand_in_another_order_in_another_file(tmp_path):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": ["y"], "a": [2]}), tmp_path / "2.parquet")
    assert read_all(parquet_source(tmp_path)) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"a": [1.5], "b": ["x"]}, "column 'a' is double, not int64"),
        ({"a": [1]}, r"column 'b' \(string\) is missing"),
        ({"a": [1], "b": ["x"], "c": [1]}, r"column 'c' \(int64\) is not in the first"),
    ],
)
def test_a_file_of_another_schema_is_named_with_the_difference(tmp_path, other, difference):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table(other), tmp_path / "2.parquet")
    with pytest.raises(ConnectorError, match=rf"2\.parquet.*1\.parquet.*{difference}"):
        parquet_source(tmp_path).list_splits()


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(sample_table(), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        ConnectorError, match=r"a\.parquet' is not a readable Parquet file; .*trunc"
    ):
        parquet_source(path)


def test_a_truncated_second_file_is_named_when_files_are_listed(tmp_path):
    pq.write_table(sample_table(), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:300])
    with pytest.raises(ConnectorError, match=r"b\.parquet'"):
        parquet_source(tmp_path).list_splits()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("orders.csv", b"a,b\n1,2\n", "is it a Parquet file. for CSV use read_csv"),
        ("orders.jsonl", b'{"a": 1}\n', "is it a Parquet file. for JSON use read_json"),
        ("orders.dat", b"ARROW1\0\0 and so on", "is it a Parquet file. for Arrow IPC use read_ipc"),
        ("orders.csv", b"PAR1 and so on", "truncated or still being written"),
    ],
    ids=["csv", "json", "ipc", "cut"],
)
def test_a_file_of_another_format_is_named_with_who_reads_it(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConnectorError, match=f"{name}' is not a readable Parquet file; {said}"):
        parquet_source(tmp_path / name)


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "a.parquet").touch()
    with pytest.raises(ConnectorError, match=r"a\.parquet' is not a readable .*0 bytes"):
        parquet_source(tmp_path)


def test_a_damaged_page_is_named_with_its_row_group(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"a": list(range(20_000))})
    pq.write_table(table, path, row_group_size=10_000, use_dictionary=False)
    content = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content[start : start + 2_000] = b"\xff" * 2_000
    path.write_bytes(content)

    with pytest.raises(
        ConnectorError, match=r"a\.parquet': cannot decode row group 1 .*10000 rows"
    ):
        read_all(parquet_source(path), max_rows=1_000)


def test_a_wrong_event_time_column_is_named_with_the_nearest(tmp_path):
    pq.write_table(sample_table(), tmp_path / "a.parquet")
    with pytest.raises(PlanError, match=r"no column 'tim' in \[time, .*did you mean 'time'"):
        parquet_source(tmp_path, event_time="tim")
    with pytest.raises(PlanError, match="must be a timestamp, date or int64"):
        parquet_source(tmp_path, event_time="key")
    with pytest.raises(PlanError, match="event_time_unit"):
        parquet_source(tmp_path, event_time="time")


def test_a_wrong_column_in_a_projection_or_filter_is_named(tmp_path):
    pq.write_table(sample_table(), tmp_path / "a.parquet")
    source = parquet_source(tmp_path)
    with pytest.raises(PlanError, match="did you mean 'value'"):
        source.project(["valu"])
    with pytest.raises(PlanError, match="does not fit"):
        source.filter(pc.field("nowhere") > 1)
    with pytest.raises(PlanError, match="does not fit"):
        source.filter(pc.field("key") > 1)


def test_reserved_names_are_refused(tmp_path):
    pq.write_table(pa.table({"__event_time": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ConnectorError, match="reserved"):
        parquet_source(tmp_path)


def test_a_filter_on_time_and_strings_skips_and_keeps_the_right_rows(tmp_path):
    start = dt.datetime(2001, 1, 1)
    table = pa.table(
        {
            "date": [start + dt.timedelta(hours=i) for i in range(400)],
            "origin": pa.array(
                [("ABI", "JFK", None)[i % 3] for i in range(400)], pa.large_string()
            ),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=64)
    predicate = (pc.field("date") >= dt.datetime(2001, 1, 10)) & (pc.field("origin") == "JFK")

    filtered = parquet_source(tmp_path, event_time="date").filter(predicate).project(["date"])

    assert read_all(filtered) == table.filter(predicate).select(["date"]).to_pylist()
