"""Windowed aggregation of a whole input the obvious way: every row looked at, in plain Python.

Times are integers. A row is a dictionary with its columns, its event time ``time`` and its
number ``id`` in the whole input, by which ties of equal time are broken.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
MIN_TIME = -math.inf


@dataclass(frozen=True)
class NaiveWindows:
    """Windows ``[start, start + size)`` for every start ``offset + n * slide``."""

    size: int
    slide: int
    offset: int = 0
    lateness: int = 0

    def starts(self, time: int) -> list[int]:
        """Return the starts of all windows that contain a time."""
        first = time - self.size + 1
        return [s for s in range(first, time + 1) if (s - self.offset) % self.slide == 0]


@dataclass(frozen=True)
class Judged:
    """What became of the rows: those of each (keys, window start), and the late ones."""

    groups: dict[tuple[Any, ...], list[Row]]
    late: list[Row]


def judge(
    arrivals: Iterable[tuple[Row, float]], keys: Sequence[str], windows: NaiveWindows
) -> Judged:
    """Put each row in the windows still open at the watermark of its arrival."""
    judged = Judged({}, [])
    for row, watermark in arrivals:
        starts = windows.starts(row["time"])
        still_open = [s for s in starts if s + windows.size + windows.lateness > watermark]
        if not still_open:
            judged.late.append(row)
        for start in still_open:
            key = (*(row[name] for name in keys), start)
            judged.groups.setdefault(key, []).append(row)
    return judged


def arrivals(
    splits: Sequence[Sequence[Row]], batch_rows: int, delay: int
) -> Iterator[tuple[Row, float]]:
    """Yield every row, with the watermark of the rounds before the one it comes in.

    One rank reads split after split, ``batch_rows`` rows a round, but rather up to half as many
    more than cut what a split has. The watermark is the greatest time of the split being read,
    less the delay, but never beyond the least time of the splits to come; it never goes back.
    """
    watermark = reached = MIN_TIME
    left = batch_rows
    for number, split in enumerate(splits):
        to_come = [row["time"] for later in splits[number + 1 :] for row in later]
        greatest = MIN_TIME
        position = 0
        while position < len(split):
            rows = split[position : position + max(left, batch_rows // 2)]
            for row in rows:
                yield row, watermark
                greatest = max(greatest, row["time"])
                reached = max(reached, min(greatest - delay, min(to_come, default=math.inf)))
            position += len(rows)
            left -= len(rows)
            if left <= 0:
                watermark, left = reached, batch_rows


def aggregate(function: str, column: str, rows: Sequence[Row], parameters: dict[str, Any]) -> Any:
    """Return one aggregate of the rows of a group, nulls as in SQL."""
    if function == "count_rows":
        return len(rows)
    ordered = sorted(rows, key=lambda row: (row["time"], row["id"]))
    values = [row[column] for row in ordered if row[column] is not None]
    if function == "count":
        return len(values)
    if function == "count_distinct":
        return len(set(values))
    return _AGGREGATES[function](values, **parameters) if values else None


def _mean(values: list[Any]) -> float:
    return float(sum(values)) / len(values)


def _variance(values: list[Any], ddof: int) -> float | None:
    if len(values) <= ddof:
        return None
    mean = statistics.fmean(map(float, values))
    return math.fsum((float(v) - mean) ** 2 for v in values) / (len(values) - ddof)


def _deviation(values: list[Any], ddof: int) -> float | None:
    variance = _variance(values, ddof)
    return None if variance is None else math.sqrt(variance)


def _quantile(values: list[Any], q: float = 0.5) -> float:
    ordered = sorted(map(float, values))
    place = q * (len(ordered) - 1)
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))


_AGGREGATES = {
    "sum": sum,
    "mean": _mean,
    "min": min,
    "max": max,
    "var": _variance,
    "std": _deviation,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "median": _quantile,
    "quantile": _quantile,
}
