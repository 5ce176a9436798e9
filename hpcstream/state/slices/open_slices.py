"""Reads a table of slices: the base class of `SliceStore`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.columns.selection import gather
from hpcstream.kernels import key_regions, key_table, snapshots
from hpcstream.state.arrays import NONE, Bools, Ints, Slots
from hpcstream.state.header import fields_of
from hpcstream.state.slices.arenas import SliceArenas
from hpcstream.state.slices.dense_range import DenseRange
from hpcstream.state.slices.layout import SliceLayout
from hpcstream.state.word_arrays import copied


class OpenSlices:
    """Entries (slice, key) by slice: a *region* has those of one slice, or merged ones.

    Parameters
    ----------
    arenas : SliceArenas
    layout : SliceLayout

    Attributes
    ----------
    arenas : SliceArenas
        The arrays that slots index.
    """

    def __init__(self, arenas: SliceArenas, layout: SliceLayout) -> None:
        self.arenas = arenas
        self._layout = layout

    @property
    def rows(self) -> Ints:
        """Number of rows of each slot: int64[capacity]."""
        return self.arenas.rows

    @property
    def words(self) -> list[npt.NDArray[Any]]:
        """The accumulators of each slot, in the order given: dtype[capacity] each."""
        return self.arenas.words

    @property
    def word_arrays(self) -> tuple[str, ...]:
        """The names of the words in `copies_of`."""
        return tuple(f"word:{word.name}" for word in self.arenas.word_types)

    @property
    def dense_range(self) -> DenseRange:
        """Decides which keys the next slices are dense for."""
        return self._layout.dense_range

    @property
    def slots_end(self) -> int:
        """A bound: all slots are less."""
        return self.arenas.slots_end

    @property
    def n_entries(self) -> int:
        """Number of open (slice, key) pairs."""
        return self.arenas.n_entries

    @property
    def n_slices(self) -> int:
        """Number of open slices."""
        return int(self.arenas.header[key_table.N_LISTED])

    @property
    def n_bytes(self) -> int:
        """Bytes of state; arenas count as far as they were ever touched."""
        return self.arenas.n_bytes

    @property
    def slice_size(self) -> int:
        """Length of a slice."""
        return int(self.arenas.header[key_table.SLICE_SIZE])

    @property
    def slice_offset(self) -> int:
        """Start of slice 0."""
        return int(self.arenas.header[key_table.SLICE_OFFSET])

    @property
    def least_slice(self) -> int:
        """A bound: no open slice has a lesser number."""
        return int(self.arenas.header[key_table.LEAST_SLICE])

    @property
    def least_time(self) -> int:
        """The least time of the last batch that was resolved."""
        return int(self.arenas.header[key_table.BATCH_MIN])

    def n_key_uses(self) -> int:
        """Return the number of (slice, key) pairs, without what is merged from slices."""
        return int(self.counts(self.slices_below(2**63)[1]).sum())

    def slices_below(self, limit: int) -> tuple[Ints, Ints]:
        """Return numbers and regions of the open slices below ``limit``, in slice order."""
        if self.n_slices == 0 or self.least_slice >= limit:
            return NONE, NONE
        numbers = np.empty(self.n_slices, dtype=np.int64)
        regions = np.empty(self.n_slices, dtype=np.int64)
        n_found = key_regions.listed_regions(
            self.arenas.header, min(limit, 2**63 - 1), numbers, regions
        )
        order = np.argsort(numbers[:n_found])
        return numbers[order], regions[order]

    def region_of(self, number: int) -> int | None:
        """Return the region of a slice, or None if it is not open."""
        region = key_table.find_region(self.arenas.header, number)
        return None if region < 0 else int(region)

    def fields(self, regions: Ints, field: int) -> Ints:
        """Return one of the control fields of `hpcstream.kernels.key_table` of each region."""
        return fields_of(self.arenas.header, regions, field)

    def counts(self, regions: Ints) -> Ints:
        """Return the number of entries of each region."""
        return self.fields(regions, key_table.COUNT) + self.fields(regions, key_table.N_DENSE)

    def rows_of(self, regions: Ints) -> Ints:
        """Return the number of rows of each region."""
        totals = np.empty(len(regions), dtype=np.int64)
        snapshots.rows_of_regions(self.arenas.header, self.rows, regions, totals)
        return totals

    def slots_of(self, regions: Ints) -> tuple[Slots, Bools | None]:
        """Return the slots of regions: of each, the dense range first, then others as they came.

        Returns
        -------
        slots : uint32[n]
        is_null : bool[n] or None
            Which entries are of the null key; None if none is.
        """
        counts = self.counts(regions)
        n_slots = int(counts.sum())
        slots = np.empty(n_slots + 1, dtype=np.uint32)
        key_regions.slots_of_regions(self.arenas.header, self.rows, regions, slots)
        slots = slots[:n_slots]
        nulls = self.fields(regions, key_table.NULL_SLOT)
        if not nulls.any():
            return slots, None
        return slots, slots == np.repeat(nulls, counts)

    def keys_of(self, slots: Slots) -> Ints:
        """Return the key words of entries."""
        return gather(self.arenas.keys, slots)

    def snapshot_slots(self) -> Slots:
        """Return the slots of all slices, in the order of a snapshot."""
        return self.slots_of(self.slices_below(2**63)[1])[0]

    def outline(self) -> tuple[dict[str, npt.NDArray[Any]], Ints]:
        """Return the arrays of a snapshot that describe the slices, and the regions of these."""
        numbers, regions = self.slices_below(2**63)
        outline = {
            "slice_numbers": numbers,
            "slice_counts": self.counts(regions),
            "slice_lows": self.fields(regions, key_table.LOW),
            "slice_widths": self.fields(regions, key_table.WIDTH),
            "dense_range": self.dense_range.snapshot(),
        }
        return outline, regions

    def versions(self, regions: Ints) -> list[tuple[int, int]]:
        """Return numbers for each region that change whenever its entries change."""
        clears = self.fields(regions, key_table.N_CLEARS)
        return list(zip(self.rows_of(regions).tolist(), clears.tolist(), strict=True))

    def copies_of(self, regions: Ints) -> dict[str, npt.NDArray[Any]]:
        """Return copies of the values of the entries of regions, in the order of `slots_of`."""
        arenas = self.arenas
        n_entries = int(self.counts(regions).sum())
        has_null = self.fields(regions, key_table.NULL_SLOT).any()
        flags = self.slots_of(regions)[1] if has_null else None
        is_null = np.zeros(n_entries, np.uint8) if flags is None else flags.view(np.uint8)
        names = ["keys", "rows", *self.word_arrays]
        state: dict[str, npt.NDArray[Any]] = {"is_null": is_null}
        for name, array in zip(names, arenas.arrays, strict=True):
            table = (arenas.header, arenas.rows, regions, array)
            state[name] = copied(*table, arenas.allocator, n_entries)
        return state
