"""Rounds of an edge against raw ``Ialltoallv`` of as many bytes, on the ranks of one job.

Started by `benchmarks.micro.command`, never by hand. Both are measured one at a time (the latency
of a round: from its first row to when all of it is here) and with three in flight (bandwidth).
A round of the edge hashes, partitions and packs its rows, exchanges headers and payload,
and gives record batches; the raw call only moves bytes that lie ready. Who waits spins, and
gives the core up after a while, as the engine does: another process may be on the other core.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mpi4py import MPI

from benchmarks.measure.trial import Trial
from benchmarks.measure.trial_process import MARK
from hpcstream.exchange.communicator import complete
from hpcstream.exchange.edges.base import RoundEnd
from hpcstream.exchange.edges.calls import EdgeGroup, EdgeMemory
from hpcstream.exchange.edges.collective import CollectiveEdge, EdgeLimits
from hpcstream.exchange.mpi import communicator
from hpcstream.exchange.partitioning import HashPartitioning
from hpcstream.exchange.shared_messages import find_nearby
from hpcstream.memory.pool import process_pool

IN_FLIGHT = 3
_SCHEMA = pa.schema({"ts": pa.int64(), "key": pa.int64(), "value": pa.float64()})
_WORLD = MPI.COMM_WORLD
_SPINS = 0 if _WORLD.size > (os.cpu_count() or 1) else 100
Loop = Callable[[int], None]


@dataclass(frozen=True)
class Size:
    """How many rows a rank sends in a round, and the bytes they are."""

    rows: int

    @property
    def n_bytes(self) -> int:
        """Of the columns, without headers and padding."""
        return self.rows * 24

    def batch(self) -> pa.RecordBatch:
        """Return the rows; their keys spread evenly."""
        numbers = np.arange(self.rows, dtype=np.int64)
        return pa.record_batch([numbers, numbers * 7919, numbers * 0.5], schema=_SCHEMA)


class EdgeLoop:
    """Rounds of one edge over all ranks."""

    def __init__(self, size: Size) -> None:
        everyone = tuple(range(_WORLD.size))
        self._batch, self._number, self._quiet = size.batch(), 0, 0
        self._comms = communicator(), communicator()
        self._edge = CollectiveEdge(
            "micro",
            *self._comms,
            group=EdgeGroup(everyone, everyone),
            schema=_SCHEMA,
            partitioning=HashPartitioning(("key",)),
            limits=EdgeLimits(IN_FLIGHT),
            memory=EdgeMemory(process_pool(), complete(find_nearby(self._comms[0]))),
        )

    def one_at_a_time(self, n: int) -> None:
        """Take each round before the next is begun."""
        for _ in range(n):
            self._send()
            self._take(self._number)

    def in_flight(self, n: int) -> None:
        """Begin rounds as long as the edge has room."""
        first, last = self._number, self._number + n
        taken = first
        while taken < last:
            while self._number < last and self._edge.may_start(self._number):
                self._send()
            self._take(taken + 1)
            taken += 1

    def end(self) -> None:
        """Finish the edge and give its communicators back."""
        self._edge.finish(self._number)
        while not self._edge.finished:
            self._edge.progress()
        for comm in self._comms:
            comm.free()

    def _send(self) -> None:
        if self._batch.num_rows:
            for _ in self._edge.send(self._batch):
                self._step()
        for _ in self._edge.close(self._number, RoundEnd(self._number)):
            self._step()
        self._number += 1

    def _take(self, before: int) -> None:
        while not self._edge.has_round(before - 1):
            self._step()
        self._edge.take(before - 1)

    def _step(self) -> None:
        self._quiet = 0 if self._edge.progress() else self._quiet + 1
        if self._quiet > _SPINS:
            os.sched_yield()


class RawLoop:
    """``Ialltoallv`` of the same bytes, dealt evenly to all ranks."""

    def __init__(self, size: Size) -> None:
        each = -(-size.n_bytes // _WORLD.size)
        counts = [each] * _WORLD.size
        starts = [each * rank for rank in range(_WORLD.size)]
        self._layout = (counts, starts)
        self._comm = _WORLD.Dup()
        self._buffers = [
            (np.ones(each * _WORLD.size, np.uint8), np.zeros(each * _WORLD.size, np.uint8))
            for _ in range(IN_FLIGHT)
        ]

    def one_at_a_time(self, n: int) -> None:
        """Complete each call before the next is posted."""
        for _ in range(n):
            self._complete(self._post(0))

    def in_flight(self, n: int) -> None:
        """Keep three calls posted."""
        posted = [self._post(i) for i in range(min(n, IN_FLIGHT))]
        for i in range(n):
            self._complete(posted[i % IN_FLIGHT])
            if i + IN_FLIGHT < n:
                posted[i % IN_FLIGHT] = self._post(i % IN_FLIGHT)

    def end(self) -> None:
        """Give the communicator back."""
        self._comm.Free()

    def _post(self, i: int) -> MPI.Request:
        send, receive = self._buffers[i]
        outgoing, incoming = ([b, self._layout, MPI.BYTE] for b in (send, receive))
        return self._comm.Ialltoallv(outgoing, incoming)

    @staticmethod
    def _complete(request: MPI.Request) -> None:
        quiet = 0
        while not request.Test():
            quiet += 1
            if quiet > _SPINS:
                os.sched_yield()


def seconds_each(loop: Loop, budget_s: float) -> float:
    """Return the seconds of one turn of a loop on the slowest rank. Collective."""
    _timed(loop, 3)
    n = _WORLD.bcast(int(min(max(budget_s / (_timed(loop, 5) / 5), 5), 20_000)))
    return _timed(loop, n) / n


def _timed(loop: Loop, n: int) -> float:
    _WORLD.Barrier()
    begin = time.perf_counter()
    loop(n)
    return float(_WORLD.allreduce(time.perf_counter() - begin, MPI.MAX))


def measure(size: Size, budget_s: float) -> dict[str, Any]:
    """Return both loops' seconds at one size. Collective."""
    found: dict[str, Any] = {"rows": size.rows, "bytes": size.n_bytes}
    for name, loop in (("edge", EdgeLoop(size)), ("raw", RawLoop(size))):
        found[f"{name}_s"] = seconds_each(loop.one_at_a_time, budget_s)
        found[f"{name}_in_flight_s"] = seconds_each(loop.in_flight, budget_s)
        loop.end()
    return found


def main() -> None:
    """Measure the sizes in the trial's options, the given number of times."""
    trial = Trial.from_json(sys.argv[1])
    options = trial.options
    found = [
        {"repetition": repetition, **measure(Size(rows), options["budget_s"])}
        for repetition in range(options["repeats"])
        for rows in options["rows"]
    ]
    if _WORLD.rank == 0:
        print(MARK + json.dumps({"sizes": found}), flush=True)


if __name__ == "__main__":
    main()
