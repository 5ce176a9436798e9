"""Splits that live sources get while a job runs: found on rank 0, dealt to all ranks.

::

    rank 0      asks `Source.discover` in a thread, and says "news" in its status
    all ranks   after the control round that says so: gather rank 0's news, and what has ended
    each rank   works out the same dealing, and begins the splits that are its own

Every rank begins the same exchanges in the same order. A rank begins a split as soon as it
hears of it: a checkpoint whose cut comes first does not know the split, which is then found
again after a restart, and read from its beginning.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcstream.checkpoint.storage.background import Outcome
from hpcstream.connectors.base import Source, Split
from hpcstream.errors import ConnectorError
from hpcstream.exchange.communicator import Communicator, gather_bytes
from hpcstream.log import warn
from hpcstream.runtime.sources.pacing import Pacer
from hpcstream.runtime.sources.reader import SplitProgress

Listing = list[Split] | None
Begin = Callable[[Outcome[Listing]], None]


def in_thread(outcome: Outcome[Listing]) -> None:
    """Do the work in a thread of its own, which nobody waits for."""
    threading.Thread(target=outcome.run, name="hpcstream-discovery", daemon=True).start()


@dataclass
class Discovered:
    """A source that may get more splits, as one rank sees it.

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


class Discovery:
    """Asks sources for new splits, and deals these.

    Parameters
    ----------
    comm : Communicator
        Private to this.
    sources : sequence of Discovered
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
        sources: Sequence[Discovered],
        numbers: Mapping[int, Mapping[str, int]],
        clock: Callable[[], float],
        begin: Begin = in_thread,
    ) -> None:
        self._comm = comm
        self._sources = {one.number: one for one in sources}
        self._clock = clock
        self._begin = begin
        self._is_told = True
        self._queue: deque[Generator[None]] = deque([self._meet(numbers)])

    # -- in the loop -------------------------------------------------------------------

    def has_news(self) -> bool:
        """Return, on rank 0, whether ranks are to be told of something: for the next status."""
        if self._is_told:
            return False
        self._is_told = any(one.news is not None for one in self._sources.values())
        return self._is_told

    def begin(self) -> None:
        """Exchange the news; on all ranks after the same control round."""
        self._queue.append(self._exchange())

    def progress(self) -> bool:
        """Ask sources if it is time, or go on with an exchange; return whether anything moved."""
        if not self._queue:
            if self._comm.rank == 0:
                self._ask()
            return False
        try:
            next(self._queue[0])
        except StopIteration:
            self._queue.popleft()
            return True
        except BaseException:
            self._queue.popleft()
            raise
        return False

    @property
    def is_under_way(self) -> bool:
        """Whether an exchange is not over."""
        return bool(self._queue)

    # -- on rank 0 ---------------------------------------------------------------------

    def _ask(self) -> None:
        now_s = self._clock()
        for one in self._sources.values():
            if one.is_open and one.news is None:
                self._look(one, now_s)

    def _look(self, one: Discovered, now_s: float) -> None:
        """Ask a source if it is time, or take its answer."""
        if one.asked is None:
            if now_s >= one.due_s:
                one.asked, one.due_s = Outcome(one.source.discover), now_s + one.every_s
                self._begin(one.asked)
            if one.asked is None or not one.asked.done:
                return
        elif not one.asked.done:
            return
        asked, one.asked = one.asked, None
        try:
            one.news = _news(one, asked.result())
        except Exception as error:
            warn(
                f"{one.source.describe()}: discover() failed, {type(error).__name__}: {error}; "
                f"asking again in {one.every_s:g} s"
            )

    # -- exchanges, on all ranks -------------------------------------------------------

    def _meet(self, numbers: Mapping[int, Mapping[str, int]]) -> Generator[None]:
        """Let rank 0 know the splits that there are."""
        texts = yield from gather_bytes(self._comm, json.dumps(numbers).encode())
        for text in texts if self._comm.rank == 0 else ():
            for task, known in json.loads(text).items():
                self._sources[int(task)].known.update(known)
        for one in self._sources.values():
            one.next_number = 1 + max(one.known.values(), default=-1)
        self._is_told = False

    def _exchange(self) -> Generator[None]:
        own = {
            "news": {n: one.news for n, one in self._sources.items() if one.news is not None},
            "done": {n: one.pacer.done_splits for n, one in self._sources.items() if one.pacer},
            "goes_on": {n: one.pacer.n_unread for n, one in self._sources.items() if one.pacer},
        }
        texts = yield from gather_bytes(self._comm, json.dumps(own).encode())
        told = [json.loads(text) for text in texts]
        for name, news in told[0]["news"].items():
            done = {split for of_rank in told for split in of_rank["done"].get(name, ())}
            loads = [of_rank["goes_on"].get(name, 0) for of_rank in told]
            self._apply(self._sources[int(name)], news, done, loads)
        self._is_told = False

    def _apply(
        self, one: Discovered, news: Mapping[str, Any], done: set[str], loads: list[int]
    ) -> None:
        one.news, one.is_open = None, not news["closed"]
        gone = done.intersection(news["gone"])
        for name in gone:
            one.known.pop(name, None)
        if one.pacer is not None and gone:
            one.pacer.retire(gone)
        for number, value in news["new"]:
            split = Split.from_json(value)
            one.known[split.id] = number
            one.next_number = number + 1
            rank = min(one.ranks, key=lambda rank: (loads[rank], rank))
            loads[rank] += 1
            if rank == self._comm.rank and one.pacer is not None:
                one.pacer.add_split(SplitProgress(number, split))
        if one.pacer is not None and not one.is_open:
            one.pacer.close_source()


def _news(one: Discovered, listing: Listing) -> dict[str, Any] | None:
    """Return what ranks are to be told of a source; None if it has what it had."""
    if listing is None:
        return {"new": [], "gone": [], "closed": True}
    found = {split.id: split for split in listing}
    if len(found) < len(listing):
        raise ConnectorError("two splits have the same id")
    added = [split for name, split in found.items() if name not in one.known]
    new = [[one.next_number + i, split.to_json()] for i, split in enumerate(added)]
    gone = [name for name in one.known if name not in found]
    return {"new": new, "gone": gone, "closed": False} if new or gone else None
