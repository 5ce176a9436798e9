import os
import resource
import subprocess
import sys

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from hpcstream.connectors.coalesce import Coalescer
from hpcstream.connectors.parts.directory import manifest_path
from hpcstream.connectors.parts.sinks import csv_sink, ipc_sink, parquet_sink
from hpcstream.errors import ConnectorError
from tests.unit.connectors.sink_contract import TABLE, SinkContract, run, visible


class TestParquetSink(SinkContract):
    extension = "parquet"

    def make(self, path, **options):
        return parquet_sink(path, **options)

    def read(self, path):
        return pq.read_table(path)


class TestIpcSink(SinkContract):
    extension = "arrow"

    def make(self, path, **options):
        return ipc_sink(path, **options)

    def read(self, path):
        return pa.ipc.open_file(path).read_all()


class TestCsvSink(SinkContract):
    extension = "csv"

    def make(self, path, **options):
        return csv_sink(path, **options)

    def read(self, path):
        types = {field.name: field.type for field in TABLE.schema}
        return pa_csv.read_csv(path, convert_options=pa_csv.ConvertOptions(column_types=types))


CRASH = """
import os, sys
import pyarrow as pa
from hpcstream.connectors.parts.sinks import parquet_sink

sink = parquet_sink(sys.argv[1], max_rows=1_000)
batch = pa.record_batch({"a": list(range(2_500))})
sink.begin(batch.schema, 0, 1, 1)
sink.write(batch)
sink.prepare()
sink.write(batch)
os._exit(9)
"""


def test_a_killed_process_leaves_nothing_that_a_glob_reads(tmp_path):
    done = subprocess.run([sys.executable, "-c", CRASH, tmp_path / "out"], check=False)
    assert done.returncode == 9
    assert len(os.listdir(tmp_path / "out")) == 3
    assert list((tmp_path / "out").glob("*.parquet")) == []
    assert list((tmp_path / "out").glob("[!.]*")) == []

    run(lambda: parquet_sink(tmp_path / "out"), [TABLE], attempt=2)
    assert visible(tmp_path / "out") == ["part-00000-00000.parquet"]
    assert len(os.listdir(tmp_path / "out")) == 2


def test_the_write_goes_to_the_kernel_before_prepare_returns(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    sink = parquet_sink(tmp_path)
    sink.begin(TABLE.schema, 0, 1, 0)
    sink.write(TABLE.to_batches()[0])
    parts = sink.prepare()
    assert synced == [str(tmp_path / parts[0]["temporary"])]
    sink.commit(parts)
    assert str(tmp_path) in synced[1:]


def test_many_small_batches_become_one_row_group(tmp_path):
    run(lambda: parquet_sink(tmp_path), [TABLE])
    assert pq.ParquetFile(tmp_path / "part-00000-00000.parquet").num_row_groups == 1


def test_the_coalescer_lets_go_of_the_memory_of_small_views():
    coalescer = Coalescer(pa.schema({"a": pa.int64()}))
    before = pa.total_allocated_bytes()
    for _ in range(640):
        large = pa.record_batch({"a": pa.array(range(1_000))})
        assert coalescer.add(large.slice(0, 2)) is None
    del large
    assert pa.total_allocated_bytes() - before < 200_000
    assert coalescer.flush().num_rows == 1_280
    assert coalescer.flush() is None


@pytest.mark.parametrize("make", [parquet_sink, ipc_sink], ids=["parquet", "ipc"])
def test_dictionaries_may_differ_from_block_to_block(tmp_path, make):
    schema = pa.schema({"d": pa.dictionary(pa.int32(), pa.string())})
    sink = make(tmp_path)
    sink.begin(schema, 0, 1, 0)
    values = ["a", "b", None, "c", "b", "d"]
    for i in range(4):
        array = pa.array([values[(i + k) % 6] for k in range(3)]).dictionary_encode()
        for _ in range(50):
            sink.write(pa.record_batch([array] * 1, schema=schema).take(list(range(3)) * 1_000))
    sink.commit(sink.prepare())

    (name,) = visible(tmp_path)
    path = tmp_path / name
    table = pq.read_table(path) if make is parquet_sink else pa.ipc.open_file(path).read_all()
    found = table["d"].cast(pa.string()).to_pylist()
    assert found[::150_000] == ["a", "b", None, "c"]
    assert len(found) == 600_000


def test_csv_writes_dictionaries_as_their_values(tmp_path):
    table = pa.table({"d": pa.array(["a", "b", "a"]).dictionary_encode()})
    run(lambda: csv_sink(tmp_path, delimiter=";", header=False), [table], schema=table.schema)
    assert (tmp_path / "part-00000-00000.csv").read_text() == '"a"\n"b"\n"a"\n'


@pytest.mark.parametrize(
    "field_type", [pa.list_(pa.int64()), pa.struct({"x": pa.int64()})], ids=str
)
def test_csv_refuses_nested_columns_before_a_row_is_written(tmp_path, field_type):
    with pytest.raises(ConnectorError, match=r"csv cannot hold .*'a'.*select\(\)"):
        csv_sink(tmp_path / "out").begin(pa.schema({"a": field_type}), 0, 1, 0)
    assert not (tmp_path / "out").exists()


def test_parquet_refuses_what_it_has_no_type_for(tmp_path):
    schema = pa.schema({"a": pa.month_day_nano_interval()})
    with pytest.raises(ConnectorError, match="parquet cannot hold"):
        parquet_sink(tmp_path).begin(schema, 0, 1, 0)


def test_formats_do_not_replace_one_another(tmp_path):
    run(lambda: parquet_sink(tmp_path), [TABLE])
    run(lambda: csv_sink(tmp_path, mode="error"), [TABLE])
    run(lambda: parquet_sink(tmp_path), [TABLE])
    assert visible(tmp_path) == ["part-00000-00000.csv", "part-00000-00000.parquet"]


@pytest.mark.parametrize(
    "content", ["", "{}", '{"format": 9, "parts": []}', '{"format": 1, "parts": ["../x"]}', "[1]"]
)
def test_a_strange_manifest_is_refused_rather_than_believed(tmp_path, content):
    path = manifest_path(str(tmp_path), "parquet")
    with open(path, "w") as file:
        file.write(content)
    with pytest.raises(ConnectorError, match=r"hpcstream-parts-parquet\.json' "):
        parquet_sink(tmp_path).begin(TABLE.schema, 0, 1, 0)


@pytest.mark.parametrize("make", [parquet_sink, ipc_sink, csv_sink], ids=["parquet", "ipc", "csv"])
def test_a_disk_that_takes_no_more_is_named_and_nothing_is_left(tmp_path, make):
    sink = make(tmp_path)
    sink.begin(TABLE.schema, 0, 1, 0)
    sink.write(TABLE.to_batches()[0])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        with pytest.raises(
            ConnectorError, match=r"cannot write '\.part-00000-00000.*File too large"
        ):
            sink.prepare()
        sink.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_parquet_options_are_passed_on(tmp_path):
    run(lambda: parquet_sink(tmp_path, compression="zstd", use_dictionary=False), [TABLE])
    column = pq.ParquetFile(tmp_path / "part-00000-00000.parquet").metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert "RLE_DICTIONARY" not in column.encodings
