"""The progress line: throughput and watermark of all ranks, about once a second.

::

    airport-delays  1.2 M rows/s  34.5 M rows  watermark 2001-01-03 04:00:00  812 rounds/s
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hpcstream import log
from hpcstream.columns.event_time import MAX_TIME, MIN_TIME
from hpcstream.environment import TERMINAL
from hpcstream.observability.time_text import format_time
from hpcstream.observability.watermarks import Position, SourceTime, WatermarkStall
from hpcstream.quantities import format_count, format_span

_WIDTH = 100
_SPLIT_BYTES = 96
_CLEAR = "\r\x1b[K"
_PLAIN_EVERY_S = 10.0
LOG_EVERY_S = 60.0
"""Seconds between two lines in a log, with ``progress=None``."""

LOG_FIRST_S = 10.0
_LAG_LIMIT_S = 366 * 86_400.0
_WARN_AFTER_S = 5.0

_SOURCE = np.dtype(
    [
        ("watermark", np.int64),
        ("still_us", np.int64),
        ("no_rows_us", np.int64),
        ("state", np.int64),
        ("split", f"S{_SPLIT_BYTES}"),
    ]
)


UNKNOWN = -1
"""Total of a source that does not know its number of rows."""


@dataclass(frozen=True)
class RankProgress:
    """Progress of one rank, sent to all others about once a second.

    ``rows_total`` is the final ``rows_in``, or `UNKNOWN`; ``metrics`` are those that the ranks
    have agreed on.
    """

    rows_in: int
    rows_out: int
    late_rows: int
    rounds: int
    sources: tuple[SourceTime, ...] = ()
    rows_total: int = UNKNOWN
    metrics: tuple[int, ...] = ()


class ProgressRecords:
    """`RankProgress` as a record of fixed size, the same on all ranks.

    Parameters
    ----------
    n_sources : int
        Sources of the job.
    n_metrics : int
    """

    def __init__(self, n_sources: int, n_metrics: int = 0) -> None:
        self._dtype = np.dtype(
            [
                ("counts", np.int64, (5,)),
                ("sources", _SOURCE, (n_sources,)),
                ("metrics", np.int64, (n_metrics,)),
            ]
        )
        self.n_bytes = self._dtype.itemsize

    def pack(self, progress: RankProgress) -> np.ndarray:
        """Return the record as uint8[n_bytes]."""
        record = np.zeros(1, dtype=self._dtype)
        record["counts"][0] = (
            progress.rows_in,
            progress.rows_out,
            progress.late_rows,
            progress.rounds,
            progress.rows_total,
        )
        for index, source in enumerate(progress.sources):
            # The end of a long path tells more than its beginning.
            split = source.split.encode(errors="replace")[-_SPLIT_BYTES:]
            times = int(source.still_s * 1e6), int(source.no_rows_s * 1e6)
            record["sources"][0, index] = (source.watermark, *times, source.state, split)
        record["metrics"][0] = progress.metrics
        return record.view(np.uint8)

    def unpack(self, data: np.ndarray) -> list[RankProgress]:
        """Return the records of all ranks."""
        return [_unpacked(record) for record in data.view(self._dtype)]


def _unpacked(record: np.void) -> RankProgress:
    sources = tuple(
        SourceTime(
            int(source["watermark"]),
            int(source["state"]),
            int(source["still_us"]) / 1e6,
            int(source["no_rows_us"]) / 1e6,
            source["split"].decode(errors="ignore"),
        )
        for source in record["sources"]
    )
    rows_in, rows_out, late_rows, rounds, rows_total = record["counts"].tolist()
    metrics = tuple(record["metrics"].tolist())
    return RankProgress(rows_in, rows_out, late_rows, rounds, sources, rows_total, metrics)


@dataclass(frozen=True)
class JobProgress:
    """The values of the progress line. Rates are relative to the previous line.

    Attributes
    ----------
    done : float or None
        Share of the rows read so far; None if the total is unknown.
    left_s : float or None
        Seconds until all are read, at the mean rate so far.
    metrics : dict of str to int
        Metrics of operators, sources, sinks and edges (`hpcstream.metric`).
    """

    rows: int
    rows_per_s: float
    rounds_per_s: float
    late_rows: int
    position: Position | None = None
    stall: WatermarkStall | None = None
    done: float | None = None
    left_s: float | None = None
    metrics: Mapping[str, int] = field(default_factory=dict)


class ProgressMeter:
    """Turns successive totals into rates. Reads no clock, does no I/O."""

    def __init__(self, now_s: float) -> None:
        self._before = (now_s, 0, 0)
        self._first: tuple[float, int] | None = None

    def measure(
        self,
        ranks: Sequence[RankProgress],
        position: Position | None,
        stall: WatermarkStall | None,
        now_s: float,
    ) -> JobProgress:
        """Return totals and rates over all ranks."""
        then_s, rows_then, rounds_then = self._before
        rows = sum(rank.rows_in for rank in ranks)
        rounds = max(rank.rounds for rank in ranks)
        late_rows = sum(rank.late_rows for rank in ranks)
        self._before = (now_s, rows, rounds)
        elapsed_s = max(now_s - then_s, 1e-6)
        return JobProgress(
            rows,
            (rows - rows_then) / elapsed_s,
            (rounds - rounds_then) / elapsed_s,
            late_rows,
            position,
            stall,
            *self._outlook(ranks, rows, now_s),
        )

    def _outlook(
        self, ranks: Sequence[RankProgress], rows: int, now_s: float
    ) -> tuple[float | None, float | None]:
        """Return the share of rows read, and the seconds that the others will take."""
        if any(rank.rows_total == UNKNOWN for rank in ranks):
            return None, None
        total = max(sum(rank.rows_total for rank in ranks), rows, 1)
        if self._first is None:
            self._first = now_s, rows
        then_s, rows_then = self._first
        if rows == rows_then:
            return rows / total, None
        return rows / total, (total - rows) * (now_s - then_s) / (rows - rows_then)


def progress_text(name: str, progress: JobProgress, wall_s: float, width: int) -> str:
    """Return the line, cut to ``width`` columns.

    Parameters
    ----------
    wall_s : float
        Now, in seconds since the epoch: the lag of live sources is relative to it.
    """
    parts = [
        name,
        f"{format_count(progress.rows_per_s)} rows/s",
        f"{format_count(progress.rows)} rows{_outlook_text(progress)}",
        *_time_parts(progress, wall_s),
    ]
    if progress.late_rows:
        parts.append(f"late {format_count(progress.late_rows)}")
    parts.append(f"{format_count(progress.rounds_per_s)} rounds/s")
    if sum(map(len, parts)) + 2 * len(parts) - 2 > width:
        del parts[0]  # the name is the part to spare
    line = "  ".join(parts)
    return line if len(line) <= width else line[: max(width - 3, 0)] + "..."


def _outlook_text(progress: JobProgress) -> str:
    if progress.done is None:
        return ""
    left = "" if progress.left_s is None else f", {format_span(progress.left_s)} left"
    return f" ({int(100 * progress.done)} %{left})"


def _time_parts(progress: JobProgress, wall_s: float) -> list[str]:
    parts = []
    position = progress.position
    if position is not None and position.watermark != MAX_TIME:
        when = format_time(position.watermark, position.facts.unit)
        parts.append(f"watermark {when.partition('.')[0]}")
    if progress.stall is not None:
        parts.append(progress.stall.in_short())
    elif position is not None and position.facts.live and position.watermark != MIN_TIME:
        lag_s = wall_s - position.facts.seconds(position.watermark)
        if abs(lag_s) < _LAG_LIMIT_S:  # else the data is historical
            parts.append(f"lag {format_span(lag_s)}")
    return parts


class ProgressLine:
    """Writes the progress line: over the last one on a terminal, else to the log now and then.

    Parameters
    ----------
    name : str
        Name of the job.
    width : int
        Columns of the terminal; 0: standard error is not a terminal.
    every_s : float
        In a log: seconds between two lines.
    first_s : float
        In a log: seconds until the first line.
    """

    def __init__(
        self,
        name: str,
        width: int,
        *,
        every_s: float = _PLAIN_EVERY_S,
        first_s: float = 0.0,
    ) -> None:
        self._name = name
        self._is_terminal = width > 0
        self._width = width - 1 if width > 0 else _WIDTH
        self._every_s = every_s
        self._first_s = first_s
        self._next_s: float | None = None
        self._warned_about: set[str] = set()
        self._is_shown = False
        self._explained: tuple[str, str] | None = None

    def show(self, progress: JobProgress, now_s: float, wall_s: float) -> None:
        """Show the progress; explain a stalled watermark once, in full."""
        self._explain(progress.stall)
        if self._next_s is None:
            self._next_s = now_s + self._first_s
        if not self._is_terminal and now_s < self._next_s:
            return
        self._next_s = now_s + self._every_s
        text = progress_text(self._name, progress, wall_s, self._width)
        if not self._is_terminal:
            log.show_progress(text)
        elif log.shows_progress():
            log.ERR.write(f"{_CLEAR}{text}")
            self._is_shown = True

    def _explain(self, stall: WatermarkStall | None) -> None:
        if stall is None or stall.seconds < _WARN_AFTER_S:
            self._explained = None if stall is None else self._explained
            return
        where = (stall.watermark, stall.split)
        if where != self._explained:
            self._explained = where
            self.clear()
            log.warn(f"no window can fire: {stall}")

    def warn_once(self, about: str, text: str) -> None:
        """Log a warning, unless one about the same subject was logged before."""
        if about not in self._warned_about:
            self._warned_about.add(about)
            self.clear()
            log.warn(text)

    def clear(self) -> None:
        """Clear the line, so that other output may be written."""
        if self._is_shown:
            log.ERR.write(_CLEAR)
            self._is_shown = False


def terminal_width(environ: Mapping[str, str], columns: int) -> int:
    """Return the width of the terminal that standard error writes to; 0 if it is no terminal.

    Parameters
    ----------
    columns : int
        Width of a terminal that is standard error of this process.
    """
    width = environ.get(TERMINAL, "")
    if width.isdecimal():
        return int(width)
    return columns if log.ERR.isatty() else 0
