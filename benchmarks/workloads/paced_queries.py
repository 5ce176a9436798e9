"""What runs on a schedule: rows as functions of their numbers, a query, and what it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

import hpcstream as hs
from benchmarks.workloads.datasets import campaigns
from hpcstream import Stream, col

N_KEYS = 10_000
_EVENTS = pa.array(["view", "click", "purchase"])
_BLOCK = 1 << 20


@dataclass(frozen=True)
class PacedQuery:
    """A query over rows that fall due one after the other.

    Attributes
    ----------
    window_us : int
        Of its tumbling windows, whose results have ``window_end`` and the count ``n``.
    fields : sequence of (str, pa.DataType)
        The columns beside ``ts``.
    columns : callable
        Returns those columns of rows of these numbers.
    build : callable
        Returns the results of the stream.
    counted : callable
        Returns how many of so many first rows windows must count.
    from_window_end : bool
        Whether latency begins at the end of the window, as the Yahoo benchmark has it;
        else when the last row in it was due.
    options : dict
        Fields of ``JobConfig``.
    """

    window_us: int
    fields: Sequence[tuple[str, pa.DataType]]
    columns: Callable[[np.ndarray], list[Any]]
    build: Callable[[Stream], Stream]
    counted: Callable[[int], int]
    from_window_end: bool
    options: dict[str, Any]

    @property
    def schema(self) -> pa.Schema:
        """Of the rows."""
        return pa.schema([("ts", pa.int64()), *self.fields])


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Return 31 bits that look random, for each number."""
    h = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return ((h ^ (h >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)) >> np.uint64(33)


def _keyed(numbers: np.ndarray) -> list[Any]:
    keys = (_mixed(numbers) % np.uint64(N_KEYS)).astype(np.int64)
    return [keys, keys.astype(np.float64)]


def _sums(rows: Stream) -> Stream:
    windows = rows.key_by("key").window(hs.tumbling("10ms"))
    return windows.agg(n=hs.count(), total=col("value").sum())


def _ads(numbers: np.ndarray) -> list[Any]:
    bits = _mixed(numbers)
    ads = campaigns()["ad_id"].combine_chunks()
    chosen = ((bits // np.uint64(3)) % np.uint64(len(ads))).astype(np.int32)
    return [ads.take(pa.array(chosen)), _EVENTS.take(pa.array(_event(bits)))]


def _event(bits: np.ndarray) -> np.ndarray:
    return (bits % np.uint64(3)).astype(np.int32)


def _views(rows: int) -> int:
    """Return how many of the first rows are views."""
    blocks = (np.arange(at, min(at + _BLOCK, rows)) for at in range(0, rows, _BLOCK))
    return sum(int((_event(_mixed(numbers)) == 0).sum()) for numbers in blocks)


def _campaigns(rows: Stream) -> Stream:
    views = rows.filter(col("event_type") == "view").select("ad_id")
    joined = views.join_table(campaigns(), on="ad_id")
    return joined.key_by("campaign").window(hs.tumbling("1s")).agg(n=hs.count())


PACED = {
    "latency": PacedQuery(
        10_000,
        (("key", pa.int64()), ("value", pa.float64())),
        _keyed,
        _sums,
        counted=lambda rows: rows,
        from_window_end=False,
        options={"local_aggregation": False},
    ),
    "ysb": PacedQuery(
        1_000_000,
        (("ad_id", pa.string()), ("event_type", pa.string())),
        _ads,
        _campaigns,
        counted=_views,
        from_window_end=True,
        options={},
    ),
}
"""By name. `latency` sends every row raw through one hash exchange, into windows of 10 ms."""
