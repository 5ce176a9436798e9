"""From a physical graph to this rank's edges, tasks and worker. Collective, before round 0."""

from __future__ import annotations

from collections.abc import Sequence

from hpcstream.connectors.parts.sink import FileSink
from hpcstream.errors import PlanError
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, Procedure
from hpcstream.exchange.doorbell import Doorbell, open_doorbell
from hpcstream.exchange.edges.base import Edge
from hpcstream.exchange.shared_messages import Nearby, find_nearby
from hpcstream.graph.identity import operator_identities
from hpcstream.graph.logical import SourceNode
from hpcstream.graph.physical import PhysicalGraph, TaskPlan
from hpcstream.observability.progress import ProgressLine
from hpcstream.operators.base import Operator
from hpcstream.operators.sink import SinkOperator
from hpcstream.runtime.checkpoints.coordinator import CheckpointCoordinator, make_coordinator
from hpcstream.runtime.control import ControlGate
from hpcstream.runtime.loop.services import Services
from hpcstream.runtime.loop.waking import Waking
from hpcstream.runtime.loop.worker import Worker
from hpcstream.runtime.run.assignment import Assigned, round_limits
from hpcstream.runtime.run.context import RunContext, RunStart
from hpcstream.runtime.run.edges import make_edges
from hpcstream.runtime.run.parts import RankParts, close_all, suppress_and_warn
from hpcstream.runtime.sources.bounded_reader import BoundedReader
from hpcstream.runtime.sources.discovery import DiscoveredSource, Discovery
from hpcstream.runtime.sources.live_reader import LiveReader
from hpcstream.runtime.sources.pacing import Pacer, RoundCloser
from hpcstream.runtime.sources.stamping import SourceSpec
from hpcstream.runtime.tasks.outputs import Outputs
from hpcstream.runtime.tasks.source_task import SourceTask
from hpcstream.runtime.tasks.task import Task
from hpcstream.runtime.telemetry.source_watch import source_facts
from hpcstream.runtime.telemetry.telemetry import CountedParts, Telemetry


def set_up(
    graph: PhysicalGraph,
    assigned: Assigned,
    context: RunContext,
    start: RunStart,
    line: ProgressLine | None,
) -> Procedure[RankParts]:
    """Make communicators, edges, operators and tasks, in one order on all ranks. Collective.

    Parameters
    ----------
    assigned : Assigned
        Splits of this rank.
    line : ProgressLine or None
        Shows the progress of the job on rank 0.

    Raises
    ------
    Exception
        What failed here, or `RemoteError`; nothing is left open on any rank.
    """
    nearby = yield from find_nearby(context.comm, allowed=context.config.shared_memory)
    bell = yield from open_doorbell(context.comm)
    connections = Connections(graph, context, nearby, bell)
    builder = _Builder(graph, context, start, connections)
    parts, error = None, None
    try:
        parts = builder.build(assigned, line)
    except BaseException as failure:
        error = failure
    try:
        yield from raise_together(error, context.comm)
        assert parts is not None
        yield from parts.telemetry.agree()
    except BaseException:
        builder.undo()
        raise
    return parts


class Connections:
    """The communicators and edges of one rank. Made collectively.

    What can fail on one rank alone is done later.
    """

    def __init__(
        self, graph: PhysicalGraph, context: RunContext, nearby: Nearby | None, bell: Doorbell
    ) -> None:
        self.owned: list[Communicator] = []
        self.bell = bell
        self._comm = context.comm
        self.gate = ControlGate(self.duplicate())
        self.waking = Waking(self.duplicate(), bell, context.clock)
        self.metrics = self.duplicate()
        self.splits = self.duplicate() if _discovered(graph) else None
        has_directory = context.config.checkpoint_dir is not None
        self.checkpoints = self.duplicate() if has_directory else None
        self.edges: dict[int, Edge] = make_edges(graph, context.config, context.comm, nearby)

    def duplicate(self) -> Communicator:
        """Return a communicator of its own message space. Collective."""
        self.owned.append(self._comm.duplicate())
        return self.owned[-1]


