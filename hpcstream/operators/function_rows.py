"""The event time and the order of rows that a user's function returns.

Event time, of each row:

1. The stream has it in a column, and the function returns that column: it is read from there.
2. `FlatMap`, otherwise: that of the row which the function was called with.
3. `MapBatches`, where no column had it: that of the row at the same place. A function that
   returns another number of rows than it was given is refused.
4. `MapBatches` that was given the column and does not return it: there is none any more.

Order, among rows of equal event time: that of the rows they come from, then as they were
returned. `MapBatches` returns rows in the order of those they come from, but not which comes
from which; this tells their order as long as a batch holds neighbours of one split. Where
rows of several ranks have been mixed it tells none, and such rows go by their values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values
from hpcstream.columns.event_time import ORDER_COLUMN, TIME_COLUMN, TimeUnit
from hpcstream.columns.hidden import refuse_reserved_names, time_field
from hpcstream.columns.row_order import (
    BATCH_BITS,
    CHILD_BITS,
    nested_places,
    order_fields,
    places_of,
    runs_of_splits,
)
from hpcstream.columns.time_values import event_time_values
from hpcstream.columns.types.plain import plain_type
from hpcstream.errors import PlanError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FunctionTime:
    """The event time of the rows that a function is given.

    Attributes
    ----------
    column : str or None
        The user's column that holds it.
    unit : str
        What one tick is.
    shift : int
        Event time is the column plus so many ticks.
    """

    column: str | None
    unit: str
    shift: int = 0


@dataclass(frozen=True)
class FunctionRows:
    """What comes back from a function for one input schema.

    Attributes
    ----------
    visible, output : pyarrow.Schema
        The user's columns, and with the hidden ones.
    time_column : str or None
        Which of them event time is read from.
    """

    input_schema: pa.Schema
    visible: pa.Schema
    output: pa.Schema
    time_column: str | None
    shift: int
    where: str

    @classmethod
    def of(
        cls,
        input_schema: pa.Schema,
        visible: pa.Schema,
        time: FunctionTime | None,
        where: str,
        *,
        in_order: bool | None = None,
    ) -> FunctionRows:
        """Return what comes back from a function with rows of ``visible``.

        ``in_order``: see `MapBatches`; None for a function that is called row by row.

        Raises
        ------
        PlanError
            A name is reserved, or the event-time column comes back in another unit.
        """
        refuse_reserved_names(visible.names, where)
        visible = pa.schema([field.with_type(plain_type(field.type)) for field in visible])
        hidden, column, by_row = [], None, in_order is None
        if time is not None and TIME_COLUMN in input_schema.names:
            column = _returned_column(visible, time, where)
            if column is not None or by_row or time.column is None:
                hidden.append(time_field())
        if ORDER_COLUMN in input_schema.names and (by_row or in_order):
            hidden += order_fields(placed=True)
        output = pa.schema([*visible, *hidden])
        return cls(input_schema, visible, output, column, time.shift if time else 0, where)

    @property
    def _has_order(self) -> bool:
        return ORDER_COLUMN in self.output.names

    @property
    def _has_parents_time(self) -> bool:
        return self.time_column is None and TIME_COLUMN in self.output.names

    def parts_of(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield what to call a function of batches with: rows of one split, if order matters."""
        if not self._has_order:
            yield batch
            return
        for start, stop in runs_of_splits(fixed_values(batch.column(ORDER_COLUMN))):
            yield batch.slice(start, stop - start)

    def of_batch(
        self, given: pa.RecordBatch, made: pa.RecordBatch, start: int, n_in_all: int | None
    ) -> pa.RecordBatch:
        """Return rows with their hidden columns: from number ``start`` on of those of a batch.

        Which row comes from which is not known, but that they are in order: any rows of the
        batch, in order, will do to name them, and numbers where there are more of them than
        were given, spread evenly if it is known how many there are ``in_all``.
        """
        rows, given_rows = np.arange(start, start + made.num_rows), given.num_rows
        if self._has_parents_time and start + made.num_rows > given_rows:
            self.refuse_other_number(start + made.num_rows, given_rows)
        if n_in_all is not None and n_in_all > given_rows:
            parents = rows * given_rows // n_in_all
            numbers = rows + (-parents * n_in_all) // given_rows  # less the first of its parent
        else:
            parents = np.minimum(rows, given_rows - 1)
            numbers = rows - parents
        return self._finished(given, made, parents, numbers, BATCH_BITS)

    @property
    def needs_parents(self) -> bool:
        """Whether `of_rows` needs to know from which rows those returned come."""
        return self._has_order or self._has_parents_time

    def of_rows(
        self, given: pa.RecordBatch, made: pa.RecordBatch, parents: Parents | None
    ) -> pa.RecordBatch:
        """Return rows with their hidden columns, by the rows they come from."""
        at, numbers = (_NONE, _NONE) if parents is None else parents.taken()
        return self._finished(given, made, at, numbers, CHILD_BITS)

    def refuse_other_number(self, n_rows: int, given: int) -> None:
        """Raise `ValueError` if rows have the event time of the row at the same place."""
        if not self._has_parents_time:
            return
        raise ValueError(
            f"{self.where} returned {n_rows} rows for {given}, and no column holds "
            "the stream's event time (it was replaced, or not selected): then the rows returned "
            "must be those given, one for one. Let a column of its own hold it before, as in "
            ".with_columns(time=col('t')) before 't' is replaced, and return it; or use flat_map, "
            "or take event time anew behind the function with .with_event_time(...)"
        )

    def _finished(
        self,
        given: pa.RecordBatch,
        made: pa.RecordBatch,
        parents: Ints,
        numbers: Ints,
        bits: int,
    ) -> pa.RecordBatch:
        """Return ``made`` with hidden columns, by rows of ``given`` and numbers among theirs."""
        columns = list(made.columns)
        if self.time_column is not None:
            times = event_time_values(made.column(self.time_column), self.time_column)
            columns.append(pa.array(times + self.shift if self.shift else times))
        elif self._has_parents_time:
            columns.append(pa.array(fixed_values(given.column(TIME_COLUMN))[parents]))
        if self._has_order:
            orders = fixed_values(given.column(ORDER_COLUMN))[parents]
            places = nested_places(places_of(given)[parents], numbers, bits)
            columns += [pa.array(orders), pa.array(places)]
        return pa.RecordBatch.from_arrays(columns, schema=self.output)


