"""One paced run on the ranks of one job: rows on a schedule, and the latency of their results.

Started by `benchmarks.suites.latency` and `benchmarks.suites.sustained`, never by hand. The load
is open: a row is due at its time whatever the engine does, so a stall delays, visibly, every row
due meanwhile. The lag of the input is recorded, too: how long the next row has been due when it
is read.
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
from benchmarks.measure.trial import Trial
from benchmarks.measure.trial_process import MARK
from benchmarks.workloads.paced_queries import PACED, PacedQuery
from hpcstream.connectors.base import Chunk, Split
from hpcstream.connectors.in_process.paced import Lane, LaneReader, Schedule

WARM_S = 1.0
"""Results of the first second are not counted."""

LEAD_S = 1.0  # from the agreement on the start to the first row
_BLOCK_ROWS = 65_536
_BIN_S = 0.1  # of time, for the trend of lag
_PERCENTILES = (50.0, 99.0, 99.9, 100.0)


@dataclass(frozen=True)
class Load:
    """Row ``i`` is due ``(i + 1) / rate`` seconds after ``start``, by the host's clock."""

    query: PacedQuery
    rate: int
    rows: int
    start: float

    def rows_of(self, lane: Lane, first: int, n_rows: int) -> pa.RecordBatch:
        """Return rows of a lane: event time is when they are due, in microseconds."""
        numbers = lane.number + (first + np.arange(n_rows, dtype=np.int64)) * lane.n_lanes
        columns = [numbers * 1_000_000 // self.rate, *self.query.columns(numbers)]
        return pa.record_batch(columns, schema=self.query.schema)

    def due(self, row: int) -> float:
        """Return when a row is due."""
        return self.start + (row + 1) / self.rate

    def begin_of_latency(self, window_end_us: np.ndarray) -> np.ndarray:
        """Return from when on results of windows are waited for; see `PacedQuery`."""
        if self.query.from_window_end:
            return self.start + window_end_us / 1e6
        n_before = -(-window_end_us * self.rate // 1_000_000)
        return self.start + np.minimum(n_before, self.rows) / self.rate


class LaggingReader:
    """`SplitReader` of a lane that notes, at each reading, how long the next row has been due."""

    def __init__(self, load: Load, lane: Lane, position: int, lags: list[tuple[float, float]]):
        schedule = Schedule(load.rate, load.start, time.time)
        self._reader = LaneReader(
            load.rows_of, load.query.schema, lane, load.rows, schedule, position
        )
        self._load, self._lane, self._lags = load, lane, lags

    @property
    def position(self) -> int:
        """Rows of the lane that were read."""
        return self._reader.position

    def read(self, max_rows: int) -> Chunk | None:
        """Return rows that are due."""
        now, row = time.time(), self._lane.row(self._reader.position)
        if row < self._load.rows:
            self._lags.append((now - self._load.start, max(0.0, now - self._load.due(row))))
        return self._reader.read(max_rows)

    def close(self) -> None:
        """Let go of the rows."""
        self._reader.close()


class PacedSource:
    """`hpcstream.connectors.base.Source` of the load, a lane for each rank.

    Attributes
    ----------
    lags : list of (float, float)
        Of this rank's lanes: seconds since the start, and the lag of the input then.
    """

    bounded = False

    def __init__(self, load: Load, n_lanes: int) -> None:
        self._load, self._n_lanes = load, n_lanes
        self.schema = load.query.schema
        self.lags: list[tuple[float, float]] = []

    def describe(self) -> str:
        """Return what is read."""
        return f"paced({self._load.rate} rows/s)"

    def list_splits(self) -> list[Split]:
        """Return the lanes."""
        return [Split(f"lane{k}", {"lane": k}) for k in range(self._n_lanes)]

    def open(self, split: Split, position: int = 0) -> LaggingReader:
        """Return a reader that gives rows out as they fall due."""
        lane = Lane(int(split.info["lane"]), self._n_lanes, _BLOCK_ROWS)
        return LaggingReader(self._load, lane, position, self.lags)

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
        """Return the latency of each result; see `PacedQuery.from_window_end`."""
        if not self.ends:
            return np.zeros(0)
        lengths = [len(ends) for ends in self.ends]
        ends = np.concatenate(self.ends)
        waited = np.repeat(self.came, lengths) - load.begin_of_latency(ends)
        in_steady_state = (ends > WARM_S * 1e6) & (ends * load.rate < load.rows * 1_000_000)
        return waited[in_steady_state]


def trend_of(lags: np.ndarray) -> tuple[float, float]:
    """Return by how many seconds lag grows in a second, and what it was in the end.

    The medians of the first and of the last third are compared, so that a stall is not
    taken for a trend; the first second is left out. Who is not behind looks for rows far more
    often than who is, so what counts is the greatest lag in each tenth of a second.

    Parameters
    ----------
    lags : float64[n, 2]
        Seconds since the start, and the lag then, of all ranks.
    """
    tenths = (lags[:, 0] // _BIN_S).astype(np.int64) if len(lags) else np.empty(0, np.int64)
    seen = np.unique(tenths)
    if not len(seen) or seen[-1] * _BIN_S < WARM_S + 3 * _BIN_S:
        return 0.0, 0.0
    greatest = np.zeros(seen[-1] + 1)
    np.maximum.at(greatest, np.maximum(tenths, 0), lags[:, 1])
    steady = np.arange(int(WARM_S / _BIN_S), len(greatest))
    by_time = np.interp(steady, seen, greatest[seen])  # no reading in a tenth: as around it
    third = len(steady) // 3
    early, late = np.median(by_time[:third]), np.median(by_time[-third:])
    return float((late - early) / ((len(steady) - third) * _BIN_S)), float(late)


def main() -> None:
    """Run the load named in the arguments and report on rank 0."""
    entered = time.monotonic()
    trial = Trial.from_json(sys.argv[1])
    options = dict(trial.options)
    query, rate = PACED[trial.workload], options.pop("rate")
    _run(trial, Load(query, rate, 2 * rate, time.time()), options)  # compiles kernels
    start = _agreed(trial, time.time() + LEAD_S)
    report = _run(trial, Load(query, rate, trial.rows, start), options)
    report["startup_s"] = entered - float(sys.argv[2])
    if report.pop("rank") == 0:
        print(MARK + json.dumps(report), flush=True)


def _run(trial: Trial, load: Load, options: dict[str, Any]) -> dict[str, Any]:
    job, watch, source = hs.Job(trial.workload), Stopwatch(), PacedSource(load, trial.ranks)
    rows = job.source(source, event_time="ts", event_time_unit="us", watermark_delay="0s")
    load.query.build(rows).sink(watch)
    result = job.run(show=False, **{**load.query.options, **options})
    lags = np.array(source.lags).reshape(-1, 2)
    parts = _gathered(trial, (watch.latencies(load), watch.counted, lags))
    waited = np.concatenate([latencies for latencies, _, _ in parts])
    found = np.percentile(waited, _PERCENTILES) if len(waited) else np.full(4, np.nan)
    growth, lag = trend_of(np.concatenate([lags for _, _, lags in parts]))
    return {
        "rank": _rank(trial),
        "workload": trial.workload,
        "rate": load.rate,
        "rows": load.rows,
        "counted": sum(counted for _, counted, _ in parts),
        "to_count": load.query.counted(load.rows),
        "results": len(waited),
        "rounds": result.rounds,
        "late_rows": result.late_rows,
        "seconds": result.seconds,
        "lag_growth": growth,
        "lag_s": lag,
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
