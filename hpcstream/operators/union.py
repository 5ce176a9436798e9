"""The union operator: merges several inputs into one stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values
from hpcstream.columns.event_time import ORDER_COLUMN, PLACE_COLUMN
from hpcstream.columns.row_order import of_later_sources, order_fields
from hpcstream.expressions.expression import Expression
from hpcstream.operators.base import Operator
from hpcstream.operators.spec import (
    Anywhere,
    Columns,
    OperatorContext,
    OperatorSpec,
    Requirement,
    Schemas,
)
from hpcstream.operators.stream_time import EventTime
from hpcstream.stable_keys import Key


class Union(Operator):
    """Emits the batches of every input as they arrive.

    Parameters
    ----------
    schema : pyarrow.Schema
        Schema of the output. Other hidden columns are dropped; order columns that an input
        lacks are 0 in its rows.
    offsets : sequence of int
        The number added to the source numbers in the row order of each input.
    """

    def __init__(self, schema: pa.Schema, offsets: Sequence[int] = ()) -> None:
        self._schema = schema
        self._offsets = tuple(offsets)

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the common schema of all inputs."""
        return self._schema

    def process_batch(
        self, batch: pa.RecordBatch, input_index: int = 0
    ) -> tuple[pa.RecordBatch, ...]:
        """Return the batch."""
        offset = self._offsets[input_index] if self._offsets else 0
        if batch.schema.names == self._schema.names and not offset:
            return (batch,)
        columns = [self._column(batch, name, offset) for name in self._schema.names]
        return (pa.RecordBatch.from_arrays(columns, schema=self._schema),)

    def _column(self, batch: pa.RecordBatch, name: str, offset: int) -> pa.Array:
        if name not in batch.schema.names:
            return pa.array(np.zeros(batch.num_rows, dtype=np.int64))
        column = batch.column(name)
        if name == ORDER_COLUMN and offset:
            return pa.array(of_later_sources(fixed_values(column), offset))
        return column


@dataclass(frozen=True, eq=False)
class UnionSpec(OperatorSpec):
    """All rows of all inputs, which have the same schema."""

    n_inputs: int
    kind = "union"
    emits_only_needed = True
    needs_equal_inputs = True

    def key(self) -> Key:
        return None

    def describe(self) -> str:
        return "union"

    def inputs(self) -> tuple[Requirement, ...]:
        return (Anywhere(),) * self.n_inputs

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        common = set.intersection(*(set(schema.names) for schema in inputs))
        return pa.schema([field for field in inputs[0] if field.name in common])

    def planned_schema(self, context: OperatorContext) -> pa.Schema:
        common = self.output_schema(context.inputs)
        fields = [field for field in common if field.name not in (ORDER_COLUMN, PLACE_COLUMN)]
        if context.reads_order:
            given = {name for schema in context.inputs for name in schema.names}
            fields += [field for field in order_fields(placed=True) if field.name in given]
        return pa.schema(fields)

    def output_time(self, times: Sequence[EventTime | None], inputs: Schemas) -> EventTime | None:
        time = times[0]
        for other in times[1:]:
            time = None if time is None else time.beside(other)
        return time

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        first = inputs[0]
        return {n: u for n, u in first.items() if all(units.get(n) == u for units in inputs)}

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        return [needed for _ in inputs]

    def below_filter(
        self, predicate: Expression, inputs: Schemas
    ) -> Sequence[Expression | None] | None:
        return [predicate for _ in inputs]

    def open(self, context: OperatorContext) -> Union:
        return Union(self.planned_schema(context), context.order_offsets)
