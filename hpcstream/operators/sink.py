"""The end of a chain: hands rows, without the engine's columns, to a `Sink`."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from hpcstream.connectors.base import Sink
from hpcstream.operators.base import Emitted
from hpcstream.operators.without_state import emit_nothing, empty_snapshot, restore_nothing


class SinkOperator:
    """One rank's instance of a sink.

    Parameters
    ----------
    sink : Sink
        This rank's own; `open` must be called before the first batch.
    schema : pyarrow.Schema
        The user's columns.
    number : int
        Number of the sink in the job.
    """

    def __init__(self, sink: Sink, schema: pa.Schema, number: int) -> None:
        self.sink = sink
        self.number = number
        self.rows_out = 0
        self._schema = schema

    def open(self, rank: int, size: int, attempt: int) -> None:
        """Get the sink ready; ``rank`` of ``size`` instances."""
        self.sink.begin(self._schema, rank, size, attempt)

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Write the user's columns."""
        if batch.num_columns != len(self._schema):
            batch = batch.select(self._schema.names)
        self.rows_out += batch.num_rows
        self.sink.write(batch)
        return ()

    process_watermark = emit_nothing
    snapshot = empty_snapshot
    restore = restore_nothing
