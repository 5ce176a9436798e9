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
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpcstream.checkpoint.format import CheckpointError, Section, WrittenFile, write_file
from hpcstream.checkpoint.manifest import Manifest, StoredOperator
from hpcstream.checkpoint.store import (
    CHECKPOINT,
    SAVEPOINT,
    CheckpointStore,
    Superseded,
    rank_file,
)
from hpcstream.checkpoint.writer import Outcome, Writer
from hpcstream.connectors.base import Part
from hpcstream.exchange.communicator import Communicator, gather_bytes
from hpcstream.graph.identity import OperatorIdentity
from hpcstream.operators.sink import SinkOperator
from hpcstream.runtime.task import SourceTask, Task
from hpcstream.runtime.task_state import operator_states, task_facts

DUE, SAVEPOINT_DUE = 1, 2
"""Values of `Status.checkpoint`."""
STOP_AFTER_SAVEPOINT = 1
"""Value of `Status.stop`: stop with a savepoint, because the user asked for one."""

TASKS = "tasks"
_LOOK_EVERY_S = 0.5
_ABANDONED = "the job failed meanwhile"

Waiting = Generator[None, None, None]


@dataclass(frozen=True)
class Plan:
    """What a manifest says of the job.

    Attributes
    ----------
    job, fingerprint : str
    size : int
    operators : list of OperatorIdentity
        Of the whole plan.
    sources, sinks : dict of int to str
        Number of each source's task, and of each sink, to its id.
    """

    job: str
    fingerprint: str
    size: int
    operators: Sequence[OperatorIdentity]
    sources: Mapping[int, str]
    sinks: Mapping[int, str]


@dataclass(frozen=True)
class Session:
    """The checkpoint directory as this run uses it.

    Attributes
    ----------
    store : CheckpointStore
    attempt : int
        Number of this run.
    next_number : int
        Of the next checkpoint.
    first_round : int
        Round at which this run began.
    """

    store: CheckpointStore
    attempt: int
    next_number: int
    first_round: int = 0


@dataclass
class Cut:
    """One checkpoint under way on this rank.

    Attributes
    ----------
    waiting : set of int
        Tasks that have not come to the round of the cut.
    """

    number: int
    round: int
    kind: str
    waiting: set[int]
    finished: bool = False
    abandoned: bool = False
    began_s: float = 0.0
    copy_s: float = 0.0
    sections: list[Section] = field(default_factory=list)
    tasks: dict[str, Any] = field(default_factory=dict)
    durable: dict[int, Callable[[], Sequence[Part]]] = field(default_factory=dict)
    positions: dict[int, Any] = field(default_factory=dict)
    state_bytes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """What the background wrote for a cut."""

    file: WrittenFile | None
    parts: dict[int, list[Part]]
    error: str | None = None


