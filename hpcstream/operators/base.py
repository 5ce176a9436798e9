"""The contract between the runtime and an operator.

In each round a task calls, in this order::

    process_clock(now_us)            if the ranks have agreed on a new time
    process_batch(batch, input)      for each batch: all of input 0, then all of input 1, ...
    note_watermarks(marks)           one of each input
    process_watermark(watermark)     the least of them, then output_watermark(watermark)
    release()                        if the input is idle, then catch_up(watermark) later

Only `process_batch` must be implemented. The defaults of the other methods are those of a
stateless operator that never waits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, Final, TypeAlias, final

import pyarrow as pa

from hpcstream.columns.ownership import Ownership
from hpcstream.metric import BYTES, Counter, Gauge
from hpcstream.state import table
from hpcstream.state.table import Part, Snapshot, StateTable


@dataclass(frozen=True, slots=True)
class SideOutput:
    """A batch for a side output of the operator, such as ``"late"`` or ``"rows"``."""

    name: str
    batch: pa.RecordBatch


class Turn(Enum):
    """What an operator yields instead of a batch to return control to the rank's loop."""

    PAUSE = "pause"
    WAIT = "wait"


PAUSE: Final = Turn.PAUSE
"""There is more work, but MPI must be progressed: yield it after about 0.5 ms of work."""
WAIT: Final = Turn.WAIT
"""Nothing can be done now: the loop resumes the operator when something else has progressed."""

PAUSE_ROWS = 16_384
"""Rows that take about 0.5 ms to produce and to process in the operators that follow."""

Emitted: TypeAlias = pa.RecordBatch | SideOutput | Turn

Marks: TypeAlias = tuple[int | None, ...]
"""The watermark of each input; None: the input is idle."""


def with_pauses(emitted: Iterable[Emitted]) -> Iterator[Emitted]:
    """Yield ``emitted``, with a `PAUSE` after each `PAUSE_ROWS` rows if more follow."""
    n_rows = 0
    for out in emitted:
        if isinstance(out, Turn):
            n_rows = 0
        elif n_rows >= PAUSE_ROWS:
            n_rows = 0
            yield PAUSE
        yield out
        if isinstance(out, pa.RecordBatch):
            n_rows += out.num_rows


class Operator(ABC):
    """One parallel instance of a node of the dataflow graph.

    The runtime calls these methods from one thread, in event order. An operator
    sees batches and times only: never the communicator, a file or a clock.
    Batches carry the hidden columns of `hpcstream.columns.event_time` after the user's.

    Attributes
    ----------
    late_rows : int
        Rows that arrived too late for every result.
    """

    late_rows = Counter("late rows")
    state_held = Gauge("state", "state_bytes", unit=BYTES, is_peak=True)

    holds_back: ClassVar[bool] = False
    """Whether the runtime calls `release` and `catch_up`: the class overrides `release`."""
    derives_watermark: ClassVar[bool] = False
    """Whether the runtime calls `output_watermark`: the class overrides it."""
    notes_watermarks: ClassVar[bool] = False
    """Whether the runtime calls `note_watermarks`: the class overrides it."""
    uses_clock: ClassVar[bool] = False
    """Whether the runtime calls `process_clock`: the class overrides it.

    Results then depend on the run.
    """
    may_be_pending: ClassVar[bool] = False
    """Whether the runtime reads `has_pending`: the class overrides it."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.holds_back = cls.release is not Operator.release
        cls.derives_watermark = cls.output_watermark is not Operator.output_watermark
        cls.notes_watermarks = cls.note_watermarks is not Operator.note_watermarks
        cls.uses_clock = cls.process_clock is not Operator.process_clock
        cls.may_be_pending = cls.has_pending is not Operator.has_pending

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the schema of the main output for an input schema."""
        return input_schema

    # -- rows and time -----------------------------------------------------------------

    @abstractmethod
    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Process one batch of one input; yield what can be emitted immediately."""

    def note_watermarks(self, marks: Marks) -> None:  # noqa: B027  a default
        """Note the watermark of each input; called before `process_watermark` in every round.

        Each is the greatest watermark of the input so far and never decreases; None while the
        input is idle. A split that was idle may still deliver rows before it, but none before
        the operator's watermark.
        """

    def process_clock(self, now_us: int) -> Iterable[Emitted]:
        """Yield what is due at a processing time; called before any batch of a round.

        Parameters
        ----------
        now_us : int
            Microseconds since the epoch, a multiple of 50 ms: the greatest clock of all ranks,
            the same on every rank in the same round. It never decreases in a run. After a
            restart rows are replayed at other times.
        """
        return ()

    @property
    def has_pending(self) -> bool:
        """Whether results are pending after the input has ended: the job waits for them.

        As long as it is true the operator gets rounds without rows. `output_watermark` must
        stay below `MAX_TIME` while the operator may still emit rows.
        """
        return False

    def process_watermark(self, watermark: int) -> Iterable[Emitted]:
        """Yield what is complete at a watermark: no row before it will arrive."""
        return ()

    def output_watermark(self, watermark: int) -> int:
        """Return the watermark of the output: no row emitted from now on is before it.

        Called after `process_watermark`, with the watermark of the input and with what the
        input promises now. An operator that delays rows or sets their event time overrides it;
        `MAX_TIME` means that no row will follow.
        """
        return watermark

    def release(self) -> Iterable[Emitted]:
        """Yield all rows that are held back until a watermark, because the input is idle.

        Called in each round in which the input is idle: consumers do not wait for such an
        instance.
        """
        return ()

    def catch_up(self, watermark: int) -> None:  # noqa: B027  a default
        """Note the watermark that consumers may have reached; called after each idle round."""

    # -- state -------------------------------------------------------------------------

    def tables(self) -> Sequence[StateTable]:
        """Return the tables with the operator's state; a stateless operator has none.

        Each call returns the same tables, and all instances use the same table names.
        """
        return ()

    @final
    def snapshot(self) -> Snapshot:
        """Return the state as named arrays."""
        return table.snapshot(self.tables())

    @final
    def restore(self, snapshot: Snapshot) -> None:
        """Restore the state from a snapshot. Called at most once, before any batch."""
        assert self.tables() or not snapshot, f"{type(self).__name__} has no state: {[*snapshot]}"
        table.restore(self.tables(), snapshot)

    @final
    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Restore what this instance owns of the state of all instances; replaces `restore`.

        Called if the number of ranks has changed, or the planner divides the operator into
        stages differently than before.
        """
        table.merge(self.tables(), parts, owned)

    def state_bytes(self) -> int:
        """Return the bytes reserved for state."""
        return sum(table.n_bytes for table in self.tables())
