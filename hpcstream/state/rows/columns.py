"""Columns of any type whose rows have places (uint32), chosen by the caller.

::

    fixed width    an arena of values
    strings        where each begins and its length; a heap of bytes, packed when half is dead
    nested         chunks of Arrow, and which chunk and row a place has: correct, not fast

What is written is copied in: a view of a batch would keep the memory of another rank.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.arrays import (
    LARGE_TYPE_OF_VIEW,
    binary_views,
    fixed_values,
    is_binary_type,
    labelled,
    stored,
    stored_type,
    validity,
)
from hpcstream.columns.selection import gather, take
from hpcstream.kernels import row_arenas
from hpcstream.state.arrays import Allocator, Bools, Slots, read_only

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
_LEAST_BYTES = 1 << 12

Values = npt.NDArray[Any]


class Columns:
    """The rows of a schema at places.

    Parameters
    ----------
    schema : pa.Schema
        Without dictionaries.
    allocator : Allocator
    """

    def __init__(self, schema: pa.Schema, allocator: Allocator) -> None:
        self.schema = schema
        self._columns = [_column(field.type, allocator) for field in schema]

    @property
    def n_bytes(self) -> int:
        """Bytes reserved."""
        return sum(column.n_bytes for column in self._columns)

    def grow(self, capacity: int) -> None:
        """Make room for places below ``capacity``; what is there stays."""
        for column in self._columns:
            column.grow(capacity)

    def write(self, places: Slots, columns: Sequence[pa.Array]) -> None:
        """Write rows to places, distinct ones: what was there before was forgotten."""
        for column, array in zip(self._columns, columns, strict=True):
            column.write(places, array)

    def take(self, places: Slots) -> list[pa.Array]:
        """Return the columns of the rows at some places."""
        found = [column.take(places) for column in self._columns]
        return [labelled(a, f.type) for a, f in zip(found, self.schema, strict=True)]

    def forget(self, places: Slots) -> None:
        """Give back what the rows at some places took; they may be written again."""
        for column in self._columns:
            column.forget(places)

    def view(self, name: str) -> Values:
        """Return the values of a column of fixed width by place, for kernels; valid until `grow`.

        Raises
        ------
        TypeError
            The column has no fixed width.
        """
        column = self._columns[self.schema.get_field_index(name)]
        if not isinstance(column, _FixedColumn):
            raise TypeError(f"column {name!r} has no fixed width")
        return column.values


class _Column(ABC):
    """One column: validity is a byte a place, from the first null on."""

    def __init__(self, data_type: pa.DataType, allocator: Allocator) -> None:
        self._type = data_type
        self._allocator = allocator
        self._capacity = 0
        self._valid: npt.NDArray[np.uint8] | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes reserved."""
        return 0 if self._valid is None else self._valid.nbytes

    @abstractmethod
    def grow(self, capacity: int) -> None:
        """Make room for more places."""
        self._capacity = capacity
        if self._valid is not None:
            self._valid = self._grown(self._valid, 1)

    @abstractmethod
    def write(self, places: Slots, array: pa.Array) -> None:
        """Write values to places."""
        valid = validity(array)
        if valid is not None and self._valid is None:
            self._valid = self._grown(np.zeros(0, dtype=np.uint8), 1)
        if self._valid is not None:
            self._valid[places] = 1 if valid is None else valid

    @abstractmethod
    def take(self, places: Slots) -> pa.Array:
        """Return the values at places."""

    def forget(self, places: Slots) -> None:  # noqa: B027  values of fixed width take nothing
        """Give back what values take."""

    def _valid_at(self, places: Slots) -> Bools | None:
        if self._valid is None:
            return None
        found = gather(self._valid, places).view(np.bool_)
        return None if found.all() else found

    def _grown(self, array: Values, filler: int = 0) -> Values:
        grown = self._allocator.empty(self._capacity, np.dtype((array.dtype, array.shape[1:])))
        grown[: len(array)] = array
        grown[len(array) :] = filler
        return grown


