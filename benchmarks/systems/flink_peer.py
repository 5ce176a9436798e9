"""Flink SQL on local cores: a bounded stream with watermarks, window functions, a CSV sink.

The rows come from Flink's own source of Arrow batches, which it has for Python: the columns that
the query reads, handed over before the clock starts. They become part of each job's description,
so that files of ten million rows may not fit Java's heap. Each query is a job in a cluster within
this process, with as many slots as there are cores. Flink's planner makes the windows' aggregates
in two stages, local and global, by itself.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
import warnings
from itertools import count
from pathlib import Path

# No Python function runs in Flink: without this its worker for them, and Apache Beam, are needed.
os.environ.setdefault("_python_worker_execution_mode", "process")

import pyarrow as pa
import pyarrow.csv

from benchmarks.measure.trial import Trial
from benchmarks.systems.tables import mapped
from benchmarks.workloads.answers import Answer, answer_of
from benchmarks.workloads.datasets import campaigns
from benchmarks.workloads.workload import Workload

with warnings.catch_warnings():  # of what it has deprecated itself
    warnings.simplefilter("ignore", DeprecationWarning)
    from pyflink.java_gateway import get_gateway
    from pyflink.table import (
        DataTypes,
        EnvironmentSettings,
        Schema,
        TableDescriptor,
        TableEnvironment,
    )
    from pyflink.table.types import DataType, _to_java_data_type

_BATCH_ROWS = 65_536
_TICKS = {"ms": 1, "us": 1_000}  # in a millisecond, the unit of Flink's event time
_TYPES: dict[pa.DataType, DataType] = {
    pa.int16(): DataTypes.SMALLINT(),
    pa.int32(): DataTypes.INT(),
    pa.int64(): DataTypes.BIGINT(),
    pa.float32(): DataTypes.FLOAT(),
    pa.float64(): DataTypes.DOUBLE(),
    pa.string(): DataTypes.STRING(),
}
_JOINED = """
    CREATE TEMPORARY VIEW joined AS SELECT campaign, `input`.`time` AS `time` FROM `input`
    JOIN ads FOR SYSTEM_TIME AS OF `input`.`time` ON `input`.ad_id = ads.ad_id
    WHERE event_type = 'view'
