"""The last operator of a chain: passes rows, without hidden columns, to a `Sink`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hpcstream.columns.ownership import Ownership
from hpcstream.connectors.base import Sink
from hpcstream.metric import MetricsOf
from hpcstream.operators.base import Emitted, Operator
from hpcstream.state.arrays import Arrays
from hpcstream.state.scalars import Field, Scalars, Values, total
from hpcstream.state.table import Part, StateTable

_SINK = "sink/"  # prefix of the names of the sink's own arrays


class SinkOperator(Operator):
    """One rank's instance of a sink.

    Parameters
    ----------
    sink : Sink
        The instance of this rank; `open` must be called before the first batch.
    schema : pyarrow.Schema
        The user's columns.
    number : int
        Number of the sink in the job.
    """

    measured = MetricsOf("sink")

    def __init__(self, sink: Sink, schema: pa.Schema, number: int) -> None:
        self.sink = sink
        self.number = number
        self.rows_out = 0
        self._schema = schema

    def open(
        self, rank: int, size: int, attempt: int, stored: Mapping[str, Any] | None = None
    ) -> None:
        """Begin or resume the sink, as instance ``rank`` of ``size``.

        Parameters
        ----------
        stored : mapping, optional
            ``parts`` and ``positions`` of the checkpoint that the job resumes from.
        """
        if stored is None:
            self.sink.begin(self._schema, rank, size, attempt)
        else:
            self.sink.resume(self._schema, rank, size, attempt, stored)

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Write the user's columns."""
        if batch.num_columns != len(self._schema):
            batch = batch.select(self._schema.names)
        self.rows_out += batch.num_rows
        self.sink.write(batch)
        return ()

    def tables(self) -> Sequence[StateTable]:
        """Return the tables of the row count, and of the sink's own state."""
        counts = Scalars([Field("rows_out", total)], self._counts, self._restore_counts)
        return counts, SinkTable(self.sink)

    def _counts(self) -> dict[str, int]:
        return {"rows_out": self.rows_out}

    def _restore_counts(self, values: Values) -> None:
        if values:
            self.rows_out = int(values["rows_out"][0])


class SinkTable(StateTable):
    """The state that a sink keeps in memory. After rescaling the first instance has all of it."""

    name = "sink"

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def head(self) -> dict[str, np.ndarray]:
        """Return the arrays of the sink."""
        return {f"{_SINK}{name}": array for name, array in self._sink.snapshot().items()}

    def restore(self, arrays: Arrays) -> None:
        """Restore the arrays of the sink."""
        self._restore([arrays])

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Restore all arrays in the first instance, in the order of ranks."""
        if owned.instance == 0:
            self._restore([part.arrays for part in parts])

    def _restore(self, snapshots: Sequence[Arrays]) -> None:
        self._sink.restore([_of_sink(snapshot) for snapshot in snapshots])


def _of_sink(arrays: Arrays) -> dict[str, np.ndarray]:
    return {n.removeprefix(_SINK): a for n, a in arrays.items() if n.startswith(_SINK)}
