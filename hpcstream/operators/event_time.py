"""Sets event time from a column in the middle of a stream, and generates the watermark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, TIME_COLUMN, TimeUnit, duration_text
from hpcstream.columns.hidden import time_field, visible_positions
from hpcstream.columns.time_values import event_time_values
from hpcstream.errors import PlanError
from hpcstream.expressions.binding import unknown_column
from hpcstream.operators.base import Operator
from hpcstream.operators.spec import Columns, OperatorContext, OperatorSpec, Schemas, Traits
from hpcstream.operators.stream_time import EventClock, EventTime
from hpcstream.stable_keys import Key
from hpcstream.state.scalars import Field, Scalars, Values, least
from hpcstream.state.table import StateTable


class AssignEventTime(Operator):
    """Sets the event time of each row from a column, and generates the watermark.

    The watermark is the greatest time seen, minus a delay: rows may be out of order by that
    much. It replaces the upstream watermark, except at the end of the stream.

    Parameters
    ----------
    column : str
        A timestamp, date or int64 column.
    unit : str
        The unit of the column: given by its type, or by the user.
    watermark_delay_ticks : int
        In that unit, not negative.
    """

    def __init__(self, column: str, unit: str, watermark_delay_ticks: int = 0) -> None:
        if watermark_delay_ticks < 0:
            raise ValueError(
                f"watermark_delay {watermark_delay_ticks} {unit}: must not be negative"
            )
        self._column = column
        self._unit = unit
        self._delay = watermark_delay_ticks
        self._greatest = MIN_TIME
        self._first: int | None = None

    @property
    def seen(self) -> tuple[int, int] | None:
        """The least time of the first batch, and the greatest of all; None before any row."""
        return None if self._first is None else (self._first, self._greatest)

    @property
    def unit(self) -> str:
        """The unit of the column."""
        return self._unit

    @property
    def watermark_delay_ticks(self) -> int:
        """The delay of the watermark after the greatest time seen."""
        return self._delay

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the input's schema with the hidden event time.

        Raises
        ------
        PlanError
            The column does not exist, or holds no time in this unit.
        """
        if self._column not in input_schema.names:
            raise unknown_column(self._column, input_schema)
        found = TimeUnit.of_type(input_schema.field(self._column).type, self._unit)
        if found.name != self._unit:
            raise PlanError(
                f"event-time column {self._column!r} counts in {found.name}, not in {self._unit}"
            )
        if TIME_COLUMN in input_schema.names:
            return input_schema
        return input_schema.insert(len(visible_positions(input_schema)), time_field())

    def process_batch(
        self, batch: pa.RecordBatch, input_index: int = 0
    ) -> tuple[pa.RecordBatch, ...]:
        """Return the batch with its event time.

        Raises
        ------
        ConnectorError
            The time of a row is null.
        """
        times = event_time_values(batch.column(self._column), self._column)
        if times.size:
            if self._first is None:
                self._first = int(times.min())
            self._greatest = max(self._greatest, int(times.max()))
        return (_set_time(batch, pa.array(times)),)

    def output_watermark(self, watermark: int) -> int:
        """Return the watermark of the rows emitted so far; ``watermark`` is upstream's."""
        if watermark == MAX_TIME:
            return MAX_TIME
        return min(max(self._greatest - self._delay, MIN_TIME), MAX_TIME - 1)  # MAX_TIME: the end

    def tables(self) -> Sequence[StateTable]:
        """Return the table of the greatest time seen; merged instances take the least of theirs."""

        def load(values: Values) -> None:
            if values:
                self._greatest = int(values["greatest"][0])

        return (Scalars([Field("greatest", least)], lambda: {"greatest": self._greatest}, load),)

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return (
            f"event time from {self._column!r}, in {self._unit}; watermark {self._delay} "
            f"{self._unit} behind"
        )


@dataclass(frozen=True, eq=False)
class EventTimeSpec(OperatorSpec):
    """Sets event time from a column, in the middle of a stream.

    Attributes
    ----------
    time : EventTime
        With a column.
    delay : int
        Delay of the watermark, in ticks.
    """

    time: EventTime
    delay: int = 0
    kind = "event_time"

    @property
    def traits(self) -> Traits:
        clock = EventClock(self.time.unit.name, self.delay)
        return Traits(clock=clock, sets_time=True, stays=True)

    def key(self) -> Key:
        return [self.time.column, self.time.unit.name, self.delay]

    def describe(self) -> str:
        unit = self.time.unit.name
        behind = f", watermark delay {duration_text(self.delay, unit)}" if self.delay else ""
        return f"event time {self.time.column!r}{behind}"

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        return self._operator().output_schema(inputs[0])

    def output_time(self, times: Sequence[EventTime | None], inputs: Schemas) -> EventTime | None:
        return self.time

    def passed(self, inputs: Schemas) -> Columns:
        return frozenset(inputs[0].names)

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        return inputs[0]

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        return [(needed | {self._column}).intersection(inputs[0].names)]

    def open(self, context: OperatorContext) -> AssignEventTime:
        return self._operator()

    @property
    def _column(self) -> str:
        assert self.time.column is not None
        return self.time.column

    def _operator(self) -> AssignEventTime:
        return AssignEventTime(self._column, self.time.unit.name, self.delay)


def _set_time(batch: pa.RecordBatch, times: pa.Array) -> pa.RecordBatch:
    position = batch.schema.get_field_index(TIME_COLUMN)
    if position >= 0:
        return batch.set_column(position, time_field(), times)
    # Directly after the user's columns.
    return batch.add_column(len(visible_positions(batch.schema)), time_field(), times)
