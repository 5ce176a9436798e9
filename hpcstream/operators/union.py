"""The operator behind a union: where several inputs become one."""

from __future__ import annotations

import pyarrow as pa

from hpcstream.operators.without_state import emit_nothing, empty_snapshot, restore_nothing


class Union:
    """Hands on the batches of every input as they come, so that what follows has one input.

    Parameters
    ----------
    schema : pyarrow.Schema
        What all inputs have; a hidden column that only some have is dropped.
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
        if batch.num_columns > len(self._schema):
            batch = batch.select(self._schema.names)
        return (batch,)

    process_watermark = emit_nothing
    snapshot = empty_snapshot
    restore = restore_nothing
