"""Dictionary columns on the wire: indices, and in each block the values that its rows use.

The size of a block depends on its rows only, not on the size of the dictionary or the
number of consumers.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from hpcstream.columns.arrays import key_words
from hpcstream.exchange.wire.columns import IN_ORDER, UNSIGNED, BufferStarts, Bytes, Int64s, Rows
from hpcstream.exchange.wire.message import Message
from hpcstream.kernels import dictionary as dictionary_kernels
from hpcstream.kernels import wire as wire_kernels


class ValueFormat(Protocol):
    """The wire format of the values: `hpcstream.exchange.wire.format.WireFormat`."""

    @property
    def schema(self) -> pa.Schema:
        """One column: the values."""

    def encode(self, batch: pa.RecordBatch, order: Any, offsets: Int64s) -> Message:
        """Return the values of each partition."""

    def decode(self, block: Bytes, n_rows: int) -> pa.RecordBatch:
        """Return the values of a block."""


class Compacted(NamedTuple):
    """Indices of the rows in sending order, and a block of values per partition."""

    indices: Int64s
    values: Message


class DictionaryColumn:
    """Writes and reads one dictionary column.

    Parameters
    ----------
    values : ValueFormat
        Of batches with one column, the values of a dictionary.
    """

    def __init__(self, values: ValueFormat) -> None:
        self._values = values
        self._numbers: Int64s = np.empty(0, dtype=np.int64)
        self._next_number = 0

    def compact(self, array: pa.Array, rows: Rows) -> Compacted:
        """Return the indices and the used values of a dictionary array for each partition."""
        n_entries, n_sent = len(array.dictionary), int(rows.offsets[-1])
        if n_entries > len(self._numbers):
            self._numbers = np.full(n_entries, -1, dtype=np.int64)
        indices = np.empty(n_sent, dtype=np.int64)
        used = np.empty(n_sent, dtype=np.int32)
        used_offsets = np.empty(len(rows.offsets), dtype=np.int64)
        self._next_number = dictionary_kernels.compact_dictionary(
            key_words(array.indices),
            rows.order,
            rows.offsets,
            self._next_number,
            self._numbers[:n_entries],
            indices,
            used,
            used_offsets,
        )
        values = pa.RecordBatch.from_arrays([array.dictionary], schema=self._values.schema)
        return Compacted(indices, self._values.encode(values, used, used_offsets))

    def write(
        self, compacted: Compacted, row_bits: int, rows: Rows, starts: BufferStarts, memory: Bytes
    ) -> None:
        """Write indices and values of all partitions into the send buffer."""
        dtype = UNSIGNED[row_bits]
        indices = compacted.indices.astype(dtype)
        indices.setflags(write=False)
        wire_kernels.gather_values(
            indices, IN_ORDER, rows.offsets, starts.first, memory.view(dtype)
        )
        values = compacted.values
        wire_kernels.copy_blocks(
            values.data, values.displacements, values.counts, starts.data, memory
        )

    def read(self, indices: pa.Array, block: Bytes) -> pa.DictionaryArray:
        """Return the array of received indices and a block of values."""
        n_values = int(block[:8].view(np.int64)[0]) if block.size else 0
        dictionary = self._values.decode(block, n_values).column(0)
        return pa.DictionaryArray.from_arrays(indices, dictionary, safe=False)
