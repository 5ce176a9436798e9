"""How a rank reads a source: its columns, and the hidden columns that rows get."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hpcstream.columns.event_time import MIN_TIME, ORDER_COLUMN, TIME_COLUMN
from hpcstream.columns.row_order import orders_of_rows
from hpcstream.columns.time_values import event_time_values
from hpcstream.columns.types.plain import plain_column
from hpcstream.connectors.base import Source, Split
from hpcstream.errors import ConnectorError
from hpcstream.operators.stream_time import EventTime


@dataclass(frozen=True)
class SourceSpec:
    """How a rank reads a source.

    Attributes
    ----------
    source : Source
    names : tuple of str
        The user's columns that are passed on.
    time : EventTime or None
    watermark_delay : int
        In ticks.
    idle_timeout_s : float or None
    has_order : bool
        Whether rows get `ORDER_COLUMN`.
    ordinal : int
        Number of the source in the job, for their order.
    """

    source: Source
    names: tuple[str, ...]
    time: EventTime | None
    watermark_delay: int
    idle_timeout_s: float | None
    has_order: bool
    ordinal: int = 0

    @property
    def schema(self) -> pa.Schema:
        """Columns passed on, hidden ones last."""
        fields = [self.source.schema.field(name) for name in self.names]
        if self.time is not None:
            fields.append(pa.field(TIME_COLUMN, pa.int64()))
        if self.has_order:
            fields.append(pa.field(ORDER_COLUMN, pa.int64()))
        return pa.schema(fields)


class RowStamper:
    """Adds the hidden columns to a source's batches."""

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._schema = spec.schema
        self._as_is = tuple(spec.source.schema.names) == spec.names
        types = enumerate(field.type for field in self._schema)
        self._encoded = [i for i, t in types if pa.types.is_dictionary(t)]

    def stamp(self, batch: pa.RecordBatch, split: Split, number: int, start: int) -> pa.RecordBatch:
        """Return the batch with event time, and its row order if the plan needs it."""
        spec = self._spec
        columns = batch.columns if self._as_is else [batch.column(name) for name in spec.names]
        for i in self._encoded:
            columns[i] = plain_column(columns[i], self._schema.field(i).type)
        if spec.time is not None:
            columns = [*columns, self._times(batch, split, start)]
        if spec.has_order:
            order = self._orders(split, number, start, batch.num_rows)
            columns = [*columns, pa.array(order)]
        if not columns:
            return batch.select([])
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _orders(self, split: Split, number: int, start: int, n_rows: int) -> np.ndarray:
        try:
            return orders_of_rows(self._spec.ordinal, number, start, n_rows)
        except ConnectorError as error:
            raise ConnectorError(f"{split.id}: {error}") from None

    def _times(self, batch: pa.RecordBatch, split: Split, start: int) -> pa.Array:
        time = self._spec.time
        assert time is not None
        assert time.column is not None, "a source takes event time from a column"
        column = batch.column(time.column)
        if column.null_count:
            row = start + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            raise ConnectorError(
                f"{split.id}: event time {time.column!r} is null in row {row} of the split (rows "
                "counted after filters that were pushed into the scan); read without event_time=, "
                f"filter such rows out with .filter(col({time.column!r}).is_not_null()), and take "
                f"event time after that with .with_event_time({time.column!r}); straight after "
                "read_parquet, read_ipc, read_csv or read_json the filter alone is enough"
            )
        if column.type == pa.int64():
            return column
        values = event_time_values(column, time.column)
        return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


class SeenTimes:
    """The least event time in the first batch of a source on this rank, and the greatest of all.

    They show whether the unit is plausible, and cost one minimum over the first batch.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.greatest = MIN_TIME

    def see(self, times: np.ndarray) -> int:
        """Note the times of a batch that has rows; return the greatest of them."""
        greatest = int(times.max())
        if self.first is None:
            self.first = int(times.min())
        self.greatest = max(self.greatest, greatest)
        return greatest


def times_of(batch: pa.RecordBatch) -> np.ndarray:
    """Return the event times of a stamped batch, as a view."""
    column = batch.column(TIME_COLUMN)
    values = np.frombuffer(column.buffers()[1], dtype=np.int64, count=len(column) + column.offset)
    return values[column.offset :]
