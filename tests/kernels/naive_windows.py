"""Windowed aggregation the obvious way: keep every row, look at all of them each time."""

from __future__ import annotations

import math
import statistics


class NaiveWindows:
    """Takes rows (key, time, order, value) and watermarks; says what must come out.

    ``key`` and ``value`` may be None. Results are {(key, window start): rows of
    values}; what is made of the values is up to the caller.
    """

    def __init__(self, size, slide=None, offset=0, lateness=0):
        self.size, self.slide, self.offset = size, slide or size, offset
        self.lateness = lateness
        self.watermark = -math.inf
        self.rows = []  # accepted (key, time, order, value)
        self.late = []
        self.again = set()  # (start, key) of windows that fired and got rows since

    def starts_of(self, time):
        last = self.offset + (time - self.offset) // self.slide * self.slide
        return [s for s in range(last, time - self.size, -self.slide) if s <= time < s + self.size]

    def add(self, rows):
        """Take in rows; return the late ones."""
        late = []
        for row in rows:
            open_starts = [
                start
                for start in self.starts_of(row[1])
                if start + self.size + self.lateness > self.watermark
            ]
            if not open_starts:
                late.append(row)
                continue
            self.rows.append(row)
            fired = (s for s in open_starts if s + self.size <= self.watermark)
            self.again.update((start, row[0]) for start in fired)
        self.late += late
        return late

    def advance(self, watermark):
        """Return [(window start, {key: rows})] of the windows that fire, in order."""
        before, self.watermark = self.watermark, max(self.watermark, watermark)
        starts = {s for row in self.rows for s in self.starts_of(row[1])}
        due = {s for s in starts if before < s + self.size <= self.watermark}
        again, self.again = self.again, set()
        fires = sorted(due | {start for start, _ in again})
        return [(s, self._fired(s, None if s in due else again)) for s in fires]

    def _fired(self, start, again):
        """Return the rows of each key; of those in ``again`` only, if that is given."""
        groups = self._by_key(start)
        return {k: rows for k, rows in groups.items() if again is None or (start, k) in again}

    def _by_key(self, start):
        groups = {}
        for row in self.rows:
            if start <= row[1] < start + self.size:
                groups.setdefault(row[0], []).append(row)
        return groups


def aggregate(function, rows, ddof=1, q=0.5):
    """Return one aggregate of rows (key, time, order, value), nulls as in SQL."""
    values = [row[3] for row in rows if row[3] is not None]
    if function == "count_rows":
        return len(rows)
    if function == "count":
        return len(values)
    if function == "count_distinct":
        return len(set(values))
    if not values:
        return None
    if function in ("first", "last"):
        pick = min if function == "first" else max
        return pick((row for row in rows if row[3] is not None), key=lambda row: row[1:3])[3]
    if function in ("var", "std"):
        if len(values) <= ddof:
            return None
        mean = statistics.fmean(values)
        variance = sum((v - mean) ** 2 for v in values) / (len(values) - ddof)
        return variance if function == "var" else math.sqrt(variance)
    if function == "mean":
        return sum(values) / len(values)
    if function in ("median", "quantile"):
        ordered = sorted(values)
        place = (len(ordered) - 1) * (0.5 if function == "median" else q)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
    return {"sum": sum, "min": min, "max": max}[function](values)
