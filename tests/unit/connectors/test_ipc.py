import pyarrow as pa
import pytest

from hpcstream.connectors.formats.ipc.format import ipc_source
from hpcstream.errors import ConnectorError
from tests.unit.connectors.source_contract import SourceContract, read_all, sample_table


def write_file(path, table, *, chunk=None, compression=None, stream=False):
    options = pa.ipc.IpcWriteOptions(compression=compression)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return path


class TestOneLargeRecordBatch(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        write_file(tmp_path / "a.arrow", sample_table())
        return ipc_source(tmp_path, event_time="time", unit="ms", split_rows=300)

    def test_it_is_cut_so_that_ranks_can_share_it(self, source):
        splits = source.list_splits()
        assert [split.n_rows for split in splits] == [300, 300, 300, 100]
        assert [split.id.rsplit("#")[-1] for split in splits] == [
            "batch0",
            "batch0+300",
            "batch0+600",
            "batch0+900",
        ]

    def test_bounds_are_those_of_the_cut(self, source):
        times = sample_table()["time"].to_pylist()
        split = source.list_splits()[1]
        assert (split.first_time, split.last_time) == (min(times[300:600]), max(times[300:600]))


class TestManySmallRecordBatches(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        write_file(tmp_path / "a.arrow", sample_table().slice(0, 450), chunk=33)
        write_file(tmp_path / "b.feather", sample_table().slice(450), chunk=200)
        return ipc_source(tmp_path, event_time="time", unit="ms", split_rows=100)

    def test_neighbours_are_joined_up_to_the_size_of_a_split(self, source):
        assert max(split.n_rows for split in source.list_splits()[:5]) == 99


class TestCompressed(SourceContract):
    @pytest.fixture(params=["lz4", "zstd"])
    def source(self, tmp_path, request):
        path = write_file(tmp_path / "a.arrow", sample_table(), chunk=90, compression=request.param)
        return ipc_source(path, event_time="time", unit="ms", split_rows=200)

    def test_splits_end_where_record_batches_end(self, source):
        assert {split.n_rows for split in source.list_splits()} == {180, 100}


class TestStreamFormat(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        path = write_file(tmp_path / "a.arrows", sample_table(), chunk=70, stream=True)
        return ipc_source(path, event_time="time", unit="ms", split_rows=100)

    def test_a_stream_is_one_split(self, source):
        assert [split.n_rows for split in source.list_splits()] == [1_000]


def test_batches_of_an_uncompressed_file_are_views_of_it(tmp_path):
    table = pa.table({"a": list(range(200_000)), "b": [0.5] * 200_000})
    source = ipc_source(write_file(tmp_path / "a.arrow", table)).project(["b"])
    before = pa.total_allocated_bytes()

    reader = source.open(source.list_splits()[0])
    chunks = [reader.read(65_536) for _ in range(3)]

    assert pa.total_allocated_bytes() - before < 10_000
    assert sum(chunk.batch["b"].to_numpy().sum() for chunk in chunks) == 65_536 * 3 / 2


def test_views_outlive_reader_and_file_name(tmp_path):
    path = write_file(tmp_path / "a.arrow", pa.table({"a": list(range(1_000))}))
    source = ipc_source(path)
    reader = source.open(source.list_splits()[0])
    batch = reader.read(1_000).batch
    reader.close()
    path.unlink()
    assert batch["a"].to_pylist() == list(range(1_000))


def test_a_file_without_rows_has_no_splits(tmp_path):
    write_file(tmp_path / "a.arrow", sample_table(0))
    assert ipc_source(tmp_path, event_time="time", unit="ms").list_splits() == []


def test_null_times_leave_the_bounds_to_the_others(tmp_path):
    table = pa.table({"t": pa.array([None, 5, 9, None], pa.timestamp("ms"))})
    (split,) = ipc_source(write_file(tmp_path / "a.arrow", table), event_time="t").list_splits()
    assert (split.first_time, split.last_time) == (5, 9)


def test_a_split_of_null_times_only_has_no_bounds(tmp_path):
    table = pa.table({"t": pa.array([None, None], pa.timestamp("ms"))})
    (split,) = ipc_source(write_file(tmp_path / "a.arrow", table), event_time="t").list_splits()
    assert (split.first_time, split.last_time) == (None, None)


def test_dictionary_columns_are_read(tmp_path):
    table = pa.table({"d": pa.array(["a", "b", "a"] * 50).dictionary_encode()})
    source = ipc_source(write_file(tmp_path / "a.arrow", table, chunk=40))
    assert source.schema == table.schema
    assert read_all(source, max_rows=30) == table.to_pylist()


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"not arrow at all, not even nearly"])
def test_what_is_no_ipc_file_is_named(tmp_path, content):
    (tmp_path / "a.arrow").write_bytes(content)
    with pytest.raises(ConnectorError, match=r"a\.arrow' is "):
        ipc_source(tmp_path)


def test_a_truncated_file_is_named(tmp_path):
    path = write_file(tmp_path / "a.arrow", sample_table())
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(
        ConnectorError, match=r"a\.arrow' is not a readable Arrow IPC file; .*trunc"
    ):
        ipc_source(path)


def test_a_truncated_stream_is_named(tmp_path):
    path = write_file(tmp_path / "a.arrows", sample_table(), chunk=100, stream=True)
    path.write_bytes(path.read_bytes()[:-5_000])
    with pytest.raises(ConnectorError, match=r"a\.arrows'"):
        read_all(ipc_source(path))


def test_a_file_that_shrank_since_it_was_listed_is_named(tmp_path):
    path = write_file(tmp_path / "a.arrow", sample_table())
    source = ipc_source(path)
    (split,) = source.list_splits()
    path.unlink()
    write_file(path, sample_table(900))
    with pytest.raises(ConnectorError, match="100 rows less than when it was listed"):
        read_all(source, splits=[split])


def test_split_rows_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="split_rows"):
        ipc_source(tmp_path, split_rows=0)
