"""Merges slices into windows: which windows fire, and the entries of each.

A tumbling window is one slice. A sliding one is a union of *nodes*: node ``i``
of level ``l`` holds the merged slices ``[i * 2**l, (i + 1) * 2**l)``, so a window of
k slices is a union of at most ``2 * log2(k)`` nodes, which overlapping windows share::

    level 2   |-----------0-----------|-----------1-----------|
    level 1   |-----0-----|-----1-----|-----2-----|-----3-----|
    slices    |  0  |  1  |  2  |  3  |  4  |  5  |  6  |  7  |
    window          |=====|===========|===========|=====|       1, (1,1), (1,2), 6

Nodes are created when a window first needs them, and dropped when no window will need
them again or when a late row changes one of their slices. The content of a window is
thus a function of its slices alone, including the order of entries and of float sums.

Slices without rows do not exist. Consecutive windows with the same slices are merged
once, however far apart these slices are, and a node covers the existing slices only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import numpy as np

from hpcstream.operators.base import PAUSE, Turn
from hpcstream.operators.windows.assigners.slicing import WindowLayout
from hpcstream.operators.windows.slices import WindowState
from hpcstream.state.arrays import Bools, Ints, Slots, values_at

Entries = tuple[Ints, Slots, Bools | None]
"""Window of each entry, its slot, and whether its key is null (None: no key is)."""


class WindowMerger:
    """Merges the slices of one operator into windows."""

    def __init__(self, state: WindowState) -> None:
        self._state = state
        self._store = state.store
        self._layout = state.spec.slicing.layout
        self._nodes: dict[tuple[int, int], int] = {}  # (level, number) -> region
        self._slices = _Slices([], [])  # of the windows that are being merged
        self._n_merged = 0  # entries since the last pause

    def windows(self, first: int, stop: int, again: Sequence[int]) -> Iterator[Entries | Turn]:
        """Yield the entries of the windows ``[first, stop)`` and ``again``, in window order.

        At most `WindowState.batch_rows` entries at a time, of one or more windows.
        Windows without rows are skipped. `PAUSE` after merging that many entries.
        """
        if self._layout.most_slices == 1:
            yield from self._tumbling(first, stop, again)
        else:
            yield from self._sliding(first, stop, again)

    def repair(self, slices: Iterable[int]) -> None:
        """Drop the nodes of slices that received more rows."""
        stale = [
            (level, number >> level)
            for number in slices
            for level in range(1, self._layout.most_slices.bit_length() + 1)
        ]
        self._drop([node for node in dict.fromkeys(stale) if node in self._nodes])

    def close_below(self, first_open: int) -> None:
        """Close the slices below ``first_open``, and drop the nodes that contain any of them."""
        _, regions = self._store.slices_below(first_open)
        if len(regions):
            self._drop([node for node in self._nodes if (node[1] << node[0]) < first_open])
            self._state.close(regions)
        self._store.forget_below(first_open)

    def _tumbling(self, first: int, stop: int, again: Sequence[int]) -> Iterator[Entries]:
        numbers, regions = self._store.slices_below(stop)
        fires = numbers >= first
        if again:
            fires |= np.isin(numbers, again)
        yield from self._state.entry_groups(numbers[fires], regions[fires])

    def _sliding(self, first: int, stop: int, again: Sequence[int]) -> Iterator[Entries | Turn]:
        limit = self._layout.slices_of(stop).stop
        numbers, regions = self._store.slices_below(limit)
        self._slices = _Slices(numbers.tolist(), regions.tolist())
        pending = _Pending(self._state)
        for windows, low, high in self._runs(first, stop, again):
            region, is_temporary = self._merged(low, high)
            if self._n_merged >= self._state.batch_rows:
                self._n_merged = 0
                yield PAUSE
            for part in pending.parts_of(windows, region):
                if self._state.holistic is not None:
                    self._state.holistic.set_sources(region, regions[low:high])
                pending.add(part, region)
                # Kept values have the sources of one region at a time.
                if pending.n_entries >= self._state.batch_rows or self._state.holistic is not None:
                    yield from pending.flush()
            if is_temporary:
                pending.close_later(region)
        yield from pending.flush()

    def _runs(
        self, first: int, stop: int, again: Sequence[int]
    ) -> Iterator[tuple[Sequence[int], int, int]]:
        """Yield windows with the same slices, as indices ``low`` to ``high`` of existing slices.

        Gaps between existing slices cost nothing.
        """
        layout, numbers = self._layout, self._slices.numbers
        before = (window for window in again if window < first)
        for (low, high), windows in groupby(before, lambda w: self._slices.of(layout, w)):
            if low < high:
                yield list(windows), low, high
        window = first
        while True:
            low, _ = self._slices.of(layout, window)
            if low == len(numbers):
                return
            window = max(window, layout.windows_of(numbers[low]).start)
            if window >= stop:
                return
            _, high = self._slices.of(layout, window)
            end = min(stop, layout.windows_of(numbers[low]).stop)  # the first slice leaves
            if high < len(numbers):
                end = min(end, layout.windows_of(numbers[high]).start)  # the next one enters
            yield range(window, end), low, high
            window = end

    def _merged(self, low: int, high: int) -> tuple[int, bool]:
        """Return a region of slices ``low`` to ``high``, and whether to close it after use."""
        numbers = self._slices.numbers
        nodes = aligned_nodes(numbers[low], numbers[high - 1] + 1)
        parts = [self._node(level, number) for level, number in nodes]
        regions = [region for region in parts if region is not None]
        if len(regions) == 1:
            return regions[0], False
        return self._merge(regions), True

    def _node(self, level: int, number: int) -> int | None:
        """Return the region of a node, merging it first if necessary; None if it has no rows."""
        low, high = self._slices.between(number << level, (number + 1) << level)
        if high - low < 2:
            return self._slices.regions[low] if low < high else None
        node = (level, number)
        if node not in self._nodes:
            halves = (self._node(level - 1, 2 * number), self._node(level - 1, 2 * number + 1))
            regions = [region for region in halves if region is not None]
            if len(regions) == 1:
                return regions[0]
            self._nodes[node] = self._merge(regions)
        return self._nodes[node]

    def _merge(self, regions: Sequence[int]) -> int:
        """Merge regions, in the given order, into a new region and return it."""
        merged = self._store.open_merged(np.array(regions, dtype=np.int64))
        for region in regions:
            for source, slots in self._store.merge(merged, region):
                parts = [values_at(array, source) for array in self._store.words]
                self._state.merge_words(slots, parts)
                self._n_merged += len(slots)
        return merged

    def _drop(self, nodes: Sequence[tuple[int, int]]) -> None:
        regions = sorted(self._nodes.pop(node) for node in nodes)
        if regions:
            self._store.close(np.array(regions, dtype=np.int64))


class _Slices:
    """The slices that have rows, in order, and their regions."""

    def __init__(self, numbers: list[int], regions: list[int]) -> None:
        self.numbers = numbers
        self.regions = regions

    def between(self, start: int, stop: int) -> tuple[int, int]:
        """Return the index range of the slices ``[start, stop)``."""
        return bisect_left(self.numbers, start), bisect_left(self.numbers, stop)

    def of(self, layout: WindowLayout, window: int) -> tuple[int, int]:
        """Return the index range of the slices of a window."""
        slices = layout.slices_of(window)
        return self.between(slices.start, slices.stop)


class _Pending:
    """Merged windows that are collected until they fill a batch."""

    def __init__(self, state: WindowState) -> None:
        self._state = state
        self._windows: list[Sequence[int]] = []
        self._regions: list[int] = []
        self._temporary: list[int] = []
        self.n_entries = 0

    def parts_of(self, windows: Sequence[int], region: int) -> Iterator[Sequence[int]]:
        """Yield windows of one region, as many at a time as a batch of results may have."""
        weight = self._entries_of(region)
        if self._state.holistic is not None:  # values may be sent once for each window
            weight = max(weight, int(self._state.store.rows_of(np.array([region]))[0]))
        step = max(1, self._state.batch_rows // max(1, weight))
        for at in range(0, len(windows), step):
            yield windows[at : at + step]

    def add(self, windows: Sequence[int], region: int) -> None:
        self._windows.append(windows)
        self._regions.append(region)
        self.n_entries += len(windows) * self._entries_of(region)

    def close_later(self, region: int) -> None:
        """Close a region at the next `flush`."""
        self._temporary.append(region)

    def flush(self) -> Iterator[Entries]:
        if self._windows:
            labels = np.concatenate([np.array(part, dtype=np.int64) for part in self._windows])
            counts = [len(part) for part in self._windows]
            regions = np.repeat(np.array(self._regions, dtype=np.int64), counts)
            yield from self._state.entry_groups(labels, regions)
        # The last region first: its slots are at the end of the arena and can be reused.
        self._state.store.close(np.array(self._temporary[::-1], dtype=np.int64))
        self._windows, self._regions, self._temporary = [], [], []
        self.n_entries = 0

    def _entries_of(self, region: int) -> int:
        return int(self._state.store.counts(np.array([region]))[0])


def aligned_nodes(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the (level, number) of the largest aligned nodes whose union is ``[start, stop)``."""
    while start < stop:
        level = (stop - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield level, start >> level
        start += 1 << level
