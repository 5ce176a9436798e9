"""New splits of live sources while a job runs: found on rank 0, assigned to all ranks.

::

    rank 0      asks `Source.discover` in a thread, and says "news" in its status
    all ranks   after the control round that says so: gather rank 0's news, and what has ended
    each rank   works out the same assignment, and begins its own splits

Every rank begins the same exchanges in the same order. A rank begins a split as soon as it
learns of it: a checkpoint whose round comes first does not know the split, which is then found
again after a restart, and read from its beginning.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcstream.checkpoint.storage.background import Outcome
from hpcstream.connectors.base import Source, Split
from hpcstream.errors import ConnectorError
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.log import warn
from hpcstream.runtime.procedure import ProcedureQueue
from hpcstream.runtime.sources.pacing import Pacer
from hpcstream.runtime.sources.split_progress import SplitProgress

Listing = list[Split] | None
Begin = Callable[[Outcome[Listing]], None]


def in_thread(outcome: Outcome[Listing]) -> None:
    """Do the work in a thread of its own, which nothing waits for."""
    threading.Thread(target=outcome.run, name="hpcstream-discovery", daemon=True).start()


@dataclass
class DiscoveredSource:
    """A source that may get more splits, as one rank knows it.

    Attributes
    ----------
    number : int
        Of its task.
    source : Source
    ranks : sequence of int
        Those that read it.
    every_s : float
        How often it is asked.
    pacer : Pacer or None
        Reads it on this rank.
    known : dict of str to int
        Number of each split by its id; on rank 0.
    """

    number: int
    source: Source
    ranks: Sequence[int]
    every_s: float
    pacer: Pacer | None
    known: dict[str, int] = field(default_factory=dict)
    next_number: int = 0
    due_s: float = 0.0
    asked: Outcome[Listing] | None = None
    news: dict[str, Any] | None = None
    is_open: bool = True

    def poll(self, now_s: float, begin: Begin) -> None:
        """Ask the source if it is time, or take its answer as `news`; on rank 0."""
        if not self.is_open or self.news is not None:
            return
        if self.asked is None:
            if now_s >= self.due_s:
                self.asked, self.due_s = Outcome(self.source.discover), now_s + self.every_s
                begin(self.asked)
            if self.asked is None or not self.asked.done:
                return
        elif not self.asked.done:
            return
        asked, self.asked = self.asked, None
        try:
            self.news = self._news(asked.result())
        except Exception as error:
            warn(
                f"{self.source.describe()}: discover() failed, {type(error).__name__}: {error}; "
                f"asking again in {self.every_s:g} s"
            )

    def _news(self, listing: Listing) -> dict[str, Any] | None:
        """Return the differences to what is known; None if there are none."""
        if listing is None:
            return {"new": [], "gone": [], "closed": True}
        found = {split.id: split for split in listing}
        if len(found) < len(listing):
            raise ConnectorError("two splits have the same id")
        added = [split for name, split in found.items() if name not in self.known]
        new = [[self.next_number + i, split.to_json()] for i, split in enumerate(added)]
        gone = [name for name in self.known if name not in found]
        return {"new": new, "gone": gone, "closed": False} if new or gone else None

    def learn(self, known: Mapping[str, int]) -> None:
        """Add the splits of a rank before the first listing."""
        self.known.update(known)
        self.next_number = max([self.next_number, *(number + 1 for number in known.values())])

    def apply(self, news: Mapping[str, Any], done: set[str], loads: list[int], rank: int) -> None:
        """Forget ended splits that are gone, and assign the new ones; on all ranks alike.

        Parameters
        ----------
        news : dict
            From rank 0.
        done : set of str
            Splits that were read to their end.
        loads : list of int
            Unfinished splits of each rank.
        rank : int
            This one.
        """
        self.news, self.is_open = None, not news["closed"]
        gone = done.intersection(news["gone"])
        for name in gone:
            self.known.pop(name, None)
        if self.pacer is not None and gone:
            self.pacer.retire(gone)
        for number, value in news["new"]:
            split = Split.from_json(value)
            self.known[split.id] = number
            self.next_number = number + 1
            reader = min(self.ranks, key=lambda rank: (loads[rank], rank))
            loads[reader] += 1
            if reader == rank and self.pacer is not None:
                self.pacer.add_split(SplitProgress(number, split))
        if self.pacer is not None and not self.is_open:
            self.pacer.close_source()


class Discovery:
    """Asks sources for new splits, and assigns these.

    Parameters
    ----------
    comm : Communicator
        Private to this.
    sources : sequence of DiscoveredSource
        The same on all ranks, but for ``pacer``.
    numbers : mapping of int to (mapping of str to int)
        The numbers of this rank's splits by id, for each task.
    clock : callable
        Seconds, monotonic.
    begin : callable
        Begins to ask a source.
    """

    def __init__(
        self,
        comm: Communicator,
        sources: Sequence[DiscoveredSource],
        numbers: Mapping[int, Mapping[str, int]],
        clock: Callable[[], float],
        begin: Begin = in_thread,
    ) -> None:
        self._comm = comm
        self._sources = {source.number: source for source in sources}
        self._clock = clock
        self._begin = begin
        self._is_announced = True
        self._queue = ProcedureQueue()
        self._queue.append(self._gather_known(numbers))

    def has_news(self) -> bool:
        """Return, on rank 0, whether an exchange is wanted: for the next status."""
        if self._is_announced:
            return False
        self._is_announced = any(source.news is not None for source in self._sources.values())
        return self._is_announced

    def begin(self) -> None:
        """Exchange the news; on all ranks after the same control round."""
        self._queue.append(self._exchange())

    def progress(self) -> bool:
        """Ask sources if it is time, or continue an exchange; return whether anything moved."""
        if self._queue.is_empty and self._comm.rank == 0:
            now_s = self._clock()
            for source in self._sources.values():
                source.poll(now_s, self._begin)
        return self._queue.step()

    @property
    def is_under_way(self) -> bool:
        """Whether an exchange has not ended."""
        return not self._queue.is_empty

    def _gather_known(self, numbers: Mapping[int, Mapping[str, int]]) -> Procedure[None]:
        """Tell rank 0 the splits of all ranks."""
        texts = yield from gather_bytes(self._comm, json.dumps(numbers).encode())
        for text in texts if self._comm.rank == 0 else ():
            for task, known in json.loads(text).items():
                self._sources[int(task)].learn(known)
        self._is_announced = False

    def _exchange(self) -> Procedure[None]:
        read = [(n, source.pacer) for n, source in self._sources.items() if source.pacer]
        own = {
            "news": {n: s.news for n, s in self._sources.items() if s.news is not None},
            "done": {n: pacer.done_splits for n, pacer in read},
            "unfinished": {n: pacer.n_unread for n, pacer in read},
        }
        texts = yield from gather_bytes(self._comm, json.dumps(own).encode())
        ranks = [json.loads(text) for text in texts]
        for number, news in ranks[0]["news"].items():
            done = {split for rank in ranks for split in rank["done"].get(number, ())}
            loads = [rank["unfinished"].get(number, 0) for rank in ranks]
            self._sources[int(number)].apply(news, done, loads, self._comm.rank)
        self._is_announced = False
