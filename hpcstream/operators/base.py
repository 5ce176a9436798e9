"""The contract between the runtime and an operator.

In each round a task calls, in this order::

    process_clock(now_us)            if the ranks have agreed on a new time
    process_batch(batch, input)      for each batch: all of input 0, then all of input 1, ...
    note_watermarks(marks)           one of each input
    process_watermark(watermark)     the least of them, then output_watermark(watermark)
    release()                        if the input is idle, then catch_up(watermark) later

Only `process_batch` has to be written. Every other method has a default for an operator
without state that waits for nothing.
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
    """A batch for another output of the operator than its main one (``"late"``, ``"rows"``)."""

    name: str
    batch: pa.RecordBatch


class Turn(Enum):
    """What an operator yields in place of a batch, to give the turn back to the rank's loop."""

    PAUSE = "pause"
    WAIT = "wait"


PAUSE: Final = Turn.PAUSE
"""There is more to do, but MPI is to be looked at: after about 0.5 ms of work in one call."""
WAIT: Final = Turn.WAIT
"""Nothing can be done now: ask again when something else has moved, or a little later."""

PAUSE_ROWS = 16_384
"""Rows that take about 0.5 ms to make, and to hand through the operators that follow."""

Emitted: TypeAlias = pa.RecordBatch | SideOutput | Turn

Marks: TypeAlias = tuple[int | None, ...]
"""The watermark of each input; None: the input is idle."""


def with_pauses(emitted: Iterable[Emitted]) -> Iterator[Emitted]:
    """Yield what is given, with a `PAUSE` wherever `PAUSE_ROWS` rows have left and more follow."""
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
        Rows that came too late for every result.
    """

    late_rows = Counter("late rows")
    state_held = Gauge("state", "state_bytes", unit=BYTES, is_peak=True)

    holds_back: ClassVar[bool] = False
    """Whether `release` and `catch_up` are called: the class has its own `release`."""
    derives_watermark: ClassVar[bool] = False
    """Whether `output_watermark` is called: the class has its own."""
    notes_watermarks: ClassVar[bool] = False
    """Whether `note_watermarks` is called: the class has its own."""
    uses_clock: ClassVar[bool] = False
    """Whether `process_clock` is called: the class has its own. Results then depend on the run."""
    may_be_pending: ClassVar[bool] = False
    """Whether `has_pending` is asked: the class has its own."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.holds_back = cls.release is not Operator.release
        cls.derives_watermark = cls.output_watermark is not Operator.output_watermark
        cls.notes_watermarks = cls.note_watermarks is not Operator.note_watermarks
        cls.uses_clock = cls.process_clock is not Operator.process_clock
        cls.may_be_pending = cls.has_pending is not Operator.has_pending

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the schema of the main output for that of the input."""
        return input_schema

    # -- rows and time -----------------------------------------------------------------

    @abstractmethod
    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Take in one batch of one input; yield what can be emitted at once."""

    def note_watermarks(self, marks: Marks) -> None:  # noqa: B027  a default
        """Note the watermark of each input, before `process_watermark` in every round.

        Each is the greatest that the input has promised, and never goes back; None while the
        input is idle. A row before it, but not before that of the operator, may still come
        from a split that was idle.
        """

    def process_clock(self, now_us: int) -> Iterable[Emitted]:
        """Yield what is due by the time of day, before any row of a round.

        Parameters
        ----------
        now_us : int
            Microseconds since the epoch, a multiple of 50 ms: the greatest clock of all ranks,
            and the same on all of them in the same round. It never goes back in a run, and is
            read anew after a restart, in which rows are replayed at another time.
        """
        return ()

    @property
    def has_pending(self) -> bool:
        """Whether results are still to come when the input has ended: the job waits for them.

        The operator gets rounds without rows as long as this is so. It must hold
        `output_watermark` below `MAX_TIME` while it may still emit rows.
        """
        return False

    def process_watermark(self, watermark: int) -> Iterable[Emitted]:
        """Yield what is complete now that no row before ``watermark`` will come."""
        return ()

    def output_watermark(self, watermark: int) -> int:
        """Return what no row emitted from now on will be before.

        Called after `process_watermark`, with the watermark of the input and with what the
        input promises now. An operator that emits rows later than they come, or sets their
        event time, has its own; `MAX_TIME` says that no row will follow.
        """
        return watermark

    def release(self) -> Iterable[Emitted]:
        """Yield all rows that are kept back until a watermark: the input is idle.

        Consumers do not wait for an instance whose input is idle. Called in each round in
        which it is.
        """
        return ()

    def catch_up(self, watermark: int) -> None:  # noqa: B027  a default
        """Note that consumers may be at this watermark. Called after each idle round."""

    # -- state -------------------------------------------------------------------------

    def tables(self) -> Sequence[StateTable]:
        """Return the tables that hold the state; none: nothing is kept between batches.

        They are the same ones at each call, and so are their names in all instances.
        """
        return ()

    @final
    def snapshot(self) -> Snapshot:
        """Return the state as named arrays."""
        return table.snapshot(self.tables())

    @final
    def restore(self, snapshot: Snapshot) -> None:
        """Take over the state of a snapshot. Called at most once, before any batch."""
        assert self.tables() or not snapshot, f"{type(self).__name__} has no state: {[*snapshot]}"
        table.restore(self.tables(), snapshot)

    @final
    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Take over what this instance owns of the state of all instances, in place of `restore`.

        Called on another number of ranks, and where the planner splits the operator in two
        stages otherwise than before.
        """
        table.merge(self.tables(), parts, owned)

    def state_bytes(self) -> int:
        """Return the bytes reserved for state."""
        return sum(one.n_bytes for one in self.tables())
