"""Says when memory for the next checkpoint is had ready, and whether it is.

::

    begin ........ 0.5 ... 0.7 ... 0.9 ... due    of the interval: looks at the state
                    │       if it has grown
                    └> background touches what is missing ─> ready

A checkpoint that is due before that, because the one before took long to write, would
find no memory and fight with the background for it: the copy took 5 to 16 times as long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from hpcstream.checkpoint.writer import Outcome, Writer
from hpcstream.runtime.pieces import PieceMemory
from hpcstream.runtime.reserve import PREPARE_AT, Reserve, wanted_sizes
from hpcstream.runtime.task import Task
from hpcstream.runtime.telemetry import state_bytes

_GROWN = 1.2


class Preparation:
    """Looks at the state between two checkpoints, and fills the reserve. One rank's.

    Parameters
    ----------
    reserve : Reserve
    pieces : PieceMemory
        Knows what need not be copied.
    writer : Writer
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        reserve: Reserve,
        pieces: PieceMemory,
        writer: Writer,
        clock: Callable[[], float],
    ) -> None:
        self._reserve = reserve
        self._pieces = pieces
        self._writer = writer
        self._clock = clock
        self._tasks: Sequence[Task] = ()
        self._numbers: Mapping[int, int] = {}
        self._times_s: deque[float] = deque()
        self._seen_bytes = 0  # of the state when it was looked at; 0: not since the last checkpoint
        self._filled: Outcome[None] | None = None

    def attach(self, tasks: Sequence[Task], numbers: Mapping[int, int]) -> None:
        """Say whose state it is; ``numbers``: id of a task to its number in the plan."""
        self._tasks, self._numbers = tasks, numbers

    def schedule(self, interval_s: float) -> None:
        """Begin anew: a checkpoint begins, and the next one is due after the interval."""
        now_s = self._clock()
        self._times_s = deque(now_s + part * interval_s for part in PREPARE_AT)
        self._seen_bytes = 0

    def go_on(self) -> None:
        """Look at the state if it is time; while no checkpoint is under way."""
        now_s = self._clock()
        is_time = False
        while self._times_s and now_s >= self._times_s[0]:
            self._times_s.popleft()
            is_time = True
        if is_time:
            self._look()

    @property
    def is_under_way(self) -> bool:
        """Whether the background still touches memory that a copy would want."""
        return self._filled is not None and not self._filled.done

    def _look(self) -> None:
        """Look at the state, unless it is about as large as at the last look."""
        operators = [
            (f"{self._numbers[id(task)]}/{place}", operator)
            for task in self._tasks
            for place, operator in enumerate(task.chain.operators)
            if hasattr(operator, "snapshot_in_pieces")
        ]
        n_bytes = sum(state_bytes(operator) for _, operator in operators)
        if self._seen_bytes and n_bytes <= _GROWN * self._seen_bytes:
            return
        self._seen_bytes = n_bytes
        wanted = {}
        for path, operator in operators:
            snapshot = operator.snapshot_in_pieces()
            if snapshot is not None:
                wanted[path] = wanted_sizes(snapshot, self._pieces.known(path))
        self._filled = self._writer.submit(lambda: self._reserve.fill(wanted))
