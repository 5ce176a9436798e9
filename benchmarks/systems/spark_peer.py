"""Spark structured streaming on local cores: the file as a stream, windows in append mode.

A query reads Parquet files made before the clock starts, as Spark does not map Arrow files, all in
one micro-batch (``availableNow``). Windows that are still open at the end of a stream stay
there, so a row far behind the last one is added, which closes them; it is not in the answer.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from benchmarks.measure.trial import Trial
from benchmarks.systems.tables import Repeated, mapped
from benchmarks.workloads.datasets import campaigns
from benchmarks.workloads.workload import Workload

_TICKS = {"ms": 1_000, "us": 1_000_000}
_FAR = 400 * 86_400  # seconds behind the last row


def make(trial: Trial) -> Repeated:
    """Return a session of as many threads as there are cores, and the rows as files."""
    folder = Path(tempfile.mkdtemp(prefix="hpcstream-spark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _write(mapped(trial), folder / "rows", trial)
    session = (
        SparkSession.builder.master(f"local[{trial.threads}]")
        .config("spark.driver.memory", f"{_heap_bytes() >> 20}m")  # its usual gigabyte runs full
        .config("spark.sql.shuffle.partitions", trial.threads)
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    numbers = count()
    return Repeated(trial, lambda: _answer(session, folder, trial.query, f"run{next(numbers)}"))


def _heap_bytes() -> int:
    """Return a third of the machine's memory, at least a gigabyte and at most eight."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(max(memory // 3, 1 << 30), 8 << 30)


def _write(rows: pa.Table, folder: Path, trial: Trial) -> None:
    folder.mkdir()
    each = -(-len(rows) // trial.threads)
    for k in range(trial.threads):
        pq.write_table(rows.slice(k * each, each), folder / f"{k}.parquet", compression="none")
    last = rows.slice(len(rows) - 1, 1)
    if trial.query.counts_views:  # a filter must not drop it
        index = last.schema.get_field_index("event_type")
        last = last.set_column(index, "event_type", pa.array(["view"]))
    far = pa.array([last["ts"][0].as_py() + _FAR * _TICKS[trial.query.unit]])
    closing = last.set_column(last.schema.get_field_index("ts"), "ts", far)
    pq.write_table(closing, folder / "closing.parquet", compression="none")


def _answer(session: SparkSession, folder: Path, workload: Workload, name: str) -> pa.Table:
    rows = session.readStream.schema(session.read.parquet(str(folder / "rows")).schema).parquet(
        str(folder / "rows")
    )
    windows = _query(session, rows, workload)
    sink = windows.writeStream.format("memory").queryName(name).outputMode("append")
    running = (
        sink.option("checkpointLocation", str(folder / name)).trigger(availableNow=True).start()
    )
    running.awaitTermination()
    found = session.table(name).toArrow()
    session.catalog.dropTempView(name)
    return found


def _query(session: SparkSession, rows: DataFrame, workload: Workload) -> DataFrame:
    ticks = _TICKS[workload.unit]
    if workload.counts_views:
        ads: Any = session.createDataFrame(campaigns())
        rows = rows.filter(f.col("event_type") == "view").join(f.broadcast(ads), "ad_id")
    timed = rows.withColumn("time", f.timestamp_micros(f.col("ts") * (1_000_000 // ticks)))
    late = f"{workload.watermark_delay * 1_000_000 // ticks} microseconds"
    size, slide = (f"{n * 1_000_000 // ticks} microseconds" for n in _window(workload))
    window = f.window("time", size, slide).alias("window")
    named = {"sum": f.sum("value"), "max": f.max("value"), "mean": f.avg("value")}
    aggregates = [named[name].alias(name) for name in workload.aggregates]
    grouped = timed.withWatermark("time", late).groupBy(*workload.keys, window)
    start = (f.unix_micros("window.start") / (1_000_000 // ticks)).cast("long")
    return grouped.agg(f.count("*").alias("n"), *aggregates).select(
        *workload.keys, start.alias("window_start"), "n", *workload.aggregates
    )


def _window(workload: Workload) -> tuple[int, int]:
    return workload.size, workload.slide
