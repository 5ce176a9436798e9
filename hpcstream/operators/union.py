"""The operator behind a union: where several inputs become one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values
from hpcstream.columns.event_time import ORDER_COLUMN
from hpcstream.columns.row_order import of_later_sources
from hpcstream.operators.base import Operator


class Union(Operator):
    """Hands on the batches of every input as they come, so that what follows has one input.

    Parameters
    ----------
    schema : pyarrow.Schema
        What leaves: a hidden column that it has not is dropped, an order that only some
        inputs have is 0 for the rows of the others.
    offsets : sequence of int
        By how much the numbers of sources grow in the order of rows of each input.
    """

    def __init__(self, schema: pa.Schema, offsets: Sequence[int] = ()) -> None:
        self._schema = schema
        self._offsets = tuple(offsets)

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the schema that all inputs have."""
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
