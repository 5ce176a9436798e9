"""The encoded rows of one step of an edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcstream.exchange.wire.columns import Bytes, Int64s


@dataclass(frozen=True, slots=True)
class Message:
    """The rows that one sender has for all consumers of an edge in one step.

    Attributes
    ----------
    data : uint8[n_bytes]
    counts, displacements : int64[n_partitions]
        Length and offset of each consumer's block in ``data``, in bytes.
    rows : int64[n_partitions]
    """

    data: Bytes
    counts: Int64s
    displacements: Int64s
    rows: Int64s

    def to_everyone(self, n_partitions: int) -> Message:
        """Return a message that sends the only block of this one to all consumers."""
        return Message(
            self.data,
            np.repeat(self.counts, n_partitions),
            np.repeat(self.displacements, n_partitions),
            np.repeat(self.rows, n_partitions),
        )
