"""Decides when to prefault memory for the next checkpoint, and whether it is ready.

::

    begin ........ 0.5 ... 0.7 ... 0.9 ... due    of the interval: looks at the state
                    │       if it has grown  │
                    └> background prefaults what is missing ─> ready

A checkpoint that is due earlier, because the one before took long to write or the state has
grown fast, would find no memory and compete with the background for it: its copy took 5 to 16
times as long. So the last looks, when the checkpoint is nearly due, put it off a few times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from hpcstream.checkpoint.copy_buffers import HEADROOM, CopyBuffers, wanted_sizes
from hpcstream.checkpoint.copying import CheckpointedTask, operator_path
from hpcstream.checkpoint.increments import SegmentMemory
from hpcstream.checkpoint.storage.background import Outcome, Writer
from hpcstream.operators.base import Operator

_LOOK_AT = (0.5, 0.7, 0.9)  # parts of the interval
_NEARLY_DUE_AT = 0.97  # before rank 0 asks, whose clock may be a little ahead
_LOOKS_WHEN_DUE = 3  # the state may grow faster than memory is found
_GROWN = 1.2
_LEAST_HEADROOM = 1.1  # when it is nearly due


class Prefaulting:
    """Looks at the state of one rank between two checkpoints, and fills the copy buffers.

    Parameters
    ----------
    tasks : list of CheckpointedTask
    buffers : CopyBuffers
    segments : SegmentMemory
        Knows what need not be copied.
    writer : Writer
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        tasks: Sequence[CheckpointedTask],
        buffers: CopyBuffers,
        segments: SegmentMemory,
        writer: Writer,
        clock: Callable[[], float],
    ) -> None:
        self._tasks = tasks
        self._buffers = buffers
        self._segments = segments
        self._writer = writer
        self._clock = clock
        self._times_s: deque[float] = deque()
        self._due_s = float("inf")
        self._looks_when_due = 0  # that are left
        self._seen_bytes = 0  # of the state at the last look; 0: no look since the last checkpoint
        self._filled: Outcome[None] | None = None

    def schedule(self, interval_s: float) -> None:
        """Start over: a checkpoint begins, and the next one is due after the interval."""
        now_s = self._clock()
        self._times_s = deque(now_s + part * interval_s for part in _LOOK_AT)
        self._due_s = now_s + _NEARLY_DUE_AT * interval_s
        self._looks_when_due = _LOOKS_WHEN_DUE
        self._seen_bytes = 0

    def poll(self) -> None:
        """Look at the state if it is time; only while no checkpoint is under way."""
        if self.is_under_way:
            return
        now_s = self._clock()
        is_time = False
        while self._times_s and now_s >= self._times_s[0]:
            self._times_s.popleft()
            is_time = True
        if now_s >= self._due_s:
            self._look_when_nearly_due()
        elif is_time and self._has_grown():
            self._fill()

    @property
    def is_under_way(self) -> bool:
        """Whether the background still takes memory that a copy would want."""
        return self._filled is not None and not self._filled.done

    def _operators(self) -> Iterator[tuple[str, Operator]]:
        """Yield the operators of this rank, each with its path."""
        for task in self._tasks:
            for index, operator in enumerate(task.operators):
                yield operator_path(task.number, index), operator

    def _has_grown(self) -> bool:
        """Whether the state is larger than at the last look, or this is the first one."""
        n_bytes = sum(operator.state_bytes() for _, operator in self._operators())
        if self._seen_bytes and n_bytes <= _GROWN * self._seen_bytes:
            return False
        self._seen_bytes = n_bytes
        return True

    def _look_when_nearly_due(self) -> None:
        """Fill the buffers once more if a copy would not find its memory there."""
        if not self._looks_when_due:
            return
        self._looks_when_due -= 1
        if self._buffers.covers(self._wanted(_LEAST_HEADROOM)):
            self._looks_when_due = 0
        else:
            self._fill()

    def _fill(self) -> None:
        wanted = self._wanted(HEADROOM)
        self._filled = self._writer.submit(lambda: self._buffers.fill(wanted))

    def _wanted(self, headroom: float) -> dict[str, list[int]]:
        """Return the sizes of the arrays that a copy would take now, by operator."""
        wanted = {}
        for path, operator in self._operators():
            sizes = wanted_sizes(operator.tables(), self._segments.known(path), headroom)
            if sizes:
                wanted[path] = sizes
        return wanted
