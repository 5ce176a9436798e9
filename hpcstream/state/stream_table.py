"""Tables whose segments are Arrow streams: rows of any type that are kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.kept_batches import from_ipc, to_ipc
from hpcstream.state.arrays import Arrays, Ints
from hpcstream.state.table import Segment, StateTable, TableCopy, counts_name

Bytes = npt.NDArray[np.uint8]


class StreamTable(StateTable):
    """Segments of rows, each written as the bytes of one stream; an entry is a byte.

    A segment that has changed is encoded once: `segments` needs its size, `copy` its bytes.

    Parameters
    ----------
    name : str
        Unique in the operator; begins the names of its arrays.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._sizes: dict[tuple[str, str], int] = {}
        self._encoded: dict[str, Bytes] = {}

    @abstractmethod
    def versions(self) -> list[tuple[str, str]]:
        """Return name and version of each segment, in order."""

    @abstractmethod
    def rows_of(self, name: str) -> pa.RecordBatch:
        """Return the rows of a segment."""

    def segments(self) -> Sequence[Segment]:
        """Return the segments."""
        known, self._sizes, self._encoded = self._sizes, {}, {}
        for segment in self.versions():
            size = known.get(segment)
            self._sizes[segment] = len(self._stream(segment[0])) if size is None else size
        return [Segment(*segment, size) for segment, size in self._sizes.items()]

    def copy(self, indices: Ints) -> TableCopy:
        """Return the streams of some segments."""
        names = [name for name, _ in self.versions()]
        streams = [self._stream(names[index]) for index in indices.tolist()]
        self._encoded = {}
        data = np.concatenate([np.zeros(0, dtype=np.uint8), *streams])
        return TableCopy({f"{self.name}:data": data})

    def _stream(self, name: str) -> Bytes:
        if name not in self._encoded:
            self._encoded[name] = to_ipc(self.rows_of(name))
        return self._encoded[name]

    def is_in(self, arrays: Arrays) -> bool:
        """Whether there is anything of this table among arrays that were read."""
        return counts_name(self.name) in arrays

    def batches_of(self, arrays: Arrays) -> list[pa.RecordBatch]:
        """Return the rows of each segment of one instance."""
        counts, data = arrays[counts_name(self.name)], arrays[f"{self.name}:data"]
        ends = np.cumsum(counts)
        return [from_ipc(data[end - n : end]) for end, n in zip(ends, counts, strict=True)]
