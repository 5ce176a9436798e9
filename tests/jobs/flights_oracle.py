"""What DuckDB says of a query, and whether a job said the same."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

import hpcstream as hs
from hpcstream.api.stream import Collected, Stream
from tests.jobs.flights_queries import TABLES, Query

SHIPPED = Path(__file__).parents[2] / "examples/data/flights-2001-01.parquet"
FLIGHTS = Path(os.environ.get("HPCSTREAM_FLIGHTS", SHIPPED))
"""Another file with the same columns may be named in the environment."""

RELATIVE = 1e-9

EVERYWHERE = None
IN_GROUPS = ([1, 2], [0, 3])
Placement = tuple[Sequence[int], Sequence[int]] | None
"""Ranks for the query and for what follows it; None: all ranks do everything."""


class Oracle:
    """DuckDB over one file of flights."""

    def __init__(self, path: Path = FLIGHTS) -> None:
        self._connection = duckdb.connect()
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(
            "CREATE VIEW flights AS SELECT *, file_row_number AS row "
            f"FROM read_parquet('{path}', file_row_number = true)"
        )
        for name, table in TABLES.items():
            self._connection.register(name, table)

    def answer(self, query: Query, schema: pa.Schema) -> pa.Table:
        """Return the rows that SQL gives, in the types of a stream."""
        found = self._connection.sql(query.sql).to_arrow_table()
        columns = [
            column.cast(field.type) for column, field in zip(found.columns, schema, strict=True)
        ]
        return in_order(pa.table(columns, schema=schema))


def build(
    query: Query, placement: Placement = EVERYWHERE, path: Path = FLIGHTS
) -> tuple[hs.Job, Collected]:
    """Return a job that runs one query, and the handle of its rows."""
    job = hs.Job(query.name)
    flights = job.read_parquet(path, event_time="date")
    if placement is not None and not query.needs_order:
        flights = flights.on(ranks=placement[0])
    rows: Stream = query.build(job, flights)
    if placement is not None:
        rows = rows.on(ranks=placement[1]).filter(hs.lit(True))
    return job, rows.collect()


def cut(path: Path, days: int) -> Path:
    """Write the first days of the shipped flights in many small splits; return the path."""
    table = parquet.read_table(SHIPPED)
    end = pc.add(pc.floor_temporal(table["date"][0], unit="day"), dt.timedelta(days))
    first = table.filter(pc.less(table["date"], end))
    parquet.write_table(first, path, row_group_size=first.num_rows // 10 + 1)
    return path


def in_order(table: pa.Table) -> pa.Table:
    """Sort by all columns that compare exactly: keys and window come first."""
    exact = [f.name for f in table.schema if not pa.types.is_floating(f.type)]
    return table.sort_by([(name, "ascending") for name in exact]).combine_chunks()


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    """Fail unless both have the same rows: exactly, floats to `RELATIVE`."""
    found = in_order(found)
    assert found.schema.equals(expected.schema)
    assert found.num_rows == expected.num_rows
    for name in expected.column_names:
        _assert_same_column(name, found[name], expected[name], found)


def _assert_same_column(
    name: str, found: pa.ChunkedArray, expected: pa.ChunkedArray, rows: pa.Table
) -> None:
    if pa.types.is_floating(expected.type):
        same = pc.equal(found.is_null(), expected.is_null()).to_numpy()
        a, b = (np.nan_to_num(column.to_numpy()) for column in (found, expected))
        same &= np.abs(a - b) <= RELATIVE * np.maximum(np.abs(a), np.abs(b)) + 1e-12
    else:
        equal = pc.equal(found, expected).fill_null(False)
        both_null = pc.and_(found.is_null(), expected.is_null())
        same = pc.or_(equal, both_null).to_numpy()
    if not same.all():
        at = int(np.flatnonzero(~same)[0])
        row = rows.slice(at, 1).to_pylist()[0]
        raise AssertionError(
            f"{name}: {int((~same).sum())} of {len(same)} rows differ; the first: "
            f"{row} where SQL has {expected[at].as_py()!r}"
        )
