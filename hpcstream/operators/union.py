"""The operator behind a union: where several inputs become one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from hpcstream.event_time import ORDER_COLUMN, PLACE_COLUMN
from hpcstream.operators.without_state import emit_nothing, empty_snapshot, restore_nothing


class Union:
    """Hands on the batches of every input as they come, so that what follows has one input.

    Parameters
    ----------
    schema : pyarrow.Schema
        What leaves: a hidden column that it has not is dropped, an order that only some
        inputs have is 0 for the rows of the others.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the schema that all inputs have."""
        return self._schema

    def process_batch(
        self, batch: pa.RecordBatch, input_index: int = 0
    ) -> tuple[pa.RecordBatch, ...]:
        """Return the batch."""
        if batch.schema.names == self._schema.names:
            return (batch,)
        zeros = pa.array(np.zeros(batch.num_rows, dtype=np.int64))
        columns = [
            zeros
            if name in (ORDER_COLUMN, PLACE_COLUMN) and name not in batch.schema.names
            else batch.column(name)
            for name in self._schema.names
        ]
        return (pa.RecordBatch.from_arrays(columns, schema=self._schema),)

    process_watermark = emit_nothing
    snapshot = empty_snapshot
    restore = restore_nothing
