"""What a query is: a job and the same in SQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hpcstream import Stream

Views = Mapping[str, Stream]
"""The streams a query reads, by name: person, auction, bid; records; lines."""

Build = Callable[[Views], Stream]


@dataclass(frozen=True)
class Query:
    """One query.

    Attributes
    ----------
    name : str
    title : str
        What it asks.
    reads : mapping of str to sequence of str
        The columns of each view that the SQL reads.
    build : callable
        Returns the result of the views.
    sql : str
        The same rows, in columns of the same names, for DuckDB.
    differs : str
        How the query differs from the published one; nothing if it does not.
    tables : mapping of str to table
        Side inputs, which the SQL reads by name.
    writes_files : bool
        Whether writing its rows to files is part of the query.
    """

    name: str
    title: str
    reads: Mapping[str, Sequence[str]]
    build: Build
    sql: str
    differs: str = ""
    tables: Mapping[str, pa.Table] | None = None
    writes_files: bool = False


class Suite:
    """Queries by name, in the order in which they were added."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.queries: dict[str, Query] = {}

    def add(
        self,
        title: str,
        reads: Mapping[str, Sequence[str]],
        sql: str,
        *,
        differs: str = "",
        tables: Mapping[str, pa.Table] | None = None,
        writes_files: bool = False,
    ) -> Callable[[Build], Build]:
        """Return a decorator that adds a function as a query, under its name."""

        def register(build: Build) -> Build:
            name = build.__name__
            self.queries[name] = Query(
                name, title, reads, build, sql, differs, tables, writes_files
            )
            return build

        return register
