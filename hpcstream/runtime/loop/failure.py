"""Whether a rank of the job has failed, and what this rank does then."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hpcstream.runtime.checkpoints.coordinator import CheckpointCoordinator
from hpcstream.runtime.tasks.task import Task


class FailureState:
    """The failure of this rank or of another: tasks run no user code once one is known.

    Parameters
    ----------
    rank, size : int
    tasks : list of Task
    checkpoints : CheckpointCoordinator or None
    clock : callable
        Seconds, monotonic.
    abort_timeout_s : float
        How long the ranks may take to agree on a failure.

    Attributes
    ----------
    error : BaseException or None
        This rank's own failure.
    is_elsewhere : bool
        Whether another rank failed.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        tasks: Sequence[Task],
        checkpoints: CheckpointCoordinator | None,
        clock: Callable[[], float],
        abort_timeout_s: float,
    ) -> None:
        self.error: BaseException | None = None
        self.is_elsewhere = False
        self._rank, self._size = rank, size
        self._tasks = tasks
        self._checkpoints = checkpoints
        self._clock = clock
        self._abort_timeout_s = abort_timeout_s
        self._failed_s: float | None = None

    @property
    def is_known(self) -> bool:
        """Whether this rank knows of any failure."""
        return self.error is not None or self.is_elsewhere

    def note_task(self, error: BaseException, task: Task) -> None:
        """Note that a task has failed, and where."""
        error.add_note(f"{task.where()}, on rank {self._rank} of {self._size}")
        self.note(error)

    def note(self, error: BaseException) -> None:
        """Note that this rank has failed."""
        self.error = error
        self._failed_s = self._clock()
        self._drain()

    def note_elsewhere(self) -> None:
        """Note that another rank has failed."""
        self.is_elsewhere = True
        self._drain()

    def _drain(self) -> None:
        for task in self._tasks:
            task.drain()
        if self._checkpoints is not None:
            self._checkpoints.abandon()

    @property
    def is_overdue(self) -> bool:
        """Whether this rank failed and the others did not answer in time."""
        if self._failed_s is None:
            return False
        return self._clock() - self._failed_s > self._abort_timeout_s
