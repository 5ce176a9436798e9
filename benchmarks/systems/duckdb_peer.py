"""DuckDB, as someone who knows it would write it: slices first, then windows of slices."""

from __future__ import annotations

import duckdb

from benchmarks.measure.trial import Trial
from benchmarks.systems.tables import Repeated, mapped
from benchmarks.workloads.datasets import campaigns
from benchmarks.workloads.workload import Workload

_PARSED = (
    "(SELECT ts, fields[1] AS ad_id, fields[2] AS event_type FROM "
    "(SELECT ts, json_extract_string(line, ['$.ad_id', '$.event_type']) AS fields FROM input))"
)


def make(trial: Trial) -> Repeated:
    """Return DuckDB over the mapped file, which it scans without a copy."""
    connection = duckdb.connect(config={"threads": trial.threads})
    connection.register("input", mapped(trial))
    if trial.query.counts_views:
        connection.register("campaigns", campaigns())
    text = sql(trial.query)
    return Repeated(trial, lambda: connection.sql(text).to_arrow_table())


def sql(workload: Workload) -> str:
    """Return the query of a workload."""
    keys = ", ".join(workload.keys)
    source, slide = "input", workload.slide
    if workload.counts_views:
        rows = _PARSED if workload.is_json else "input"
        source = (
            f"(SELECT ts, campaign FROM {rows} JOIN campaigns USING (ad_id) "
            "WHERE event_type = 'view')"
        )
    if workload.sessions:
        return _sessions(workload, keys)
    if workload.size == slide:
        return (
            f"SELECT {keys}, ts // {slide} * {slide} AS window_start, count(*) AS n"
            f"{_columns(workload, 'value')} FROM {source} GROUP BY ALL"
        )
    return f"""
        WITH slices AS (
            SELECT {keys}, ts // {slide} * {slide} AS slice, count(*) AS c, sum(value) AS s,
                max(value) AS m FROM {source} GROUP BY ALL)
        SELECT {keys}, slice - shift AS window_start, sum(c)::BIGINT AS n{_combined(workload)}
        FROM slices, range(0, {workload.size}, {slide}) AS shifts(shift) GROUP BY ALL"""


def _sessions(workload: Workload, keys: str) -> str:
    """Return the query of sessions: where a gap ends, the next one begins."""
    return f"""
        WITH marked AS (
            SELECT *, coalesce(ts - lag(ts) OVER by_time >= {workload.size}, true) AS begins
            FROM input WINDOW by_time AS (PARTITION BY {keys} ORDER BY ts)),
        numbered AS (
            SELECT *, sum(begins::INT) OVER (PARTITION BY {keys} ORDER BY ts) AS session
            FROM marked)
        SELECT {keys}, min(ts) AS window_start, count(*) AS n{_columns(workload, "value")}
        FROM numbered GROUP BY {keys}, session"""


def _columns(workload: Workload, of: str) -> str:
    functions = {"sum": "sum", "max": "max", "mean": "avg"}
    return "".join(f", {functions[name]}({of}) AS {name}" for name in workload.aggregates)


def _combined(workload: Workload) -> str:
    functions = {"sum": "sum(s)", "max": "max(m)", "mean": "sum(s) / sum(c)"}
    return "".join(f", {functions[name]} AS {name}" for name in workload.aggregates)
