"""The wire format of columns: the buffers of each type and the kernels that write them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.arrays import LARGE_TYPE_OF_VIEW, binary_views, fixed_values, is_binary_type
from hpcstream.kernels import bitmap as bitmap_kernels
from hpcstream.kernels import wire as wire_kernels

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

BITS, VALUES, RECORDS, BINARY, DICTIONARY, EMPTY, FOREIGN = range(7)
"""Kinds: bits, words of 1 to 8 bytes, longer values, strings, dictionaries, nulls, Arrow IPC."""

_SENT_IN_DICTIONARIES = (BITS, VALUES, RECORDS, BINARY)
UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
"""The type with which kernels copy a value of this number of bits."""


IN_ORDER: npt.NDArray[np.int32] = np.empty(0, dtype=np.int32)
"""The order of rows that are sent in the order of the batch."""


class Rows(NamedTuple):
    """The rows of each partition: those of ``order`` between two ``offsets``.

    ``order`` (int32) is empty if rows are sent in the order of the batch.
    """

    order: npt.NDArray[np.int32]
    offsets: Int64s


class BufferStarts(NamedTuple):
    """Offsets of a column's buffers in the send buffer, and bytes of its data, per partition."""

    validity: Int64s
    first: Int64s
    data: Int64s
    data_bytes: Int64s


@dataclass(frozen=True, slots=True)
class Column:
    """The wire format of one column.

    Attributes
    ----------
    index : int
        Of the field in the schema.
    type : pa.DataType
        Of the field.
    kind : int
    sent_as : pa.DataType
        Type on the wire. string_view and binary_view are sent as large_string and
        large_binary, since Arrow cannot take rows of them; a dictionary as its
        indices, with the values as data.
    row_bits, extra_rows : int
        Size of a row in the first buffer after validity, and the number of rows that this
        buffer has in addition to those of the batch.
    """

    index: int
    type: pa.DataType
    kind: int
    sent_as: pa.DataType
    row_bits: int = 0
    extra_rows: int = 0

    @classmethod
    def of_type(cls, index: int, data_type: pa.DataType) -> Column:
        """Return the wire format of a column of this type."""
        sent_as = LARGE_TYPE_OF_VIEW.get(data_type, data_type)
        kind, row_bits = _kind_and_row_bits(sent_as)
        if kind == DICTIONARY:
            sent_as = data_type.index_type
        return cls(index, data_type, kind, sent_as, row_bits, extra_rows=int(kind == BINARY))

    def sent(self, array: pa.Array) -> pa.Array:
        """Return the array in its type on the wire."""
        if self.sent_as is self.type:
            return array
        return array.indices if self.kind == DICTIONARY else array.cast(self.sent_as)

    def has_validity(self, array: pa.Array) -> bool:
        """Whether a validity bitmap is sent."""
        return array.null_count > 0 and self.kind != EMPTY

    def measure(self, array: pa.Array, rows: Rows, out_bytes: Int64s) -> None:
        """Write the number of string bytes of each partition."""
        offsets, _ = binary_views(array)
        wire_kernels.measure_binary(offsets, rows.order, rows.offsets, out_bytes)

    def write(self, array: pa.Array, rows: Rows, starts: BufferStarts, memory: Bytes) -> None:
        """Write the buffers of all partitions into the send buffer; dictionaries excepted."""
        if self.has_validity(array):
            _write_bits(array.buffers()[0], array.offset, rows, starts.validity, memory)
        if self.kind == VALUES:
            dtype = UNSIGNED[self.row_bits]
            values = fixed_values(array).view(dtype)
            wire_kernels.gather_values(values, *rows, starts.first, memory.view(dtype))
        elif self.kind == BINARY:
            _write_binary(array, rows, starts, memory)
        elif self.kind == BITS:
            _write_bits(array.buffers()[1], array.offset, rows, starts.first, memory)
        elif self.kind == RECORDS:
            records = fixed_values(array)
            n_items = records.shape[1]
            target = memory.view(records.dtype)
            wire_kernels.gather_records(records.reshape(-1), n_items, *rows, starts.first, target)

    def read(
        self, block: pa.Buffer, position: int, n_rows: int, has_validity: int, data_bytes: int
    ) -> tuple[pa.Array, int]:
        """Return the array whose buffers begin at ``position``, and the position after them.

        For a dictionary it returns the indices; the values end at the returned position.
        """
        if self.kind == EMPTY:
            return pa.nulls(n_rows, self.type), position
        bitmap = None
        if has_validity:
            n_bytes = (n_rows + 7) >> 3
            bitmap = block.slice(position, n_bytes)
            position += (n_bytes + 63) & -64
        n_bytes = ((n_rows + self.extra_rows) * self.row_bits + 7) >> 3
        buffers = [bitmap, block.slice(position, n_bytes)]
        position += (n_bytes + 63) & -64
        null_count = -1 if has_validity else 0
        if self.kind == BINARY:
            buffers.append(block.slice(position, data_bytes))
        position += (data_bytes + 63) & -64
        array = pa.Array.from_buffers(self.sent_as, n_rows, buffers, null_count)
        is_as_sent = self.sent_as is self.type or self.kind == DICTIONARY
        return (array if is_as_sent else array.cast(self.type)), position


def _kind_and_row_bits(data_type: pa.DataType) -> tuple[int, int]:
    if pa.types.is_null(data_type):
        return EMPTY, 0
    if is_binary_type(data_type):
        is_large = data_type in (pa.large_string(), pa.large_binary())
        return BINARY, 64 if is_large else 32
    if pa.types.is_boolean(data_type):
        return BITS, 1
    if pa.types.is_decimal128(data_type) or pa.types.is_decimal256(data_type):
        return RECORDS, data_type.bit_width
    if pa.types.is_fixed_size_binary(data_type):
        return RECORDS, 8 * data_type.byte_width
    if pa.types.is_dictionary(data_type):
        # The order of an ordered dictionary has a meaning, so it is sent as a whole.
        is_simple = _kind_and_row_bits(data_type.value_type)[0] in _SENT_IN_DICTIONARIES
        compactable = is_simple and not data_type.ordered
        return (DICTIONARY, data_type.index_type.bit_width) if compactable else (FOREIGN, 0)
    is_plain = pa.types.is_primitive(data_type) or pa.types.is_decimal(data_type)
    if is_plain and data_type.bit_width in UNSIGNED:
        return VALUES, data_type.bit_width
    return FOREIGN, 0


def _write_bits(
    buffer: pa.Buffer, first_bit: int, rows: Rows, starts: Int64s, memory: Bytes
) -> None:
    bits: Bytes = np.frombuffer(buffer, dtype=np.uint8)
    bits.setflags(write=False)
    bitmap_kernels.gather_bits(bits, first_bit, *rows, starts, memory)


def _write_binary(array: pa.Array, rows: Rows, starts: BufferStarts, memory: Bytes) -> None:
    offsets, data = binary_views(array)
    target: npt.NDArray[Any] = memory.view(offsets.dtype)
    wire_kernels.gather_binary_offsets(offsets, *rows, starts.first, target)
    wire_kernels.gather_binary_data(offsets, data, *rows, starts.data, starts.data_bytes, memory)


def aligned(n_bytes: int) -> int:
    """Return the next multiple of 64."""
    return (n_bytes + 63) & -64
