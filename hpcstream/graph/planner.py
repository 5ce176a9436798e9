"""Plans the physical graph of a logical graph: chains, stages, exchanges, placement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pyarrow as pa

from hpcstream.columns.event_time import ORDER_COLUMN, TIME_COLUMN
from hpcstream.errors import PlanError
from hpcstream.exchange.partitioning import (
    BroadcastPartitioning,
    ForwardPartitioning,
    GatherPartitioning,
    HashPartitioning,
    Partitioning,
    RebalancePartitioning,
)
from hpcstream.graph.logical import (
    LogicalGraph,
    Node,
    OperatorNode,
    SideNode,
    SinkNode,
    SourceNode,
)
from hpcstream.graph.origins import Origin, refuse_too_many, united
from hpcstream.graph.physical import OperatorPlan, PhysicalGraph, TaskPlan
from hpcstream.graph.plan_builder import PlanBuilder, Port
from hpcstream.graph.rewrites import optimized
from hpcstream.operators.base import Operator
from hpcstream.operators.sink import SinkOperator
from hpcstream.operators.spec import (
    MAIN,
    Anywhere,
    Broadcast,
    ByKey,
    Gathered,
    OperatorContext,
    OperatorSpec,
    Requirement,
    Spread,
)
from hpcstream.operators.windows.definition import WindowSpec


def plan(
    graph: LogicalGraph, size: int, *, local_aggregation: bool = True, reproducible: bool = False
) -> PhysicalGraph:
    """Return the physical graph of a job on ``size`` ranks.

    Raises
    ------
    PlanError
        The graph has no sink, or cannot be run.
    """
    if not graph.sinks:
        raise PlanError(
            "the job has nothing to do: no stream ends in a sink; add write_parquet(), print(), "
            "collect() or sink()"
        )
    _check_targets(graph)
    return _Planner(optimized(graph), size, local_aggregation, reproducible).run()


def _check_targets(graph: LogicalGraph) -> None:
    """Raise if two sinks would overwrite each other."""
    seen: dict[str, str] = {}
    for node in graph.sinks:
        target = node.sink.target
        if target is None:
            continue
        if target in seen:
            raise PlanError(
                f"{node.describe()} and {seen[target]} write to the same target; give each its own "
                "directory, or union() the streams"
            )
        seen[target] = node.describe()


class _Planner(PlanBuilder):
    def run(self) -> PhysicalGraph:
        for node in self.graph.nodes():
            self._name = node.name
            if isinstance(node, SinkNode):
                self.sink(node)
            else:
                self.ports[id(node)] = self.port(node)
        return PhysicalGraph(self.size, self.tasks, self.notes)

    def port(self, node: Node) -> Port:
        """Plan a node and return its port."""
        if isinstance(node, SourceNode):
            return self.source(node)
        if isinstance(node, SideNode):
            return self.side(node)
        assert isinstance(node, OperatorNode)
        lower = LOWERINGS.get(node.spec.kind)
        return self.operator(node) if lower is None else lower(self, node)

    # -- ends of the graph ---------------------------------------------------------------

    def source(self, node: SourceNode) -> Port:
        task = self.new_task(self.ranks_of(node), node)
        task.has_order = self.hidden_needs.has_order(node)
        task.source_ordinal = sum(other.source is not None for other in self.tasks) - 1
        origin = Origin(in_order=True, sources=frozenset((task.source_ordinal,)))
        if task.has_order:
            refuse_too_many(origin)
        fields = list(node.schema)
        if node.time is not None:
            fields.append(pa.field(TIME_COLUMN, pa.int64()))
        if task.has_order:
            fields.append(pa.field(ORDER_COLUMN, pa.int64()))
        return self.done(node, task, (-1, MAIN), pa.schema(fields), None, origin=origin)

    def sink(self, node: SinkNode) -> None:
        port = self.input_port(node)
        sink_number = [id(sink) for sink in self.graph.sinks].index(id(node))
        if not node.gather:
            port = self.moved(port, self.ranks_of(node))
        elif self.size > 1:
            port = self.placed(port, Gathered(), (0,))
        schema = node.schema

        def make() -> Operator:
            return SinkOperator(node.sink, schema, sink_number)

        plan = OperatorPlan("sink", node.key(), node.describe(), make, sink_number=sink_number)
        self.append(port, plan)

    # -- operators -----------------------------------------------------------------------

    def side(self, node: SideNode) -> Port:
        port = self.side_ports[id(node.inputs[0]), node.output]
        origin = self.input_port(node.inputs[0]).origin.mixed()
        return self.done(node, port.task, port.output, port.schema, None, origin=origin)

    def operator(self, node: OperatorNode) -> Port:
        """Plan an operator from its definition."""
        spec = node.spec
        if self.reproducible:
            _refuse_arrival(spec)
        requirements = spec.inputs()
        ranks = self.ranks_of(node)
        if all(isinstance(requirement, Gathered) for requirement in requirements):
            ranks = ranks[:1]
        ports = [self.ports[id(source)] for source in node.inputs]
        if len(ports) > 1:
            task = self.joined(ports, requirements, ranks)
            stay = [isinstance(requirement, Anywhere) for requirement in requirements]
            origins = [
                p.origin if s else p.origin.mixed() for p, s in zip(ports, stay, strict=True)
            ]
            origin, offsets = united(origins)
            if any(offsets) and self.hidden_needs.has_order(node):
                refuse_too_many(origin)
            moved = [Port(task, (-1, MAIN), port.schema) for port in ports]
            by = requirements[0].columns if isinstance(requirements[0], ByKey) else None
        else:
            moved = ports if spec.traits.stays else [self.placed(ports[0], requirements[0], ranks)]
            origin, offsets, by = moved[0].origin, (), moved[0].partitioned_by
        context = OperatorContext(
            inputs=tuple(port.schema for port in moved),
            output=node.schema,
            sides=node.sides,
            reads_time=self.hidden_needs.has_time(node),
            reads_order=self.hidden_needs.has_order(node),
            in_order=origin.in_order,
            order_offsets=offsets,
        )
        schema = spec.planned_schema(context)
        if by is not None and not spec.passed(context.inputs).issuperset(by):
            by = None
        task, output = moved[0].task, moved[0].output
        if not spec.traits.is_identity:
            task, output = self.append(moved[0], OperatorPlan.whole(spec, context))
        for name, side in spec.side_outputs(context.inputs).items():
            self.note_side(node, name, Port(task, (output[0], name), side))
        return self.done(node, task, output, schema, by, origin=origin)

    def placed(self, port: Port, requirement: Requirement, ranks: tuple[int, ...]) -> Port:
        """Return a port on ``ranks`` whose rows meet a requirement."""
        if isinstance(requirement, Anywhere):
            return self.moved(port, ranks)
        by, origin = port.partitioned_by, port.origin.mixed()  # also on one rank: equal results
        if self.is_placed(port, requirement, ranks):
            by = None if isinstance(requirement, Spread) else by
            return replace(port, partitioned_by=by, origin=origin)
        task = self.new_task(ranks)
        self.connect(port, task, partitioning=partitioning_of(requirement))
        by = requirement.columns if isinstance(requirement, ByKey) else None
        return Port(task, (-1, MAIN), port.schema, by, origin=origin)

    def joined(
        self, ports: Sequence[Port], requirements: Sequence[Requirement], ranks: tuple[int, ...]
    ) -> TaskPlan:
        """Return a new task with ports as inputs, whose rows meet their requirements."""
        arrived: list[tuple[Port, Partitioning | None]] = []
        for port, requirement in zip(ports, requirements, strict=True):
            if isinstance(requirement, Anywhere):
                arrived.append((self.moved(port, ranks), None))
            elif self.is_placed(port, requirement, ranks, alone=False):
                arrived.append((port, None))
            else:
                arrived.append((port, partitioning_of(requirement)))
        task = self.new_task(ranks)
        for index, (port, partitioning) in enumerate(arrived):
            self.connect(port, task, index, partitioning=partitioning)
        return task


def _refuse_arrival(spec: OperatorSpec) -> None:
    if spec.traits.by_arrival:
        raise PlanError(
            f"reproducible=True: '{spec.describe()}' depends on the order in which rows arrive; "
            "leave order='arrival' out, or reproducible=True"
        )


def partitioning_of(requirement: Requirement) -> Partitioning:
    """Return the partitioning that meets a requirement."""
    match requirement:
        case ByKey(columns):
            return HashPartitioning(columns)
        case Gathered():
            return GatherPartitioning()
        case Broadcast():
            return BroadcastPartitioning()
        case Spread():
            return RebalancePartitioning()
    return ForwardPartitioning()


def _windows(planner: PlanBuilder, node: OperatorNode) -> Port:
    from hpcstream.graph.lowering.windows import WindowPlan

    assert isinstance(node.spec, WindowSpec)
    return WindowPlan(planner, node, node.spec).build()


LOWERINGS: dict[str, Callable[[PlanBuilder, OperatorNode], Port]] = {WindowSpec.kind: _windows}
"""Lowerings of the operators that have several physical forms, by kind."""
