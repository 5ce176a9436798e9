"""Session windows the obvious way: rows are kept, and sessions made of all of them each time."""

from __future__ import annotations

import math


class NaiveSessions:
    """Takes rows (key, time, order, value) and watermarks; says what must come out."""

    def __init__(self, gap):
        self.gap = gap
        self.watermark = -math.inf
        self.rows = {}  # by key: those of sessions that have not ended
        self.late = []

    def add(self, rows):
        for row in rows:
            if row[1] + self.gap <= self.watermark:
                self.late.append(row)
            else:
                self.rows.setdefault(row[0], []).append(row)

    def advance(self, watermark):
        """Return {(key, start, end): rows} of the sessions that end."""
        self.watermark = max(self.watermark, watermark)
        ended = {}
        for key, rows in self.rows.items():
            kept = []
            for session in self.sessions_of(rows):
                end = max(row[1] for row in session) + self.gap
                if end <= self.watermark:
                    ended[key, min(row[1] for row in session), end] = session
                else:
                    kept += session
            self.rows[key] = kept
        return ended

    def sessions_of(self, rows):
        sessions = []
        for row in sorted(rows, key=lambda row: row[1]):
            if sessions and row[1] - sessions[-1][-1][1] < self.gap:
                sessions[-1].append(row)
            else:
                sessions.append([row])
        return sessions


def keep_span(slots, firsts, lasts, n_slots):
    """Return the least first and the greatest last of each slot."""
    least, greatest = [2**63 - 1] * n_slots, [-(2**63)] * n_slots
    for slot, first, last in zip(slots, firsts, lasts, strict=True):
        least[slot] = min(least[slot], first)
        greatest[slot] = max(greatest[slot], last)
    return least, greatest


def divide(slots, following, firsts, lasts, gap):
    """Return the pairs of entries of which the second goes on the first, and those that end."""
    pairs = list(zip(slots, following, strict=True))
    joins = [pair for pair in pairs if pair[1] and firsts[pair[1]] - lasts[pair[0]] < gap]
    return joins, [slot for slot, target in pairs if (slot, target) not in joins]
