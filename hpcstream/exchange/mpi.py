"""`Communicator` over MPI. The only module that imports mpi4py.

Importing this module initializes MPI, once per process. Every communicator of the engine is
a private duplicate, so its messages never mix with those of the user's program.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

import mpi4py

from hpcstream.errors import PlanError
from hpcstream.exchange.communicator import NOTE_BYTES, Communicator, Request
from hpcstream.log import flush
from hpcstream.process import exit_notice
from hpcstream.process.exit_notice import World
from hpcstream.process.launcher_facts import check_before_start

_STARTS = mpi4py.rc.initialize and "mpi4py.MPI" not in sys.modules
if _STARTS:  # initialized below, after the check that launcher and library are the same MPI
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = mpi4py.rc.finalize is not False

from mpi4py import MPI  # noqa: E402

_THREAD_LEVELS = {
    "single": MPI.THREAD_SINGLE,
    "funneled": MPI.THREAD_FUNNELED,
    "serialized": MPI.THREAD_SERIALIZED,
    "multiple": MPI.THREAD_MULTIPLE,
}

if _STARTS and not MPI.Is_initialized():
    check_before_start(os.environ, MPI.Get_library_version())
    if mpi4py.rc.threads:
        MPI.Init_thread(_THREAD_LEVELS[mpi4py.rc.thread_level])
    else:
        MPI.Init()

_OPS = {"sum": MPI.SUM, "min": MPI.MIN, "max": MPI.MAX}
_TYPES = {"l": MPI.INT64_T, "q": MPI.INT64_T, "d": MPI.DOUBLE}
_WAKE_TAG = 7
_NOTE_TAG = 8
_FIRST_WAIT_S = 20e-6
_LONGEST_WAIT_S = 1e-3
_MOST_PENDING = 64
"""Most small messages in flight: a peer that reads none needs no more of them."""


class _Request:
    """An MPI request that keeps its buffers alive until it is complete."""

    __slots__ = ("_buffers", "_request")

    def __init__(self, request: MPI.Request, buffers: tuple[Any, ...]) -> None:
        self._request: MPI.Request | None = request
        self._buffers: tuple[Any, ...] | None = buffers

    def test(self) -> bool:
        if self._request is None:
            return True
        if not self._request.Test():
            return False
        self._request = self._buffers = None
        return True


class MPICommunicator:
    """`Communicator` over an MPI intracommunicator, which it owns.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
        Freed by `free`; pass a duplicate.
    neighbors : sequence of int, optional
        Ranks that `all_to_all_v` touches; ``comm`` then has that graph topology.
    like : MPICommunicator, optional
        Has the same rank and size, which ``comm`` does not know until its creation completes.
    """

    def __init__(
        self,
        comm: MPI.Intracomm,
        neighbors: Sequence[int] | np.ndarray | None = None,
        like: MPICommunicator | None = None,
    ) -> None:
        self._comm = comm
        self._neighbors = None if neighbors is None else np.array(neighbors, dtype=np.int64)
        self.rank: int = like.rank if like else comm.Get_rank()
        self.size: int = like.size if like else comm.Get_size()
        self._wakes: list[MPI.Request] = []
        self._notes: list[_Request] = []
        self._nothing = np.empty(0, dtype=np.uint8)
        self._incoming = np.empty(1, dtype=np.uint8)

    def all_to_all(self, send: np.ndarray, receive: np.ndarray) -> Request:
        request = self._comm.Ialltoall([send, MPI.BYTE], [receive, MPI.BYTE])
        return _Request(request, (send, receive))

    def all_to_all_v(
        self,
        send: np.ndarray,
        send_counts: np.ndarray,
        send_displacements: np.ndarray,
        receive: np.ndarray,
        receive_counts: np.ndarray,
        receive_displacements: np.ndarray,
    ) -> Request:
        outgoing = [send, self._spread(send_counts, send_displacements), MPI.BYTE]
        incoming = [receive, self._spread(receive_counts, receive_displacements), MPI.BYTE]
        if isinstance(self._comm, MPI.Distgraphcomm):
            request = self._comm.Ineighbor_alltoallv(outgoing, incoming)
        else:
            request = self._comm.Ialltoallv(outgoing, incoming)
        return _Request(request, (outgoing, incoming))

    def _spread(self, counts: np.ndarray, displacements: np.ndarray) -> tuple[Any, Any]:
        """Return counts and displacements for MPI: C ints, those of the neighbours if any."""
        if self._neighbors is not None:
            counts, displacements = counts[self._neighbors], displacements[self._neighbors]
        return counts.astype(np.intc), displacements.astype(np.intc)

    def all_reduce(self, send: np.ndarray, receive: np.ndarray, op: str) -> Request:
        kind = _TYPES[send.dtype.char]
        request = self._comm.Iallreduce([send, kind], [receive, kind], op=_OPS[op])
        return _Request(request, (send, receive))

    def all_gather(self, send: np.ndarray, receive: np.ndarray) -> Request:
        request = self._comm.Iallgather([send, MPI.BYTE], [receive, MPI.BYTE])
        return _Request(request, (send, receive))

    def duplicate(self) -> Communicator:
        return MPICommunicator(self._comm.Dup(), self._neighbors)

    def begin_duplicate(self) -> tuple[Request, Communicator]:
        comm, request = self._comm.Idup()
        return _Request(request, ()), MPICommunicator(comm, self._neighbors, like=self)

    def subset(self, ranks: Sequence[int]) -> Communicator | None:
        color = 0 if self.rank in ranks else MPI.UNDEFINED
        comm = self._comm.Split(color, self.rank)
        assert isinstance(comm, MPI.Intracomm)
        return None if comm == MPI.COMM_NULL else MPICommunicator(comm)

    def neighborhood(self, neighbors: Sequence[int]) -> Communicator:
        near = list(neighbors)
        graph = self._comm.Create_dist_graph_adjacent(near, near, reorder=False)
        return MPICommunicator(graph, near)

    def send_wake(self, rank: int) -> None:
        self._wakes = [request for request in self._wakes if not request.Test()]
        if len(self._wakes) < _MOST_PENDING:
            self._wakes.append(
                self._comm.Isend([self._nothing, 0, MPI.BYTE], dest=rank, tag=_WAKE_TAG)
            )

    def take_wake(self) -> bool:
        woken = False
        while self._comm.Iprobe(MPI.ANY_SOURCE, _WAKE_TAG):
            self._comm.Recv([self._incoming, 0, MPI.BYTE], MPI.ANY_SOURCE, _WAKE_TAG)
            woken = True
        return woken

    def send_note(self, rank: int, note: bytes) -> None:
        self._notes = [request for request in self._notes if not request.test()]
        if len(self._notes) < _MOST_PENDING:
            data = np.frombuffer(note, dtype=np.uint8)
            request = self._comm.Isend([data, MPI.BYTE], dest=rank, tag=_NOTE_TAG)
            self._notes.append(_Request(request, (data,)))

    def take_notes(self) -> list[tuple[int, bytes]]:
        notes = []
        status = MPI.Status()
        while self._comm.Iprobe(MPI.ANY_SOURCE, _NOTE_TAG, status):
            data = bytearray(NOTE_BYTES)
            self._comm.Recv([data, MPI.BYTE], status.source, _NOTE_TAG, status)
            notes.append((status.source, bytes(data[: status.Get_count(MPI.BYTE)])))
        return notes

    def free(self) -> None:
        self._comm.Free()

    def abort(self, code: int) -> None:
        flush()
        MPI.COMM_WORLD.Abort(code)
        os._exit(code)


def communicator(comm: Any = None) -> MPICommunicator:
    """Return a private duplicate of ``comm`` (default: the world). Collective.

    Raises
    ------
    PlanError
        ``comm`` is not an MPI intracommunicator, or not valid on this rank.
    """
    if comm is None:
        comm = MPI.COMM_WORLD
    if not isinstance(comm, MPI.Intracomm) or comm == MPI.COMM_NULL:
        raise PlanError(
            f"comm must be an mpi4py intracommunicator with this rank in it; got {comm!r}"
        )
    _World.open(comm)
    return MPICommunicator(_duplicate(comm))


def _duplicate(comm: MPI.Intracomm) -> MPI.Intracomm:
    """Duplicate a communicator; watch meanwhile for ranks that exit before they get here."""
    size = comm.Get_size()
    if size == 1:
        return comm.Dup()
    members = comm.Get_group().Translate_ranks(range(size), MPI.COMM_WORLD.Get_group())
    watch = exit_notice.ExitWatch(world(), set(members))
    duplicate, request = comm.Idup()
    wait_s = _FIRST_WAIT_S
    while not request.Test():
        watch.look()
        time.sleep(wait_s)
        wait_s = min(1.5 * wait_s, _LONGEST_WAIT_S)
    return duplicate


class _World:
    """`hpcstream.process.exit_notice.World` over ``COMM_WORLD``."""

    comm: MPI.Intracomm | None = None
    """For exit messages of all ranks; made when all of them run a job together."""

    def __init__(self) -> None:
        self.rank = MPI.COMM_WORLD.Get_rank()
        self.size = MPI.COMM_WORLD.Get_size()
        self._left: dict[int, int] = {}
        self._sent: list[MPI.Request] = []

    @classmethod
    def open(cls, comm: MPI.Intracomm) -> None:
        """Make the communicator unless the job has only some ranks. Collective."""
        everybody = MPI.Comm.Compare(comm, MPI.COMM_WORLD) in (MPI.IDENT, MPI.CONGRUENT)
        if cls.comm is None and everybody and comm.Get_size() > 1:
            cls.comm = _duplicate(comm)

    def notify_exit(self, status: int) -> None:
        if self.comm is None:
            return
        self._said = np.array([status], dtype=np.int64)
        for rank in exit_notice.listeners(self.size):
            if rank != self.rank:
                self._sent.append(self.comm.Isend([self._said, MPI.INT64_T], dest=rank))

    def exited_ranks(self) -> dict[int, int] | None:
        if self.comm is None:
            return None
        status = MPI.Status()
        while self.comm.Iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
            said = np.empty(1, dtype=np.int64)
            self.comm.Recv([said, MPI.INT64_T], status.source)
            self._left[status.source] = int(said[0])
        return self._left

    def abort(self, code: int) -> None:
        MPI.COMM_WORLD.Abort(code)


@functools.cache
def world() -> World:
    """Return the world of this process, for exit messages."""
    return _World()


def mpi_facts() -> dict[str, Any]:
    """Return facts about the MPI of this process: library, version, world size, threads."""
    return {
        "library": MPI.Get_library_version().strip("\0\n "),
        "standard": ".".join(map(str, MPI.Get_version())),
        "mpi4py": mpi4py.__version__,
        "world_size": MPI.COMM_WORLD.Get_size(),
        "world_rank": MPI.COMM_WORLD.Get_rank(),
        "processor": MPI.Get_processor_name(),
        "thread_level": MPI.Query_thread(),
    }
