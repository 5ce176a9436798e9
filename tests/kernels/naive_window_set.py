"""Windows of any kind the obvious way: every row is kept, and put into all its windows."""

from __future__ import annotations

import math


class NaiveWindowSet:
    """Takes rows (key, time, order, value) and watermarks; says what must come out.

    Parameters
    ----------
    windows_of : (time) -> [(start, end), ...]
    lateness : int
    changes_of : (start, end) -> time, optional
        Windows want changes only: a key has a result if it has rows from this time on, which
        is the end of the window before, or got some since that window gave its last result,
        at a watermark before.
    """

    def __init__(self, windows_of, lateness=0, changes_of=None):
        self.windows_of = windows_of
        self.lateness = lateness
        self.changes_of = changes_of
        self.watermark = -math.inf
        self.rows = []  # (row, watermark when it came)
        self.late = []
        self.again = set()  # (window, key) that fired and got rows since
        self.shown = {}  # (key, start, end) that fired again -> orders of its rows

    def add(self, rows):
        """Take in rows; those of no open window are late."""
        for row in rows:
            windows = self.windows_of(row[1])
            if all(end + self.lateness <= self.watermark for _, end in windows):
                self.late.append(row)
                continue
            self.rows.append((row, self.watermark))
            self.again.update(
                (window, row[0])
                for window in windows
                if window[1] <= self.watermark < window[1] + self.lateness
            )

    def advance(self, watermark):
        """Return {(key, start, end): rows} of what fires."""
        before, self.watermark = self.watermark, max(self.watermark, watermark)
        again, self.again = self.again, set()
        found = {}
        for row, came in self.rows:
            for window in self.windows_of(row[1]):
                found.setdefault((row[0], *window), []).append((row, came))
        fired = {
            group: [row for row, _ in rows]
            for group, rows in found.items()
            if (group[1:], group[0]) in again or self._is_due(group, rows, before)
        }
        for window, key in again:
            self.shown[key, *window] = {row[2] for row in fired[key, *window]}
        return fired

    def _is_due(self, group, rows, before):
        key, start, end = group
        if not before < end <= self.watermark:
            return False
        if self.changes_of is None:
            return True
        since = self.changes_of(start, end)
        shown = self.shown.get((key, start, since), ())
        return any(row[1] >= since or (came >= since and row[2] not in shown) for row, came in rows)
