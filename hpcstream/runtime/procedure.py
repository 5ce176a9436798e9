"""Procedures: work that yields while it waits, stepped by the loop of a rank."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import TypeVar

from hpcstream.exchange.communicator import Procedure
from hpcstream.operators.base import PAUSE, Turn

_T = TypeVar("_T")

Turns = Generator[bool, None, _T]
"""Yields, for each turn of the loop, whether anything moved; ends with a result."""


def as_turns(
    procedure: Generator[Turn | None, None, _T], at_wait: Callable[[], None] | None = None
) -> Turns[_T]:
    """Yield for each wait of a procedure whether anything moved, and return its result.

    Nothing moved while it waited for another rank; something did before a `PAUSE`.

    Parameters
    ----------
    procedure : Procedure, or what a chain of operators yields
    at_wait : callable, optional
        Called at each wait; what it raises ends the turns.
    """
    while True:
        try:
            wait = next(procedure)
        except StopIteration as end:
            result: _T = end.value
            return result
        if at_wait is not None:
            at_wait()
        yield wait is PAUSE


class ProcedureQueue:
    """Procedures of which each begins when the one before it has ended.

    Every rank appends the same procedures in the same order, so their collectives are posted
    in one order on all ranks.
    """

    def __init__(self) -> None:
        self._queue: deque[Procedure[None]] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether every procedure has ended."""
        return not self._queue

    def append(self, procedure: Procedure[None]) -> None:
        """Step a procedure after those that were appended before."""
        self._queue.append(procedure)

    def step(self) -> bool:
        """Step the oldest procedure, if there is one; return whether it ended.

        What it raises ends it, too.
        """
        if not self._queue:
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
