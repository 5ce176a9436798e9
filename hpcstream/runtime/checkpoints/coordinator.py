"""Takes checkpoints while rounds go on, without stopping any.

::

    rank 0     says "due" in its status; a control outcome tells all ranks alike
    every task takes a copy of its state before it starts the round of the cut
    background writes the rank's file, makes the sinks' parts durable
    all ranks  gather what was written; if all of it was:
    rank 0     writes the manifest (in the background), and tells all ranks
    all ranks  make the sinks' parts visible

There is no channel state: what is under way at the cut belongs to later rounds,
and these are replayed. Every rank begins the same checkpoints in the same order, so
the collectives of one are the only ones on their communicator.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from hpcstream.checkpoint.copy_buffers import Reserve
from hpcstream.checkpoint.format import CheckpointError, Section, load_hdf5
from hpcstream.checkpoint.increments import SegmentMemory, take
from hpcstream.checkpoint.pending import Cut, Plan, Session, Written
from hpcstream.checkpoint.reports import (
    Report,
    errors_of,
    manifest,
    parts_of,
    report,
    shared_files,
)
from hpcstream.checkpoint.storage.background import Outcome, Writer
from hpcstream.checkpoint.storage.directory import CHECKPOINT, SAVEPOINT, Superseded, rank_file
from hpcstream.checkpoint.storage.staging import Staging
from hpcstream.checkpoint.writer import CutWriter, sink_error
from hpcstream.connectors.base import OutputPart
from hpcstream.errors import ConnectorError
from hpcstream.exchange.communicator import Communicator, gather_bytes
from hpcstream.kernels import warm_up
from hpcstream.log import say, warn
from hpcstream.memory.pool import process_pool
from hpcstream.operators.sink import SinkOperator
from hpcstream.runtime.checkpoints.preparing import Preparation
from hpcstream.runtime.checkpoints.task_state import commit_notice, task_facts
from hpcstream.runtime.control import Status
from hpcstream.runtime.tasks.task import Task

DUE, SAVEPOINT_DUE = 1, 2
"""Values of `Status.checkpoint`."""
STOP_AFTER_SAVEPOINT = 1
"""Value of `Status.stop`: stop with a savepoint, because the user asked for one."""

_KERNELS = ("snapshots", "partition", "gathering", "key_bytes")
_LOOK_EVERY_S = 0.5
_ABANDONED = "the job failed meanwhile"

Waiting = Generator[None, None, None]


class Checkpointing:
    """The checkpoints of one run on one rank.

    Parameters
    ----------
    comm : Communicator
        Private to this.
    session : Session
    plan : Plan
    writer : Writer
    clock : callable
        Seconds, monotonic.

    Attributes
    ----------
    completed : int
        Checkpoints that this run completed.
    check_outputs : callable
        Raises `ConnectorError` if another job has taken over where the sinks write.
    longest_copy_s : float
        The longest that rounds on this rank stood still for one.
    """

    def __init__(
        self,
        comm: Communicator,
        session: Session,
        plan: Plan,
        writer: Writer,
        clock: Callable[[], float],
    ) -> None:
        self.session = session
        self.writer = writer
        self.interval_s = 10.0
        self.keep = 3
        self.stop_on_failure = False
        self.check_outputs: Callable[[], None] = lambda: None
        self.completed = 0
        self.longest_copy_s = 0.0
        self.last_path: str | None = None
        self.comm = comm
        self._segments = SegmentMemory()
        self._reserve = Reserve(process_pool())
        self._preparation = Preparation(self._reserve, self._segments, writer, clock)
        self._cut_writer = CutWriter(session.store, comm.rank, self._reserve)
        self._plan = plan
        self._clock = clock
        self._numbers: dict[int, int] = {}  # id of a task to its number in the plan
        self._sinks: dict[int, SinkOperator] = {}
        self._next_number = session.next_number
        self._queue: deque[tuple[Cut, Waiting]] = deque()
        self._carried: dict[int, list[OutputPart]] = {}
        self._asked_s: float | None = None
        self._abandoned = False
        self._due_s = clock()
        self._look_s = clock()
        self._wants_savepoint = 0
        self.wants_stop = 0

    def attach(
        self, tasks: Sequence[Task], numbers: Sequence[int], sinks: Mapping[int, SinkOperator]
    ) -> None:
        """Say what a checkpoint of this rank is taken of."""
        self._numbers = {id(task): number for task, number in zip(tasks, numbers, strict=True)}
        self._sinks = dict(sinks)
        self._due_s = self._clock() + self.interval_s
        self._preparation.attach(tasks, self._numbers)
        self._preparation.schedule(self.interval_s)
        warm_up(_KERNELS)  # else the first copy waits for them
        load_hdf5()
        for task in tasks:
            task.on_cut = self._take

    def write_by_way_of(self, scratch: str) -> None:
        """Write files to a disk of the node first. Raises `CheckpointError`."""
        rank, store = self.comm.rank, self.session.store
        staging = Staging(scratch, store.directory, rank, say)
        self._cut_writer = CutWriter(store, rank, self._reserve, staging)

    def close(self) -> None:
        """Leave nothing on a disk of the node; after the writer is closed."""
        self._cut_writer.close()

    # -- in the loop -------------------------------------------------------------------

    def wanted(self) -> int:
        """Return, on rank 0, whether a checkpoint is due: for the next status."""
        if self._queue or self._abandoned:
            return 0
        self._preparation.go_on()
        if self.comm.rank or self._asked_s is not None:
            return 0
        now_s = self._clock()
        if now_s >= self._look_s:
            self._look_s = now_s + _LOOK_EVERY_S
            self._look_for_request()
        kind = SAVEPOINT_DUE if self._wants_savepoint else DUE
        if kind == DUE and (now_s < self._due_s or self.is_unready):
            return 0
        self._wants_savepoint = 0
        self._asked_s = now_s
        return kind

    @property
    def is_unready(self) -> bool:
        """Whether a copy now would make the rounds wait: for the next status, after `wanted`."""
        return bool(self._queue) or self._preparation.is_under_way

    def want_savepoint(self, *, stop: bool) -> None:
        """Take a savepoint as soon as possible; ``stop``: and end the job with it."""
        if stop:
            self.wants_stop = STOP_AFTER_SAVEPOINT
        else:
            self._wants_savepoint = 1

    def _look_for_request(self) -> None:
        request = self.session.store.take_request()
        if request is not None:
            self.want_savepoint(stop=bool(request.get("stop")))

    def begin(self, outcome: Status, round_number: int, tasks: Sequence[Task]) -> None:
        """Begin the checkpoint that is due at a round that no task has started. On all ranks alike.

        As long as any rank is not ready the checkpoint is put off, unless it is a savepoint.
        """
        asked_s, self._asked_s = self._asked_s, None
        kind = outcome.checkpoint
        if kind == DUE and outcome.unready:
            return
        if asked_s is not None:
            self._due_s = asked_s + self.interval_s
        name = SAVEPOINT if kind == SAVEPOINT_DUE else CHECKPOINT
        self._new_cut(name, round_number, tasks)
        for task in tasks:
            task.cut_round = round_number

    def _new_cut(self, kind: str, round_number: int, tasks: Sequence[Task]) -> Cut:
        waiting = {self._numbers[id(task)] for task in tasks}
        cut = Cut(self._next_number, self.session.first_round + round_number, kind, waiting)
        cut.abandoned = self._abandoned
        cut.began_s = self._clock()
        self._next_number += 1
        self._preparation.schedule(self.interval_s)
        self._queue.append((cut, self._procedure(cut)))
        return cut

    def _take(self, task: Task) -> None:
        """Copy the state of a task that has come to the cut."""
        cut = next(cut for cut, _ in self._queue if self._numbers[id(task)] in cut.waiting)
        started, cpu_started = time.perf_counter(), time.thread_time()
        number = self._numbers[id(task)]
        for operator in task.chain.operators:
            if isinstance(operator, SinkOperator):
                cut.durable[operator.number] = operator.sink.cut()
                cut.positions[operator.number] = operator.sink.position()
        cut.tasks[str(number)] = facts = task_facts(task)
        notice = commit_notice(task)
        if notice is not None:
            cut.notices.append(notice)
        if "source" in facts:
            facts["source"]["id"] = self._plan.sources[number]
        facts["tables"] = self._copy_states(cut, task, number)
        cut.waiting.discard(number)
        cut.copy_s += time.perf_counter() - started
        cut.copy_cpu_s += time.thread_time() - cpu_started
        self.longest_copy_s = max(self.longest_copy_s, cut.copy_s)

    def _copy_states(self, cut: Cut, task: Task, number: int) -> dict[str, Any]:
        """Copy the states of a task's operators; return where the segments of each are."""
        places = {}
        is_alone = cut.is_savepoint or len(self._queue) > 1  # else one before may yet fail
        for place, operator in enumerate(task.chain.operators):
            path = f"{number}/{place}"
            self._reserve.release(path)
            taken = take(operator.tables(), {} if is_alone else self._segments.known(path))
            if not taken.arrays:
                continue
            cut.sections.append(Section(path, taken.arrays))
            cut.finishes[path] = taken.finishes
            cut.state_bytes[path] = taken.n_bytes
            cut.copied_bytes += sum(array.nbytes for array in taken.arrays.values())
            cut.tables[path] = taken.tables
            cut.shared |= self._segments.files_of(taken.tables)
            places[str(place)] = [table.to_json() for table in taken.tables]
        return places

    def progress(self) -> bool:
        """Go on with the oldest checkpoint under way; return whether anything moved.

        Raises
        ------
        CheckpointError
            A sink failed, a newer attempt has begun, or a checkpoint failed and the
            job is to stop then.
        """
        if not self._queue:
            return False
        try:
            next(self._queue[0][1])
        except StopIteration:
            self._queue.popleft()
            return True
        except BaseException:
            self._queue.popleft()
            raise
        return False

    def abandon(self) -> None:
        """Complete no cut that is not complete yet: the job has failed."""
        self._abandoned = True
        for cut, _ in self._queue:
            cut.abandoned = cut.abandoned or bool(cut.waiting)

    def drain(self) -> Generator[None, None, Exception | None]:
        """Wait until nothing is under way; return what failed. Collective, after the last round."""
        failed = None
        while self._queue:
            try:
                self.progress()
            except Exception as error:
                failed = failed or error
            yield
        return failed

    def finish(self, tasks: Sequence[Task], *, kind: str, finished: bool) -> Waiting:
        """Take the last checkpoint, after the last round, and wait for it. Collective.

        Those under way are waited for first: it refers to what they have written.
        """
        failed = yield from self.drain()
        while self._preparation.is_under_way:
            yield
        round_number = max((task.next_round for task in tasks), default=0)
        cut = self._new_cut(kind, round_number, tasks)
        cut.finished = finished
        for task in tasks:
            task.has_caught_up()  # with its last round, which all ranks have closed
            self._take(task)
        if finished:
            for number, sink in self._sinks.items():
                before = cut.durable[number]
                parts = list(sink.sink.prepare())
                cut.durable[number] = _joined(before, parts)
                cut.positions[number] = sink.sink.position()
        failed = failed or (yield from self.drain())
        if failed is not None:
            raise failed

    # -- one checkpoint ----------------------------------------------------------------

    def _procedure(self, cut: Cut) -> Waiting:
        while cut.waiting and not cut.abandoned:
            yield
        written = yield from self._written(cut)
        failed = sink_error(written)
        own = report(cut, written, self._carried)
        texts = yield from gather_bytes(self.comm, json.dumps(own).encode())
        reports = [json.loads(text) for text in texts]
        verdict = yield from self._verdict(cut, reports)
        if failed is not None:
            raise failed
        if verdict is not None:
            self._segments.forget()
            self._carry(written)
            self._failed(cut, verdict)
            return
        yield from self._commit(reports)
        for notice in cut.notices:
            notice()
        self._remember(cut, written)

    def _remember(self, cut: Cut, written: Written) -> None:
        path = self.session.store.path(cut.number, cut.kind)
        self.completed += 1
        self.last_path = path
        if not cut.is_savepoint and written.file is not None:
            name = f"{os.path.basename(path)}/{rank_file(self.comm.rank)}"
            self._segments.complete(cut.tables, cut.shared, name, written.file)

    def _written(self, cut: Cut) -> Generator[None, None, Written]:
        if cut.abandoned:
            return Written(None, {}, _ABANDONED)
        outcome = self.writer.submit(lambda: self._cut_writer.write(cut))
        yield from _until(outcome)
        return outcome.result()

    def _verdict(self, cut: Cut, reports: Sequence[Report]) -> Generator[None, None, str | None]:
        """Complete the checkpoint if all ranks wrote theirs; return what went wrong."""
        verdict = errors_of(reports)
        if self.comm.rank == 0 and not verdict:
            outcome = self.writer.submit(lambda: self._complete(cut, reports))
            yield from _until(outcome)
            verdict = outcome.result()
        elif self.comm.rank == 0:
            path = self.session.store.path(cut.number, cut.kind)
            self.writer.submit(lambda: self.session.store.discard(path))
        (first, *_) = yield from gather_bytes(self.comm, verdict.encode())
        return first.decode() or None

    def _complete(self, cut: Cut, reports: Sequence[Report]) -> str:
        """Write the manifest; return what went wrong, or nothing. In the background."""
        store = self.session.store
        lacking = store.lacks(shared_files(reports))
        if lacking is not None:
            return f"{lacking}, which it refers to, is gone or not as it was"
        seconds = self._clock() - cut.began_s
        try:
            store.check_attempt(self.session.attempt)  # says more than that an output is gone
            self.check_outputs()
            made = manifest(cut, self._plan, self.session.attempt, reports, seconds)
            store.complete(store.path(cut.number, cut.kind), made)
        except (Superseded, ConnectorError) as error:
            return f"{_SUPERSEDED}{error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        store.prune(self.keep)
        return ""

    def _commit(self, reports: Sequence[Report]) -> Waiting:
        """Make the parts of all ranks visible: this rank's share."""
        self._carried = {}
        background: list[tuple[SinkOperator, list[OutputPart]]] = []
        for number, sink in self._sinks.items():
            parts = parts_of(number, reports)
            if sink.sink.commits_in_background:
                background.append((sink, parts))
            else:
                self.session.store.check_attempt(self.session.attempt)
                sink.sink.commit(parts)

        def commit() -> None:
            self.session.store.check_attempt(self.session.attempt)
            for sink, parts in background:
                sink.sink.commit(parts)

        if background:
            outcome = self.writer.submit(commit)
            yield from _until(outcome)
            outcome.result()

    def _carry(self, written: Written) -> None:
        """Keep parts that are durable, but not committed, for the next checkpoint."""
        for number, parts in written.parts.items():
            self._carried.setdefault(number, []).extend(parts)

    def _failed(self, cut: Cut, verdict: str) -> None:
        if verdict.startswith(_SUPERSEDED):
            raise Superseded(verdict.removeprefix(_SUPERSEDED))
        if cut.abandoned or _ABANDONED in verdict:
            return
        text = f"checkpoint {cut.number} failed: {verdict}"
        if self.stop_on_failure or cut.finished:
            raise CheckpointError(text)
        if self.comm.rank == 0:
            warn(f"{text}; the job goes on, and tries again in {self.interval_s:g} s")


_SUPERSEDED = "superseded: "


def _joined(
    before: Callable[[], Sequence[OutputPart]], parts: list[OutputPart]
) -> Callable[[], Sequence[OutputPart]]:
    return lambda: [*before(), *parts]


def _until(outcome: Outcome[Any]) -> Waiting:
    while not outcome.done:
        yield
