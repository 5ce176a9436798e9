"""The interfaces of sources and sinks.

::

    rank 0:     source.list_splits() -> [Split, ...]          sent to all ranks, dealt to them
    each rank:  source.open(split, position) -> SplitReader
                reader.read(max_rows) -> Chunk ... None       position: where to go on after it

    rank 0:     source.discover() -> [Split, ...]             live: splits that exist now
    each rank:  source.committed({split id: position})        a checkpoint is complete

    each rank:  sink.begin(schema, rank, size, attempt)
                sink.write(batch) ...                         nothing is visible yet
                own = sink.prepare()                          durable, still invisible
                sink.commit(parts of all ranks)               now visible;  or sink.abort()

A split is an independent, replayable part of a source. Reading it again from a
position delivers the same rows: exactly-once needs nothing else of a source.

A source of your own needs at least ``schema``, ``list_splits`` and ``open``; a
sink needs at least ``write``. `as_source` and `as_sink` add the rest (see
`hpcstream.connectors.defaults` for the defaults), and ``job.source`` and ``stream.sink``
call them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.errors import ConnectorError

JSON = None | bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"]
"""A value that survives a round trip through JSON."""

OutputPart = Mapping[str, Any]
"""One finished, perhaps still invisible, part of a sink's output: a JSON object of its own."""


