"""What DuckDB says of a query over the same events."""

from __future__ import annotations

import time
from collections.abc import Mapping

import duckdb
import pyarrow as pa

from benchmarks.nexmark.query import Query


def answer(
    query: Query, views: Mapping[str, pa.Table], schema: pa.Schema, threads: int = 1
) -> tuple[pa.Table, float]:
    """Return the rows of a query, and the seconds that DuckDB took.

    Parameters
    ----------
    views : mapping of str to table
        What the query reads, in memory.
    schema : pa.Schema
        Of the stream; the rows are returned in its columns and types.
    """
    connection = duckdb.connect(config={"threads": threads})
    connection.execute("SET TimeZone = 'UTC'")
    for name, table in {**views, **(query.tables or {})}.items():
        connection.register(name, table)
    begin = time.perf_counter()
    found = connection.sql(query.sql).to_arrow_table()
    seconds = time.perf_counter() - begin
    columns = [found[field.name].cast(field.type) for field in schema]
    return pa.table(columns, schema=schema), seconds
