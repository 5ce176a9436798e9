"""The operator behind a union: where several inputs become one."""

from __future__ import annotations

import pyarrow as pa

from hpcstream.operators.without_state import emit_nothing, empty_snapshot, restore_nothing


class Union:
    """Hands on the batches of every input as they come, so that what follows has one input."""

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the input's schema: all inputs have the same."""
        return input_schema

    def process_batch(
        self, batch: pa.RecordBatch, input_index: int = 0
    ) -> tuple[pa.RecordBatch, ...]:
        """Return the batch."""
        return (batch,)

    process_watermark = emit_nothing
    snapshot = empty_snapshot
    restore = restore_nothing