@dataclass(frozen=True)
class Split:
    """An independent part of a source; survives a round trip through JSON.

    Attributes
    ----------
    id : str
        Stable from run to run and unique in its source, as in ``"flights.parquet#rg3"``.
    info : Mapping[str, JSON]
        What the source needs to open the split, on any rank.
    n_rows : int, optional
        Rows in the split, before filters; None if not known.
    first_time, last_time : int, optional
        No row of the split is before the one or after the other (event time in the
        stream's unit); None if not known.

    Raises
    ------
    ConnectorError
        ``n_rows`` is not a number of rows.
    """

    id: str
    info: Mapping[str, JSON] = field(default_factory=dict)
    n_rows: int | None = None
    first_time: int | None = None
    last_time: int | None = None

    def __post_init__(self) -> None:
        rows = self.n_rows
        if rows is not None and not (isinstance(rows, int) and rows >= 0):
            raise ConnectorError(
                f"split {self.id!r}: n_rows must be an int, 0 or more, or None; got {rows!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """Return the split as a JSON object."""
        return {
            "id": self.id,
            "info": dict(self.info),
            "n_rows": self.n_rows,
            "first_time": self.first_time,
            "last_time": self.last_time,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Split:
        """Return the split that `to_json` wrote."""
        return cls(**value)


class Chunk(NamedTuple):
    """The result of one `SplitReader.read`.

    Attributes
    ----------
    batch : pa.RecordBatch
        Rows in the source's schema (no hidden columns), after the source's filter.
    scanned : int
        Rows read for it, before the filter: for counting, for the order of rows and for
        messages.
    position : JSON, optional
        Where to continue after this chunk: an argument of `Source.open`. Only the reader
        interprets it; it must not change it later. None: the number
        of rows scanned from the beginning of the split, as for files. A reader that gives
        positions gives one with every chunk that has rows.
    """

    batch: pa.RecordBatch
    scanned: int
    position: JSON = None


def row_position(position: JSON) -> int:
    """Return a position as a number of rows; None is the start.

    Raises
    ------
    ConnectorError
        It is something else.
    """
    if position is None:
        return 0
    if not isinstance(position, int) or isinstance(position, bool) or position < 0:
        raise ConnectorError(f"a position in this source is a number of rows; got {position!r}")
    return position


class SplitReader(ABC):
    """Reads one split from a position on. Owned by one thread.

    Notes
    -----
    The runtime polls a live reader without rows at most fifty times a second.
    `wake_descriptor` wakes the rank at once when rows arrive after a pause.
    """

    @abstractmethod
    def read(self, max_rows: int) -> Chunk | None:
        """Return the next rows; None when the split is exhausted.

        Scans at most ``max_rows`` rows. A bounded source scans exactly that many
        unless the split ends, so that rounds are a function of the input. A live
        source returns an empty chunk while it has no rows; it never waits.
        """

    def wake_descriptor(self) -> int | None:
        """Return a file descriptor that is readable when there are rows; None: there is none.

        A socket, a pipe, or an eventfd. Only the reader's `read` reads from it.
        """
        return None

    def close(self) -> None:  # noqa: B027
        """Release the resources of the reader. Batches that it returned stay valid."""


class Source(ABC):
    """A source of rows. An immutable description, without open files.

    Attributes
    ----------
    schema : pa.Schema
        Of the batches delivered, after `project`. No metadata, every field nullable.
    bounded : bool
        Whether it ends by itself and is read by rows scanned, never by the clock.
    per_rank : bool
        Whether each rank has splits of its own: the runtime calls `list_splits` on every
        rank and deals nothing.
    """

    schema: pa.Schema
    bounded: bool = True
    per_rank: bool = False

    @abstractmethod
    def list_splits(self) -> list[Split]:
        """Return the splits, in event-time order where it is known.

        Called on one rank; the list is sent to all.

        Raises
        ------
        ConnectorError
            A file is missing, a directory is empty, schemas differ, ...
        """

    @abstractmethod
    def open(self, split: Split, position: JSON = None) -> SplitReader:
        """Return a reader of ``split`` that goes on at a position.

        Parameters
        ----------
        position : JSON
            What a `Chunk` of the split gave; left out to begin at the beginning. If chunks
            give none: how many rows of the split were scanned.
        """

    def describe(self) -> str:
        """Return one line for ``explain()``: what is read, which columns, which filter."""
        return type(self).__name__

    def identity(self) -> str:
        """Return the identity in checkpoints: what is read, apart from columns and filters.

        Without this method the identity is the description: a checkpoint does not find the
        source again once its description has changed.
        """
        return self.describe()

    def files(self) -> list[str]:
        """Return the files that it reads. A job whose sinks would replace one is refused."""
        return []

    def discover(self) -> list[Split] | None:
        """Return all splits that exist now, of a live source that gets more while it runs.

        Asked on rank 0, in a thread beside the rounds, when the job starts and once in
        ``discover_every``. Splits that
        were not there before begin at their beginning. Splits that have ended, and are not in
        the list any more, are forgotten: their ids must not come again. None: there will be no
        further splits, so that the source ends with those it has. A source that leaves this
        out has the splits of `list_splits` only.
        """
        return None

    def committed(self, positions: Mapping[str, JSON]) -> None:  # noqa: B027
        """Receive the positions up to which this rank's splits never need to be read again.

        Called when a checkpoint is complete and durable, and again after a restore: rows up to
        here are never read again, so that they may be acknowledged, or removed. It must not
        wait: no round runs meanwhile.

        Parameters
        ----------
        positions : mapping of str to JSON
            By id of the split, what `open` would be given; no entry if nothing was read.
        """

    @property
    def discovers(self) -> bool:
        """Whether the runtime calls `discover`."""
        return type(self).discover is not Source.discover

    @property
    def hears_commits(self) -> bool:
        """Whether the runtime calls `committed`."""
        return type(self).committed is not Source.committed

    def project(self, columns: Sequence[str]) -> Source:
        """Return a source of these columns only, in this order.

        One that leaves this out has its columns dropped after reading.
        """
        raise NotImplementedError

    def filter(self, predicate: pc.Expression) -> Source | None:
        """Return a source of the rows that match; None if it cannot.

        A source that can does it exactly: rows for which the predicate is false or null
        are not delivered, but still count as scanned. The predicate may use any column
        that the source had when it was made, also one that `project` has dropped.
        """
        return None


class Sink(ABC):
    """A sink of rows: one instance on each rank that runs it; usable again after a run.

    A sink is a description until `begin`; before that it may be copied with
    `copy.copy` to give each rank an instance. Only `write` has to be written. With
    checkpoints, `prepare` (or `cut`) and `commit` are called for each of them.
    """

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return type(self).__name__

    def identity(self) -> str:
        """Return the identity in checkpoints: what is written to."""
        return self.describe()

    @property
    def target(self) -> str | None:
        """The target, which no other sink of the job may have; None: it is not exclusive."""
        return None

    def begin(self, schema: pa.Schema, rank: int, size: int, attempt: int) -> None:  # noqa: B027
        """Prepare to write.

        Parameters
        ----------
        schema : pa.Schema
            Of the batches to come, without hidden columns.
        rank, size : int
            This instance's number among those that run the sink, and how many there are.
        attempt : int
            Number of this run of the job, larger than that of any run before it that
            wrote to the same checkpoint directory; 0 without one.
        """

    @abstractmethod
    def write(self, batch: pa.RecordBatch) -> None:
        """Write rows. They must not become visible to readers of the output."""

    def prepare(self) -> list[OutputPart]:
        """Make what was written since the last `prepare` durable; return its parts.

        Still invisible. Rows written after it belong to the next `prepare`.
        """
        return []

    def commit(self, parts: Sequence[OutputPart]) -> None:  # noqa: B027
        """Make parts visible.

        Parameters
        ----------
        parts : sequence of OutputPart
            Those of *all* ranks, the concatenation of what `prepare` returned, the same
            list on each rank. Each rank does its share. Committing again what is
            already committed does nothing.
        """

    def abort(self) -> None:  # noqa: B027
        """Remove what is not committed. May be called at any time after `begin`, also twice."""

    # -- checkpoints -------------------------------------------------------------------

    @property
    def commits_in_background(self) -> bool:
        """Whether another thread may call `commit` and what `cut` returns.

        So it is with a sink that has a `cut` of its own.
        """
        return type(self).cut is not Sink.cut

    def cut(self) -> Callable[[], Sequence[OutputPart]]:
        """Close the current parts; the function returned makes them durable and returns them.

        For a sink without `cut`, the runtime calls `prepare` between two rounds.
        """
        parts = list(self.prepare())
        return lambda: parts

    def position(self) -> JSON:
        """Return what `resume` needs to know; called after `cut`."""
        return None

    def resume(
        self, schema: pa.Schema, rank: int, size: int, attempt: int, stored: Mapping[str, Any]
    ) -> None:
        """Resume from a checkpoint, instead of `begin`.

        Publish this rank's share, and remove what was written after the checkpoint.

        Parameters
        ----------
        stored : mapping
            ``"parts"``: those that it commits; ``"positions"``: those of all instances, by rank.
        """
        self.begin(schema, rank, size, attempt)
        self.commit(stored["parts"])

    def superseded(self, listed: Sequence[OutputPart]) -> None:  # noqa: B027
        """Remove what this instance wrote, but for the parts ``listed``, which a checkpoint has.

        A newer attempt has begun, so that nothing of this one will be committed any more.
        """

    def snapshot(self) -> Mapping[str, np.ndarray]:
        """Return the rows that the sink keeps in memory, as named arrays."""
        return {}

    def restore(self, snapshots: Sequence[Mapping[str, Any]]) -> None:  # noqa: B027
        """Restore the snapshots of all instances, in one of them."""