class _Builder:
    """Makes the tasks and the worker of one rank."""

    def __init__(
        self,
        graph: PhysicalGraph,
        context: RunContext,
        start: RunStart,
        connections: Connections,
    ) -> None:
        self.tasks: list[Task] = []
        self.sinks: dict[int, SinkOperator] = {}
        self._graph = graph
        self._context = context
        self._start = start
        self._connections = connections
        self._round = round_limits(graph, context.config)

    def build(self, assigned: Assigned, line: ProgressLine | None) -> RankParts:
        """Make this rank's tasks, open its sinks, restore its state, and make its worker."""
        context, connections = self._context, self._connections
        plans = [plan for plan in self._graph.tasks if context.comm.rank in plan.ranks]
        for plan in plans:
            self.tasks.append(self._task(plan, assigned))
        self._restore(plans)
        telemetry = self._telemetry(plans, line)
        checkpoints = self._checkpoints()
        services = Services(telemetry, checkpoints, self._discovery(assigned), context.stop)
        worker = Worker(
            self.tasks,
            list(connections.edges.values()),
            connections.gate,
            connections.waking,
            context.clock,
            context.config.abort_timeout_s,
            context.time_of_day,
            services=services,
        )
        return RankParts(worker, telemetry, checkpoints, plans, self.sinks, connections.owned)

    def undo(self) -> None:
        """Close what was opened, and free every communicator. Collective."""
        for operator in self.sinks.values():
            with suppress_and_warn("taking back what a sink had written"):
                operator.sink.abort()
        connections = self._connections
        close_all(self.tasks, list(connections.edges.values()), connections.owned)
        connections.bell.close()

    # -- services ----------------------------------------------------------------------

    def _telemetry(self, plans: Sequence[TaskPlan], line: ProgressLine | None) -> Telemetry:
        edges = list(self._connections.edges.values())
        sources = [source_spec(plan).source for plan in plans if plan.source]
        parts = CountedParts(self.tasks, list(self.sinks.values()), edges, sources)
        facts = source_facts(self._graph)
        return Telemetry(self._connections.metrics, facts, parts, self._context.clock, line)

    def _checkpoints(self) -> CheckpointCoordinator | None:
        comm, start, context = self._connections.checkpoints, self._start, self._context
        if comm is None or start.directory is None or start.is_finished:
            return None
        return make_coordinator(
            start.directory,
            comm,
            self.tasks,
            self.sinks,
            context.config,
            context.writer,
            context.clock,
            start.check_outputs,
        )

    def _discovery(self, assigned: Assigned) -> Discovery | None:
        comm, context = self._connections.splits, self._context
        if comm is None:
            return None
        pacers = {task.number: task.pacer for task in self.tasks if isinstance(task, SourceTask)}
        sources, numbers = [], {}
        for number, ranks, node in _discovered(self._graph):
            every_s, pacer = node.discover_s, pacers.get(number)
            sources.append(DiscoveredSource(number, node.source, ranks, every_s, pacer))
            splits = assigned.get(number, ())
            numbers[number] = {progress.split.id: progress.number for progress in splits}
        return Discovery(comm, sources, numbers, context.clock, context.begin_discovery)

    # -- tasks -------------------------------------------------------------------------

    def _task(self, plan: TaskPlan, assigned: Assigned) -> Task:
        operators = [
            (operator_plan.describe(), self._operator(plan, index))
            for index, operator_plan in enumerate(plan.operators)
        ]
        edges = self._connections.edges
        by_input = sorted(plan.inputs, key=lambda edge: edge.input_index)
        inputs = [edges[edge.number] for edge in by_input]
        outputs = Outputs([(edge.output, edges[edge.number]) for edge in plan.outputs])
        name = f"task {plan.number} ({plan.describe()})"
        if plan.source is None:
            return Task(name, operators, inputs, outputs, number=plan.number)
        reader, pacer = self._reader(plan, assigned)
        return SourceTask(
            name,
            operators,
            inputs,
            outputs,
            reader=reader,
            gate=self._connections.gate,
            batch_rows=self._round.rows,
            round_bytes=self._round.n_bytes,
            rounds_in_flight=self._context.config.rounds_in_flight,
            pacer=pacer,
            number=plan.number,
        )

    def _reader(
        self, plan: TaskPlan, assigned: Assigned
    ) -> tuple[BoundedReader | LiveReader, Pacer | None]:
        spec, splits, clock = source_spec(plan), assigned[plan.number], self._context.clock
        if spec.source.bounded:
            return BoundedReader(spec, splits), None
        reader = LiveReader(spec, splits, clock())
        rows = self._round.rows
        closer = RoundCloser(rows, self._context.config.linger_s)
        return reader, Pacer(reader, closer, rows, clock, self._connections.waking.wake_others)

    def _operator(self, plan: TaskPlan, index: int) -> Operator:
        operator = plan.operators[index].make()
        if operator.uses_clock and self._context.config.reproducible:
            raise _not_reproducible(plan.operators[index].describe())
        if isinstance(operator, SinkOperator):
            self._open_sink(operator, plan)
        return operator

    def _open_sink(self, operator: SinkOperator, plan: TaskPlan) -> None:
        self.sinks[operator.number] = operator
        restored, stored = self._start.restored, None
        if restored is not None:
            (identity,) = (
                identity
                for identity in operator_identities(self._graph)
                if identity.task == plan.number and identity.index == len(plan.operators) - 1
            )
            stored = restored.sink(identity)
            if stored is None:
                _refuse_to_replace(operator)
        instance = plan.ranks.index(self._context.comm.rank)
        operator.open(instance, len(plan.ranks), self._start.attempt, stored)

    def _restore(self, plans: Sequence[TaskPlan]) -> None:
        restored = self._start.restored
        if restored is None:
            return
        identities = operator_identities(self._graph)
        for plan, task in zip(plans, self.tasks, strict=True):
            own = [identity for identity in identities if identity.task == plan.number]
            restored.restore(task, plan, own)
        for task in self.tasks:
            notify = task.commit_notice()
            if notify is not None:
                notify()