class _FixedColumn(_Column):
    """Values of one width: numbers, times, booleans as bytes; decimals as several words."""

    def __init__(self, data_type: pa.DataType, allocator: Allocator) -> None:
        super().__init__(data_type, allocator)
        sample = fixed_values(pa.nulls(1, data_type))
        self.values: Values = np.zeros((0, *sample.shape[1:]), dtype=sample.dtype)

    @property
    def n_bytes(self) -> int:
        """Bytes reserved."""
        return super().n_bytes + self.values.nbytes

    def grow(self, capacity: int) -> None:
        """Make room for more places."""
        super().grow(capacity)
        self.values = self._grown(self.values)

    def write(self, places: Slots, array: pa.Array) -> None:
        """Write values to places."""
        array = stored(array)
        super().write(places, array)
        values = fixed_values(array)
        if values.ndim > 1:
            self.values[places] = values
            return
        unsigned = _UNSIGNED[values.dtype.itemsize]
        row_arenas.scatter(values.view(unsigned), places, self.values.view(unsigned))

    def take(self, places: Slots) -> pa.Array:
        """Return the values at places."""
        return fixed_array(gather(self.values, places), self._valid_at(places), self._type)


class _TextColumn(_Column):
    """Strings and bytes."""

    def __init__(self, data_type: pa.DataType, allocator: Allocator) -> None:
        super().__init__(data_type, allocator)
        self._stored = LARGE_TYPE_OF_VIEW.get(data_type, data_type)
        self._starts = np.zeros(0, dtype=np.int64)
        self._lengths = np.zeros(0, dtype=np.uint32)
        self._heap: npt.NDArray[np.uint8] = allocator.empty(_LEAST_BYTES, np.uint8)
        self._end = 0
        self._n_dead = 0

    @property
    def n_bytes(self) -> int:
        """Bytes reserved."""
        arrays = (self._starts, self._lengths, self._heap)
        return super().n_bytes + sum(array.nbytes for array in arrays)

    def grow(self, capacity: int) -> None:
        """Make room for more places."""
        super().grow(capacity)
        self._starts, self._lengths = self._grown(self._starts), self._grown(self._lengths)

    def write(self, places: Slots, array: pa.Array) -> None:
        """Write values to places."""
        array = stored(array).cast(self._stored)
        super().write(places, array)
        if array.null_count:  # bytes may stand under a null
            array = array.fill_null(b"" if _is_binary(self._stored) else "")
        offsets, data = binary_views(array)
        n_bytes = int(offsets[-1]) - int(offsets[0])
        if self._end + n_bytes > len(self._heap):
            self._make_room(n_bytes)
        strings = (self._starts, self._lengths)
        row_arenas.write_strings(offsets, data, places, self._end, strings, self._heap)
        self._end += n_bytes

    def take(self, places: Slots) -> pa.Array:
        """Return the values at places."""
        is_large = self._stored in (pa.large_string(), pa.large_binary())
        offsets = np.empty(len(places) + 1, dtype=np.int64 if is_large else np.int32)
        row_arenas.measure_strings(self._lengths, places, offsets)
        data = np.empty(int(offsets[-1]), dtype=np.uint8)
        row_arenas.copy_strings(self._starts, self._heap, places, offsets, data)
        buffers = [_bitmap(self._valid_at(places)), pa.py_buffer(offsets), pa.py_buffer(data)]
        array = pa.Array.from_buffers(self._stored, len(places), buffers)
        return array if self._stored == self._type else array.cast(self._type)

    def forget(self, places: Slots) -> None:
        """Give back the bytes of values."""
        self._n_dead += int(self._lengths[places].sum())
        self._lengths[places] = 0

    def _make_room(self, n_bytes: int) -> None:
        """Pack the heap, into one with room for as much again as is alive, and ``n_bytes``."""
        places = np.flatnonzero(self._lengths).astype(np.uint32)
        offsets = np.empty(len(places) + 1, dtype=np.int64)
        row_arenas.measure_strings(self._lengths, places, offsets)
        end = int(offsets[-1])
        heap = self._allocator.empty(max(2 * (end + n_bytes), _LEAST_BYTES), np.uint8)
        row_arenas.copy_strings(self._starts, self._heap, places, offsets, heap)
        self._starts[places] = offsets[:-1]
        self._heap, self._end, self._n_dead = heap, end, 0


