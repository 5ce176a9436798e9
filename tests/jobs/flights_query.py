"""Queries over the flights data, each as a job and as SQL.

A query's SQL reads the view ``flights`` (the file's columns and ``row``, the number of the
row in the file) and the tables of `TABLES`; its columns match the stream's by position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import pyarrow as pa

import hpcstream as hs
from hpcstream.api.stream import Stream

HUBS = ["ATL", "ORD", "DFW", "LAX", "PHX"]

AIRPORTS = pa.table(
    {
        "airport": ["ATL", "ORD", "DFW", "LAX", "PHX", "DEN", "SFO", "JFK", "ATL"],
        "region": ["south", "north", "south", "west", "west", None, "west", "east", "busy"],
    }
)
"""A table to join with: ATL twice, a null, and few airports."""

ROUTES = pa.table(
    {
        "origin": ["ATL", "LAX", "ORD", "DFW"],
        "destination": ["DFW", "SFO", "LGA", "ATL"],
        "fare": pa.array([Decimal("99.50"), Decimal("49.00"), None, Decimal("99.50")]),
    }
)

TABLES = {"airports": AIRPORTS, "routes": ROUTES}

Build = Callable[[hs.Job, Stream], Stream]


@dataclass(frozen=True)
class Query:
    """One query.

    Attributes
    ----------
    name : str
    build : (Job, Stream) -> Stream
        Adds the query behind the stream of flights.
    sql : str
    needs_order : bool
        It takes event time anew, so each rank must give it its rows in the order of its
        splits: no change of ranks before it.
    """

    name: str
    build: Build
    sql: str
    needs_order: bool = False


QUERIES: list[Query] = []


def query(sql: str, *, needs_order: bool = False) -> Callable[[Build], Build]:
    """Register a function as a query, under its name."""

    def register(build: Build) -> Build:
        QUERIES.append(Query(build.__name__, build, sql, needs_order))
        return build

    return register


def tumbling(size: str, offset: str = "0 hours", rows: str = "flights", time: str = "date") -> str:
    """Return SQL for rows with the tumbling window each is in."""
    origin = f"TIMESTAMP '1970-01-01' + INTERVAL '{offset}'"
    start = f"time_bucket(INTERVAL '{size}', {time}, {origin})"
    return (
        f"(SELECT *, {start} AS window_start, {start} + INTERVAL '{size}' AS window_end "
        f"FROM {rows})"
    )


def sliding(size: str, slide: str, most: int, rows: str = "flights") -> str:
    """Return SQL for each row once for each window it is in, of ``most`` at most."""
    last = f"time_bucket(INTERVAL '{slide}', date, TIMESTAMP '1970-01-01')"
    every = (
        f"(SELECT *, {last} - step * INTERVAL '{slide}' AS window_start "
        f"FROM {rows}, generate_series(0, {most - 1}) AS steps(step))"
    )
    return (
        f"(SELECT *, window_start + INTERVAL '{size}' AS window_end FROM {every} "
        f"WHERE date < window_start + INTERVAL '{size}')"
    )
