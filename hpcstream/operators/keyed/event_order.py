"""Rows put into event order: they wait until the watermark has passed them.

::

    push(batch)    rows of the round, as they came
    release(w)     rows before w, by (time, order, place), ties as they came; the rest is held

A round's rows stay where they are until its watermark. What it passes goes out of them directly,
and as it is where it is in order; only the rest, the disorder, is copied. It is held in runs that
are in order, so that the next watermark cuts their beginnings off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values
from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, TIME_COLUMN
from hpcstream.columns.kept_batches import (
    concat_batches,
    decode_dictionaries,
    decoded_schema,
    from_ipc,
    take_rows,
    to_ipc,
)
from hpcstream.columns.ownership import Ownership, owned_rows
from hpcstream.columns.row_order import RowTimes, event_order
from hpcstream.operators.base import PAUSE, Turn
from hpcstream.state.arrays import Arrays
from hpcstream.state.scalars import Common
from hpcstream.state.table import Part, StateTable

SLAB_ROWS = 1 << 16
"""About so many rows are put into order, and leave, at a time."""

_SAMPLE = 512
Ints = npt.NDArray[np.int64]
NO_ROWS: Ints = np.zeros(0, dtype=np.int64)


class _Run(NamedTuple):
    """Rows in order. ``n_held``: rows of the memory they lie in, of which some have left."""

    batch: pa.RecordBatch
    when: RowTimes
    n_held: int

    @classmethod
    def of(cls, batch: pa.RecordBatch, *, copied: bool = False) -> _Run:
        """Return the rows of a batch in order; ``copied``: in memory of their own."""
        rows = event_order(RowTimes.of(batch))
        if rows is None and copied:
            rows = np.arange(batch.num_rows, dtype=np.uint32)
        if rows is not None:
            batch = take_rows(batch, rows)
        return cls(batch, RowTimes.of(batch), batch.num_rows)

    def cut(self, start: int, stop: int) -> _Run:
        """Return some of the rows, where they lie."""
        batch = self.batch.slice(start, stop - start)
        return _Run(batch, RowTimes.of(batch), self.n_held)

    def precedes(self, other: _Run) -> bool:
        """Whether no row of another run stands before one of this."""
        return self._key(-1) <= other._key(0)

    def _key(self, row: int) -> tuple[int, int, int]:
        times, orders, places = self.when
        return int(times[row]), int(orders[row]), int(places[row]) if len(places) else 0


class EventOrder:
    """The rows of one input in event order.

    Parameters
    ----------
    schema : pa.Schema
        Of the rows, with event time, and with their order if ties are to be broken by it.
    keys : sequence of str
        Columns by which the rows are dealt to other ranks; none: one rank has them all.
    name : str
        Unique in the operator; names its table.

    Attributes
    ----------
    schema : pa.Schema
        Of the rows that leave: dictionaries are decoded.
    watermark : int
        Rows before it have left; those that come are late.
    """

    def __init__(self, schema: pa.Schema, keys: Sequence[str] = (), name: str = "held") -> None:
        self.schema = decoded_schema(schema)
        self.watermark = MIN_TIME
        self._pending: list[pa.RecordBatch] = []
        self._held: list[_Run] = []
        self.table = HeldRows(self, tuple(keys), name)

    @property
    def n_rows(self) -> int:
        """How many rows wait."""
        runs = (run.batch for run in self._held)
        return sum(batch.num_rows for batch in (*runs, *self._pending))

    @property
    def n_bytes(self) -> int:
        """Bytes of the rows that are held from round to round."""
        return sum(run.batch.get_total_buffer_size() for run in self._held)

    def push(self, batch: pa.RecordBatch) -> Ints:
        """Take in the rows of a round; return the numbers of those that are late, and left out."""
        times = fixed_values(batch.column(TIME_COLUMN))
        late = NO_ROWS
        if len(times) and self.watermark != MIN_TIME and int(times.min()) < self.watermark:
            is_late = times < self.watermark
            late = np.flatnonzero(is_late)
            batch = take_rows(batch, np.flatnonzero(~is_late).astype(np.uint32))
        if batch.num_rows:
            self._pending.append(decode_dictionaries(batch, self.schema))
        return late

    def release(self, watermark: int) -> Iterator[pa.RecordBatch | Turn]:
        """Return the rows before a watermark, in order, with pauses; hold the others.

        To be called in every round that had rows, before it ends: until then their memory
        is that of the exchange.
        """
        self.watermark = max(watermark, self.watermark)
        return _in_order(self._due(), self.schema)

    def rows(self) -> pa.RecordBatch:
        """Return all rows that wait, in order."""
        batches = [*(run.batch for run in self._held), *self._pending]
        return _Run.of(concat_batches(batches, self.schema)).batch

    def hold(self, batch: pa.RecordBatch) -> None:
        """Hold rows that are in memory of their own."""
        if batch.num_rows:
            self._held.append(_Run.of(batch))

    def _due(self) -> list[_Run]:
        """Take out the rows before the watermark; hold the others."""
        due, held = [], []
        for run in self._held:
            n_due = self._n_due(run)
            if n_due:
                due.append(run.cut(0, n_due))
            if n_due < run.batch.num_rows:
                held.append(_packed(run.cut(n_due, run.batch.num_rows)) if n_due else run)
        rest = []
        for batch in self._pending:
            is_due = self._is_due(fixed_values(batch.column(TIME_COLUMN)))
            if is_due.all():
                due.append(_Run.of(batch))
                continue
            rest.append(batch)
            if is_due.any():
                due.append(_Run.of(take_rows(batch, np.flatnonzero(is_due).astype(np.uint32))))
                rest[-1] = take_rows(batch, np.flatnonzero(~is_due).astype(np.uint32))
        self._held, self._pending = held, []
        if rest:
            self._held.append(_Run.of(concat_batches(rest, self.schema), copied=True))
            self._merge_small()
        return due

    def _n_due(self, run: _Run) -> int:
        times = run.when.times
        return (
            len(times)
            if self.watermark == MAX_TIME
            else int(np.searchsorted(times, self.watermark))
        )

    def _is_due(self, times: Ints) -> npt.NDArray[np.bool_]:
        if self.watermark == MAX_TIME:
            return np.ones(len(times), dtype=np.bool_)
        is_due: npt.NDArray[np.bool_] = times < self.watermark
        return is_due

    def _merge_small(self) -> None:
        """Merge the last runs so that each is twice as long as the next: they are few, then."""
        while len(self._held) > 1:
            before, last = (run.batch for run in self._held[-2:])
            if before.num_rows > 2 * last.num_rows:
                break
            self._held[-2:] = [_Run.of(concat_batches([before, last], self.schema), copied=True)]


def _packed(run: _Run) -> _Run:
    """Return the rows in memory of their own, if most of that in which they lie is of no use."""
    return _Run.of(run.batch, copied=True) if 2 * run.batch.num_rows < run.n_held else run


def _in_order(runs: list[_Run], schema: pa.Schema) -> Iterator[pa.RecordBatch | Turn]:
    """Yield the rows of runs in order; of those that tie, the ones of an earlier run first."""
    n_rows = 0
    for number, slab in enumerate(_slabs(runs)):
        if number:
            yield PAUSE
        if _are_in_order(slab):
            batches = [run.batch for run in slab]
        else:
            batches = [_Run.of(concat_batches([run.batch for run in slab], schema)).batch]
        for batch in batches:
            if n_rows >= SLAB_ROWS:
                n_rows = 0
                yield PAUSE
            yield batch
            n_rows += batch.num_rows


def _are_in_order(runs: Sequence[_Run]) -> bool:
    return all(run.precedes(after) for run, after in pairwise(runs))


def _slabs(runs: list[_Run]) -> Iterator[list[_Run]]:
    """Yield the runs in parts of about `SLAB_ROWS` rows, each of later times than the last."""
    n_rows = sum(run.batch.num_rows for run in runs)
    if n_rows <= SLAB_ROWS or _are_in_order(runs):
        yield runs
        return
    samples = np.sort(np.concatenate([run.when.times[::_SAMPLE] for run in runs]))
    step = max(len(samples) * SLAB_ROWS // n_rows, 1)
    cuts = np.unique(samples[step::step])
    bounds = [
        [0, *np.searchsorted(run.when.times, cuts).tolist(), run.batch.num_rows] for run in runs
    ]
    for slab in range(len(cuts) + 1):
        ends = [(own[slab], own[slab + 1]) for own in bounds]
        yield [run.cut(*end) for run, end in zip(runs, ends, strict=True) if end[0] < end[1]]


class HeldRows(StateTable):
    """The rows of an `EventOrder` as the bytes of an Arrow stream, and its watermark.

    They have come lately and leave soon, so they are written whole each time.
    """

    def __init__(self, rows: EventOrder, keys: Sequence[str], name: str) -> None:
        self.name = name
        self._rows = rows
        self._keys = keys

    @property
    def n_bytes(self) -> int:
        """Bytes of rows."""
        return self._rows.n_bytes

    def head(self) -> dict[str, npt.NDArray[np.uint8] | Ints]:
        """Return the rows and the watermark."""
        watermark = np.array([self._rows.watermark], dtype=np.int64)
        return {
            f"{self.name}:rows": to_ipc(self._rows.rows()),
            f"{self.name}:watermark": watermark,
        }

    def restore(self, arrays: Arrays) -> None:
        """Take over rows and watermark of one instance."""
        self._rows.watermark = int(arrays[f"{self.name}:watermark"][0])
        self._rows.hold(from_ipc(arrays[f"{self.name}:rows"]))

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Take over the rows that an instance owns; the watermark is the same in all parts."""
        watermarks = [part.arrays[f"{self.name}:watermark"] for part in parts]
        self._rows.watermark = int(Common("an ordered operator")(watermarks, owned)[0])
        for part in parts:
            batch = from_ipc(part.arrays[f"{self.name}:rows"])
            if self._keys:
                batch = take_rows(batch, owned_rows(batch, self._keys, owned).astype(np.uint32))
            elif owned.instance:
                continue
            self._rows.hold(batch)
