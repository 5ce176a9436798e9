"""What the runtime asks of an operator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import pyarrow as pa

from hpcstream.state.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class SideOutput:
    """A batch for another output of the operator than its main one (``"late"``, ``"rows"``)."""

    name: str
    batch: pa.RecordBatch


Emitted: TypeAlias = pa.RecordBatch | SideOutput


class HoldsBack(ABC):
    """An operator that keeps rows back until a watermark: what its consumers must not miss.

    Time goes on without an instance whose input is idle: it hands out everything before its
    rank says so. When it takes rows again, it has to know how far time has gone.
    """

    @abstractmethod
    def release(self) -> Iterable[Emitted]:
        """Yield all that is kept back: the input is idle. Called in each round in which it is."""

    @abstractmethod
    def catch_up(self, watermark: int) -> None:
        """Note that consumers may be at this watermark. Called after each idle round."""


class Operator(Protocol):
    """One parallel instance of a node of the dataflow graph.

    The runtime calls these methods from one thread, in event order. An operator
    sees batches and times only: never the communicator, a file or a clock.
    Batches carry the hidden columns of `hpcstream.columns.event_time` after the user's.
    """

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Take in one batch of one input; yield what can be emitted at once."""

    def process_watermark(self, watermark: int) -> Iterable[Emitted]:
        """Yield what is complete now that no row before ``watermark`` will come."""

    def snapshot(self) -> Snapshot:
        """Return the state as named arrays."""

    def restore(self, snapshot: Snapshot) -> None:
        """Take over the state of a snapshot. Called at most once, before any batch."""

    # An operator with state has one of these, too, for a restart on another number of
    # ranks; either is called in place of `restore`:
    #
    # ``restore_share(snapshots, share)``
    #     Take over this instance's share of the snapshots of all instances.
    # ``restore_stages(local, final, share)``
    #     The same for an operator that the planner may split in two stages: there are
    #     snapshots of local stages, and of final stages (or of the one stage there was).
    #
    # An operator with much state that changes little may also have
    #
    # ``snapshot_in_pieces() -> PiecewiseSnapshot or None``
    #     The same state; a checkpoint writes the pieces that have changed, and refers to
    #     earlier files for the others. `restore` and the like see no difference.