class SinkFailed(CheckpointError):
    """Rows that a sink took in could not be made durable."""


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
        self.completed = 0
        self.longest_copy_s = 0.0
        self.last_path: str | None = None
        self.comm = comm
        self._plan = plan
        self._clock = clock
        self._numbers: dict[int, int] = {}  # id of a task to its number in the plan
        self._sinks: dict[int, SinkOperator] = {}
        self._next_number = session.next_number
        self._queue: deque[tuple[Cut, Waiting]] = deque()
        self._carried: dict[int, list[Part]] = {}
        self._asked = False
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
        for task in tasks:
            task.on_cut = self._take

    # -- in the loop -------------------------------------------------------------------

    def wanted(self) -> int:
        """Return, on rank 0, whether a checkpoint is due: for the next status."""
        if self.comm.rank or self._asked or self._queue or self._abandoned:
            return 0
        now_s = self._clock()
        if now_s >= self._look_s:
            self._look_s = now_s + _LOOK_EVERY_S
            self._look_for_request()
        kind = SAVEPOINT_DUE if self._wants_savepoint else DUE
        if kind == DUE and now_s < self._due_s:
            return 0
        self._wants_savepoint = 0
        self._due_s = now_s + self.interval_s
        self._asked = True
        return kind

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

    def begin(self, kind: int, round_number: int, tasks: Sequence[Task]) -> None:
        """Begin a checkpoint at a round that no task has started. On all ranks alike."""
        self._asked = False
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
        self._queue.append((cut, self._procedure(cut)))
        return cut

    def _take(self, task: Task) -> None:
        """Copy the state of a task that has come to the cut."""
        cut = next(cut for cut, _ in self._queue if self._numbers[id(task)] in cut.waiting)
        started = time.perf_counter()
        number = self._numbers[id(task)]
        for operator in task.chain.operators:
            if isinstance(operator, SinkOperator):
                cut.durable[operator.number] = operator.cut()
                cut.positions[operator.number] = operator.position()
        for place, state in operator_states(task):
            path = f"{number}/{place}"
            cut.sections.append(Section(path, state))
            cut.state_bytes[path] = sum(array.nbytes for array in state.values())
        cut.tasks[str(number)] = facts = task_facts(task)
        if "source" in facts:
            facts["source"]["id"] = self._plan.sources[number]
        cut.waiting.discard(number)
        cut.copy_s += time.perf_counter() - started
        self.longest_copy_s = max(self.longest_copy_s, cut.copy_s)

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
        """Take the last checkpoint, after the last round, and wait for it. Collective."""
        round_number = max((task.next_round for task in tasks), default=0)
        cut = self._new_cut(kind, round_number, tasks)
        cut.finished = finished
        for task in tasks:
            self._take(task)
        if finished:
            for number, sink in self._sinks.items():
                before = cut.durable[number]
                parts = list(sink.sink.prepare())
                cut.durable[number] = _joined(before, parts)
                cut.positions[number] = sink.position()
        failed = yield from self.drain()
        if failed is not None:
            raise failed

    # -- one checkpoint ----------------------------------------------------------------

    def _procedure(self, cut: Cut) -> Waiting:
        while cut.waiting and not cut.abandoned:
            yield
        written = yield from self._written(cut)
        sink_error = _sink_error(written)
        texts = yield from gather_bytes(self.comm, json.dumps(self._report(cut, written)).encode())
        reports = [json.loads(text) for text in texts]
        verdict = yield from self._verdict(cut, reports)
        if sink_error is not None:
            raise sink_error
        if verdict is None:
            yield from self._commit(reports)
            self.completed += 1
            self.last_path = self.session.store.path(cut.number, cut.kind)
        else:
            self._carry(written)
            self._failed(cut, verdict)

    def _written(self, cut: Cut) -> Generator[None, None, Written]:
        if cut.abandoned:
            return Written(None, {}, _ABANDONED)
        outcome = self.writer.submit(lambda: self._write(cut))
        yield from _until(outcome)
        return outcome.result()

    def _write(self, cut: Cut) -> Written:
        """Make rows and state of a cut durable. In the background; raises nothing."""
        parts: dict[int, list[Part]] = {}
        try:
            for number, make_durable in cut.durable.items():
                parts[number] = list(make_durable())
        except Exception as error:
            return Written(None, parts, f"{_SINK}{type(error).__name__}: {error}")
        facts = np.frombuffer(json.dumps(cut.tasks).encode(), dtype=np.uint8)
        sections = [*cut.sections, Section(TASKS, {"facts": facts})]
        try:
            directory = self.session.store.begin(cut.number, cut.kind)
            file = write_file(f"{directory}/{rank_file(self.comm.rank)}", sections)
        except Exception as error:
            return Written(None, parts, f"{type(error).__name__}: {error}")
        cut.sections.clear()
        return Written(file, parts)

    def _report(self, cut: Cut, written: Written) -> dict[str, Any]:
        parts = {number: [*self._carried.get(number, ()), *new] for number, new in
                 written.parts.items()}  # fmt: skip
        return {
            "error": written.error,
            "file": None if written.file is None else written.file.to_json(),
            "parts": parts,
            "positions": cut.positions,
            "state_bytes": cut.state_bytes,
            "rows": sum(
                facts["source"]["rows"] for facts in cut.tasks.values() if "source" in facts
            ),
            "watermark": _least(
                facts.get("source", facts)["watermark"] for facts in cut.tasks.values()
            ),
            "copy_s": cut.copy_s,
        }

    def _verdict(
        self, cut: Cut, reports: list[dict[str, Any]]
    ) -> Generator[None, None, str | None]:
        """Complete the checkpoint if all ranks wrote theirs; return what went wrong."""
        failed = [f"rank {r}: {one['error']}" for r, one in enumerate(reports) if one["error"]]
        verdict = "; ".join(failed)
        if self.comm.rank == 0 and not failed:
            outcome = self.writer.submit(lambda: self._complete(cut, reports))
            yield from _until(outcome)
            verdict = outcome.result()
        elif self.comm.rank == 0:
            path = self.session.store.path(cut.number, cut.kind)
            self.writer.submit(lambda: self.session.store.discard(path))
        (first, *_) = yield from gather_bytes(self.comm, verdict.encode())
        return first.decode() or None

    def _complete(self, cut: Cut, reports: list[dict[str, Any]]) -> str:
        """Write the manifest; return what went wrong, or nothing. In the background."""
        store = self.session.store
        try:
            store.complete(store.path(cut.number, cut.kind), self._manifest(cut, reports))
        except Superseded as error:
            return f"{_SUPERSEDED}{error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        store.prune(self.keep)
        return ""

    def _manifest(self, cut: Cut, reports: list[dict[str, Any]]) -> Manifest:
        operators = []
        for one in self._plan.operators:
            path = f"{one.task}/{one.place}"
            sizes = [report["state_bytes"].get(path) for report in reports]
            if any(size is not None for size in sizes):
                total = sum(size or 0 for size in sizes)
                operators.append(
                    StoredOperator(
                        one.task, one.place, one.id, one.role, one.signature, one.ranks, total
                    )
                )
        return Manifest(
            number=cut.number,
            attempt=self.session.attempt,
            round=cut.round,
            size=self._plan.size,
            job=self._plan.job,
            fingerprint=self._plan.fingerprint,
            kind=cut.kind,
            finished=cut.finished,
            files=[WrittenFile.from_json(report["file"]) for report in reports],
            operators=operators,
            sources=list(self._plan.sources.values()),
            sinks={name: _sink_record(n, reports) for n, name in self._plan.sinks.items()},
            facts={
                "created": time.strftime("%Y-%m-%d %H:%M:%S"),
                "seconds": self._clock() - cut.began_s,
                "pause_s": max(report["copy_s"] for report in reports),
                "rows_in": sum(report["rows"] for report in reports),
                "watermark": _least(report["watermark"] for report in reports),
                "bytes": sum(report["file"]["bytes"] for report in reports),
            },
        )

    def _commit(self, reports: list[dict[str, Any]]) -> Waiting:
        """Make the parts of all ranks visible: this rank's share."""
        self._carried = {}
        background: list[tuple[SinkOperator, list[Part]]] = []
        for number, sink in self._sinks.items():
            parts = _parts_of(number, reports)
            if sink.commits_in_background:
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
            say(f"{text}; the job goes on, and tries again in {self.interval_s:g} s")


