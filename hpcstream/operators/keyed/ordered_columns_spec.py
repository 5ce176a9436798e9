"""The definition of columns computed from earlier rows of the key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from hpcstream.columns.event_time import duration_text
from hpcstream.columns.hidden import hidden_fields
from hpcstream.columns.kept_batches import decoded_schema
from hpcstream.expressions.expression import Expression
from hpcstream.expressions.ordering import OrderedCall, result_type, take_out
from hpcstream.operators.base import Operator
from hpcstream.operators.keyed.spec import KeyedSpec
from hpcstream.operators.spec import Columns, OperatorContext, Schemas
from hpcstream.operators.stateless import NamedExpressions, Project, ProjectSpec
from hpcstream.operators.stream_time import EventTime
from hpcstream.stable_keys import Key


@dataclass(frozen=True, eq=False)
class OrderedColumnsSpec(KeyedSpec):
    """Columns computed from the rows of a key so far, in place of those of the input.

    Attributes
    ----------
    columns : NamedExpressions
        What leaves, with ordered calls in it.
    ttl : int or None
        A key is forgotten that long after its last row, in ticks; None: never.
    """

    columns: NamedExpressions = ()
    ttl: int | None = None
    kind = "ordered_columns"
    emits_only_needed = True

    def key(self) -> Key:
        columns: list[Key] = [[name, expression.key()] for name, expression in self.columns]
        ttl: Key = None if self.ttl is None else [self.ttl, self.unit]
        return {"keys": self.keys, "columns": columns, "ttl": ttl, "order": self.order}

    def describe(self) -> str:
        shown = [f"{n}={e!r}" for n, e in self.columns if repr(e) != f"col({n!r})"]
        return f"with columns by {', '.join(self.keys)}: {', '.join(shown)}"

    def describe_keyed_state(self) -> str:
        if self.ttl is None:
            return "a few words a key, for ever"
        return f"a few words a key, until {duration_text(self.ttl, self.unit)} after its last row"

    def kernels(self, *, reproducible: bool) -> frozenset[str]:
        return super().kernels(reproducible=reproducible) | {"ordered_columns", "row_arenas"}

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        _, finals, schema = self._plan(inputs[0])
        return Project(finals).output_schema(schema)

    def planned_schema(self, context: OperatorContext) -> pa.Schema:
        return pa.schema([*context.output, *hidden_fields(context.inputs[0])])

    def output_time(self, times: Sequence[EventTime | None], inputs: Schemas) -> EventTime | None:
        return self._projection.output_time(times, inputs)

    def passed(self, inputs: Schemas) -> Columns:
        return self._projection.passed(inputs)

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        return self._projection.time_units(inputs)

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        if sides:
            return [frozenset(inputs[0].names)]
        (read,) = self._projection.required(needed, inputs, sides)
        return [read | frozenset(self.keys)]

    def pruned(self, needed: Columns, inputs: Schemas) -> OrderedColumnsSpec:
        columns = self._projection.pruned(needed, inputs).columns
        return self if len(columns) == len(self.columns) else replace(self, columns=columns)

    def open(self, context: OperatorContext) -> Operator:
        from hpcstream.memory.pool import process_pool
        from hpcstream.operators.keyed.ordered_columns import OrderedColumns

        calls, finals, _ = self._plan(context.inputs[0])
        pool = process_pool()
        return OrderedColumns(self, context, pool, calls=calls, finals=finals, ttl=self.ttl)

    @property
    def _projection(self) -> ProjectSpec:
        return ProjectSpec(self.columns)

    def _plan(
        self, schema: pa.Schema
    ) -> tuple[list[tuple[OrderedCall, pa.DataType]], NamedExpressions, pa.Schema]:
        """Return the ordered calls, what is computed of them, and of which columns."""
        calls, nodes = take_out([expression.node for _, expression in self.columns])
        names = (name for name, _ in self.columns)
        finals = tuple((n, Expression(node)) for n, node in zip(names, nodes, strict=True))
        schema, typed = decoded_schema(schema), []
        for call in calls:
            given = Expression(call.argument).data_type(schema)
            given = given.value_type if pa.types.is_dictionary(given) else given
            typed.append((call, given))
            schema = schema.append(pa.field(call.name, result_type(call.function, given)))
        return typed, finals, schema
