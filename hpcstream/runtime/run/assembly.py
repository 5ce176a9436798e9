"""From a physical graph to this rank's edges, tasks and worker. Collective, before round 0."""

from __future__ import annotations

import contextlib
import json
import time
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from hpcstream.config import JobConfig
from hpcstream.connectors.parts.sink import FileSink
from hpcstream.errors import PlanError
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, gather_bytes
from hpcstream.exchange.doorbell import Doorbell, open_doorbell
from hpcstream.exchange.edges.base import Edge, LocalEdge
from hpcstream.exchange.edges.calls import EdgeGroup, EdgeMemory
from hpcstream.exchange.edges.collective import CollectiveEdge, EdgeLimits
from hpcstream.exchange.edges.reduce import ReduceEdge
from hpcstream.exchange.shared_messages import Nearby, find_nearby
from hpcstream.graph.identity import operator_identities, plan_structure
from hpcstream.graph.logical import SourceNode
from hpcstream.graph.physical import EdgePlan, PhysicalGraph, TaskPlan
from hpcstream.memory.pool import process_pool
from hpcstream.operators.sink import SinkOperator
from hpcstream.runtime.checkpoints.restoring import Restored
from hpcstream.runtime.checkpoints.task_state import commit_notice
from hpcstream.runtime.control import ControlGate
from hpcstream.runtime.loop.waking import Waking
from hpcstream.runtime.loop.worker import Clock, Worker
from hpcstream.runtime.run.assignment import Dealt, round_limits
from hpcstream.runtime.sources.discovery import Begin, Discovered, Discovery, in_thread
from hpcstream.runtime.sources.pacing import Pacer, RoundCloser
from hpcstream.runtime.sources.reader import BoundedReader, LiveReader, SourceSpec
from hpcstream.runtime.tasks.task import Outputs, SourceTask, Task
from hpcstream.runtime.telemetry.source_watch import source_facts
from hpcstream.runtime.telemetry.telemetry import Parts, Telemetry


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes
    ----------
    attempt : int
        Number of this run in the checkpoint directory; 0 without one.
    restored : Restored or None
        The checkpoint to go on from.
    begin_discovery : callable
        How sources are asked for new splits: beside the rounds, or at once.
    """

    attempt: int = 0
    restored: Restored | None = None
    begin_discovery: Begin = in_thread


def agree_on_plan(graph: PhysicalGraph, config: JobConfig, comm: Communicator) -> Generator[None]:
    """Raise `PlanError` on every rank if the ranks built different graphs. Collective."""
    structure = f"{plan_structure(graph)}\n{config.fingerprint()}"
    own = [structure, f"{graph.explain()}\n{config.fingerprint()}"]
    texts = yield from gather_bytes(comm, json.dumps(own).encode())
    first, *others = (json.loads(text) for text in texts)
    for rank, other in enumerate(others, 1):
        if other[0] != first[0]:
            shown = 0 if other[1] == first[1] else 1  # plans that look alike may still differ
            raise PlanError(_difference(rank, first[shown], other[shown]))


def _difference(rank: int, first: str, other: str) -> str:
    pairs = zip_longest(first.splitlines(), other.splitlines(), fillvalue="(nothing more)")
    here, there = next((a.strip(), b.strip()) for a, b in pairs if a != b)
    return (
        f"rank {rank} built another job than rank 0; first difference: rank 0 has {here!r}, "
        f"rank {rank} has {there!r}; every rank must build the same graph, whatever its number"
    )


@dataclass
class Setup:
    """Parts of a job that this rank has.

    Attributes
    ----------
    worker : Worker
    telemetry : Telemetry
    sinks : dict of int to SinkOperator
        By sink number; those that this rank runs.
    """

    worker: Worker
    telemetry: Telemetry
    plans: list[TaskPlan]
    sinks: dict[int, SinkOperator] = field(default_factory=dict)
    communicators: list[Communicator] = field(default_factory=list)

    def close(self) -> None:
        """Close the sources and give every communicator back. Collective."""
        close_all(self.worker.tasks, self.worker.edges, self.communicators)
        self.leave()

    def leave(self) -> None:
        """Give back what this rank holds alone; also after a failure, and twice."""
        self.worker.waking.bell.close()


@contextlib.contextmanager
def unharmed(doing: str) -> Iterator[None]:
    """Let a failure while tidying up be said, but hide and stop nothing else."""
    try:
        yield
    except Exception as failure:
        warnings.warn(f"{doing} failed: {type(failure).__name__}: {failure}", stacklevel=3)


def close_all(
    tasks: Sequence[Task], edges: Sequence[Edge], communicators: Sequence[Communicator]
) -> None:
    """Close the sources and give every communicator back. Collective."""
    for task in tasks:
        if isinstance(task, SourceTask):
            with unharmed("closing a source"):
                task.reader.close()
    for edge in edges:
        edge.free()
    for comm in communicators:
        comm.free()


def set_up(
    graph: PhysicalGraph,
    dealt: Dealt,
    config: JobConfig,
    comm: Communicator,
    clock: Clock,
    start: Start,
    time_of_day: Clock = time.time,
) -> Generator[None, None, Setup]:
    """Make communicators, edges, operators and tasks, in one order on all ranks. Collective.

    Raises
    ------
    Exception
        What failed here, or `RemoteError`; nothing is left open on any rank.
    """
    builder = _Builder(graph, config, comm, clock, start, time_of_day)
    builder.nearby = yield from find_nearby(comm, allowed=config.shared_memory)
    builder.bell = yield from open_doorbell(comm)
    setup, error = None, None
    builder.connect()
    try:
        setup = builder.build(dealt)
    except BaseException as failure:
        error = failure
    try:
        yield from raise_together(error, comm)
        assert setup is not None
        yield from setup.telemetry.agree()
    except BaseException:
        builder.undo()
        raise
    return setup


class _Builder:
    def __init__(
        self,
        graph: PhysicalGraph,
        config: JobConfig,
        comm: Communicator,
        clock: Clock,
        start: Start,
        time_of_day: Clock,
    ) -> None:
        self.start = start
        self.time_of_day = time_of_day
        self.graph = graph
        self.config = config
        self.comm = comm
        self.clock = clock
        self.owned: list[Communicator] = []
        self.edges: dict[int, Edge] = {}
        self.tasks: list[Task] = []
        self.nearby: Nearby | None = None
        self.bell = Doorbell()
        self._round = round_limits(graph, config)
        self.sinks: dict[int, SinkOperator] = {}
        sources = (plan for plan in graph.tasks if plan.source is not None)
        self._discovered = [
            plan for plan in sources if plan.source is not None and plan.source.source.discovers
        ]

    def connect(self) -> None:
        """Make every communicator and edge. Collective: what can fail on one rank comes later."""
        self.gate = ControlGate(self._own(self.comm.duplicate()))
        wakes = self._own(self.comm.duplicate())
        self.waking = Waking(wakes, self.bell, self.clock)
        self.metrics = self._own(self.comm.duplicate())
        if self._discovered:
            self._splits_comm = self._own(self.comm.duplicate())
        for plan in self.graph.edges:
            edge = self._edge(plan)
            if edge is not None:
                self.edges[plan.number] = edge

    def build(self, dealt: Dealt) -> Setup:
        """Make this rank's tasks and open its sinks."""
        plans = [plan for plan in self.graph.tasks if self.comm.rank in plan.ranks]
        for plan in plans:
            self.tasks.append(self._task(plan, dealt))
        self._restore(plans)
        edges, timeout_s = list(self.edges.values()), self.config.abort_timeout_s
        worker = Worker(
            self.tasks, edges, self.gate, self.waking, self.clock, timeout_s, self.time_of_day
        )
        if self._discovered:
            worker.discovery = self._discovery(plans, dealt)
        sources = [source_spec(plan).source for plan in plans if plan.source]
        numbers = [plan.number for plan in plans]
        parts = Parts(self.tasks, numbers, list(self.sinks.values()), edges, sources)
        facts = source_facts(self.graph)
        worker.telemetry = Telemetry(self.metrics, facts, parts, self.clock)
        return Setup(worker, worker.telemetry, plans, self.sinks, self.owned)

    def _discovery(self, plans: Sequence[TaskPlan], dealt: Dealt) -> Discovery:
        pacers = {
            plan.number: task.pacer
            for plan, task in zip(plans, self.tasks, strict=True)
            if isinstance(task, SourceTask)
        }
        sources = []
        for plan in self._discovered:
            assert plan.source is not None
            every_s = plan.source.discover_s
            pacer = pacers.get(plan.number)
            sources.append(Discovered(plan.number, plan.source.source, plan.ranks, every_s, pacer))
        numbers = {
            plan.number: {one.split.id: one.number for one in dealt.get(plan.number, ())}
            for plan in self._discovered
        }
        begin = self.start.begin_discovery
        return Discovery(self._splits_comm, sources, numbers, self.clock, begin)

    def _restore(self, plans: Sequence[TaskPlan]) -> None:
        restored = self.start.restored
        if restored is None:
            return
        identities = operator_identities(self.graph)
        for plan, task in zip(plans, self.tasks, strict=True):
            own = [one for one in identities if one.task == plan.number]
            restored.restore(task, plan, own)
        for task in self.tasks:
            notice = commit_notice(task)
            if notice is not None:
                notice()

    def _open_sink(self, operator: SinkOperator, plan: TaskPlan) -> None:
        self.sinks[operator.number] = operator
        stored = None
        if self.start.restored is not None:
            (identity,) = (
                found
                for found in operator_identities(self.graph)
                if found.task == plan.number and found.index == len(plan.operators) - 1
            )
            stored = self.start.restored.sink(identity)
            if stored is None:
                _refuse_to_replace(operator)
        place = plan.ranks.index(self.comm.rank)
        operator.open(place, len(plan.ranks), self.start.attempt, stored)

    def undo(self) -> None:
        """Close what was opened, and give every communicator back. Collective."""
        for sink in self.sinks.values():
            with unharmed("taking back what a sink had written"):
                sink.sink.abort()
        close_all(self.tasks, list(self.edges.values()), self.owned)
        self.bell.close()

    def _own(self, comm: Communicator) -> Communicator:
        self.owned.append(comm)
        return comm

    # -- edges -------------------------------------------------------------------------

    def _edge(self, plan: EdgePlan) -> Edge | None:
        assert plan.consumer is not None
        producers, consumers = plan.producer.ranks, plan.consumer.ranks
        members = tuple(sorted({*producers, *consumers}))
        capacity = self.config.rounds_in_flight * plan.span
        if plan.is_local or len(members) == 1:
            return LocalEdge(plan.name, capacity) if self.comm.rank in members else None
        headers = self.comm.subset(members)
        if headers is None:
            return None
        group = EdgeGroup(
            tuple(members.index(r) for r in producers), tuple(members.index(r) for r in consumers)
        )
        if plan.reduction is not None:
            return ReduceEdge(plan.name, headers, plan.schema, plan.reduction, capacity)
        assert plan.partitioning is not None
        return CollectiveEdge(
            plan.name,
            headers,
            self._payloads(headers, group),
            group=group,
            schema=plan.schema,
            partitioning=plan.partitioning,
            limits=EdgeLimits(capacity, self.config.step_bytes, self.config.receive_bytes),
            memory=EdgeMemory(process_pool(), self.nearby and self.nearby.within(members)),
        )

    @staticmethod
    def _payloads(headers: Communicator, group: EdgeGroup) -> Communicator:
        """Return the payload communicator: between rank groups, of neighbours only."""
        everyone = tuple(range(headers.size))
        if group.producers == everyone and group.consumers == everyone:
            return headers.duplicate()
        near = set()
        if headers.rank in group.producers:
            near |= set(group.consumers)
        if headers.rank in group.consumers:
            near |= set(group.producers)
        return headers.neighborhood(sorted(near))

    # -- tasks -------------------------------------------------------------------------

    def _task(self, plan, dealt) -> Task:  # type: ignore[no-untyped-def]
        operators = []
        for operator_plan in plan.operators:
            operator = operator_plan.make()
            if operator.uses_clock and self.config.reproducible:
                raise _not_reproducible(operator_plan.describe())
            operators.append((operator_plan.describe(), operator))
            if isinstance(operator, SinkOperator):
                self._open_sink(operator, plan)
        inputs = [
            self.edges[edge.number]
            for edge in sorted(plan.inputs, key=lambda edge: edge.input_index)
        ]
        outputs = Outputs([(edge.output, self.edges[edge.number]) for edge in plan.outputs])
        name = f"task {plan.number} ({plan.describe()})"
        if plan.source is None:
            return Task(name, operators, inputs, outputs)
        spec = source_spec(plan)
        rows = self._round.rows
        if plan.source.source.bounded:
            reader: BoundedReader | LiveReader = BoundedReader(spec, dealt[plan.number])
            pacer = None
        else:
            reader = LiveReader(spec, dealt[plan.number], self.clock())
            closer = RoundCloser(rows, self.config.linger_s)
            pacer = Pacer(reader, closer, rows, self.clock, self.waking.wake_others)
        return SourceTask(
            name,
            operators,
            inputs,
            outputs,
            reader=reader,
            gate=self.gate,
            batch_rows=rows,
            round_bytes=self._round.n_bytes,
            rounds_in_flight=self.config.rounds_in_flight,
            pacer=pacer,
        )


def _not_reproducible(label: str) -> PlanError:
    return PlanError(
        f"reproducible=True: {label!r} goes by the time of day, and its results would differ from "
        "run to run; leave it out, or reproducible=True"
    )


def _refuse_to_replace(operator: SinkOperator) -> None:
    """Raise if a sink that the checkpoint does not know would remove what is committed."""
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
