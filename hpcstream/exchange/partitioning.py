"""Partitionings assign the rows of a batch to the consumers of an edge.

A partitioning is a frozen value: for the same batch, sender and round the assignment is
always the same, so a replayed round sends the same rows to the same ranks.
`Partitioning.assign` returns ``order, offsets``: partition ``p`` gets the rows
``order[offsets[p]:offsets[p + 1]]`` or, if ``order`` is None, the rows ``offsets[p]`` to
``offsets[p + 1]`` of the batch. `encode_partitioned` encodes them as a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

    from hpcstream.exchange.wire.format import WireFormat
    from hpcstream.exchange.wire.message import Message
from hpcstream.columns.ownership import owners
from hpcstream.stable_keys import Key

Order = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]
Assignment = tuple[Order | None, Offsets]

_MIN_ROWS_A_PIECE = 256
"""Least rows per consumer of a rebalanced batch: for fewer rows a message costs too much."""


class Partitioning(Protocol):
    """Assigns the rows of an edge to its consumers."""

    def assign(
        self, batch: pa.RecordBatch, n_partitions: int, sender: int, round_number: int
    ) -> Assignment:
        """Return the order of rows, and the offsets of the partitions in it."""

    def describe(self) -> str:
        """Return a short description for `explain()`."""

    def key(self) -> Key:
        """Return kind and parameters as plain data, the same in all versions."""


@dataclass(frozen=True)
class HashPartitioning:
    """Assigns rows to consumers by the key group of their key.

    Attributes
    ----------
    columns : tuple of str
        Key columns, at least one.
    """

    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        if not self.columns:
            raise ValueError("HashPartitioning needs at least one key column; got none")

    def assign(
        self, batch: pa.RecordBatch, n_partitions: int, sender: int, round_number: int
    ) -> Assignment:
        """Return the rows grouped by the owner of their key, in arrival order within each."""
        if n_partitions == 1:
            return _all_to(0, batch.num_rows, 1)
        # Kernels are imported when a job runs, not when it is planned.
        from hpcstream.kernels import partition

        partitions = owners(batch, self.columns, n_partitions)
        order = np.empty(batch.num_rows, dtype=np.int32)
        offsets = np.empty(n_partitions + 1, dtype=np.int64)
        partition.order_by_partition(partitions, n_partitions, order, offsets)
        return order, offsets

    def describe(self) -> str:
        """Return the name and the key columns."""
        return f"hash({', '.join(self.columns)})"

    def key(self) -> Key:
        """Return kind and parameters."""
        return ["hash", *self.columns]


@dataclass(frozen=True)
class RebalancePartitioning:
    """Distributes rows evenly, independent of their values.

    A batch is divided into contiguous pieces whose sizes differ by at most one row, none so
    small that its message would cost more than its rows. The consumer that gets the first
    piece advances by one with every round.
    """

    def assign(
        self, batch: pa.RecordBatch, n_partitions: int, sender: int, round_number: int
    ) -> Assignment:
        """Return contiguous ranges of rows; consumer ``sender + round_number`` gets the first."""
        n_rows = batch.num_rows
        n_pieces = min(n_partitions, max(1, n_rows // _MIN_ROWS_A_PIECE))
        rows_a_piece, n_odd = divmod(n_rows, n_pieces)
        turns = (np.arange(n_pieces) + sender + round_number) % n_partitions
        offsets = np.zeros(n_partitions + 1, dtype=np.int64)
        offsets[turns + 1] = rows_a_piece
        offsets[turns[:n_odd] + 1] += 1
        return None, np.cumsum(offsets)

    def describe(self) -> str:
        """Return the name."""
        return "rebalance"

    def key(self) -> Key:
        """Return kind and parameters."""
        return ["rebalance"]


@dataclass(frozen=True)
class BroadcastPartitioning:
    """Every consumer gets every row."""

    def assign(
        self, batch: pa.RecordBatch, n_partitions: int, sender: int, round_number: int
    ) -> Assignment:
        """Return one partition of all rows: `encode_partitioned` sends it to everyone."""
        return _all_to(0, batch.num_rows, 1)

    def describe(self) -> str:
        """Return the name."""
        return "broadcast"

    def key(self) -> Key:
        """Return kind and parameters."""
        return ["broadcast"]


@dataclass(frozen=True)
class GatherPartitioning:
    """One consumer gets every row.

    Attributes
    ----------
    rank : int
        Its number, modulo the number of consumers.
    """

    rank: int = 0

    def assign(
        self, batch: pa.RecordBatch, n_partitions: int, sender: int, round_number: int
    ) -> Assignment:
        """Return all rows for one partition."""
        return _all_to(self.rank % n_partitions, batch.num_rows, n_partitions)

    def describe(self) -> str:
        """Return the name and the rank."""
        return f"gather(rank {self.rank})"

    def key(self) -> Key:
        """Return kind and parameters."""
        return ["gather", self.rank]


@dataclass(frozen=True)
class ForwardPartitioning:
    """Sender ``i`` feeds consumer ``i``, modulo the number of consumers."""

    def assign(
        self, batch: pa.RecordBatch, n_partitions: int, sender: int, round_number: int
    ) -> Assignment:
        """Return all rows for the sender's partition."""
        return _all_to(sender % n_partitions, batch.num_rows, n_partitions)

    def describe(self) -> str:
        """Return the name."""
        return "forward"

    def key(self) -> Key:
        """Return kind and parameters."""
        return ["forward"]


def encode_partitioned(
    partitioning: Partitioning,
    wire: WireFormat,
    batch: pa.RecordBatch,
    n_partitions: int,
    sender: int,
    round_number: int,
) -> Message:
    """Return the message that carries a batch to all consumers of an edge."""
    order, offsets = partitioning.assign(batch, n_partitions, sender, round_number)
    message = wire.encode(batch, order, offsets)
    if isinstance(partitioning, BroadcastPartitioning):
        return message.to_everyone(n_partitions)
    return message


def _all_to(partition: int, n_rows: int, n_partitions: int) -> Assignment:
    offsets = np.zeros(n_partitions + 1, dtype=np.int64)
    offsets[partition + 1 :] = n_rows
    return None, offsets
