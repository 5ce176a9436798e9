"""Stateless operators, which process each batch independently.

All pass the hidden columns unchanged, after the user's columns. Each computes its output
schema once for an input schema, before it reads any row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from hpcstream.columns.event_time import HIDDEN_COLUMNS
from hpcstream.columns.hidden import (
    hidden_fields,
    hidden_positions,
    refuse_repeated_names,
    refuse_reserved_names,
)
from hpcstream.columns.selection import filter_rows
from hpcstream.errors import PlanError
from hpcstream.expressions.expression import Expression
from hpcstream.operators.base import Operator
from hpcstream.operators.spec import (
    Columns,
    OperatorContext,
    OperatorSpec,
    Requirement,
    Schemas,
    Spread,
    Traits,
)
from hpcstream.operators.stream_time import EventTime
from hpcstream.stable_keys import Key

NamedExpressions = tuple[tuple[str, Expression], ...]


class Filter(Operator):
    """The rows for which a condition is true; null counts as false.

    Parameters
    ----------
    condition : Expression
    kept : sequence of str or None
        The columns to emit, in the input's order; None: all. Columns that only the condition
        reads need not be copied.
    """

    def __init__(self, condition: Expression, kept: Sequence[str] | None = None) -> None:
        self.condition = condition
        self._kept = None if kept is None else {*kept, *HIDDEN_COLUMNS}
        self._selection: tuple[pa.Schema, list[str] | None] = (pa.schema([]), None)

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the schema of the kept columns.

        Raises
        ------
        PlanError
            The condition is not boolean, or does not fit the schema.
        """
        data_type = self.condition.data_type(input_schema)
        if not (pa.types.is_boolean(data_type) or pa.types.is_null(data_type)):
            raise PlanError(
                f"filter({self.condition!r}) needs a condition, true or false for each row; "
                f"got {data_type}"
            )
        if self._kept is None:
            return input_schema
        return pa.schema([field for field in input_schema if field.name in self._kept])

    def process_batch(
        self, batch: pa.RecordBatch, input_index: int = 0
    ) -> tuple[pa.RecordBatch, ...]:
        """Return the rows that pass; the input batch itself if all do."""
        mask = self.condition.evaluate(batch)
        if pa.types.is_null(mask.type):
            return ()
        n_kept = mask.true_count
        if n_kept == 0:
            return ()
        batch = self._selected(batch)
        return (batch if n_kept == batch.num_rows else filter_rows(batch, mask),)

    def _selected(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the kept columns of all rows."""
        if self._kept is None:
            return batch
        if not self._selection[0].equals(batch.schema):
            kept = [name for name in batch.schema.names if name in self._kept]
            self._selection = (batch.schema, None if len(kept) == batch.num_columns else kept)
        names = self._selection[1]
        return batch if names is None else batch.select(names)

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return f"filter({self.condition!r})"


@dataclass(frozen=True, eq=False)
class FilterSpec(OperatorSpec):
    """Keeps the rows for which ``predicate`` is true, and their columns ``kept``.

    Attributes
    ----------
    kept : frozenset of str or None
        None: all.
    """

    predicate: Expression
    kept: Columns | None = None
    kind = "filter"
    emits_only_needed = True

    def key(self) -> Key:
        return self.predicate.key()

    def describe(self) -> str:
        return f"filter {self.predicate!r}"

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        return self._operator().output_schema(inputs[0])

    def passed(self, inputs: Schemas) -> Columns:
        return frozenset(inputs[0].names)

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        return inputs[0]

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        return [needed | self.predicate.columns()]

    def pruned(self, needed: Columns, inputs: Schemas) -> FilterSpec:
        kept = needed.intersection(inputs[0].names)
        return self if len(kept) == len(inputs[0]) else replace(self, kept=kept)

    def below_filter(
        self, predicate: Expression, inputs: Schemas
    ) -> Sequence[Expression | None] | None:
        """Push it down if it cannot raise: this filter may exclude rows for which it does."""
        return [predicate] if predicate.is_total(inputs[0]) else None

    def open(self, context: OperatorContext) -> Filter:
        return self._operator()

    def _operator(self) -> Filter:
        return Filter(self.predicate, None if self.kept is None else sorted(self.kept))


@dataclass(frozen=True, slots=True)
class _Projection:
    """The columns of a `Project` for one input schema."""

    input_schema: pa.Schema
    output_schema: pa.Schema
    columns: tuple[Expression | int, ...]


class Project(Operator):
    """Computed columns, in the given order, instead of the input's."""

    def __init__(self, columns: NamedExpressions) -> None:
        self.columns = columns
        self._projection: _Projection | None = None

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the schema of the computed columns.

        Raises
        ------
        PlanError
            An expression does not fit the schema, or two columns have one name.
        """
        return self._projection_of(input_schema).output_schema

    def process_batch(
        self, batch: pa.RecordBatch, input_index: int = 0
    ) -> tuple[pa.RecordBatch, ...]:
        """Return the computed columns of a batch."""
        projection = self._projection_of(batch.schema)
        arrays = [
            batch.column(column) if isinstance(column, int) else column.evaluate(batch)
            for column in projection.columns
        ]
        return (pa.RecordBatch.from_arrays(arrays, schema=projection.output_schema),)

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return f"select({_describe_columns(self.columns)})"

    def _projection_of(self, schema: pa.Schema) -> _Projection:
        if self._projection is None or not self._projection.input_schema.equals(schema):
            self._projection = _project(self.columns, schema, self.describe())
        return self._projection


@dataclass(frozen=True, eq=False)
class ProjectSpec(OperatorSpec):
    """Computes columns from expressions: select, with_columns, drop and rename.

    Attributes
    ----------
    label : str
        Text of `describe`; empty: derived from the columns.
    """

    columns: NamedExpressions
    label: str = ""
    kind = "select"
    emits_only_needed = True

    def key(self) -> Key:
        return [[name, expression.key()] for name, expression in self.columns]

    def describe(self) -> str:
        shown = [repr(e) if repr(e) == f"col({n!r})" else f"{n}={e!r}" for n, e in self.columns]
        return self.label or f"select {', '.join(shown)}"

    @property
    def only_drops(self) -> bool:
        """Whether all columns are input columns with the same name."""
        return all(_is_plain(name, expression) for name, expression in self.columns)

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        return Project(self.columns).output_schema(inputs[0])

    def planned_schema(self, context: OperatorContext) -> pa.Schema:
        return pa.schema([*context.output, *hidden_fields(context.inputs[0])])

    def output_time(self, times: Sequence[EventTime | None], inputs: Schemas) -> EventTime | None:
        return None if times[0] is None else times[0].behind(self.columns)

    def passed(self, inputs: Schemas) -> Columns:
        return frozenset(name for name, e in self.columns if _is_plain(name, e))

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        same = {name: next(iter(e.columns())) for name, e in self.columns if e.is_column}
        return {name: inputs[0][old] for name, old in same.items() if old in inputs[0]}

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        return [frozenset().union(*(e.columns() for name, e in self.columns if name in needed))]

    def pruned(self, needed: Columns, inputs: Schemas) -> ProjectSpec:
        columns = tuple((name, e) for name, e in self.columns if name in needed)
        return self if len(columns) == len(self.columns) else replace(self, columns=columns)

    def below_filter(
        self, predicate: Expression, inputs: Schemas
    ) -> Sequence[Expression | None] | None:
        """Push it down if it reads only columns that are input columns."""
        made = dict(self.columns)
        if not all(made[name].is_column for name in predicate.columns()):
            return None
        return [predicate.substitute(made)]

    def open(self, context: OperatorContext) -> Project:
        return Project(self.columns)


def _is_plain(name: str, expression: Expression) -> bool:
    return expression.is_column and expression.columns() == {name}


@dataclass(frozen=True, eq=False)
class RebalanceSpec(OperatorSpec):
    """Distributes rows evenly over the ranks."""

    kind = "rebalance"
    traits = Traits(is_identity=True)

    def key(self) -> Key:
        return None

    def describe(self) -> str:
        return "rebalance"

    def inputs(self) -> tuple[Requirement, ...]:
        return (Spread(),)

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        return inputs[0]

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        return inputs[0]

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        return [needed]

    def below_filter(
        self, predicate: Expression, inputs: Schemas
    ) -> Sequence[Expression | None] | None:
        return [predicate]

    def open(self, context: OperatorContext) -> Operator:
        raise NotImplementedError("the exchange distributes the rows, not an operator")


def _project(columns: NamedExpressions, schema: pa.Schema, where: str) -> _Projection:
    names = [name for name, _ in columns]
    refuse_reserved_names(names, where, HIDDEN_COLUMNS)  # the planner uses other reserved names
    refuse_repeated_names(names, where)
    fields = [_output_field(name, expression, schema) for name, expression in columns]
    return _Projection(
        schema,
        _refuse_no_columns(pa.schema(fields + hidden_fields(schema)), where),
        (*(expression for _, expression in columns), *hidden_positions(schema)),
    )


def _output_field(name: str, expression: Expression, schema: pa.Schema) -> pa.Field:
    data_type = expression.data_type(schema)
    if expression.is_column:
        (column,) = expression.columns()
        return schema.field(column).with_name(name)
    return pa.field(name, data_type)


def _refuse_no_columns(schema: pa.Schema, where: str) -> pa.Schema:
    # Without a column Arrow cannot know the number of rows.
    if not schema.names:
        raise PlanError(f"{where} leaves no column; keep one")
    return schema


def _describe_columns(columns: NamedExpressions) -> str:
    return ", ".join(
        name
        if expression.is_column and expression.columns() == {name}
        else f"{name}={expression!r}"
        for name, expression in columns
    )
