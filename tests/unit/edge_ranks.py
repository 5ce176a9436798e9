"""Edges on simulated ranks, with the least of a task on each side of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from hpcstream.exchange.edges.base import Edge, RoundEnd, RoundInput
from hpcstream.exchange.edges.calls import EdgeGroup, EdgeMemory
from hpcstream.exchange.edges.collective import CollectiveEdge, EdgeLimits
from hpcstream.exchange.partitioning import HashPartitioning
from hpcstream.exchange.shared_messages import Nearby, Peer, SharedMessages
from hpcstream.testing import Simulation

SCHEMA = pa.schema({"key": pa.int64(), "sender": pa.int64(), "position": pa.int64()})


class HeapPool:
    """Memory for messages: uninitialised, so that nobody may count on zeros."""

    def take(self, n_bytes):
        return np.full(n_bytes, 0xEE, dtype=np.uint8)


def nearby_on(hosts: Sequence[int]) -> list[Nearby | None]:
    """Return for each rank those that share its host; each has its own file."""
    shared = [SharedMessages() for _ in hosts]
    paths = [f"/proc/self/fd/{own.file.number}" for own in shared]
    found: list[Nearby | None] = []
    for rank, host in enumerate(hosts):
        near = [other for other, its in enumerate(hosts) if its == host and other != rank]
        peers = {other: Peer(paths[other]) for other in near}
        found.append(Nearby(shared[rank], peers) if peers else None)
    return found


def make_edge(comm, *, group=None, partitioning=None, schema=SCHEMA, nearby=None, **limits):
    """Return one rank's end of an edge over all ranks of ``comm``."""
    everyone = tuple(range(comm.size))
    return CollectiveEdge(
        "edge 0",
        comm.duplicate(),
        comm.duplicate(),
        group=EdgeGroup(*(group or (everyone, everyone))),
        schema=schema,
        partitioning=partitioning or HashPartitioning(("key",)),
        limits=EdgeLimits(**{"capacity": 3, **limits}),
        memory=EdgeMemory(HeapPool(), nearby),
    )


def rows(sender: int, start: int, n: int) -> pa.RecordBatch:
    """Return rows whose key tells nothing of their position."""
    position = np.arange(start, start + n, dtype=np.int64)
    key = (position * 7919 + sender) % 101
    return pa.record_batch([key, np.full(n, sender), position], schema=SCHEMA)


@dataclass
class EdgeRank:
    """One rank: sends its rounds, takes what comes, and keeps a record of both.

    Attributes
    ----------
    sends : list of list of pa.RecordBatch, or None
        For each round; None if the rank does not produce.
    may_take : callable
        Asked before each take: a consumer that stalls says no.
    """

    edge: Edge
    sends: Sequence[Sequence[pa.RecordBatch]] | None
    n_rounds: int
    consumes: bool = True
    may_take: Callable[[], bool] = lambda: True
    may_send: Callable[[int], bool] = lambda round_number: True
    end: Callable[[int], RoundEnd] = lambda round_number: RoundEnd(round_number)
    taken: list[RoundInput] = field(default_factory=list)
    closed: int = 0

    def program(self) -> Iterator[bool]:
        producing = self._produce()
        produced = False
        while True:
            moved = self.edge.progress()
            if not produced:
                step = next(producing, None)
                produced = step is None
                moved = moved or produced or bool(step)
            moved = self._consume() or moved
            if self._is_done(produced):
                return
            yield moved

    def _produce(self) -> Iterator[bool]:
        for number, batches in enumerate(self.sends or ()):
            while not (self.edge.may_start(number) and self.may_send(number)):
                yield False
            for batch in batches:
                for _ in self.edge.send(batch):
                    yield False
            for _ in self.edge.close(number, self.end(number)):
                yield False
            self.closed += 1
            yield True
        self.edge.finish(self.n_rounds)

    def _consume(self) -> bool:
        number = len(self.taken)
        if not (self.consumes and self.edge.has_round(number) and self.may_take()):
            return False
        if number == self.n_rounds:
            return False
        self.taken.append(self.edge.take(number))
        return True

    def _is_done(self, produced: bool) -> bool:
        took_all = not self.consumes or len(self.taken) == self.n_rounds
        return produced and took_all and self.edge.finished


def run_edges(
    world: Simulation, ranks: Sequence[EdgeRank], *, patience: int = 500
) -> Sequence[EdgeRank]:
    """Run the ranks to their end; nothing may be left under way."""
    world.run([rank.program() for rank in ranks], patience=patience)
    assert world.is_drained, world.describe()
    return ranks
