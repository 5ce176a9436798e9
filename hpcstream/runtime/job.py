"""One run of a job on this rank: plan, agree, run, commit, report. Collective throughout."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcstream.checkpoint.lease import Lease
from hpcstream.checkpoint.pending import Plan
from hpcstream.checkpoint.storage.background import BackgroundWriter, Writer
from hpcstream.checkpoint.storage.directory import CHECKPOINT, SAVEPOINT
from hpcstream.config import JobConfig
from hpcstream.environment import CHECKPOINT_DIR_FILE, LOST_HOST, seconds_of
from hpcstream.errors import HpcstreamError, JobStopped
from hpcstream.exchange.agree import let_one_speak, raise_together
from hpcstream.exchange.communicator import Communicator, gather_bytes
from hpcstream.graph.identity import (
    operator_identities,
    plan_fingerprint,
    source_identities,
    source_origins,
)
from hpcstream.graph.logical import LogicalGraph, SideNode
from hpcstream.graph.physical import PhysicalGraph
from hpcstream.graph.planner import plan
from hpcstream.log import complain, say
from hpcstream.observability.metrics import RankReport
from hpcstream.observability.progress import (
    LOG_EVERY_S,
    LOG_FIRST_S,
    ProgressLine,
    terminal_width,
)
from hpcstream.observability.result import JobResult, collect_result
from hpcstream.operators.windows.definition import LATE
from hpcstream.process import tracebacks
from hpcstream.process.early_exit import as_error
from hpcstream.process.failure import failure_of, mark_agreed, mark_shown
from hpcstream.process.family import end_if_child
from hpcstream.process.stop_signals import AskedToStop, StopRequest
from hpcstream.runtime.checkpoints.coordinator import STOP_AFTER_SAVEPOINT, Checkpointing
from hpcstream.runtime.checkpoints.restoring import Restored, open_directory
from hpcstream.runtime.loop.waking import IDLE_SLEEP_S
from hpcstream.runtime.loop.worker import Clock
from hpcstream.runtime.run.assembly import (
    Setup,
    Start,
    agree_on_plan,
    set_up,
    unharmed,
)
from hpcstream.runtime.run.assignment import deal_splits
from hpcstream.runtime.run.output_claims import OutputClaims, claim, refuse_own_input, take_back
from hpcstream.runtime.run.rank_report import rank_report, rows_read
from hpcstream.runtime.run.sharing import share_collected
from hpcstream.runtime.sources.discovery import Begin, in_thread
from hpcstream.runtime.stall.heartbeat import Heartbeat, process_places
from hpcstream.runtime.stall.monitor import StallMonitor
from hpcstream.runtime.stall.waits import Wait, what_is_awaited, what_is_done

Running = Generator[bool, None, JobResult]

_ROUNDS = "running rounds"

OTHERS_FIRST_S = 3.0
"""How much longer than a rank in a function, which says which, the ranks that wait for it take."""


@dataclass
class JobRun:
    """One run on one rank, as a generator that a driver steps.

    Parameters
    ----------
    name : str
    graph : LogicalGraph
    config : JobConfig
    comm : Communicator
        Private to this run.
    clock : callable
        Seconds, monotonic.
    stop : StopRequest
        Asks this rank to stop.
    writer : Writer
        Writes checkpoints.
    begin_discovery : callable
        How sources are asked for new splits.
    time_of_day : callable
        Seconds since the epoch.
    """

    name: str
    graph: LogicalGraph
    config: JobConfig
    comm: Communicator
    clock: Clock = time.monotonic
    stop: StopRequest = field(default_factory=AskedToStop)
    writer: Writer = field(default_factory=BackgroundWriter)
    begin_discovery: Begin = in_thread
    time_of_day: Clock = time.time
    setup: Setup | None = field(default=None, init=False)
    _physical: PhysicalGraph | None = field(default=None, init=False)
    _stage: str = field(default="making the plan", init=False)
    _checkpoints: Checkpointing | None = field(default=None, init=False)
    _restored: Restored | None = field(default=None, init=False)
    _start: Start = field(default_factory=Start, init=False)
    _lease: Lease | None = field(default=None, init=False)
    _claims: OutputClaims = field(default_factory=OutputClaims, init=False)
    _opened_s: float = field(default=0.0, init=False)

    def run(self) -> Running:
        """Run the job. Collective; yields whether anything moved.

        Raises
        ------
        PlanError
            On every rank alike, before any row is read.
        Exception
            The rank that failed raises what failed, the others `RemoteError`.
        """
        lost_host_s = seconds_of(LOST_HOST, float("inf"))
        monitor = StallMonitor(
            self.comm.rank, self.comm.size, self.config.stall_timeout_s, lost_host_s
        )
        heartbeat = Heartbeat(self.comm, self.clock, monitor, self._doing)
        running = self._run(monitor)
        try:
            while True:
                moved = next(running)
                if heartbeat.turn(moved):
                    self._now_and_then(heartbeat)
                yield moved
        except StopIteration as stop:
            result: JobResult = stop.value
            return result
        except BaseException as error:
            end_if_child(error)
            if failure_of(error).is_agreed:
                yield from _waiting(let_one_speak(error, self.comm))
                raise
            raise as_error(error)  # noqa: B904  the same, unless it is an exit
        finally:
            running.close()
            self._leave_directory()
            if self.setup is not None:
                self.setup.telemetry.clear_line()
                self.setup.leave()

    # -- what a driver asks when nothing moves -----------------------------------------

    @property
    def is_quiet(self) -> bool:
        """Whether rounds are running, and no rank had rows in the last ones."""
        return self._stage == _ROUNDS and self.setup is not None and self.setup.worker.is_quiet

    def sleep_limit_s(self) -> float:
        """Return how long this rank may sleep."""
        return IDLE_SLEEP_S if self.setup is None else self.setup.worker.sleep_limit_s()

    def sleep(self, seconds: float) -> bool:
        """Sleep until something comes for this rank; False if the time was over."""
        assert self.setup is not None, "a job is quiet only once it runs"
        return self.setup.worker.sleep(seconds)

    def doing(self) -> str:
        """Return what this rank works on, in words; may be asked in another thread."""
        return self._doing(False).what

    def _now_and_then(self, heartbeat: Heartbeat) -> None:
        """Do what is to be done a few times a second, whatever happens."""
        self.stop.note_turn()
        limit_s = self.config.stop_grace_s + OTHERS_FIRST_S
        if self.stop.unanswered_s() > limit_s and heartbeat.is_dead(limit_s):
            complain(
                f"asked to stop, the ranks gave no answer for {limit_s:.0f} s: rank "
                f"{self.comm.rank} waited for {self._doing(True).what}; ending all ranks"
            )
            self.comm.abort(self.stop.status)
        if self.setup is not None:
            self.setup.telemetry.poll()

    def _doing(self, stalled: bool) -> Wait:
        """Return what this rank waits for, or works on, for the ranks that ask."""
        if self._stage != _ROUNDS or self.setup is None or self._physical is None:
            return Wait(f"the other ranks, while {self._stage}" if stalled else self._stage)
        worker = self.setup.worker
        if stalled:
            return what_is_awaited(worker, self._physical)
        return Wait(what_is_done(worker))

    def _run(self, monitor: StallMonitor) -> Running:
        error, physical = None, None
        try:
            physical = plan(
                self.graph,
                self.comm.size,
                local_aggregation=self.config.local_aggregation,
                reproducible=self.config.reproducible,
            )
        except BaseException as failure:
            error = failure
        yield from _waiting(raise_together(error, self.comm))
        assert physical is not None
        self._physical = physical
        yield from _waiting(agree_on_plan(physical, self.config, self.comm))
        yield from _waiting(refuse_own_input(self.graph, self.comm))
        monitor.places = yield from _waiting(process_places(self.comm))
        self._start = yield from self._open_directory(physical)
        store = None if self._checkpoints is None else self._checkpoints.session.store
        yield from _waiting(claim(self._claims, self.graph, self.name, store, self.comm))
        setup = yield from self._set_up(physical)
        setup.telemetry.line = self._line()
        started_s = self.clock()
        rows_before = rows_read(setup)
        try:
            yield from self._work(setup)
            self._stage = "writing out the end"
            yield from _waiting(self._end(setup))
        except BaseException as error:
            self._take_back(setup)
            if failure_of(error).is_agreed:
                setup.close()
            raise
        report = rank_report(setup, self.clock() - started_s, rows_before)
        result = yield from self._result(physical, report)
        if not setup.worker.outcome.stop:
            yield from _waiting(share_collected(self.graph, self.comm))
        setup.close()
        self._say_stopped(result)
        return result

    def _take_back(self, setup: Setup) -> None:
        """Remove what the sinks wrote, unless a checkpoint may list what is not yet renamed."""
        for sink in setup.sinks.values():
            with unharmed("taking back what a sink had written"):
                if self._checkpoints is None:
                    sink.sink.abort()
                else:
                    session = self._checkpoints.session
                    take_back([sink], session.store, session.attempt)

    # -- checkpoints -------------------------------------------------------------------

    def _open_directory(self, physical: PhysicalGraph) -> Generator[bool, None, Start]:
        """Begin an attempt in the checkpoint directory, if there is one."""
        if self.config.checkpoint_dir is None:
            return Start()
        self._stage = "opening the checkpoint directory"
        if self.comm.rank == 0:
            report_checkpoint_dir(self.config.checkpoint_dir)
        self._opened_s = self.clock()
        plan = self._plan_facts(physical)
        opened = yield from _waiting(open_directory(self.config, plan, self.comm))
        session, self._restored, self._lease = opened
        checkpoints = Checkpointing(self.comm.duplicate(), session, plan, self.writer, self.clock)
        checkpoints.interval_s = self.config.checkpoint_interval_s
        checkpoints.keep = self.config.keep
        checkpoints.check_outputs = self._claims.check
        checkpoints.stop_on_failure = self.config.on_checkpoint_failure == "stop"
        self._checkpoints = checkpoints
        error = None
        try:
            if self.config.scratch_dir is not None:
                checkpoints.write_by_way_of(self.config.scratch_dir)
        except BaseException as failure:
            error = failure
        yield from _waiting(raise_together(error, self.comm))
        return Start(session.attempt, self._restored)

    def _plan_facts(self, physical: PhysicalGraph) -> Plan:
        identities = operator_identities(physical)
        sinks = {}
        for task in physical.tasks:
            for index, operator in enumerate(task.operators):
                if operator.sink_number is not None:
                    (sinks[operator.sink_number],) = (
                        identity.id
                        for identity in identities
                        if (identity.task, identity.index) == (task.number, index)
                    )
        return Plan(
            self.name,
            plan_fingerprint(physical),
            physical.size,
            identities,
            source_identities(physical),
            sinks,
            source_origins(physical),
        )

    def _leave_directory(self) -> None:
        if self._restored is not None:
            self._restored.close()
        self.writer.close()
        if self._checkpoints is not None:
            self._checkpoints.close()
        self._claims.release()
        if self._lease is not None:
            self._lease.release()  # last: until now something was still written

    def _set_up(self, physical: PhysicalGraph) -> Generator[bool, None, Setup]:
        self._stage = "listing the splits of sources"
        start = replace(self._start, begin_discovery=self.begin_discovery)
        dealt = yield from _waiting(deal_splits(physical, self.config, self.comm, start.restored))
        self._stage = "opening sources and sinks"
        self.setup = yield from _waiting(
            set_up(physical, dealt, self.config, self.comm, self.clock, start, self.time_of_day)
        )
        setup, checkpoints = self.setup, self._checkpoints
        setup.worker.stop = self.stop
        if checkpoints is not None:
            setup.communicators.append(checkpoints.comm)
            numbers = [plan.number for plan in setup.plans]
            checkpoints.attach(setup.worker.tasks, numbers, setup.sinks)
            if self.config.stop_after_savepoint and not self._is_finished:
                checkpoints.want_savepoint(stop=True)
            if not self._is_finished:
                setup.worker.checkpoints = checkpoints
        if self._restored is not None:
            self._say_restored(self._restored, self.clock() - self._opened_s)
            self._restored.close()
        return setup

    @property
    def _is_finished(self) -> bool:
        """Whether the checkpoint that was restored says that nothing is left to do."""
        return self._restored is not None and self._restored.manifest.finished

    def _say_restored(self, restored: Restored, seconds: float) -> None:
        if self.comm.rank:
            return
        manifest = restored.manifest
        if manifest.finished:
            say(
                f"job {manifest.job!r} in {self.config.checkpoint_dir!r} is finished already: "
                "nothing was read (restore_from=None would start it afresh)"
            )
            return
        ranks = "" if manifest.size == self.comm.size else f" of {manifest.size} ranks"
        say(
            f"going on from {restored.path}{ranks}, round {manifest.round}, restored in "
            f"{seconds:.2f} s"
        )

    def _end(self, setup: Setup) -> Generator[None, None, None]:
        """Commit what the job wrote: all of it, or up to where it stopped."""
        stop, checkpoints = setup.worker.outcome.stop, self._checkpoints
        if checkpoints is None:
            if not stop:
                yield from self._commit(setup)
        elif not self._is_finished:
            kind = SAVEPOINT if stop == STOP_AFTER_SAVEPOINT else CHECKPOINT
            tasks = setup.worker.tasks
            error = None
            try:
                yield from checkpoints.finish(tasks, kind=kind, finished=not stop)
            except Exception as failure:
                error = failure
            yield from raise_together(error, self.comm)
        if stop:
            for sink in setup.sinks.values():
                sink.sink.abort()

    def _say_stopped(self, result: JobResult) -> None:
        """Raise `JobStopped` if the job was asked to stop. On all ranks."""
        assert self.setup is not None
        stop = self.setup.worker.outcome.stop
        if not stop:
            return
        result.status = "stopped"
        path = None if self._checkpoints is None else self._checkpoints.last_path
        text = "nothing was committed" if path is None else f"to go on from {path}"
        if self.comm.rank == 0:
            say(f"stopped, {text}")
        stopped = JobStopped(0 if stop == STOP_AFTER_SAVEPOINT else stop)
        stopped.result = result
        mark_agreed(stopped)
        mark_shown(stopped)
        raise stopped

    def _work(self, setup: Setup) -> Generator[bool, None, None]:
        worker = setup.worker
        self._stage = _ROUNDS
        for moved in worker.run():
            yield moved
            if not moved and worker.failed_too_long():
                self._give_up(worker.error)
        self.stop.answer()
        yield from _waiting(setup.telemetry.drain())
        if self._checkpoints is not None:
            failed = yield from _waiting(self._checkpoints.drain())
            worker.error = worker.error or failed
        yield from _waiting(raise_together(worker.error, self.comm))

    def _line(self) -> ProgressLine | None:
        """Return the live line, on rank 0; in a log a line a minute unless more are wanted."""
        if self.comm.rank or self.config.progress is False:
            return None
        width = terminal_width(os.environ, shutil.get_terminal_size().columns)
        if self.config.progress:
            return ProgressLine(self.name, width)
        return ProgressLine(self.name, width, every_s=LOG_EVERY_S, first_s=LOG_FIRST_S)

    def _give_up(self, error: BaseException | None) -> None:
        if error is not None:
            tracebacks.show(error)
        complain(
            f"rank {self.comm.rank} failed and the other ranks did not answer within "
            f"{self.config.abort_timeout_s:g} s; ending all ranks"
        )
        self.comm.abort(1)

    def _commit(self, setup: Setup) -> Generator[None, None, None]:
        """Make the parts of all sinks durable on all ranks; then, and only then, visible."""
        prepared: dict[int, list[Any]] = {}
        text = ""
        error: BaseException | None = None
        try:
            for number, operator in sorted(setup.sinks.items()):
                prepared[number] = list(operator.sink.prepare())
            text = json.dumps(prepared)
            self._claims.check()
        except BaseException as failure:
            error = failure
        yield from raise_together(error, self.comm)
        texts = yield from gather_bytes(self.comm, text.encode())
        everyone = [json.loads(text) for text in texts]
        try:
            for number, operator in sorted(setup.sinks.items()):
                parts = [part for rank in everyone for part in rank.get(str(number), [])]
                operator.sink.commit(parts)
        except BaseException as failure:
            error = failure
        yield from raise_together(error, self.comm)

    def _result(self, physical: PhysicalGraph, own: RankReport) -> Generator[bool, None, JobResult]:
        texts = yield from _waiting(gather_bytes(self.comm, own.to_json().encode()))
        reports = [RankReport.from_json(text.decode()) for text in texts]
        result = collect_result(self.name, physical.size, reports)
        result.rank = self.comm.rank
        result.was_finished = self._is_finished
        result.reads_late_rows = any(
            isinstance(one, SideNode) and one.output == LATE for one in self.graph.nodes()
        )
        if self._checkpoints is not None:
            result.checkpoints = self._checkpoints.completed
        return result


def report_checkpoint_dir(directory: str) -> None:
    """Write the path of the checkpoint directory for the process that may restart this job."""
    path = os.environ.get(CHECKPOINT_DIR_FILE)
    if path:
        with suppress(OSError):  # of another host
            Path(path).write_text(os.path.abspath(directory))


def _waiting(procedure: Generator[None, None, Any]) -> Generator[bool, None, Any]:
    """Turn a procedure's waits into the driver's word for them: nothing moved."""
    result = None
    while True:
        try:
            next(procedure)
        except StopIteration as stop:
            result = stop.value
            return result
        yield False


__all__ = ["HpcstreamError", "JobResult", "JobRun"]
