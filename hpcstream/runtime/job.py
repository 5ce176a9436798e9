"""One run of a job on this rank: plan, agree, run, commit, report. Collective throughout."""

from __future__ import annotations

from hpcstream.checkpoint.pending import PlanManifest
from hpcstream.exchange.agree import let_one_speak, raise_together
from hpcstream.exchange.communicator import Procedure
from hpcstream.graph.logical import LogicalGraph
from hpcstream.graph.physical import PhysicalGraph
from hpcstream.graph.planner import plan
from hpcstream.log import complain, say
from hpcstream.observability.result import JobResult
from hpcstream.process import tracebacks
from hpcstream.process.early_exit import as_error
from hpcstream.process.failure import failure_of
from hpcstream.process.family import end_if_child
from hpcstream.runtime.checkpoints.run_directory import (
    RunDirectory,
    open_run_directory,
    restored_text,
)
from hpcstream.runtime.procedure import Turns, as_turns
from hpcstream.runtime.run.agree_on_plan import agree_on_plan
from hpcstream.runtime.run.assembly import set_up
from hpcstream.runtime.run.assignment import assign_splits
from hpcstream.runtime.run.context import RunContext, RunStart
from hpcstream.runtime.run.ending import end_run, take_back_all
from hpcstream.runtime.run.output_claims import OutputClaims, claim, refuse_own_input
from hpcstream.runtime.run.parts import RankParts
from hpcstream.runtime.run.rank_report import rank_report
from hpcstream.runtime.run.results import gather_result, stopped
from hpcstream.runtime.run.sharing import share_collected
from hpcstream.runtime.run.watch import RunWatch
from hpcstream.runtime.stall.heartbeat import process_names
from hpcstream.runtime.telemetry.live_line import live_line


class JobRun:
    """One run on one rank, as a generator that a driver steps.

    Parameters
    ----------
    name : str
    graph : LogicalGraph
    context : RunContext

    Attributes
    ----------
    parts : RankParts or None
        What this rank has of the job, once the ranks have agreed on the plan.
    watch : RunWatch
        What a driver asks when nothing moves.
    """

    def __init__(self, name: str, graph: LogicalGraph, context: RunContext) -> None:
        self.name = name
        self.context = context
        self.parts: RankParts | None = None
        self.watch = RunWatch(context)
        self._graph = graph
        self._claims = OutputClaims()
        self._directory: RunDirectory | None = None

    def kernels(self) -> frozenset[str]:
        """Return the kernel families on demand that the operators of the job call."""
        return self._graph.kernels(reproducible=self.context.config.reproducible)

    def run(self) -> Turns[JobResult]:
        """Run the job. Collective; yields whether anything moved.

        Raises
        ------
        PlanError
            On every rank alike, before any row is read.
        Exception
            The rank that failed raises what failed, the others `RemoteError`.
        """
        running = self._run()
        try:
            while True:
                moved = next(running)
                self.watch.turn(moved=moved)
                yield moved
        except StopIteration as end:
            result: JobResult = end.value
            return result
        except BaseException as error:
            end_if_child(error)
            if failure_of(error).is_agreed:
                yield from as_turns(let_one_speak(error, self.context.comm))
                raise
            raise as_error(error)  # noqa: B904  the same, unless it is an exit
        finally:
            running.close()
            self._leave()

    def _run(self) -> Turns[JobResult]:
        graph = yield from as_turns(self._agreed_plan())
        start = yield from as_turns(self._open(graph))
        self.parts = parts = yield from as_turns(self._set_up(graph, start))
        clock = self.context.clock
        started_s, rows_before = clock(), parts.rows_read
        self.watch.enter_rounds(parts, graph)
        yield True  # who looks on finds the parts before round 0
        try:
            yield from self._rounds(parts)
            self.watch.enter("writing out the end")
            yield from as_turns(end_run(parts, start, self.context.comm))
        except BaseException as error:
            take_back_all(parts, start)
            if failure_of(error).is_agreed:
                parts.close()
            raise
        report = rank_report(parts, clock() - started_s, rows_before)
        result = yield from as_turns(
            gather_result(
                self.name,
                self._graph,
                parts,
                report,
                self.context.comm,
                was_finished=start.is_finished,
            )
        )
        if not parts.worker.control.outcome.stop:
            yield from as_turns(share_collected(self._graph, self.context.comm))
        parts.close()
        if parts.worker.control.outcome.stop:
            raise stopped(result, parts)
        return result

    # -- before the rounds -------------------------------------------------------------

    def _agreed_plan(self) -> Procedure[PhysicalGraph]:
        """Return the plan, which is the same on all ranks."""
        config, comm = self.context.config, self.context.comm
        error, physical = None, None
        try:
            physical = plan(
                self._graph,
                comm.size,
                local_aggregation=config.local_aggregation,
                reproducible=config.reproducible,
            )
        except BaseException as failure:
            error = failure
        yield from raise_together(error, comm)
        assert physical is not None
        yield from agree_on_plan(physical, config, comm)
        yield from refuse_own_input(self._graph, comm)
        self.watch.know_processes((yield from process_names(comm)))
        return physical

    def _open(self, physical: PhysicalGraph) -> Procedure[RunStart]:
        """Open the checkpoint directory, and claim the directories of the sinks."""
        config, comm = self.context.config, self.context.comm
        store = None
        if config.checkpoint_dir is not None:
            self.watch.enter("opening the checkpoint directory")
            manifest = PlanManifest.of(self.name, physical)
            self._directory = yield from open_run_directory(
                config, manifest, comm, self.context.clock
            )
            store = self._directory.run.store
        yield from claim(self._claims, self._graph, self.name, store, comm)
        return RunStart(self._directory, self._claims.check)

    def _set_up(self, physical: PhysicalGraph, start: RunStart) -> Procedure[RankParts]:
        config, comm = self.context.config, self.context.comm
        self.watch.enter("listing the splits of sources")
        assigned = yield from assign_splits(physical, config, comm, start.restored)
        self.watch.enter("opening sources and sinks")
        line = live_line(self.name, config, comm.rank)
        parts = yield from set_up(physical, assigned, self.context, start, line)
        if start.directory is not None:
            text = restored_text(start.directory, config, self.context.clock())
            if text is not None and comm.rank == 0:
                say(text)
            start.directory.close_restored()
        return parts

    # -- the rounds --------------------------------------------------------------------

    def _rounds(self, parts: RankParts) -> Turns[None]:
        worker = parts.worker
        for moved in worker.run():
            yield moved
            if not moved and worker.failure.is_overdue:
                self._give_up(worker.failure.error)
        self.context.stop.answer()
        yield from as_turns(parts.telemetry.drain())
        error = worker.failure.error
        if parts.checkpoints is not None:
            failed = yield from as_turns(parts.checkpoints.drain())
            error = error or failed
        yield from as_turns(raise_together(error, self.context.comm))

    def _give_up(self, error: BaseException | None) -> None:
        if error is not None:
            tracebacks.show(error)
        complain(
            f"rank {self.context.comm.rank} failed and the other ranks did not answer within "
            f"{self.context.config.abort_timeout_s:g} s; ending all ranks"
        )
        self.context.comm.abort(1)

    # -- the end -----------------------------------------------------------------------

    def _leave(self) -> None:
        """Release what this rank holds, in the order in which others may use it."""
        if self._directory is not None:
            self._directory.close_restored()
        self.context.writer.close()
        if self._directory is not None:
            self._directory.close_staging()
        self._claims.release()
        if self._directory is not None:
            self._directory.release()
        if self.parts is not None:
            self.parts.telemetry.clear_line()
            self.parts.leave()
