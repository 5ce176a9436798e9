"""Windows from slices: which to fire, and the merged entries of each.

A tumbling window is one slice. A sliding one is a union of *nodes*: node ``i``
of level ``l`` holds the merged slices ``[i * 2**l, (i + 1) * 2**l)``, so a window of
k slices needs at most ``2 * log2(k)`` of them, and neighbouring windows share
them::

    level 2   |-----------0-----------|-----------1-----------|
    level 1   |-----0-----|-----1-----|-----2-----|-----3-----|
    slices    |  0  |  1  |  2  |  3  |  4  |  5  |  6  |  7  |
    window          |=====|===========|===========|=====|       1, (1,1), (1,2), 6

Nodes are made when a window needs them, dropped when none will, and dropped
too when a late row changes one of their slices. What a window holds is thus a
function of its slices alone, order of entries and of float sums included.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from hpcstream.operators.window_state import MAX_BATCH_ROWS, WindowState
from hpcstream.state.arrays import Bools, Ints, Places, Slots, values_at

Entries = tuple[Ints, Slots, Bools | None]
"""Window of each entry, its slot, and whether its key is null (None: no key is)."""


class WindowMerger:
    """Makes the windows of one operator from the slices in its state."""

    def __init__(self, state: WindowState) -> None:
        self._state = state
        self._store = state.store
        self._slicing = state.spec.slicing
        self._nodes: dict[tuple[int, int], int | None] = {}  # (level, number) -> region
        self._owned: set[int] = set()  # regions that are nodes, not slices

    def windows(self, first: int, stop: int, again: Sequence[int]) -> Iterator[Entries]:
        """Yield the entries of the windows ``[first, stop)`` and ``again``, in window order.

        At most `MAX_BATCH_ROWS` entries at a time, of one or more windows;
        windows without rows are left out.
        """
        if self._slicing.is_tumbling:
            yield from self._tumbling(first, stop, again)
        else:
            yield from self._sliding(first, stop, again)

    def repair(self, slices: Iterable[int]) -> None:
        """Drop the nodes that contain slices which got more rows."""
        stale = [
            (level, number >> level)
            for number in slices
            for level in range(1, self._slicing.per_window.bit_length() + 1)
        ]
        self._drop([node for node in dict.fromkeys(stale) if node in self._nodes])

    def close_below(self, first_open: int) -> None:
        """Forget the slices below ``first_open``, and the nodes that hold any of them."""
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

    def _sliding(self, first: int, stop: int, again: Sequence[int]) -> Iterator[Entries]:
        limit = stop * self._slicing.per_slide + self._slicing.per_window
        numbers, _ = self._store.slices_below(limit)
        pending = _Pending(self._state)
        for window in self._windows_with_rows(numbers.tolist(), first, stop, again):
            slices = self._slicing.slices_of(window)
            region, is_temporary = self._merged(slices.start, slices.stop)
            pending.add(window, region, is_temporary)
            # Kept values know the entries of one window at a time.
            if pending.n_entries >= MAX_BATCH_ROWS or self._state.holistic is not None:
                yield from pending.flush()
        yield from pending.flush()

    def _windows_with_rows(
        self, numbers: list[int], first: int, stop: int, again: Sequence[int]
    ) -> Iterator[int]:
        """Yield which windows to fire; gaps without slices cost nothing."""
        yield from (window for window in again if window < first)
        window = first
        while True:
            start = window * self._slicing.per_slide
            at = bisect_left(numbers, start)
            if at == len(numbers):
                return
            window = max(window, self._slicing.windows_of(numbers[at]).start)
            if window >= stop:
                return
            yield window
            window += 1

    def _merged(self, start: int, stop: int) -> tuple[int, bool]:
        """Return a region with the slices ``[start, stop)``, and whether to close it after use."""
        if self._state.holistic is not None:
            return self._merged_slices(start, stop)
        parts = [self._node(level, number) for level, number in aligned_nodes(start, stop)]
        regions = [region for region in parts if region is not None]
        if len(regions) == 1:
            return regions[0], False
        return self._merge(regions)[0], True

    def _merged_slices(self, start: int, stop: int) -> tuple[int, bool]:
        """Merge slices without nodes, so that kept values find the window's entries."""
        assert self._state.holistic is not None
        parts = [self._store.region_of(number) for number in range(start, stop)]
        region, slots = self._merge([part for part in parts if part is not None])
        self._state.holistic.set_parts(slots)
        return region, True

    def _node(self, level: int, number: int) -> int | None:
        """Return the region of a node, made if need be; None if it has no rows."""
        if level == 0:
            return self._store.region_of(number)
        node = (level, number)
        if node not in self._nodes:
            halves = (self._node(level - 1, 2 * number), self._node(level - 1, 2 * number + 1))
            regions = [region for region in halves if region is not None]
            self._nodes[node] = regions[0] if len(regions) == 1 else None
            if len(regions) == 2:
                merged, _ = self._merge(regions)
                self._nodes[node] = merged
                self._owned.add(merged)
        return self._nodes[node]

    def _merge(self, regions: Sequence[int]) -> tuple[int, list[tuple[Places, Places]]]:
        """Merge regions, in this order, into a new one.

        Returns
        -------
        region : int
        slots : list of (uint32[n] or range, uint32[n] or range)
            Slots of ``regions``, and those of the same keys in the new one.
        """
        merged = self._store.open_merged(np.array(regions, dtype=np.int64))
        merged_slots = []
        for region in regions:
            for source, slots in self._store.merge(merged, region):
                merged_slots.append((source, slots))
                parts = [values_at(array, source) for array in self._store.words]
                self._state.merge_words(slots, parts)
        return merged, merged_slots

    def _drop(self, nodes: Sequence[tuple[int, int]]) -> None:
        regions = {self._nodes.pop(node) for node in nodes} & self._owned
        # A node with one half shares its region, so others may still name it.
        regions -= {region for region in self._nodes.values() if region is not None}
        self._owned -= regions
        if regions:
            self._store.close(np.array(sorted(r for r in regions if r is not None), dtype=np.int64))


class _Pending:
    """Merged windows that wait to fill a batch."""

    def __init__(self, state: WindowState) -> None:
        self._state = state
        self._windows: list[int] = []
        self._regions: list[int] = []
        self._temporary: list[int] = []
        self.n_entries = 0

    def add(self, window: int, region: int, is_temporary: bool) -> None:
        self._windows.append(window)
        self._regions.append(region)
        if is_temporary:
            self._temporary.append(region)
        self.n_entries += int(self._state.store.counts(np.array([region]))[0])

    def flush(self) -> Iterator[Entries]:
        labels = np.array(self._windows, dtype=np.int64)
        regions = np.array(self._regions, dtype=np.int64)
        yield from self._state.entry_groups(labels, regions)
        # The last one first: its slots are at the end of the arena and can be used again.
        self._state.store.close(np.array(self._temporary[::-1], dtype=np.int64))
        self._windows, self._regions, self._temporary = [], [], []
        self.n_entries = 0


def aligned_nodes(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the (level, number) of the largest aligned nodes that make up ``[start, stop)``."""
    while start < stop:
        level = (stop - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield level, start >> level
        start += 1 << level