def _discovered(graph: PhysicalGraph) -> list[tuple[int, Sequence[int], SourceNode]]:
    """Return the sources that may get more splits, with the number and ranks of their tasks."""
    return [
        (plan.number, plan.ranks, plan.source)
        for plan in graph.tasks
        if plan.source is not None and plan.source.source.discovers
    ]


def _not_reproducible(label: str) -> PlanError:
    return PlanError(
        f"reproducible=True: {label!r} goes by the time of day, and its results would differ from "
        "run to run; leave it out, or reproducible=True"
    )


def _refuse_to_replace(operator: SinkOperator) -> None:
    """Raise if a sink that the checkpoint does not know would replace what is committed."""
    sink = operator.sink
    if isinstance(sink, FileSink) and sink.replaces and sink.has_parts:
        raise PlanError(
            f"{sink.describe()} is not in the checkpoint that the job goes on from, and would "
            "replace the parts that are there by what is still to come only; give it a directory "
            "of its own or mode='append', or start afresh with restore_from=None"
        )


def source_spec(plan: TaskPlan) -> SourceSpec:
    """Return how a task's source is to be read."""
    node = plan.source
    assert isinstance(node, SourceNode)
    return SourceSpec(
        source=node.source,
        names=tuple(node.schema.names),
        time=node.time,
        watermark_delay=node.watermark_delay,
        idle_timeout_s=node.idle_timeout_s,
        has_order=plan.has_order,
        ordinal=plan.source_ordinal,
    )
