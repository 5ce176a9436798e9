"""Watermarks of splits, sources and tasks.

Splits, ranks, edges and inputs each have a *mark* (`hpcstream.columns.event_time.least_mark`).
Marks pass down the graph unchanged and may decrease, as when a split wakes. The watermark of
a task is the greatest mark that it ever had, and never decreases.

Pure deciders: no I/O, and a clock only as an argument.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, least_mark


class WatermarkTracker:
    """The watermark of a task: the greatest common mark of its inputs so far.

    Attributes
    ----------
    watermark : int
        Never decreases, and is `MAX_TIME` only when every input has ended.
    mark : int or None
        Of all inputs in the last round: the mark that the task passes on.
    greatest : list of int
        The greatest mark of each input so far.
    """

    def __init__(self, n_inputs: int) -> None:
        self._of_input: list[int | None] = [MIN_TIME] * n_inputs
        self.greatest = [MIN_TIME] * n_inputs
        self.mark: int | None = MIN_TIME
        self.watermark = MIN_TIME

    def receive(self, input_index: int, mark: int | None) -> None:
        """Note the mark of one input in this round."""
        self._of_input[input_index] = mark
        if mark is not None and mark > self.greatest[input_index]:
            self.greatest[input_index] = mark

    @property
    def watermarks(self) -> tuple[int | None, ...]:
        """The watermark of each input, which never decreases; None while the input is idle."""
        inputs = zip(self._of_input, self.greatest, strict=True)
        return tuple(None if mark is None else greatest for mark, greatest in inputs)

    def advance(self) -> bool:
        """Combine the marks of all inputs in this round; return whether the watermark moved.

        Only once all inputs are in: a mark of this round beside one of the last may be too great.
        """
        self.mark = least_mark(self._of_input)
        if self.mark is None or self.mark <= self.watermark:
            return False
        self.watermark = self.mark
        return True

    def restore(self, watermark: int, greatest: Sequence[int]) -> None:
        """Continue from the watermark of a snapshot, and of its inputs if it has them."""
        self.watermark = watermark
        self.greatest[: len(greatest)] = greatest


class SplitWatermark:
    """Bounded out-of-orderness of one split: greatest time seen, minus the delay."""

    __slots__ = ("_delay", "_greatest")

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self._greatest = MIN_TIME

    def see(self, greatest_time: int) -> None:
        """Note the greatest event time of some rows."""
        self._greatest = max(self._greatest, greatest_time)

    def snapshot(self) -> int:
        """Return the greatest event time seen."""
        return self._greatest

    @property
    def watermark(self) -> int:
        """The least time that may still come, if rows are out of order by the delay at most."""
        if self._greatest == MIN_TIME:
            return MIN_TIME
        return min(max(self._greatest - self._delay, MIN_TIME), MAX_TIME - 1)  # that is the end


class BoundedWatermark:
    """Watermark of splits that one rank reads one after the other.

    It follows the split being read, but never passes the least event time of
    later splits, where that is known.

    Parameters
    ----------
    first_times : list of (int or None)
        Least event time of each split, in reading order; None: not known.
    delay : int
        How far out of order rows may be within a split.
    """

    def __init__(self, first_times: list[int | None], delay: int) -> None:
        self._delay = delay
        self._split = 0
        self._current = SplitWatermark(delay)
        self._bounds = _least_after(first_times)
        self.watermark = MIN_TIME if first_times else MAX_TIME

    def see(self, greatest_time: int) -> None:
        """Note the greatest event time of rows of the current split."""
        self._current.see(greatest_time)
        self._raise_to(min(self._current.watermark, self._bounds[self._split]))

    def snapshot(self) -> list[int]:
        """Return the current split, its greatest time, and the watermark."""
        return [self._split, self._current.snapshot(), self.watermark]

    def restore(self, snapshot: list[int]) -> None:
        """Continue from a snapshot of the same splits."""
        self._split, greatest, self.watermark = snapshot
        self._current = SplitWatermark(self._delay)
        self._current.see(greatest)

    def next_split(self) -> None:
        """Begin the next split: the current one is exhausted."""
        self._split += 1
        self._current = SplitWatermark(self._delay)
        if self._split == len(self._bounds):
            self._raise_to(MAX_TIME)

    def _raise_to(self, watermark: int) -> None:
        self.watermark = max(self.watermark, watermark)


def _least_after(first_times: list[int | None]) -> list[int]:
    """Return for each split the least known time of the splits after it."""
    bounds, least = [], MAX_TIME
    for first in reversed(first_times):
        bounds.append(least)
        least = least if first is None else min(least, first)
    return bounds[::-1]
