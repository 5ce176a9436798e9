"""Takes checkpoints while rounds continue, without stopping them.

::

    rank 0     says "due" in its status; a control outcome tells all ranks alike
    every task copies its state before it begins the round of the checkpoint
    background writes the rank's file, makes the sinks' parts durable
    all ranks  gather what was written; if all of it was:
    rank 0     writes the manifest (in the background), and tells all ranks
    all ranks  make the sinks' parts visible

There is no channel state: rows under way at that time belong to later rounds, which are
replayed. Every rank begins the same checkpoints in the same order, so the collectives of
one are the only ones on their communicator.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from hpcstream.checkpoint.copy_buffers import CopyBuffers
from hpcstream.checkpoint.copying import CheckpointedTask, StateCopier
from hpcstream.checkpoint.format import CheckpointError, load_hdf5
from hpcstream.checkpoint.increments import SegmentMemory
from hpcstream.checkpoint.pending import PendingCheckpoint, Written
from hpcstream.checkpoint.storage.background import Writer
from hpcstream.checkpoint.storage.directory import rank_file
from hpcstream.checkpoint.writer import RankFileWriter
from hpcstream.config import JobConfig
from hpcstream.exchange.communicator import Communicator, Procedure
from hpcstream.kernels import warm_up
from hpcstream.log import warn
from hpcstream.memory.pool import process_pool
from hpcstream.operators.sink import SinkOperator
from hpcstream.runtime.checkpoints.agreement import CheckpointAgreement, Verdict
from hpcstream.runtime.checkpoints.prefaulting import Prefaulting
from hpcstream.runtime.checkpoints.run_directory import RunDirectory
from hpcstream.runtime.checkpoints.schedule import CheckpointSchedule
from hpcstream.runtime.checkpoints.sink_commits import SinkCommits
from hpcstream.runtime.control import Status
from hpcstream.runtime.procedure import ProcedureQueue

_KERNELS = ("snapshots", "partition", "gathering", "key_bytes")


class CheckpointCoordinator:
    """The checkpoints of one run on one rank.

    Parameters
    ----------
    tasks : list of CheckpointedTask
        All tasks of this rank.
    schedule : CheckpointSchedule
    copier : StateCopier
    segments : SegmentMemory
        The same as the copier's.
    agreement : CheckpointAgreement
    config : JobConfig

    Attributes
    ----------
    completed : int
        Checkpoints that this run completed.
    last_path : str or None
        Path of the newest of them.
    """

    def __init__(
        self,
        tasks: Sequence[CheckpointedTask],
        schedule: CheckpointSchedule,
        copier: StateCopier,
        segments: SegmentMemory,
        agreement: CheckpointAgreement,
        config: JobConfig,
    ) -> None:
        self.completed = 0
        self.last_path: str | None = None
        self.schedule = schedule
        self._tasks = tasks
        self._copier = copier
        self._segments = segments
        self._agreement = agreement
        self._config = config
        self._next_number = agreement.run.next_number
        self._pending: deque[PendingCheckpoint] = deque()
        self._queue = ProcedureQueue()
        self._is_abandoned = False
        warm_up(_KERNELS)  # else the first copy waits for them
        load_hdf5()

    # -- in the loop -------------------------------------------------------------------

    def wanted(self) -> int:
        """Return, on rank 0, which checkpoint is due: for the next status."""
        return 0 if self._pending or self._is_abandoned else self.schedule.wanted()

    @property
    def is_unready(self) -> bool:
        """Whether a copy now would make the rounds wait: for the next status, after `wanted`."""
        return bool(self._pending) or self.schedule.is_unready

    def begin(self, outcome: Status, round_number: int) -> None:
        """Begin the checkpoint that is due at a round that no task has begun. On all ranks alike.

        While any rank is not ready the checkpoint is put off, unless it is a savepoint.
        """
        kind = self.schedule.agreed(outcome)
        if kind is not None:
            self._begin(kind, round_number)

    def _begin(self, kind: str, round_number: int, *, is_last: bool = False) -> PendingCheckpoint:
        run = self._agreement.run
        checkpoint = PendingCheckpoint(
            number=self._next_number,
            round=run.first_round + round_number,
            begins_at=round_number,
            kind=kind,
            began_s=self._agreement.clock(),
            waiting={task.number for task in self._tasks},
            is_last=is_last,
            is_abandoned=self._is_abandoned,
        )
        self._next_number += 1
        self.schedule.begun()
        self._pending.append(checkpoint)
        self._queue.append(self._complete(checkpoint))
        return checkpoint

    def copy_if_due(self, task: CheckpointedTask) -> None:
        """Copy a task that has come to the round of a checkpoint; before each of its steps."""
        for checkpoint in self._pending:
            if task.number in checkpoint.waiting:
                if task.begin_snapshot(checkpoint.begins_at):
                    self._copy(task, checkpoint)
                return

    def _copy(self, task: CheckpointedTask, checkpoint: PendingCheckpoint) -> None:
        is_alone = checkpoint.is_savepoint or len(self._pending) > 1  # an earlier one may fail
        self._copier.copy(task, checkpoint, is_alone=is_alone)

    def progress(self) -> bool:
        """Continue with the oldest checkpoint under way; return whether anything moved.

        Raises
        ------
        CheckpointError
            A sink failed, a newer attempt has begun, or a checkpoint failed and the
            job is to stop then.
        """
        return self._queue.step()

    def abandon(self) -> None:
        """Complete no checkpoint whose tasks are not all copied: the job has failed."""
        self._is_abandoned = True
        for checkpoint in self._pending:
            checkpoint.abandon()

    def drain(self) -> Procedure[Exception | None]:
        """Wait until nothing is under way; return what failed. Collective, after the last round."""
        failed = None
        while not self._queue.is_empty:
            try:
                self._queue.step()
            except Exception as error:
                failed = failed or error
            yield
        return failed

    def finish(self, *, kind: str, is_last: bool) -> Procedure[None]:
        """Take the last checkpoint, after the last round, and wait for it. Collective.

        Those under way are waited for first: it refers to what they have written.
        """
        failed = yield from self.drain()
        while self.schedule.is_unready:
            yield
        round_number = max((task.next_round for task in self._tasks), default=0)
        checkpoint = self._begin(kind, round_number, is_last=is_last)
        for task in self._tasks:
            task.has_caught_up()  # with its last round, which all ranks have closed
            self._copy(task, checkpoint)
        if is_last:
            self._agreement.commits.prepare_last(checkpoint)
        failed = failed or (yield from self.drain())
        if failed is not None:
            raise failed

    # -- one checkpoint ----------------------------------------------------------------

    def _complete(self, checkpoint: PendingCheckpoint) -> Procedure[None]:
        try:
            while checkpoint.waiting and not checkpoint.is_abandoned:
                yield
            verdict = yield from self._agreement.reach(checkpoint)
            if verdict.failure:
                self._failed(checkpoint, verdict)
                return
            yield from self._agreement.commits.commit(verdict.reports)
            for notify in checkpoint.notices:
                notify()
            self._remember(checkpoint, verdict.written)
        finally:
            self._pending.remove(checkpoint)

    def _remember(self, checkpoint: PendingCheckpoint, written: Written) -> None:
        path = self._agreement.run.store.path(checkpoint.number, checkpoint.kind)
        self.completed += 1
        self.last_path = path
        if not checkpoint.is_savepoint and written.file is not None:
            name = f"{os.path.basename(path)}/{rank_file(self._agreement.comm.rank)}"
            self._segments.complete(checkpoint.tables, checkpoint.shared, name, written.file)

    def _failed(self, checkpoint: PendingCheckpoint, verdict: Verdict) -> None:
        self._segments.forget()
        self._agreement.commits.carry(verdict.written)
        verdict.raise_if_superseded()
        if checkpoint.is_abandoned or verdict.is_abandoned:
            return
        text = f"checkpoint {checkpoint.number} failed: {verdict.failure}"
        if self._config.on_checkpoint_failure == "stop" or checkpoint.is_last:
            raise CheckpointError(text)
        if self._agreement.comm.rank == 0:
            interval_s = self._config.checkpoint_interval_s
            warn(f"{text}; the job goes on, and tries again in {interval_s:g} s")


def make_coordinator(
    directory: RunDirectory,
    comm: Communicator,
    tasks: Sequence[CheckpointedTask],
    sinks: Mapping[int, SinkOperator],
    config: JobConfig,
    writer: Writer,
    clock: Callable[[], float],
    check_outputs: Callable[[], None],
) -> CheckpointCoordinator:
    """Return the coordinator of a run on this rank; ``comm`` is private to it."""
    run, segments, buffers = directory.run, SegmentMemory(), CopyBuffers(process_pool())
    prefaulting = Prefaulting(tasks, buffers, segments, writer, clock)
    schedule = CheckpointSchedule(
        comm.rank, config.checkpoint_interval_s, run.store, prefaulting, clock
    )
    if config.stop_after_savepoint:
        schedule.want_savepoint(stop=True)
    agreement = CheckpointAgreement(
        comm=comm,
        run=run,
        plan=directory.plan,
        writer=writer,
        file_writer=RankFileWriter(run.store, comm.rank, buffers, directory.staging),
        commits=SinkCommits(sinks, run, writer),
        keep=config.keep,
        clock=clock,
        check_outputs=check_outputs,
    )
    copier = StateCopier(buffers, segments, directory.plan.sources)
    return CheckpointCoordinator(tasks, schedule, copier, segments, agreement, config)
