"""The three published pipelines: pass-through, CPU-intensive, memory-intensive."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

import hpcstream as hs
from benchmarks.nexmark.query import Query, Suite, Views
from benchmarks.sprobench.lines import read_lines
from hpcstream import Stream, col

THRESHOLD = 70.0

_READ = """(SELECT time, CAST(split_part(line, ',', 1) AS BIGINT) AS timestamp,
    split_part(line, ',', 2) AS sensor, CAST(split_part(line, ',', 3) AS DOUBLE) AS celsius
    FROM lines)"""
_FAHRENHEIT = "round(celsius * 9 / 5 + 32, 3)"
_READING = pa.schema(
    [
        ("time", pa.timestamp("ms")),
        ("timestamp", pa.int64()),
        ("sensor", pa.string()),
        ("celsius", pa.float64()),
    ]
)


def queries(size_ms: int, advance_ms: int) -> Mapping[str, Query]:
    """Return the pipelines; the windows of the third are of event time."""
    suite = Suite("sprobench")
    lines = {"lines": ("time", "line")}

    @suite.add("Pass-through", {"lines": ("line",)}, "SELECT line FROM lines")
    def p0(views: Views) -> Stream:
        return views["lines"].select("line")

    @suite.add(
        "Parse, convert, compare with a threshold",
        lines,
        f"SELECT timestamp, sensor, {_FAHRENHEIT} AS temperature, celsius > {THRESHOLD} "
        f"AS above FROM {_READ}",
    )
    def p1(views: Views) -> Stream:
        readings = views["lines"].map_batches(parse, _READING)
        fahrenheit = (col("celsius") * 9 / 5 + 32).round(3)
        above = col("celsius") > THRESHOLD
        return readings.select("timestamp", "sensor", temperature=fahrenheit, above=above)

    @suite.add(
        "Parse, mean of each sensor over a sliding window",
        lines,
        _sliding(size_ms, advance_ms),
        differs="windows of event time; throughput and latency are measured outside",
    )
    def p2(views: Views) -> Stream:
        readings = views["lines"].map_batches(parse, _READING)
        window = hs.sliding(f"{size_ms}ms", f"{advance_ms}ms")
        celsius = col("celsius")
        return (
            readings.key_by("sensor")
            .window(window)
            .agg(
                n=hs.count(),
                mean=celsius.mean(),
                least=celsius.min(),
                most=celsius.max(),
                last=col("timestamp").max(),
            )
        )

    return suite.queries


def parse(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return readings from lines of text.

    Raises
    ------
    ValueError
        A line that is not a time, a name and a temperature.
    """
    lines = batch["line"]
    n = len(lines)
    _, offsets, data = lines.buffers()
    starts = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + n + 1]
    times, celsius = np.empty(n, np.int64), np.empty(n, np.float64)
    names, texts = np.empty(n + 1, np.int32), np.empty(int(starts[-1] - starts[0]), np.uint8)
    letters = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    bad = read_lines(starts, letters, times, names, texts, celsius)
    if bad >= 0:
        raise ValueError(f"line {lines[bad].as_py()!r}: expected time,name,temperature")
    sensors = pa.Array.from_buffers(
        pa.string(), n, [None, pa.py_buffer(names), pa.py_buffer(texts)]
    )
    columns = [batch["time"], pa.array(times), sensors, pa.array(celsius)]
    return pa.record_batch(columns, schema=_READING)


def _sliding(size_ms: int, advance_ms: int) -> str:
    """Return SQL that has each reading once in each window that it is in."""
    windows = -(-size_ms // advance_ms)
    return f"""WITH readings AS (
        SELECT *, time_bucket(INTERVAL '{advance_ms} milliseconds', time, TIMESTAMP '1970-01-01')
            - k * INTERVAL '{advance_ms} milliseconds' AS window_start
        FROM {_READ}, range({windows}) AS steps(k))
    SELECT sensor, window_start, window_start + INTERVAL '{size_ms} milliseconds' AS window_end,
        count(*) AS n, avg(celsius) AS mean, min(celsius) AS least, max(celsius) AS most,
        max(timestamp) AS last
    FROM readings WHERE time < window_start + INTERVAL '{size_ms} milliseconds' GROUP BY ALL"""
