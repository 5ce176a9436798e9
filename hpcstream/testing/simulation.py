"""Simulated ranks in one thread: a `Communicator` without MPI, reproducible from a seed.

The engine's procedures are generators that yield when they must wait, so any
number of ranks can be run by stepping them in turn. A seeded random choice of
who steps next, and of how long a message takes, stands for the network and the
scheduler: a failing order of events can be repeated from its seed. (The idea is
that of simulation testing in FoundationDB: Zhou et al. 2021, section 4.)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from hpcstream.errors import HpcstreamError, RanksEnded
from hpcstream.exchange.communicator import Communicator, Request

_T = TypeVar("_T")
PATIENCE = 2000
"""Turns of every rank without progress that count as a deadlock."""

_OPS = {"sum": np.add, "min": np.minimum, "max": np.maximum}


class Deadlock(HpcstreamError):
    """Every rank waits, and no message is in flight."""


class _Operation:
    """One collective: complete once every rank has posted its part."""

    __slots__ = ("done", "kind", "parts")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.parts: dict[int, tuple[Any, ...]] = {}
        self.done = False


class _SimulatedRequest:
    __slots__ = ("_delay", "_operation", "_world")

    def __init__(self, operation: _Operation, world: Simulation) -> None:
        self._operation = operation
        self._world = world
        self._delay = world.draw_delay()

    def test(self) -> bool:
        if not self._operation.done:
            return False
        if self._delay > 0:
            self._delay -= 1
            self._world.moved()
            return False
        return True


class Simulation:
    """The shared state of simulated ranks: pending operations and a seeded random generator.

    Parameters
    ----------
    size : int
        Number of ranks.
    seed : int
        Seed of all random choices.
    max_delay : int
        A message takes 0 to ``max_delay`` looks (`Request.test`) longer than it must.
    """

    def __init__(self, size: int, *, seed: int = 0, max_delay: int = 0) -> None:
        self.size = size
        self.random = random.Random(seed)
        self.aborted: int | None = None
        self.on_turn: Callable[[], None] | None = None
        self._max_delay = max_delay
        self._operations: dict[tuple[Any, ...], _Operation] = {}
        self._wakes: dict[tuple[Any, ...], int] = {}
        self._notes: dict[tuple[Any, ...], list[tuple[int, bytes]]] = {}
        self._moves = 0

    def communicator(self, rank: int) -> Communicator:
        """Return the communicator of ``rank``."""
        return _SimulatedCommunicator(self, ("world",), tuple(range(self.size)), rank)

    def draw_delay(self) -> int:
        """Return the number of looks by which the next message is delayed."""
        return self.random.randint(0, self._max_delay) if self._max_delay else 0

    def moved(self) -> None:
        """Record progress, so that waiting is not a deadlock."""
        self._moves += 1

    def post(self, key: tuple[Any, ...], kind: str, rank: int, size: int, part: Any) -> Request:
        """Add one rank's part of a collective; transfer the data with the last part."""
        operation = self._operations.setdefault(key, _Operation(kind))
        assert operation.kind == kind, f"{key}: {kind} met {operation.kind} of another rank"
        operation.parts[rank] = part
        self.moved()
        if len(operation.parts) == size:
            _TRANSFER[kind]([operation.parts[r] for r in range(size)])
            operation.done = True
            del self._operations[key]
        return _SimulatedRequest(operation, self)

    def run(
        self, programs: Sequence[Generator[Any, None, _T]], *, patience: int = PATIENCE
    ) -> list[_T]:
        """Step the programs in random order until all have ended; return their results.

        Raises
        ------
        Deadlock
            Nothing moved in ``patience`` turns of every rank.
        """
        turns = Turns(self, programs)
        turns.until(lambda: False, patience=patience)
        return turns.finish()

    @property
    def moves(self) -> int:
        """The number of events so far."""
        return self._moves

    @property
    def is_drained(self) -> bool:
        """Whether every collective that was posted is complete."""
        return not self._operations

    def describe(self) -> str:
        """Return the ranks that have posted each incomplete collective."""
        return "; ".join(
            f"{'/'.join(map(str, key))} {operation.kind} by {sorted(operation.parts)}"
            for key, operation in self._operations.items()
        )

    # wake messages

    def add_wake(self, key: tuple[Any, ...]) -> None:
        """Leave a wake message for a rank."""
        self._wakes[key] = self._wakes.get(key, 0) + 1
        self.moved()

    def take_wake(self, key: tuple[Any, ...]) -> bool:
        """Take a rank's wake messages; True if there were any."""
        return self._wakes.pop(key, 0) > 0

    # notes

    def add_note(self, key: tuple[Any, ...], sender: int, note: bytes) -> None:
        """Leave a note for a rank."""
        self._notes.setdefault(key, []).append((sender, note))

    def take_notes(self, key: tuple[Any, ...]) -> list[tuple[int, bytes]]:
        """Take a rank's notes."""
        return self._notes.pop(key, [])


