"""Decides from watermarks alone which windows are due and which slices are open."""

from __future__ import annotations

import numpy as np

from hpcstream.columns.event_time import MIN_TIME
from hpcstream.operators.windows.assigners.slicing import Slicing
from hpcstream.state.arrays import Ints, Slots
from hpcstream.state.scalars import Common, Field, Stage, union


class WindowProgress:
    """The progress of a windowed operator in event time.

    Attributes
    ----------
    watermark : int
        The watermark up to which all due windows have fired.
    next_window : int
        All windows before it have fired.
    first_open : int
        Slices before it belong to no open window: their rows are late.
    fired_time : int
        Rows before it may belong to a window that has fired but is still open, or to a slice
        that is merged already; stays `MIN_TIME` if neither is possible. As the store counts time.
    again : set of int
        Windows that have fired and then received rows within the allowed lateness.
    """

    def __init__(self, slicing: Slicing, allowed_lateness: int) -> None:
        self._slicing = slicing
        self._lateness = allowed_lateness
        self._looks_back = allowed_lateness > 0 or not slicing.is_tumbling
        self.watermark = MIN_TIME
        self.next_window = MIN_TIME
        self.first_open = MIN_TIME
        self.fired_time = MIN_TIME
        self.again: set[int] = set()

    def due(self, watermark: int) -> tuple[int, int]:
        """Return `next_window` and `first_open` after everything due at a watermark has fired."""
        closed = self._slicing.first_open_slice(watermark - self._lateness)
        return self._slicing.next_window(watermark), max(closed, MIN_TIME)

    def is_due(self, watermark: int, least_slice: int) -> bool:
        """Return whether a watermark may complete a window; no slice is below ``least_slice``."""
        if self.again:
            return True
        due = self.due(watermark)
        if due == (self.next_window, self.first_open):
            return False
        return least_slice < self._slicing.layout.slices_of(due[0] - 1).stop

    def advance(self, watermark: int) -> None:
        """Advance to a watermark: everything due at it has fired."""
        self.watermark = watermark
        self.next_window, self.first_open = self.due(watermark)
        self.again.clear()
        if self._looks_back:
            self.fired_time = max(self._slicing.store_end(self.next_window - 1), MIN_TIME)

    def rows_behind(self, times: Ints, slots: Slots) -> Ints:
        """Return the rows before `fired_time` that are not late."""
        return np.flatnonzero((slots != 0) & (times < self.fired_time))

    def look_back(self, times: Ints) -> list[int]:
        """Return the slices of rows before `fired_time`; mark their windows to fire again."""
        grid = self._slicing.grid
        numbers = (times - grid.store_offset) // grid.store_size
        touched: list[int] = np.unique(numbers).tolist()
        # Of the windows that contain a slice, those that have fired and are still open.
        first_open = self._slicing.next_window(self.watermark - self._lateness)
        for number in touched:
            windows = self._slicing.layout.windows_of(number)
            fired = range(max(windows.start, first_open), min(windows.stop, self.next_window))
            self.again.update(fired)
        return touched

    def values(self) -> dict[str, object]:
        """Return the watermark and the windows to fire again, which determine the rest."""
        return {"watermark": self.watermark, "fire_again": sorted(self.again)}

    def restore(self, watermark: Ints, fire_again: Ints) -> None:
        """Restore what `values` returned."""
        if int(watermark[0]) != MIN_TIME:
            self.advance(int(watermark[0]))
        self.again = {int(window) for window in fire_again}


def progress_fields(operator: str, stage: Stage = "final") -> list[Field]:
    """Return the fields of `WindowProgress.values` of an operator."""
    return [Field("watermark", Common(operator), stage), Field("fire_again", union, stage)]
