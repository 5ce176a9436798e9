"""The event time and the order of rows that a user's function returns.

Event time of a returned row:

1. The function returns the event-time column: it is read from there.
2. `FlatMap`, otherwise: the event time of the input row.
3. `MapBatches` if no column held the event time: that of the input row at the same index. The
   function must then return as many rows as it was given.
4. `MapBatches` if the function drops the event-time column: the output has no event time.

Rows of equal event time are ordered by their input rows, then as the function returned them.
`MapBatches` does not know which input row a returned row comes from, only that both are in
the same order. That determines the order as long as a batch holds consecutive rows of one
split. Where rows of several ranks have been mixed, rows of equal event time have no order
and are ordered by their values.
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
    """The event time of a function's input rows.

    Attributes
    ----------
    column : str or None
        The user's column that holds it.
    unit : str
        The unit of one tick.
    shift : int
        Event time is the column plus this number of ticks.
    """

    column: str | None
    unit: str
    shift: int = 0


@dataclass(frozen=True)
class FunctionRows:
    """The rows that a function returns for one input schema.

    Attributes
    ----------
    visible, output : pyarrow.Schema
        Without and with the hidden columns.
    time_column : str or None
        The column that event time is read from.
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
        """Return the description of a function's rows, which have the schema ``visible``.

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
        """Yield the batches to call the function with: rows of one split each if order matters."""
        if not self._has_order:
            yield batch
            return
        for start, stop in runs_of_splits(fixed_values(batch.column(ORDER_COLUMN))):
            yield batch.slice(start, stop - start)

    def of_batch(
        self, given: pa.RecordBatch, made: pa.RecordBatch, start: int, n_in_all: int | None
    ) -> pa.RecordBatch:
        """Return rows with their hidden columns; ``start`` is the number of the first one.

        The input row of each returned row is unknown, but both are in the same order. So any
        input rows will do, in order; if there are more rows than input rows, several share
        one and are numbered. They are spread evenly if ``n_in_all``, their total, is known.
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
        """Whether `of_rows` needs the input row of each returned row."""
        return self._has_order or self._has_parents_time

    def of_rows(
        self, given: pa.RecordBatch, made: pa.RecordBatch, parents: Parents | None
    ) -> pa.RecordBatch:
        """Return rows with the hidden columns of their input rows."""
        rows, numbers = (_NONE, _NONE) if parents is None else parents.pop()
        return self._finished(given, made, rows, numbers, CHILD_BITS)

    def refuse_other_number(self, n_rows: int, given: int) -> None:
        """Raise `ValueError` if rows take the event time of the input row at the same index."""
        if not self._has_parents_time:
            return
        raise ValueError(
            f"{self.where} returned {n_rows} rows for {given}, and no column holds "
            "the stream's event time (it was replaced, or not selected): then the function must "
            "return one row for each row, in order. Keep event time in a column of its own, as in "
            ".with_columns(time=col('t')) before 't' is replaced, and return it; or use flat_map, "
            "or set event time again after the function with .with_event_time(...)"
        )

    def _finished(
        self,
        given: pa.RecordBatch,
        made: pa.RecordBatch,
        parents: Ints,
        numbers: Ints,
        bits: int,
    ) -> pa.RecordBatch:
        """Return ``made`` with hidden columns: ``parents`` are their input rows in ``given``.

        ``numbers`` are the numbers of rows among those with the same input row.
        """
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
    """The input row of each row that a function has returned, in order."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self.append = self._parents.append
        self._last, self._n_last = -1, 0  # the last input row, and how many rows it has so far

    def pop(self) -> tuple[Ints, Ints]:
        """Return and remove the input rows, with the number of each row among those of its own."""
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