class Turns(Generic[_T]):
    """Programs of the ranks, one of which takes a step at a time, in random order.

    Attributes
    ----------
    results : dict of int to object
        What ranks returned that have ended.
    errors : dict of int to BaseException
        What ranks raised.
    """

    def __init__(self, world: Simulation, programs: Sequence[Generator[Any, None, _T]]) -> None:
        self.results: dict[int, _T] = {}
        self.errors: dict[int, BaseException] = {}
        self._world = world
        self._size = len(programs)
        self._alive = dict(enumerate(programs))

    def step(self) -> bool:
        """Step one rank; return whether it made progress."""
        world, before = self._world, self._world.moves
        rank = world.random.choice(list(self._alive))
        try:
            progressed = bool(next(self._alive[rank]))
        except StopIteration as stop:
            self.results[rank] = stop.value
            progressed = self._ends(rank)
        except BaseException as error:
            self.errors[rank] = error
            progressed = self._ends(rank)
        if world.on_turn is not None:
            world.on_turn()
        return progressed or world.moves != before

    def _ends(self, rank: int) -> bool:
        del self._alive[rank]
        return True

    def until(self, condition: Callable[[], bool], *, patience: int = PATIENCE) -> bool:
        """Step until ``condition`` or all ranks have ended; return whether the condition holds.

        Ranks that wait for ever after another has failed are abandoned.

        Raises
        ------
        Deadlock
            Nothing moved in ``patience`` turns of every rank.
        """
        quiet = 0
        while self._alive and not condition():
            quiet = 0 if self.step() else quiet + 1
            if quiet > patience * self._size:
                if self.errors:
                    break
                raise Deadlock(
                    f"ranks {sorted(self._alive)} wait for ever; "
                    f"under way: {self._world.describe()}"
                )
        return condition()

    def settle(self, *, patience: int = 50) -> None:
        """Step until there is no progress."""
        quiet = 0
        while self._alive and quiet <= patience * self._size:
            quiet = 0 if self.step() else quiet + 1

    @property
    def waiting(self) -> list[int]:
        """Ranks that have not ended."""
        return sorted(self._alive)

    def finish(self) -> list[_T]:
        """Return the results of the ranks, or raise the first error."""
        if self.errors:
            raise _first_error(self.errors)
        return [self.results[rank] for rank in range(self._size)]

    def close(self) -> None:
        """Abandon the ranks that have not ended."""
        for program in self._alive.values():
            program.close()
        self._alive.clear()


def _first_error(errors: dict[int, BaseException]) -> BaseException:
    """Return the error that caused the others: one that is not a `RemoteError`."""
    for rank in sorted(errors):
        if type(errors[rank]).__name__ != "RemoteError":
            return errors[rank]
    return errors[min(errors)]


