"""The published pipeline: match, send to the consumer, keep its state, emit it now and then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

import hpcstream as hs
from benchmarks.nexmark.query import Query, Suite, Views
from benchmarks.shufflebench.rules import Rules, match
from hpcstream import Stream, WindowedStream, col

CARRIED = ("time", "value")
_NUMBERS_SQL = "count(*) AS n, sum(value) AS total, min(time) AS first_time, max(time) AS last_time"


@dataclass(frozen=True, eq=False)
class Matcher:
    """Turns records into one row for each rule that they match. For `Stream.map_batches`."""

    rules: Rules
    payload: bool

    @property
    def __name__(self) -> str:
        return f"match {len(self.rules.offsets)} rules"

    @property
    def schema(self) -> pa.Schema:
        """Of the rows."""
        fields = [
            ("consumer", pa.dictionary(pa.int32(), pa.string())),
            ("time", pa.timestamp("ms")),
            ("value", pa.int64()),
        ]
        return pa.schema(fields + ([("payload", pa.binary())] if self.payload else []))

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a batch of records."""
        rows, rules = self._pairs(batch["first"].to_numpy(), batch["second"].to_numpy())
        chosen = pa.array(rows)
        value = batch["first"].to_numpy()[rows] >> np.int64(20)
        columns = [
            pa.DictionaryArray.from_arrays(pa.array(rules), self.rules.names),
            batch["time"].take(chosen),
            pa.array(value),
        ]
        columns += [batch["payload"].take(chosen)] if self.payload else []
        return pa.record_batch(columns, schema=self.schema)

    def _pairs(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slots = (self.rules.slot_starts, self.rules.slot_rules)
        ranges = (self.rules.offsets, self.rules.widths)
        room = len(first)
        while True:
            rows, rules = np.empty(room, np.int64), np.empty(room, np.int32)
            found = match((first, second), slots, ranges, room, rows, rules)
            if found <= room:
                return rows[:found], rules[:found]
            room = found


def queries(rules: Rules, window_ms: int) -> Mapping[str, Query]:
    """Return the pipeline, without and with the payload of records in what crosses ranks.

    The state is that published: count, sum, first and last time, 32 bytes. A count window of
    ``n`` records is to come; a window of event time replaces it.
    """
    suite = Suite("shufflebench")
    instead = f"output for each window of {window_ms} ms instead of every n records; the sum is " \
        "of the upper 44 bits of the first 8 bytes, as int64 sums may not overflow"  # fmt: skip
    head = ("time", "first", "second")
    tables = {"rules": rules.intervals()}

    @suite.add(
        "Match, shuffle, count and sum",
        {"records": head},
        _sql(window_ms, ""),
        differs=instead,
        tables=tables,
    )
    def count(views: Views) -> Stream:
        windows = _matched(views["records"].select(*head), rules, window_ms, payload=False)
        return windows.agg(**_state())

    @suite.add(
        "The same, with the last record kept whole",
        {"records": (*head, "payload")},
        _sql(window_ms, ", arg_max(payload, (time, number)) AS payload"),
        differs=instead,
        tables=tables,
    )
    def carry(views: Views) -> Stream:
        windows = _matched(views["records"], rules, window_ms, payload=True)
        return windows.agg(**_state(), payload=col("payload").last())

    return suite.queries


def _matched(records: Stream, rules: Rules, window_ms: int, *, payload: bool) -> WindowedStream:
    matcher = Matcher(rules, payload)
    matched = records.map_batches(matcher, matcher.schema)
    return matched.key_by("consumer").window(hs.tumbling(f"{window_ms}ms"))


def _state() -> dict[str, hs.AggregateCall]:
    return {
        "n": hs.count(),
        "total": col("value").sum(),
        "first_time": col("time").min(),
        "last_time": col("time").max(),
    }


def _sql(window_ms: int, more: str) -> str:
    bucket = f"INTERVAL '{window_ms} milliseconds'"
    start = f"time_bucket({bucket}, time, TIMESTAMP '1970-01-01')"
    return f"""SELECT consumer, {start} AS window_start, {start} + {bucket} AS window_end,
        {_NUMBERS_SQL}{more} FROM records JOIN rules ON hash >= low AND hash < stop GROUP BY ALL"""
