"""One run of a job on this rank: plan, agree, run, commit, report. Collective throughout."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from hpcstream.config import JobConfig
from hpcstream.errors import HpcstreamError
from hpcstream.exchange import tracebacks
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, gather_bytes
from hpcstream.graph.logical import LogicalGraph
from hpcstream.graph.physical import PhysicalGraph
from hpcstream.graph.planner import plan
from hpcstream.observability.metrics import JobResult, RankReport, collect_result
from hpcstream.observability.progress import ProgressLine, terminal_width
from hpcstream.observability.stall import StallMonitor
from hpcstream.runtime.heartbeat import Heartbeat, process_places
from hpcstream.runtime.report import rank_report
from hpcstream.runtime.setup import Setup, agree_on_plan, deal_splits, set_up
from hpcstream.runtime.waits import Wait, what_is_awaited, what_is_done
from hpcstream.runtime.worker import Clock

Running = Generator[bool, None, JobResult]

_ROUNDS = "running rounds"


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
    """

    name: str
    graph: LogicalGraph
    config: JobConfig
    comm: Communicator
    clock: Clock = time.monotonic
    setup: Setup | None = field(default=None, init=False)
    _physical: PhysicalGraph | None = field(default=None, init=False)
    _stage: str = field(default="making the plan", init=False)

    def run(self) -> Running:
        """Run the job. Collective; yields whether anything moved.

        Raises
        ------
        PlanError
            On every rank alike, before any row is read.
        Exception
            The rank that failed raises what failed, the others `RemoteError`.
        """
        monitor = StallMonitor(self.comm.rank, self.comm.size, self.config.stall_timeout_s)
        heartbeat = Heartbeat(self.comm, self.clock, monitor, self._doing)
        running = self._run(monitor)
        try:
            while True:
                moved = next(running)
                if heartbeat.turn(moved) and self.setup is not None:
                    self.setup.telemetry.poll()
                yield moved
        except StopIteration as stop:
            result: JobResult = stop.value
            return result
        finally:
            running.close()
            if self.setup is not None:
                self.setup.telemetry.clear_line()

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
                self.graph, self.comm.size, local_aggregation=self.config.local_aggregation
            )
        except Exception as failure:
            error = failure
        yield from _waiting(raise_together(error, self.comm))
        assert physical is not None
        self._physical = physical
        yield from _waiting(agree_on_plan(physical, self.config, self.comm))
        monitor.places = yield from _waiting(process_places(self.comm))
        setup = yield from self._set_up(physical)
        setup.telemetry.line = self._line()
        started_s = self.clock()
        try:
            yield from self._work(setup)
            self._stage = "writing out the end"
            yield from _waiting(self._commit(setup))
        except BaseException as error:
            for sink in setup.sinks.values():
                sink.sink.abort()
            if getattr(error, "agreed_by_all_ranks", False):
                setup.close()
            raise
        result = yield from self._result(physical, setup, self.clock() - started_s)
        setup.close()
        return result

    def _set_up(self, physical: PhysicalGraph) -> Generator[bool, None, Setup]:
        self._stage = "listing the splits of sources"
        dealt = yield from _waiting(deal_splits(physical, self.comm))
        self._stage = "opening sources and sinks"
        self.setup = yield from _waiting(
            set_up(physical, dealt, self.config, self.comm, self.clock)
        )
        return self.setup

    def _work(self, setup: Setup) -> Generator[bool, None, None]:
        worker = setup.worker
        self._stage = _ROUNDS
        for moved in worker.run():
            yield moved
            if not moved and worker.failed_too_long():
                self._give_up(worker.error)
        yield from _waiting(setup.telemetry.drain())
        yield from _waiting(raise_together(worker.error, self.comm))

    def _line(self) -> ProgressLine | None:
        """Return the live line: on rank 0, if it is wanted and can be seen."""
        if self.comm.rank or self.config.progress is False:
            return None
        width = terminal_width(sys.stderr, os.environ, shutil.get_terminal_size().columns)
        if width == 0 and not self.config.progress:
            return None
        return ProgressLine(self.name, sys.stderr, width)

    def _give_up(self, error: BaseException | None) -> None:
        if error is not None:
            tracebacks.show(error)
        print(
            f"hpcstream: rank {self.comm.rank} failed and the other ranks did not answer within "
            f"{self.config.abort_timeout_s:g} s; ending all ranks",
            file=sys.stderr,
            flush=True,
        )
        self.comm.abort(1)

    def _commit(self, setup: Setup) -> Generator[None, None, None]:
        """Make every sink's parts durable on all ranks, then visible."""
        for number in range(len(self.graph.sinks)):
            operator = setup.sinks.get(number)
            parts: list[Any] = []
            error: Exception | None = None
            try:
                parts = [] if operator is None else list(operator.sink.prepare())
            except Exception as failure:
                error = failure
            yield from raise_together(error, self.comm)
            texts = yield from gather_bytes(self.comm, json.dumps(parts).encode())
            everyone = [part for text in texts for part in json.loads(text)]
            try:
                if operator is not None:
                    operator.sink.commit(everyone)
            except Exception as failure:
                error = failure
            yield from raise_together(error, self.comm)

    def _result(
        self, physical: PhysicalGraph, setup: Setup, seconds: float
    ) -> Generator[bool, None, JobResult]:
        own = rank_report(setup, seconds)
        texts = yield from _waiting(gather_bytes(self.comm, own.to_json().encode()))
        reports = [RankReport.from_json(text.decode()) for text in texts]
        return collect_result(self.name, physical.size, reports)


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
