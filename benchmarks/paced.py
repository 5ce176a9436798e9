"""One paced run, on the ranks of one job: rows on a schedule, and when their results came.

Started by `benchmarks.latency`, never by hand. The load is open: a row is due at its time
whatever the engine does, so a stall delays all that were due meanwhile, and shows. Every
row crosses one hash exchange raw, into tumbling windows of 10 ms.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import hpcstream as hs
from benchmarks.contestant import MARK
from benchmarks.trial import Trial
from hpcstream import col
from hpcstream.connectors.base import Split
from hpcstream.connectors.paced import Lane, LaneReader, Schedule

WINDOW_US = 10_000
N_KEYS = 10_000
WARM_S = 1.0
"""Results of the first second are not counted."""

LEAD_S = 1.0  # from the agreement on the start to the first row
_BLOCK_ROWS = 65_536
_SCHEMA = pa.schema([("ts", pa.int64()), ("key", pa.int64()), ("value", pa.float64())])
_PERCENTILES = (50.0, 99.0, 99.9, 100.0)


@dataclass(frozen=True)
class Load:
    """Row ``i`` is due ``(i + 1) / rate`` seconds after ``start``, by the host's clock."""

    rate: int
    rows: int
    start: float

    def rows_of(self, lane: Lane, first: int, n_rows: int) -> pa.RecordBatch:
        """Return rows of a lane: event time is when they are due, in microseconds."""
        numbers = lane.number + (first + np.arange(n_rows, dtype=np.int64)) * lane.n_lanes
        mixed = (numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
        keys = (mixed % np.uint64(N_KEYS)).astype(np.int64)
        columns = [numbers * 1_000_000 // self.rate, keys, keys.astype(np.float64)]
        return pa.record_batch(columns, schema=_SCHEMA)

    def due_of_last_row(self, window_end_us: np.ndarray) -> np.ndarray:
        """Return when the last row before each time was due."""
        n_before = -(-window_end_us * self.rate // 1_000_000)
        return self.start + np.minimum(n_before, self.rows) / self.rate


class PacedSource:
    """`hpcstream.connectors.base.Source` of the load, a lane for each rank."""

    bounded = False
    schema = _SCHEMA

    def __init__(self, load: Load, n_lanes: int) -> None:
        self._load, self._n_lanes = load, n_lanes

    def describe(self) -> str:
        """Return what is read."""
        return f"paced({self._load.rate} rows/s)"

    def list_splits(self) -> list[Split]:
        """Return the lanes."""
        return [Split(f"lane{k}", {"lane": k}) for k in range(self._n_lanes)]

    def open(self, split: Split, position: int = 0) -> LaneReader:
        """Return a reader that gives rows out as they fall due."""
        lane = Lane(int(split.info["lane"]), self._n_lanes, _BLOCK_ROWS)
        schedule = Schedule(self._load.rate, self._load.start, time.time)
        rows = self._load.rows
        return LaneReader(self._load.rows_of, _SCHEMA, lane, rows, schedule, position)

    def project(self, columns: Sequence[str]) -> PacedSource:
        """Return itself: every column is read."""
        return self

    def filter(self, predicate: pc.Expression) -> None:
        """Leave filtering to the engine."""


@dataclass
class Stopwatch:
    """A sink that notes when results came: the ends of their windows, and the clock."""

    ends: list[np.ndarray] = field(default_factory=list)
    came: list[float] = field(default_factory=list)
    counted: int = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Note the rows of a batch."""
        self.came.append(time.time())
        self.ends.append(batch.column("window_end").to_numpy())
        self.counted += pc.sum(batch.column("n")).as_py()

    def latencies(self, load: Load) -> np.ndarray:
        """Return the seconds from the last row that a result needed to the result."""
        if not self.ends:
            return np.zeros(0)
        lengths = [len(ends) for ends in self.ends]
        ends = np.concatenate(self.ends)
        waited = np.repeat(self.came, lengths) - load.due_of_last_row(ends)
        in_steady_state = (ends > WARM_S * 1e6) & (ends * load.rate < load.rows * 1_000_000)
        return waited[in_steady_state]


def main() -> None:
    """Run the load named in the arguments and report on rank 0."""
    entered = time.monotonic()
    trial = Trial.from_json(sys.argv[1])
    options = dict(trial.options)
    rate = options.pop("rate")
    _run(trial, Load(rate, 2 * rate, time.time()), options)  # compiles kernels
    start = _agreed(trial, time.time() + LEAD_S)
    report = _run(trial, Load(rate, trial.rows, start), options)
    report["startup_s"] = entered - float(sys.argv[2])
    if report.pop("rank") == 0:
        print(MARK + json.dumps(report), flush=True)


def _run(trial: Trial, load: Load, options: dict[str, Any]) -> dict[str, Any]:
    job, watch = hs.Job("latency"), Stopwatch()
    rows = job.source(
        PacedSource(load, trial.ranks), event_time="ts", event_time_unit="us", watermark_delay="0s"
    )
    windows = rows.key_by("key").window(hs.tumbling(f"{WINDOW_US}us"))
    windows.agg(n=hs.count(), total=col("value").sum()).sink(watch)
    result = job.run(show=False, local_aggregation=False, **options)
    parts = _gathered(trial, (watch.latencies(load), watch.counted))
    waited = np.concatenate([latencies for latencies, _ in parts])
    found = np.percentile(waited, _PERCENTILES) if len(waited) else np.full(4, np.nan)
    return {
        "rank": _rank(trial),
        "rate": load.rate,
        "rows": load.rows,
        "counted": sum(counted for _, counted in parts),
        "results": len(waited),
        "rounds": result.rounds,
        "late_rows": result.late_rows,
        "seconds": result.seconds,
        **{f"p{p:g}_ms": 1e3 * float(v) for p, v in zip(_PERCENTILES, found, strict=True)},
    }


def _agreed(trial: Trial, value: float) -> float:
    return value if trial.ranks == 1 else float(_world().bcast(value))


def _gathered(trial: Trial, value: Any) -> list[Any]:
    return [value] if trial.ranks == 1 else list(_world().allgather(value))


def _rank(trial: Trial) -> int:
    return 0 if trial.ranks == 1 else int(_world().Get_rank())


def _world() -> Any:
    from mpi4py import MPI

    return MPI.COMM_WORLD


if __name__ == "__main__":
    main()