_SINK = "sink: "
_SUPERSEDED = "superseded: "


def say(text: str) -> None:
    """Tell the user; called on one rank."""
    print(f"hpcstream: {text}", file=sys.stderr, flush=True)


def _joined(
    before: Callable[[], Sequence[Part]], parts: list[Part]
) -> Callable[[], Sequence[Part]]:
    return lambda: [*before(), *parts]


def _until(outcome: Outcome[Any]) -> Waiting:
    while not outcome.done:
        yield


def _sink_error(written: Written) -> SinkFailed | None:
    if written.error is None or not written.error.startswith(_SINK):
        return None
    return SinkFailed(f"rows could not be written: {written.error.removeprefix(_SINK)}")


def _parts_of(number: int, reports: list[dict[str, Any]]) -> list[Part]:
    return [part for report in reports for part in report["parts"].get(str(number), ())]


def _sink_record(number: int, reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a manifest holds of a sink; positions in the order of its instances."""
    found = [r["positions"][str(number)] for r in reports if str(number) in r["positions"]]
    return {"parts": _parts_of(number, reports), "positions": found}


def _least(marks: Any) -> int | None:
    return min((mark for mark in marks if mark is not None), default=None)


__all__ = ["Checkpointing", "Cut", "Plan", "Session", "SinkFailed", "SourceTask", "say"]
