"""What a job over splits that fall silent, wake and end must give, read off the concepts page.

One list of splits, no ranks: which rank reads a split makes no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.unit.naive_jobs import NaiveWindows

Row = dict[str, Any]


@dataclass
class NaiveSplit:
    """A split of a live source; ``timeout_s`` None: it is never idle."""

    timeout_s: float | None
    greatest: float = -math.inf
    last_rows_s: float = 0.0
    idle: bool = False
    ended: bool = False
    is_to_end: bool = False
    pushed: list[Row] = field(default_factory=list)

    def poll(self, now_s: float) -> list[Row]:
        """Return what was pushed; note whether that is nothing for too long, or the end."""
        rows, self.pushed = self.pushed, []
        if rows:
            self.last_rows_s, self.idle = now_s, False
            self.greatest = max(self.greatest, *(row["t"] for row in rows))
        elif self.is_to_end:
            self.ended = True
        elif self.timeout_s is not None:
            self.idle = now_s - self.last_rows_s >= self.timeout_s
        return rows


class NaiveLiveJob:
    """Windows over splits, round by round.

    Attributes
    ----------
    results : set of tuples
        (key, window start, rows, sum of x, median of x), once for each time it was told.
    late : list of Row
    """

    def __init__(
        self, splits: Sequence[NaiveSplit], windows: NaiveWindows, *, delay: int, keyed: bool
    ) -> None:
        self.splits = splits
        self.windows = windows
        self.delay = delay
        self.keyed = keyed
        self.watermark = -math.inf
        self.results: set[tuple[Any, ...]] = set()
        self.late: list[Row] = []
        self._groups: dict[tuple[Any, int], list[int]] = {}
        self._due: set[tuple[Any, int]] = set()
        self._arrived: list[Row] = []

    def poll(self, now_s: float) -> None:
        """Ask every split for rows of the open round."""
        for split in self.splits:
            self._arrived += split.poll(now_s)

    def close_round(self, extra: Sequence[Row] = ()) -> None:
        """Judge the rows at the watermark of the rounds before, then let time go on."""
        for row in [*extra, *self._arrived]:
            self._judge(row)
        self._arrived = []
        self._advance()
        for key, start in list(self._due):
            if start + self.windows.size <= self.watermark:
                self._due.discard((key, start))
                values = sorted(self._groups[key, start])
                middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
                self.results.add((key, start, len(values), sum(values), middle))

    def restart(self, now_s: float) -> None:
        """Go on from a checkpoint: for how long splits have been silent is not known."""
        for split in self.splits:
            split.last_rows_s, split.idle = now_s, False

    def _judge(self, row: Row) -> None:
        windows = self.windows
        ends = windows.size + windows.lateness
        still_open = [s for s in windows.starts(row["t"]) if s + ends > self.watermark]
        if not still_open:
            self.late.append(row)
        for start in still_open:
            group = (row["k"] if self.keyed else None, start)
            self._groups.setdefault(group, []).append(row["x"])
            self._due.add(group)

    def _advance(self) -> None:
        active = [s.greatest - self.delay for s in self.splits if not s.ended and not s.idle]
        if active:
            self.watermark = max(self.watermark, min(active))
        elif all(split.ended for split in self.splits):
            self.watermark = math.inf