class Parents:
    """From which row of a batch each row comes that a function returned, one after the other."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self.append = self._parents.append
        self._last, self._n_last = -1, 0  # the last row, and how many came from it before

    def taken(self) -> tuple[Ints, Ints]:
        """Return the rows appended since, and which of the rows of its own each one is."""
        parents = np.array(self._parents, dtype=np.int64)
        self._parents.clear()
        numbers = np.arange(len(parents)) - np.searchsorted(parents, parents)
        numbers[parents == self._last] += self._n_last
        self._last, self._n_last = int(parents[-1]), int(numbers[-1]) + 1
        return parents, numbers


_NONE: Ints = np.zeros(0, dtype=np.int64)


def _returned_column(visible: pa.Schema, time: FunctionTime, where: str) -> str | None:
    """Return the event-time column, if it is among those that a function returns."""
    name, unit = time.column, time.unit
    if name is None or name not in visible.names or not _is_time(visible.field(name).type):
        return None
    found = TimeUnit.of_type(visible.field(name).type, unit).name
    if found != unit:
        raise PlanError(
            f"{where} returns the event-time column {name!r} in {found}, but the stream "
            f"counts event time in {unit}; keep its type, or use another name and "
            "with_event_time()"
        )
    return name


def _is_time(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_timestamp(data_type) or types.is_date(data_type) or types.is_int64(data_type)
    )
