"""The end of a chain: hands rows, without the engine's columns, to a `Sink`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hpcstream.connectors.base import Part, Sink
from hpcstream.operators.base import Emitted, Operator
from hpcstream.state.snapshots import Share, Snapshot

_SINK = "sink/"  # names of the sink's own arrays begin with it


class SinkOperator(Operator):
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

    def open(
        self, rank: int, size: int, attempt: int, stored: Mapping[str, Any] | None = None
    ) -> None:
        """Get the sink ready; ``rank`` of ``size`` instances.

        Parameters
        ----------
        stored : mapping, optional
            ``parts`` and ``positions`` of the checkpoint that the job goes on from.
        """
        resume = getattr(self.sink, "resume", None)
        if stored is None:
            self.sink.begin(self._schema, rank, size, attempt)
        elif resume is not None:
            resume(self._schema, rank, size, attempt, stored)
        else:
            self.sink.begin(self._schema, rank, size, attempt)
            self.sink.commit(stored["parts"])

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Write the user's columns."""
        if batch.num_columns != len(self._schema):
            batch = batch.select(self._schema.names)
        self.rows_out += batch.num_rows
        self.sink.write(batch)
        return ()

    def cut(self) -> Callable[[], Sequence[Part]]:
        """Set aside what was written; the function makes it durable, perhaps in another thread."""
        cut = getattr(self.sink, "cut", None)
        if cut is not None:
            made_durable: Callable[[], Sequence[Part]] = cut()
            return made_durable
        parts = list(self.sink.prepare())
        return lambda: parts

    @property
    def commits_in_background(self) -> bool:
        """Whether `Sink.commit` may be called in another thread."""
        return hasattr(self.sink, "cut")

    def position(self) -> Any:
        """Return what the sink needs to go on from here; JSON."""
        position = getattr(self.sink, "position", None)
        return None if position is None else position()

    def snapshot(self) -> Snapshot:
        """Return the rows counted, and what the sink keeps in memory."""
        own = {"rows_out": np.array([self.rows_out], dtype=np.int64)}
        keep = getattr(self.sink, "snapshot", None)
        return own if keep is None else own | {f"{_SINK}{n}": a for n, a in keep().items()}

    def restore(self, snapshot: Snapshot) -> None:
        """Take over a snapshot."""
        self.restore_share([snapshot], Share(0, 1))

    def restore_share(self, snapshots: Sequence[Snapshot], share: Share) -> None:
        """Take over everything in the first instance: rows stay in the order of ranks."""
        if share.place != 0:
            return
        self.rows_out = sum(int(one["rows_out"][0]) for one in snapshots)
        restore = getattr(self.sink, "restore", None)
        if restore is not None:
            restore([_of_sink(one) for one in snapshots])


def _of_sink(snapshot: Snapshot) -> dict[str, np.ndarray]:
    return {n.removeprefix(_SINK): a for n, a in snapshot.items() if n.startswith(_SINK)}