"""


class Flink:
    """`System` that answers the query over the file once for each pass, as a job of its own."""

    def __init__(self, trial: Trial) -> None:
        self._workload = trial.query
        self._folder = Path(tempfile.mkdtemp(prefix="hpcstream-flink-"))
        atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        self._tables = _environment(trial.threads)
        self._numbers = count()
        workload = self._workload
        late = -(-workload.watermark_delay // _TICKS[workload.unit]) + 1  # a row may lie on it
        rows = mapped(trial).select(_columns(workload))
        self._add("input", rows, _time(workload), f"INTERVAL '{late / 1000}' SECOND")
        if workload.counts_views:
            self._add("ads", campaigns(), "TO_TIMESTAMP_LTZ(0, 3)", "INTERVAL '0' SECOND", "ad_id")
            self._tables.execute_sql(_JOINED)

    def run(self, passes: int) -> tuple[float, Answer]:
        """Answer ``passes`` times; the files of results are read outside the timed part."""
        names = [f"out{next(self._numbers)}" for _ in range(passes)]
        for name in names:
            self._tables.execute_sql(_sink(self._workload, name, self._folder / name))
        start = time.perf_counter()
        for name in names:
            self._tables.execute_sql(f"INSERT INTO {name} {_query(self._workload)}").wait()
        seconds = time.perf_counter() - start
        answer = answer_of(_read(self._folder / names[-1], self._workload), self._workload)
        for name in names:
            shutil.rmtree(self._folder / name)
        return seconds, answer

    def _add(self, name: str, rows: pa.Table, when: str, late: str, key: str = "") -> None:
        """Make a table of Flink from ours, with an event time and a watermark that is late."""
        types = {field.name: _TYPES[field.type] for field in rows.schema}
        schema = Schema.new_builder()
        for column, of_type in types.items():
            schema.column(column, of_type.not_null())
        schema.column_by_expression("time", when).watermark("time", f"`time` - {late}")
        if key:
            schema.primary_key(key)
        path = self._folder / name
        with pa.ipc.new_stream(str(path), rows.schema) as file:
            file.write_table(rows.combine_chunks(), max_chunksize=_BATCH_ROWS)
        row = DataTypes.ROW([DataTypes.FIELD(n, t.not_null()) for n, t in types.items()])
        arrow = get_gateway().jvm.org.apache.flink.table.runtime.arrow.ArrowUtils
        untimed = arrow.createArrowTableSourceDesc(_to_java_data_type(row.not_null()), str(path))
        path.unlink()
        timed = untimed.toBuilder().schema(schema.build()._j_schema).build()
        self._tables.create_temporary_table(name, TableDescriptor(timed))


def make(trial: Trial) -> Flink:
    """Return an environment with the rows in it."""
    return Flink(trial)


def _environment(threads: int) -> TableEnvironment:
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    options = tables.get_config()
    options.set("parallelism.default", str(threads))
    options.set("table.local-time-zone", "UTC")
    return tables


def _columns(workload: Workload) -> list[str]:
    if workload.counts_views:
        return ["ts", "event_type", "ad_id"]
    return ["ts", *workload.keys, *(["value"] if workload.aggregates else [])]


def _time(workload: Workload) -> str:
    ticks = _TICKS[workload.unit]
    return f"TO_TIMESTAMP_LTZ(ts{f' / {ticks}' if ticks > 1 else ''}, 3)"


def _query(workload: Workload) -> str:
    keys = ", ".join(workload.keys)
    named = {"sum": "SUM(`value`)", "max": "MAX(`value`)", "mean": "AVG(CAST(`value` AS DOUBLE))"}
    aggregates = "".join(f", CAST({named[name]} AS DOUBLE)" for name in workload.aggregates)
    return (
        f"SELECT {keys}, window_start, COUNT(*){aggregates} FROM TABLE({_window(workload)}) "
        f"GROUP BY {keys}, window_start, window_end"
    )


def _window(workload: Workload) -> str:
    table = "joined" if workload.counts_views else "`input`"
    size, slide = (_interval(n, workload) for n in (workload.size, workload.slide))
    if workload.size == workload.slide:
        return f"TUMBLE(TABLE {table}, DESCRIPTOR(`time`), {size})"
    return f"HOP(TABLE {table}, DESCRIPTOR(`time`), {slide}, {size})"


def _interval(ticks: int, workload: Workload) -> str:
    seconds = ticks // _TICKS[workload.unit] // 1000
    return f"INTERVAL '{seconds}' SECOND({len(str(seconds))})"


def _sink(workload: Workload, name: str, folder: Path) -> str:
    key = "BIGINT" if workload.keys == ("key",) and workload.dataset != "strings" else "STRING"
    columns = [f"{name} {key}" for name in workload.keys] + ["window_start TIMESTAMP(3), n BIGINT"]
    columns += [f"`{name}` DOUBLE" for name in workload.aggregates]
    return (
        f"CREATE TEMPORARY TABLE {name} ({', '.join(columns)}) "
        f"WITH ('connector' = 'filesystem', 'format' = 'csv', 'path' = '{folder}')"
    )


def _read(folder: Path, workload: Workload) -> pa.Table:
    names = [*workload.keys, "window_start", "n", *workload.aggregates]
    types = {"window_start": pa.timestamp("ms"), **dict.fromkeys(workload.aggregates, pa.float64())}
    if workload.dataset == "strings":
        types["key"] = pa.string()
    files = [path for path in sorted(folder.iterdir()) if path.stat().st_size]
    found = pa.concat_tables(
        pa.csv.read_csv(
            path,
            pa.csv.ReadOptions(column_names=names),
            convert_options=pa.csv.ConvertOptions(column_types=types),
        )
        for path in files
    )
    ticks = _TICKS[workload.unit]
    start = pa.compute.multiply(found["window_start"].cast(pa.int64()), ticks)
    return found.set_column(names.index("window_start"), "window_start", start)
