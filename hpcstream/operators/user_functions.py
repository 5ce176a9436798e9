"""Operators that call a user's Python function: on batches, or row by row.

The function never sees the hidden columns. `hpcstream.operators.function_rows` determines
the event time and the order of the rows that it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa

from hpcstream.columns.event_time import TIME_COLUMN
from hpcstream.columns.hidden import visible_positions, visible_schema
from hpcstream.connectors.scan import empty_batch
from hpcstream.errors import PlanError
from hpcstream.operators.base import Operator
from hpcstream.operators.function_rows import FunctionRows, FunctionTime, Parents
from hpcstream.operators.returned_batches import Promise, refuse_unknown_types
from hpcstream.operators.spec import OperatorContext, OperatorSpec, Schemas, Traits
from hpcstream.operators.stream_time import EventTime
from hpcstream.process.early_exit import as_error
from hpcstream.process.family import end_if_child
from hpcstream.stable_keys import Key, function_name

BatchFunction = Callable[[pa.RecordBatch], Any]
RowFunction = Callable[[dict[str, Any]], Any]

_ROWS_READ = 1_024
"""Rows converted to dicts at a time: a few hundred kilobytes of Python objects."""

_ROWS_EMITTED = 4_096
"""Rows that a `FlatMap` collects before it emits a batch."""


class MapBatches(Operator):
    """Calls a function for each batch.

    Parameters
    ----------
    function : RecordBatch -> RecordBatch, Table, None, or an iterable of these
        Gets the user's columns of a batch. Batches have any size, and may be divided
        differently in each run: a result must not depend on which rows share a batch.
    schema : pa.Schema or None
        Of what it returns. None: inferred by calling it with a batch of 0 rows.
    time : FunctionTime or None
        The stream's event time, if it has one.
    in_order : bool
        Batches hold the rows of each split in order, and one instance gets all of them.
    """

    def __init__(
        self,
        function: BatchFunction,
        schema: pa.Schema | None = None,
        time: FunctionTime | None = None,
        *,
        in_order: bool = False,
    ) -> None:
        self._function = function
        self._schema = schema
        self._time = time
        self._in_order = in_order
        self._result: FunctionRows | None = None

    def time_column(self, input_schema: pa.Schema) -> str | None:
        """Return the column of the result that event time is read from."""
        return self._result_for(input_schema).time_column

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the schema of the function's rows, with event time if they have it.

        Raises
        ------
        PlanError
            No schema was given and none can be inferred, or the function returns the
            event-time column in another unit.
        """
        return self._result_for(input_schema).output

    def process_batch(
        self, batch: pa.RecordBatch, input_index: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Yield the batches that the function returns for a batch.

        Raises
        ------
        ValueError
            No column holds event time, and the function returned another number of rows.
        """
        result = self._result_for(batch.schema)
        promise = Promise(self.describe(), result.visible, is_inferred=self._schema is None)
        for part in result.parts_of(batch):
            n_rows = 0
            returned = self._function(part.select(visible_positions(part.schema)))
            n_in_all = _n_rows(returned)
            for made in _batches(returned, self.describe()):
                if made.num_rows:
                    yield result.of_batch(part, promise.conform(made), n_rows, n_in_all)
                    n_rows += made.num_rows
            if n_rows != part.num_rows:
                result.refuse_other_number(n_rows, part.num_rows)

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return f"map_batches({function_name(self._function)})"

    def _call(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        return _batches(self._function(batch), self.describe())

    def _result_for(self, input_schema: pa.Schema) -> FunctionRows:
        if self._result is None or not self._result.input_schema.equals(input_schema):
            schema = self._schema
            if schema is None:
                schema = self._ask_function(visible_schema(input_schema))
            self._result = FunctionRows.of(
                input_schema, schema, self._time, self.describe(), in_order=self._in_order
            )
        return self._result

    def _ask_function(self, schema: pa.Schema) -> pa.Schema:
        advice = "; give map_batches(..., schema=pa.schema([...])) to say what it returns"
        try:
            returned = next(self._call(empty_batch(schema)), None)
        except SystemExit as error:
            raise as_error(error) from None
        except Exception as error:
            raise PlanError(
                f"{self.describe()} was called with a batch of 0 rows to find out its schema, and "
                f"raised {type(error).__name__}: {error}{_known_remedy(error)}{advice}"
            ) from error
        if returned is None:
            raise PlanError(
                f"{self.describe()} returned nothing for a batch of 0 rows; is a return "
                f"missing?{advice}"
            )
        refuse_unknown_types(returned.schema, schema, self.describe())
        found: pa.Schema = returned.schema
        return found


class FlatMap(Operator):
    """Calls a function for each row, which returns any number of rows.

    Python runs for every row, at about a million rows per second: use `MapBatches` if that
    is too slow.

    Parameters
    ----------
    function : dict -> iterable of dict, one dict, or None
        Gets a row as ``{column: value}``.
    schema : pa.Schema or None
        Of the rows it returns; None: that of the input. A missing column becomes null.
    time : FunctionTime or None
        The stream's event time, if it has one.
    """

    def __init__(
        self,
        function: RowFunction,
        schema: pa.Schema | None = None,
        time: FunctionTime | None = None,
    ) -> None:
        self._function = function
        self._schema = schema
        self._time = time
        self._result: FunctionRows | None = None

    def time_column(self, input_schema: pa.Schema) -> str | None:
        """Return the column of the result that event time is read from."""
        return self._result_for(input_schema).time_column

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the schema of the function's rows, with event time if they have it.

        Raises
        ------
        PlanError
            The event-time column has another unit in ``schema``.
        """
        return self._result_for(input_schema).output

    def process_batch(
        self, batch: pa.RecordBatch, input_index: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Yield the function's rows in batches of bounded size."""
        result = self._result_for(batch.schema)
        known = frozenset(result.visible.names)
        rows: list[dict[str, Any]] = []
        parents = Parents() if result.needs_parents else None
        for row in self._rows(batch.select(visible_positions(batch.schema)), parents):
            if not row.keys() <= known:
                raise ValueError(self._unknown_columns(row, result.visible))
            rows.append(row)
            if len(rows) == _ROWS_EMITTED:
                yield result.of_rows(
                    batch, pa.RecordBatch.from_pylist(rows, result.visible), parents
                )
                rows = []
        if rows:
            yield result.of_rows(batch, pa.RecordBatch.from_pylist(rows, result.visible), parents)

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return f"flat_map({function_name(self._function)})"

    def _rows(self, batch: pa.RecordBatch, parents: Parents | None) -> Iterator[dict[str, Any]]:
        for start in range(0, batch.num_rows, _ROWS_READ):
            for parent, row in enumerate(batch.slice(start, _ROWS_READ).to_pylist(), start):
                end_if_child()
                for returned in self._returned_rows(self._function(row)):
                    if parents is not None:
                        parents.append(parent)
                    yield returned

    def _returned_rows(self, returned: Any) -> Iterable[dict[str, Any]]:
        if returned is None:
            return ()
        if isinstance(returned, dict):
            return (returned,)
        if isinstance(returned, list | tuple | Iterator):
            return self._checked_rows(returned)
        raise TypeError(
            f"{self.describe()} must return an iterable of dicts, a dict or None; got "
            f"{type(returned).__name__}"
        )

    def _checked_rows(self, rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
        for row in rows:
            if not isinstance(row, dict):
                raise TypeError(f"{self.describe()} returned a {type(row).__name__} for a row")
            yield row

    def _unknown_columns(self, row: dict[str, Any], schema: pa.Schema) -> str:
        unknown = ", ".join(repr(name) for name in row if name not in schema.names)
        return (
            f"{self.describe()} returned a row with {unknown}, which is not in its schema "
            f"({', '.join(schema.names)}); give flat_map(..., schema=pa.schema([...]))"
        )

    def _result_for(self, input_schema: pa.Schema) -> FunctionRows:
        if self._result is None or not self._result.input_schema.equals(input_schema):
            schema = visible_schema(input_schema) if self._schema is None else self._schema
            where = self.describe()
            _refuse_what_rows_cannot_hold(schema, where)
            self._result = FunctionRows.of(input_schema, schema, self._time, where)
        return self._result


@dataclass(frozen=True, eq=False)
class FunctionSpec(OperatorSpec):
    """Calls a user's function for each batch or row.

    Attributes
    ----------
    operator : type
        `MapBatches` or `FlatMap`.
    function : callable
    schema : pyarrow.Schema or None
        Of what it returns, if the user gave it.
    """

    operator: type[MapBatches] | type[FlatMap]
    function: Callable[[Any], Any]
    schema: pa.Schema | None = None
    time: FunctionTime | None = None
    traits = Traits(runs_user_code=True)

    @property
    def kind(self) -> str:
        return "map_batches" if self.operator is MapBatches else "flat_map"

    def key(self) -> Key:
        return [function_name(self.function)]

    def describe(self) -> str:
        return f"{self.kind} {function_name(self.function)}"

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        return self._prototype.output_schema(inputs[0])

    def planned_schema(self, context: OperatorContext) -> pa.Schema:
        return self.open(context).output_schema(context.inputs[0])

    def output_time(self, times: Sequence[EventTime | None], inputs: Schemas) -> EventTime | None:
        if times[0] is None or TIME_COLUMN not in self.output_schema(inputs).names:
            return None
        return replace(times[0], column=self._prototype.time_column(inputs[0]))

    @cached_property
    def _prototype(self) -> MapBatches | FlatMap:
        """An operator for schemas, which do not depend on the plan: it calls the function once."""
        return self.operator(self.function, self.schema, self.time)

    def open(self, context: OperatorContext) -> MapBatches | FlatMap:
        if self.operator is FlatMap:
            return FlatMap(self.function, self.schema, self.time)
        time = self.time
        if time is not None and time.column is None and not context.reads_time:
            time = None
        return MapBatches(self.function, self.schema, time, in_order=context.in_order)


def _refuse_what_rows_cannot_hold(schema: pa.Schema, where: str) -> None:
    for field in schema:
        try:
            pa.array([], field.type)
        except pa.ArrowNotImplementedError:
            raise PlanError(
                f"{where}: Arrow makes no {field.type} (column {field.name!r}) of Python's values; "
                "give flat_map(..., schema=pa.schema([...])) with another type for it"
            ) from None


def _batches(returned: Any, where: str) -> Iterator[pa.RecordBatch]:
    """Yield the batches of whatever a function returned."""
    if isinstance(returned, pa.RecordBatch):
        yield returned
    elif isinstance(returned, pa.Table):
        # A table without rows may have no batches, but its schema is needed.
        yield from returned.to_batches() or [empty_batch(returned.schema)]
    elif isinstance(returned, list | tuple | Iterator):
        for item in returned:
            yield from _batches(item, where)
    elif returned is not None:
        raise TypeError(
            f"{where} must return a pyarrow RecordBatch or Table, an iterable of these, or None; "
            f"got {_describe_type(returned)}"
        )


def _n_rows(returned: Any) -> int | None:
    """Return the number of rows that a function returned; None if it is a generator."""
    if isinstance(returned, pa.RecordBatch | pa.Table):
        return int(returned.num_rows)
    if isinstance(returned, list | tuple):
        counts = [_n_rows(item) for item in returned]
        return None if None in counts else sum(count for count in counts if count is not None)
    return 0 if returned is None else None


def _describe_type(returned: Any) -> str:
    """Return the type of a value, and how to convert it to a batch if that is simple."""
    name, home = type(returned).__name__, type(returned).__module__.split(".")[0]
    if isinstance(returned, dict):
        return f"{name}; pa.record_batch(columns) makes a batch of a dict of columns"
    if home == "pandas":
        convert = "pa.Table.from_pandas(frame, preserve_index=False)"
        return f"pandas.{name}; {convert} makes a table of a data frame"
    if hasattr(returned, "to_arrow"):
        return f"{home}.{name}; its to_arrow() makes a table of it"
    return name


def _known_remedy(error: Exception) -> str:
    """Return the remedy for Arrow's error for text columns of a data frame with 0 rows."""
    if "ChunkedArray to pyarrow.lib.Array" not in str(error):
        return ""
    return (
        "; RecordBatch.from_pandas() takes no text of 0 rows, pa.Table.from_pandas() does, and a "
        "table may be returned"
    )
