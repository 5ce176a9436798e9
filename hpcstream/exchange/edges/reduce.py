"""An edge that reduces windows without a key over all ranks with `Iallreduce`.

The producers are windowed aggregates that see the same global watermark, so all of them
close the same windows in each round. A rank sends one row for each window in which it had
rows. For each round, in order::

    all-gather   [rows, watermark, flags] of every rank
    all-gather   the window numbers                      (only if any rank has rows)
    all-reduce   the accumulators, one call per operation (absent windows: identities)

Rank ``w % size`` emits the reduced row of window *w*. There is no central rank, and
integers, minima and maxima do not depend on the order of reduction.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from hpcstream.columns.event_time import MIN_TIME, least_mark
from hpcstream.columns.reduction import ColumnReduction
from hpcstream.exchange.communicator import Communicator, Procedure, wait_for
from hpcstream.exchange.edges.base import Edge, RoundEnd, RoundInput
from hpcstream.exchange.renewal import RenewedCommunicator
from hpcstream.metric import BYTES, Counter

_ROWS, _WATERMARK, _FLAGS = range(3)
_IDLE, _BUSY, _ABORT = 1, 2, 4


class ReduceEdge(Edge):
    """One rank's end of the edge; every rank both produces and consumes.

    Parameters
    ----------
    name : str
    comm : Communicator
        Private to this edge.
    schema : pyarrow.Schema
        The window number (int64), then accumulators of int64 or float64, not null.
    reductions : mapping of str to ColumnReduction
        For each accumulator column.
    capacity : int
        Rounds in flight.
    """

    bytes_sent = Counter("sent", unit=BYTES)

    def __init__(
        self,
        name: str,
        comm: Communicator,
        schema: pa.Schema,
        reductions: Mapping[str, ColumnReduction],
        capacity: int,
    ) -> None:
        super().__init__(name)
        self._calls = RenewedCommunicator(comm)
        self._rank, self._size = comm.rank, comm.size
        self._schema = schema
        self._names = schema.names[1:]
        self._reductions = [reductions[column] for column in self._names]
        self._dtypes = [schema.field(column).type.to_pandas_dtype() for column in self._names]
        self._capacity = capacity
        self._open: list[pa.RecordBatch] = []
        self._queue: deque[tuple[list[pa.RecordBatch], RoundEnd]] = deque()
        self._done: deque[RoundInput] = deque()
        self._running: Procedure[RoundInput] | None = None
        self._completed = 0
        self._reached = MIN_TIME
        self._taken = 0
        self._ending = False

    def may_start(self, round_number: int) -> bool:
        """Return whether round ``round_number`` may be opened."""
        return round_number - self._taken < self._capacity

    def send(self, batch: pa.RecordBatch) -> Iterator[None]:
        """Add rows of the open round."""
        self._open.append(batch)
        return iter(())

    def close(self, round_number: int, end: RoundEnd) -> Iterator[None]:
        """Close the round; it is reduced after all previous rounds."""
        self._queue.append(([] if end.abort else self._open, end))
        self._open = []
        return iter(())

    def finish(self, end_round: int) -> None:
        """End the stream: no round follows."""
        self._ending = True

    def reached_by(self, round_number: int) -> int | None:
        """Return the greatest common mark of all ranks so far; None before the round."""
        return self._reached if self._completed > round_number else None

    def has_round(self, round_number: int) -> bool:
        """Return whether the next round is reduced."""
        return bool(self._done)

    def take(self, round_number: int) -> RoundInput:
        """Return the next round: the reduced windows that this rank emits."""
        self._taken += 1
        return self._done.popleft()

    @property
    def finished(self) -> bool:
        """Whether every round is reduced; all ranks have the same rounds."""
        return self._ending and not self._queue and self._running is None

    def progress(self) -> bool:
        """Progress the reduction of the oldest round."""
        if self._running is None:
            if not self._queue:
                return False
            self._running = self._reduce(*self._queue.popleft())
        try:
            next(self._running)
        except StopIteration as stop:
            self._done.append(stop.value)
            self._running = None
            self._completed += 1
            return True
        return False

    def free(self) -> None:
        """Free the communicator. Collective."""
        self._calls.free()

    def _reduce(self, batches: list[pa.RecordBatch], end: RoundEnd) -> Procedure[RoundInput]:
        table = pa.Table.from_batches(batches, schema=self._schema)
        heads = yield from self._gather_heads(table.num_rows, end)
        part = self._round_input(heads)
        if not heads[:, _ROWS].any():
            return part
        numbers = table.column(0).to_numpy()
        windows = yield from self._gather_windows(numbers, heads[:, _ROWS])
        indices = np.searchsorted(windows, numbers)
        columns = yield from self._reduce_columns(table, indices, len(windows))
        own = windows % self._size == self._rank
        arrays = [pa.array(column[own]) for column in (windows, *columns)]
        if own.any():
            part.batches.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        return part

    def _next(self) -> Procedure[Communicator]:
        """Return the communicator of the next call; yield until it is ready."""
        while not self._calls.is_ready:
            yield
        return self._calls.next()

    def _gather(self, own: np.ndarray, everything: np.ndarray) -> Procedure[None]:
        comm = yield from self._next()
        out = everything.reshape(-1).view(np.uint8)
        yield from wait_for(comm.all_gather(own.view(np.uint8), out))

    def _gather_heads(self, n_rows: int, end: RoundEnd) -> Procedure[np.ndarray]:
        flags = (_IDLE if end.idle else 0) | (_BUSY if end.busy else 0)
        flags |= _ABORT if end.abort else 0
        own = np.array([n_rows, end.watermark, flags], dtype=np.int64)
        heads = np.empty((self._size, 3), dtype=np.int64)
        yield from self._gather(own, heads)
        self.bytes_sent += own.nbytes
        return heads

    def _round_input(self, heads: np.ndarray) -> RoundInput:
        flags = heads[:, _FLAGS]
        mark = least_mark([None if flag & _IDLE else mark for _, mark, flag in heads.tolist()])
        if mark is not None:
            self._reached = max(self._reached, mark)
        busy = bool((flags & _BUSY).any())
        if busy:
            self.busy_round = self._completed
        self.abort_seen = self.abort_seen or bool((flags & _ABORT).any())
        return RoundInput([], mark, busy)

    def _gather_windows(self, numbers: np.ndarray, counts: np.ndarray) -> Procedure[np.ndarray]:
        longest = int(counts.max())
        own = np.zeros(longest, dtype=np.int64)
        own[: len(numbers)] = numbers
        everything = np.empty((self._size, longest), dtype=np.int64)
        yield from self._gather(own, everything)
        self.bytes_sent += own.nbytes
        return np.unique(
            np.concatenate([row[:n] for row, n in zip(everything, counts, strict=True)])
        )

    def _reduce_columns(
        self, table: pa.Table, indices: np.ndarray, n_windows: int
    ) -> Procedure[Sequence[np.ndarray]]:
        results: list[np.ndarray] = [np.empty(0)] * len(self._names)
        groups: dict[tuple[str, str], list[int]] = {}
        for index, reduction in enumerate(self._reductions):
            groups.setdefault((reduction.op, np.dtype(self._dtypes[index]).char), []).append(index)
        for (op, _), members in groups.items():
            dtype = self._dtypes[members[0]]
            own = np.empty((len(members), n_windows), dtype=dtype)
            for row, index in enumerate(members):
                own[row] = self._reductions[index].identity
                own[row, indices] = table.column(index + 1).to_numpy()
            reduced = np.empty_like(own)
            comm = yield from self._next()
            yield from wait_for(comm.all_reduce(own.reshape(-1), reduced.reshape(-1), op))
            self.bytes_sent += own.nbytes
            for row, index in enumerate(members):
                results[index] = reduced[row]
        return results
