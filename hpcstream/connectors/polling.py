"""Runs the blocking client, or the event loop, of a live reader in a thread of its own.

::

    the thread   produce(put)         decodes messages to batches, and puts them into a queue
    the rank     poller.read(rows)    takes what is there; never waits

The queue is bounded by bytes: a client that is faster than the job waits in ``put``, and so
slows down its server. A descriptor that can be read while there are rows wakes the rank.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import pyarrow as pa

from hpcstream.connectors.base import JSON, Chunk, SplitReader
from hpcstream.connectors.scan import empty_batch
from hpcstream.errors import ConnectorError

QUEUE_BYTES = 16 << 20
CLOSE_TIMEOUT_S = 5.0


class Closed(ConnectorError):
    """The reader was closed: `Poller.put` raises it in its thread, which it ends."""


class Poller(SplitReader):
    """A reader whose rows are produced in a thread of its own.

    Parameters
    ----------
    schema : pa.Schema
        Of the batches.
    produce : callable
        ``produce(poller)``, run in the thread, calls ``poller.put(batch, position)`` for what
        it receives, and returns at the end of the split. It may be an ``async def``, which
        calls ``await poller.put_async(batch, position)``: then the thread runs an event loop.
        It must end soon after ``poller.is_closed`` is true; `put` raises `Closed` then.
    queue_bytes : int
        Bytes of batches that may wait. One batch is always taken, however large it is.
    close_timeout_s : float
        How long `close` waits for the thread.

    Notes
    -----
    An exception of ``produce`` is raised by `read`, with its own traceback, once the rows
    before it were read.
    """

    def __init__(
        self,
        schema: pa.Schema,
        produce: Callable[[Poller], object],
        *,
        queue_bytes: int = QUEUE_BYTES,
        close_timeout_s: float = CLOSE_TIMEOUT_S,
    ) -> None:
        self._nothing = Chunk(empty_batch(schema), 0)
        self._schema = schema
        self._produce = produce
        self._queue_bytes = queue_bytes
        self._close_timeout_s = close_timeout_s
        self._queue: deque[tuple[pa.RecordBatch, JSON]] = deque()
        self._bytes = 0
        self._has_ended = self._is_closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._wake, self._ring = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._ring, False)
        self._is_rung = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[Any] | None = None
        self._room: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="hpcstream-poller", daemon=True)
        self._thread.start()

    # -- in the thread -----------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether the reader is closed, so that ``produce`` should return."""
        return self._is_closed

    def put(self, batch: pa.RecordBatch, position: JSON) -> None:
        """Add rows and the position after them to the queue; wait while it is full.

        A position belongs to the end of its batch, so a batch is read as a whole: a few
        thousand rows are a good size.

        Raises
        ------
        Closed
            The job reads no further.
        ConnectorError
            The batch has another schema.
        """
        self._check(batch)
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._has_room(batch))
            self._append(batch, position)

    async def put_async(self, batch: pa.RecordBatch, position: JSON) -> None:
        """Do as `put` does, from an event loop, which goes on meanwhile."""
        self._check(batch)
        assert self._room is not None, "produce is an async function"
        while True:
            with self._changed:
                if self._is_closed or self._has_room(batch):
                    self._append(batch, position)
                    return
                self._room.clear()
            await self._room.wait()

    def _check(self, batch: pa.RecordBatch) -> None:
        if not batch.schema.equals(self._schema):
            raise ConnectorError(
                f"a poller of columns {self._schema.names} was given a batch with another schema:\n"
                f"{batch.schema}"
            )

    def _has_room(self, batch: pa.RecordBatch) -> bool:
        return not self._queue or self._bytes + batch.nbytes <= self._queue_bytes

    def _append(self, batch: pa.RecordBatch, position: JSON) -> None:
        if self._is_closed:
            raise Closed("the reader was closed")
        if batch.num_rows or position is not None:
            self._queue.append((batch, position))
            self._bytes += batch.nbytes
            self._ring_once()

    def _ring_once(self) -> None:
        if not self._is_rung:
            self._is_rung = True
            os.write(self._ring, b"!")

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            produced = self._produce(self)
            if inspect.iscoroutine(produced):
                asyncio.run(self._run_loop(produced))
        except (Closed, asyncio.CancelledError) as stopped:
            error = None if self._is_closed else stopped
        except BaseException as failure:
            error = failure
        with self._changed:
            self._error, self._has_ended = error, True
            if not self._is_closed:
                self._ring_once()

    async def _run_loop(self, produced: Coroutine[Any, Any, object]) -> None:
        self._room = asyncio.Event()
        with self._changed:
            self._main, self._loop = asyncio.current_task(), asyncio.get_running_loop()
        try:
            if self._is_closed:
                produced.close()
            else:
                await produced
        finally:
            with self._changed:
                self._loop = None

    # -- on the rank -------------------------------------------------------------------

    def read(self, max_rows: int) -> Chunk | None:
        """Return queued rows, oldest first; at least one whole batch."""
        with self._changed:
            if self._queue:
                batches, position = self._taken(max_rows)
            elif not self._has_ended:
                return self._nothing
            elif self._error is not None:
                raise self._error
            else:
                return None
        batch = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
        return Chunk(batch, batch.num_rows, position)

    def _taken(self, max_rows: int) -> tuple[list[pa.RecordBatch], JSON]:
        batches: list[pa.RecordBatch] = []
        rows = 0
        while self._queue and (not batches or rows + self._queue[0][0].num_rows <= max_rows):
            batch, position = self._queue.popleft()
            batches.append(batch)
            rows += batch.num_rows
            self._bytes -= batch.nbytes
        if not self._queue and not self._has_ended:
            self._is_rung = False
            os.read(self._wake, 1)
        self._changed.notify_all()
        if self._loop is not None and self._room is not None:
            self._loop.call_soon_threadsafe(self._room.set)
        return batches, position

    def wake_descriptor(self) -> int | None:
        """Return a descriptor that is readable while there are rows."""
        return None if self._is_closed else self._wake

    def close(self) -> None:
        """Stop the thread: `put` raises `Closed`, a coroutine is cancelled; wait for it a while."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            self._queue.clear()
            self._changed.notify_all()
            if self._loop is not None and self._main is not None:
                self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(self._close_timeout_s)
        os.close(self._wake)
        os.close(self._ring)
