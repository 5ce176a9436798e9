"""Runs slow work (files, fsync) in the background while rounds continue."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

_T = TypeVar("_T")


class Outcome(Generic[_T]):
    """The result or error of a piece of work, once `done` is true."""

    def __init__(self, work: Callable[[], _T]) -> None:
        self._work = work
        self._finished = threading.Event()
        self._error: BaseException | None = None
        self._value: _T | None = None

    def run(self) -> None:
        """Do the work; raises nothing."""
        try:
            self._value = self._work()
        except BaseException as error:
            self._error = error
        self._finished.set()

    @property
    def done(self) -> bool:
        """Whether the work has ended."""
        return self._finished.is_set()

    def result(self) -> _T:
        """Return what the work returned, or raise what it raised."""
        assert self.done, "the work has not ended"
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class Writer(Protocol):
    """Runs pieces of work one after the other."""

    def submit(self, work: Callable[[], _T]) -> Outcome[_T]:
        """Run a piece of work after those before it."""

    def close(self) -> None:
        """Finish the submitted work, and accept no more."""


class InlineWriter:
    """Runs each piece of work at once, in the caller: tests then do not depend on time."""

    def submit(self, work: Callable[[], _T]) -> Outcome[_T]:
        """Do the work."""
        outcome = Outcome(work)
        outcome.run()
        return outcome

    def close(self) -> None:
        """Do nothing: all work is done."""


class BackgroundWriter:
    """Runs the work in a thread of its own, started with the first piece."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Outcome[object] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[], _T]) -> Outcome[_T]:
        """Run a piece of work after those before it."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="hpcstream-checkpoints", daemon=True
            )
            self._thread.start()
        outcome = Outcome(work)
        self._queue.put(outcome)  # type: ignore[arg-type]
        return outcome

    def close(self) -> None:
        """Finish the submitted work, then end the thread."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (outcome := self._queue.get()) is not None:
            outcome.run()
