"""Fills a table of slices at a restart: opens its slices, and puts the entries of a snapshot there.

Room is made once, nothing is looked up, and the index is made at the end. Words follow the keys
by the slots that `SliceLoader.load` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hpcstream.kernels import key_loading, key_table
from hpcstream.state.arrays import NO_NULLS, Bools, Ints, Slots, read_only
from hpcstream.state.header import LISTED
from hpcstream.state.slices.layout import SliceLayout
from hpcstream.state.slices.open_slices import OpenSlices
from hpcstream.state.word_arrays import items_of

NO_ORDER: Slots = np.zeros(0, dtype=np.uint32)
NO_ORDER.setflags(write=False)


class Outline(NamedTuple):
    """Slices to open: their numbers, how many entries they will have, the keys of dense ones."""

    numbers: Ints
    counts: Ints
    lows: Ints
    widths: Ints

    @classmethod
    def of_parts(cls, numbers: Sequence[Ints], counts: Sequence[Ints]) -> Outline:
        """Return the outline of what several parts hold together; none is dense."""
        distinct, slice_of = np.unique(np.concatenate(numbers), return_inverse=True)
        totals = np.bincount(slice_of, np.concatenate(counts), len(distinct)).astype(np.int64)
        return cls(distinct, totals, np.zeros_like(distinct), np.zeros_like(distinct))


class KeyColumns(NamedTuple):
    """Entries of segments that follow one another: words of keys, which are null, and rows."""

    words: Ints
    is_null: Bools
    rows: Ints

    @property
    def nulls(self) -> Bools:
        """Which keys are null: bool[n], or bool[0] if none is."""
        return read_only(self.is_null) if self.is_null.any() else NO_NULLS

    def between(self, entries: slice) -> KeyColumns:
        """Return views of some entries."""
        return KeyColumns(self.words[entries], self.is_null[entries], self.rows[entries])

    def n_dense(self, counts: Ints, lows: Ints, widths: Ints) -> Ints:
        """Return how many entries of each segment are of ``widths`` keys from ``lows`` on."""
        n_dense = np.zeros_like(counts)
        if widths.any():
            columns = read_only(self.words), self.nulls
            key_loading.count_dense(columns, counts, lows, widths, n_dense)
        return n_dense

    def key_range(self) -> tuple[int, int]:
        """Return the least and the greatest key, nulls apart; 0 and -1 if there is none."""
        words = self.words[~self.is_null] if self.is_null.any() else self.words
        return (int(words.min()), int(words.max())) if len(words) else (0, -1)


class SliceLoader:
    """Puts entries into a store without slices: `open` first, then `load`, then `index`.

    Parameters
    ----------
    slices : OpenSlices
    layout : SliceLayout
    """

    def __init__(self, slices: OpenSlices, layout: SliceLayout) -> None:
        self._slices = slices
        self._layout = layout

    def restore_dense(self, state: Ints) -> None:
        """Take over which keys the next slices are dense for, from `OpenSlices.outline`."""
        self._layout.dense_range.restore(state)
        self._layout.announce_dense()

    def open(self, outline: Outline, columns: Sequence[KeyColumns]) -> None:
        """Open slices, at once as large as they will be, for the keys of some columns.

        If slices are dense, all entries are in one.
        """
        arenas = self._slices.arenas
        numbers, counts, lows, widths = outline
        if widths.any():
            (of_all,) = columns
            counts = counts - of_all.n_dense(counts, lows, widths)
        n_slots = int(np.maximum(counts, key_table.LEAST_CHUNK).sum() + widths.sum())
        n_more = n_slots + arenas.least_entries
        arenas.grow_entries(arenas.slots_end + n_more, n_more)
        ranges = [found for found in (c.key_range() for c in columns) if found[0] <= found[1]]
        low, high = min((r[0] for r in ranges), default=0), max((r[1] for r in ranges), default=-1)
        self._layout.prepare(low, high, len(numbers), int(counts.sum()))
        slices = zip(*(a.tolist() for a in (numbers, counts, lows, widths)), strict=True)
        for number, count, low, width in slices:
            self._layout.open(number, LISTED, count, low, width)
        header = arenas.header
        header[key_table.PEAK_HELD] = max(header[key_table.PEAK_HELD], n_slots)

    def load(
        self, numbers: Ints, counts: Ints, columns: KeyColumns, order: Slots = NO_ORDER
    ) -> Slots:
        """Put entries, whose keys their slices do not have, behind those that are there.

        Parameters
        ----------
        numbers, counts : int64[n_segments]
            Slice of each segment, and how many of its entries are loaded.
        columns : KeyColumns
        order : uint32[n] or uint32[0]
            Which entries, segment by segment; all as they are if it is empty. Those of keys
            that a slice is dense for come first.

        Returns
        -------
        uint32[n]
            The slot of each entry, in this order.
        """
        arenas = self._slices.arenas
        listed, all_regions = self._slices.slices_below(2**63)
        regions = all_regions[np.searchsorted(listed, numbers)]
        lows, widths = (self._slices.fields(regions, f) for f in (key_table.LOW, key_table.WIDTH))
        segments = regions, counts, columns.n_dense(counts, lows, widths)
        slots = np.empty(int(counts.sum()), dtype=np.uint32)
        key_loading.load_entries(
            arenas.header, arenas.keys, arenas.rows, segments,
            (read_only(columns.words), read_only(columns.rows), columns.nulls), order, slots,
        )  # fmt: skip
        return slots

    def index(self) -> None:
        """Make the index of all that was loaded."""
        key_loading.index_regions(*self._slices.arenas.table[:3])


def first_order(positions: Slots, counts: Ints) -> Slots:
    """Return which entry, counted through all segments, is at each position of its segment."""
    order = np.empty(len(positions), dtype=np.uint32)
    key_loading.first_order(read_only(positions), read_only(counts), order)
    return read_only(order)


def load_words(copy: npt.NDArray[Any], order: Slots, slots: Slots, words: npt.NDArray[Any]) -> None:
    """Write the words of entries, as a snapshot has them, to the slots that `load` returned."""
    if words.ndim == 1:
        source = read_only(copy).view(np.uint64)
        key_loading.move_words(source, order, slots, words.view(np.uint64))
    else:
        items = items_of(copy, words)
        words[slots] = items[order] if len(order) else items[: len(slots)]