class _OtherColumn(_Column):
    """Any other type: chunks that live as long as one of their rows."""

    def __init__(self, data_type: pa.DataType, allocator: Allocator) -> None:
        super().__init__(data_type, allocator)
        self._chunk_of = np.zeros(0, dtype=np.int64)
        self._row_of = np.zeros(0, dtype=np.int64)
        self._chunks: dict[int, pa.Array] = {0: pa.nulls(1, data_type)}  # of what was not written
        self._n_live: dict[int, int] = {}
        self._n_chunks = 0

    @property
    def n_bytes(self) -> int:
        """Bytes reserved."""
        chunks: int = sum(chunk.get_total_buffer_size() for chunk in self._chunks.values())
        return self._chunk_of.nbytes + self._row_of.nbytes + chunks

    def grow(self, capacity: int) -> None:
        """Make room for more places."""
        super().grow(capacity)
        self._chunk_of, self._row_of = self._grown(self._chunk_of), self._grown(self._row_of)

    def write(self, places: Slots, array: pa.Array) -> None:
        """Write values to places."""
        if not len(places):
            return
        rows = np.arange(len(places))
        self._n_chunks += 1
        self._chunks[self._n_chunks] = take(stored(array), pa.array(rows))
        self._n_live[self._n_chunks] = len(places)
        self._chunk_of[places] = self._n_chunks
        self._row_of[places] = rows

    def take(self, places: Slots) -> pa.Array:
        """Return the values at places."""
        chunks, of_row = np.unique(self._chunk_of[places], return_inverse=True)
        by_chunk = np.argsort(of_row, kind="stable")
        bounds = np.searchsorted(of_row[by_chunk], np.arange(len(chunks) + 1))
        parts = [
            take(self._chunks[chunk], pa.array(self._row_of[places[by_chunk[first:stop]]]))
            for chunk, first, stop in zip(chunks.tolist(), bounds, bounds[1:], strict=False)
        ]
        if not parts:
            return pa.nulls(0, self._type)
        back = np.empty(len(places), dtype=np.int64)
        back[by_chunk] = np.arange(len(places))
        return take(pa.concat_arrays(parts), pa.array(back))

    def forget(self, places: Slots) -> None:
        """Let chunks go of which no row is left."""
        for chunk, n_rows in zip(
            *np.unique(self._chunk_of[places], return_counts=True), strict=True
        ):
            left = self._n_live.get(int(chunk), 0) - int(n_rows)
            if left:
                self._n_live[int(chunk)] = left
            else:
                del self._chunks[int(chunk)], self._n_live[int(chunk)]


def fixed_array(values: Values, valid: Bools | None, data_type: pa.DataType) -> pa.Array:
    """Return the array whose `fixed_values` are given; they must not be written afterwards."""
    is_bits = pa.types.is_boolean(data_type)
    data = np.packbits(values.view(np.bool_), bitorder="little") if is_bits else values
    buffers = [_bitmap(valid), pa.py_buffer(read_only(data))]
    return pa.Array.from_buffers(data_type, len(values), buffers)


def _bitmap(valid: Bools | None) -> pa.Buffer | None:
    return None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _is_binary(data_type: pa.DataType) -> bool:
    return data_type in (pa.binary(), pa.large_binary())


def _column(data_type: pa.DataType, allocator: Allocator) -> _Column:
    plain = stored_type(data_type)
    if is_binary_type(plain) or plain in LARGE_TYPE_OF_VIEW:
        return _TextColumn(plain, allocator)
    try:
        return _FixedColumn(plain, allocator)
    except TypeError:  # it has no fixed width
        return _OtherColumn(plain, allocator)