class _SimulatedCommunicator:
    """`Communicator` of one simulated rank."""

    def __init__(
        self, world: Simulation, context: tuple[Any, ...], members: tuple[int, ...], rank: int
    ) -> None:
        self.rank = rank
        self.size = len(members)
        self._world = world
        self._context = context
        self._members = members
        self._calls = 0
        self._children = 0

    def _post(self, kind: str, *part: Any) -> Request:
        self._calls += 1
        key = (*self._context, self._calls)
        return self._world.post(key, kind, self.rank, self.size, part)

    def all_to_all(self, send: np.ndarray, receive: np.ndarray) -> Request:
        return self._post("all_to_all", send, receive)

    def all_to_all_v(self, *buffers: np.ndarray) -> Request:
        return self._post("all_to_all_v", *buffers)

    def all_reduce(self, send: np.ndarray, receive: np.ndarray, op: str) -> Request:
        return self._post(f"all_reduce_{op}", send, receive)

    def all_gather(self, send: np.ndarray, receive: np.ndarray) -> Request:
        return self._post("all_gather", send, receive)

    def _child(self, kind: str, members: tuple[int, ...], rank: int) -> _SimulatedCommunicator:
        self._children += 1
        context = (*self._context, f"{kind}{self._children}")
        return _SimulatedCommunicator(self._world, context, members, rank)

    def duplicate(self) -> Communicator:
        return self._child("dup", self._members, self.rank)

    def begin_duplicate(self) -> tuple[Request, Communicator]:
        return self._post("duplicate"), self.duplicate()

    def subset(self, ranks: Sequence[int]) -> Communicator | None:
        members = tuple(sorted(ranks))
        inside = self.rank in members
        child = self._child("sub", members, members.index(self.rank) if inside else -1)
        return child if inside else None

    def neighborhood(self, neighbors: Sequence[int]) -> Communicator:
        return self.duplicate()

    def send_wake(self, rank: int) -> None:
        self._world.add_wake((*self._context, rank))

    def take_wake(self) -> bool:
        return self._world.take_wake((*self._context, self.rank))

    def send_note(self, rank: int, note: bytes) -> None:
        self._world.add_note((*self._context, rank), self.rank, note)

    def take_notes(self) -> list[tuple[int, bytes]]:
        return self._world.take_notes((*self._context, self.rank))

    def free(self) -> None:
        self._members = ()

    def abort(self, code: int) -> None:
        self._world.aborted = code
        raise RanksEnded(code)


Parts = list[tuple[Any, ...]]


def _transfer_all_to_all(parts: Parts) -> None:
    size = len(parts)
    sent = [send.reshape(size, -1) for send, _ in parts]
    for rank, (_, receive) in enumerate(parts):
        slots = receive.reshape(size, -1)
        for sender in range(size):
            slots[sender] = sent[sender][rank]


def _transfer_all_to_all_v(parts: Parts) -> None:
    for rank, (_, _, _, receive, counts, starts) in enumerate(parts):
        for sender, (send, send_counts, send_starts, *_) in enumerate(parts):
            n_bytes = int(send_counts[rank])
            assert n_bytes == counts[sender], f"rank {rank} expects other counts from {sender}"
            start, goal = int(send_starts[rank]), int(starts[sender])
            receive[goal : goal + n_bytes] = send[start : start + n_bytes]


def _transfer_all_gather(parts: Parts) -> None:
    everything = np.concatenate([send for send, _ in parts])
    for _, receive in parts:
        receive[:] = everything


def _transfer_reduce(op: str) -> Callable[[Parts], None]:
    def transfer(parts: Parts) -> None:
        result = _OPS[op].reduce([send for send, _ in parts])
        for _, receive in parts:
            receive[:] = result

    return transfer


def _transfer_nothing(parts: Parts) -> None:
    """Transfer nothing: a duplicate carries no data."""


_TRANSFER: dict[str, Callable[[Parts], None]] = {
    "all_to_all": _transfer_all_to_all,
    "all_to_all_v": _transfer_all_to_all_v,
    "all_gather": _transfer_all_gather,
    "all_reduce_sum": _transfer_reduce("sum"),
    "all_reduce_min": _transfer_reduce("min"),
    "all_reduce_max": _transfer_reduce("max"),
    "duplicate": _transfer_nothing,
}
