"""A live source that pauses: rows come through a socket, whose descriptor wakes the job."""

from __future__ import annotations

import socket
import struct
import threading
import time

import pyarrow as pa
import pytest

from hpcstream.connectors.base import Chunk, Split
from hpcstream.exchange.doorbell import Doorbell

SCHEMA = pa.schema({"t": pa.int64(), "key": pa.int64()})
_ROW = struct.Struct("qq")
_NOTHING = Chunk(pa.RecordBatch.from_pylist([], schema=SCHEMA), 0)


class PausingSource:
    """Gives ``n_rows`` rows, each after a pause, and ends.

    Parameters
    ----------
    n_rows : int
    pause_s : float
    has_descriptor : bool
        Whether the job may wait for rows instead of asking for them.
    """

    schema = SCHEMA
    bounded = False

    def __init__(self, n_rows: int, pause_s: float, *, has_descriptor: bool) -> None:
        self.n_reads = 0
        self._n_rows = n_rows
        self._pause_s = pause_s
        self._has_descriptor = has_descriptor

    def list_splits(self) -> list[Split]:
        return [Split("pausing")]

    def open(self, split: Split, position: int = 0) -> PausingSource:
        self.position = position
        writing, self._reading = socket.socketpair()
        self._reading.setblocking(False)
        threading.Thread(target=self._feed, args=[writing], daemon=True).start()
        return self

    def _feed(self, writing: socket.socket) -> None:
        with writing:
            for row in range(self.position, self._n_rows):
                time.sleep(self._pause_s)
                writing.send(_ROW.pack(1000 * row, row % 3))

    def read(self, max_rows: int) -> Chunk | None:
        self.n_reads += 1
        try:
            data = self._reading.recv(_ROW.size)
        except BlockingIOError:
            return _NOTHING
        if not data:
            return None
        self.position += 1
        t, key = _ROW.unpack(data)
        return Chunk(pa.RecordBatch.from_pydict({"t": [t], "key": [key]}, schema=SCHEMA), 1)

    def wake_descriptor(self) -> int | None:
        return self._reading.fileno() if self._has_descriptor else None

    def close(self) -> None:
        self._reading.close()


def noted_sleeps(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list that gets, for every sleep of this process, whether something ended it."""
    ended: list[bool] = []
    wait = Doorbell.wait

    def noted(bell, seconds, descriptors=()):
        ended.append(wait(bell, seconds, descriptors))
        return ended[-1]

    monkeypatch.setattr(Doorbell, "wait", noted)
    return ended
