"""Logical graph to physical graph: chains, local and final aggregation, exchanges, placement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from hpcstream.columns.event_time import ORDER_COLUMN, PLACE_COLUMN, TIME_COLUMN
from hpcstream.columns.row_order import order_fields
from hpcstream.errors import PlanError
from hpcstream.exchange.partitioning import (
    GatherPartitioning,
    RebalancePartitioning,
)
from hpcstream.graph.logical import (
    FilterNode,
    JoinTableNode,
    LateNode,
    LogicalGraph,
    Node,
    OperatorNode,
    ProjectNode,
    RebalanceNode,
    SinkNode,
    SourceNode,
    UnionNode,
    WindowNode,
)
from hpcstream.graph.origins import Origin, united
from hpcstream.graph.physical import MAIN, OperatorPlan, PhysicalGraph
from hpcstream.graph.plan_builder import PlanBuilder, Port
from hpcstream.graph.rewrites import optimized
from hpcstream.operators.base import Operator
from hpcstream.operators.joins.table import JoinTable
from hpcstream.operators.sink import SinkOperator
from hpcstream.operators.stateless import Filter, Project
from hpcstream.operators.union import Union
from hpcstream.operators.user_functions import FlatMap, MapBatches

ORDERING = (ORDER_COLUMN, PLACE_COLUMN)


def plan(
    graph: LogicalGraph, size: int, *, local_aggregation: bool = True, reproducible: bool = False
) -> PhysicalGraph:
    """Return the physical graph of a job on ``size`` ranks.

    Raises
    ------
    PlanError
        The graph has no sink, or asks for what cannot run.
    """
    if not graph.sinks:
        raise PlanError(
            "the job has nothing to do: no stream ends in a sink; add write_parquet(), print(), "
            "collect() or sink()"
        )
    _check_targets(graph)
    return _Planner(optimized(graph), size, local_aggregation, reproducible).run()


def _check_targets(graph: LogicalGraph) -> None:
    """Refuse two sinks that would write over each other."""
    seen: dict[str, str] = {}
    for node in graph.sinks:
        target = getattr(node.sink, "target", None)
        if target is None:
            continue
        if target in seen:
            raise PlanError(
                f"{node.describe()} and {seen[target]} write to the same place; give each a "
                "directory of its own, or union() the streams"
            )
        seen[target] = node.describe()


def plan_of(node: Node, make: Callable[[], Operator], **traits: Any) -> OperatorPlan:
    """Return the one operator that runs a node."""
    return OperatorPlan(node.kind, node.key(), node.describe(), make, **traits)


class _Planner(PlanBuilder):
    def run(self) -> PhysicalGraph:
        for node in self.graph.nodes():
            self._name = node.name
            port = _VISIT[type(node)](self, node)
            if port is not None:
                self.ports[id(node)] = port
        return PhysicalGraph(self.size, self.tasks, self.notes)

    # -- nodes -------------------------------------------------------------------------

    def source(self, node: SourceNode) -> Port:
        task = self.new_task(self.ranks_of(node), node)
        task.has_order = self.hidden_needs.has_order(node)
        task.source_ordinal = sum(one.source is not None for one in self.tasks) - 1
        origin = Origin(in_order=True, sources=frozenset((task.source_ordinal,)))
        fields = list(node.schema)
        if node.time is not None:
            fields.append(pa.field(TIME_COLUMN, pa.int64()))
        if task.has_order:
            fields.append(pa.field(ORDER_COLUMN, pa.int64()))
        return self.done(node, task, (-1, MAIN), pa.schema(fields), None, origin=origin)

    def filter(self, node: FilterNode) -> Port:
        port = self.moved(self.input_port(node), self.ranks_of(node))
        kept = node.schema.names
        schema = Filter(node.predicate, kept).output_schema(port.schema)
        task, output = self.append(port, plan_of(node, lambda: Filter(node.predicate, kept)))
        by = port.partitioned_by
        return self.done(node, task, output, schema, by, origin=port.origin)

    def project(self, node: ProjectNode) -> Port:
        port = self.moved(self.input_port(node), self.ranks_of(node))
        task, output = self.append(port, plan_of(node, lambda: Project(node.columns)))
        kept = {name for name, e in node.columns if e.is_column and e.columns() == {name}}
        by = port.partitioned_by
        if by is not None and not kept.issuperset(by):
            by = None
        schema = self.hidden(node, port.schema)
        return self.done(node, task, output, schema, by, origin=port.origin)

    def operator(self, node: OperatorNode) -> Port:
        port = self.input_port(node)
        if not node.stays:
            port = self.moved(port, self.ranks_of(node))
        needs_time = self.hidden_needs.has_time(node)

        def make() -> Operator:
            operator = node.make(port.schema)
            if isinstance(operator, MapBatches):
                return operator.planned(needs_time=needs_time, in_order=port.origin.in_order)
            return operator

        operator = make()
        schema = operator.output_schema(port.schema)
        runs_user_code = isinstance(operator, (MapBatches, FlatMap))
        operator_plan = plan_of(node, make, clock=node.clock, runs_user_code=runs_user_code)
        task, output = self.append(port, operator_plan)
        by = port.partitioned_by if node.passes_columns else None
        return self.done(node, task, output, schema, by, origin=port.origin)

    def join_table(self, node: JoinTableNode) -> Port:
        port = self.moved(self.input_port(node), self.ranks_of(node))
        names, stream = node.schema.names, self.visible(port.schema)

        def make() -> JoinTable:
            return node.join.emitting(stream, names, node.encoded, node.where)

        schema = make().output_schema(port.schema)
        task, output = self.append(port, plan_of(node, make))
        by = port.partitioned_by
        return self.done(node, task, output, schema, by, origin=port.origin)

    def union(self, node: UnionNode) -> Port:
        ranks = self.ranks_of(node)
        ports = [self.moved(self.ports[id(one)], ranks) for one in node.inputs]
        common = set.intersection(*(set(port.schema.names) for port in ports))
        fields = [f for f in ports[0].schema if f.name in common and f.name not in ORDERING]
        if self.hidden_needs.has_order(node):
            given = {name for port in ports for name in port.schema.names}
            fields += [f for f in order_fields(placed=True) if f.name in given]
        schema = pa.schema(fields)
        task = self.new_task(ranks)
        for index, port in enumerate(ports):
            self.connect(port, task, index)
        origin, offsets = united([port.origin for port in ports])
        union = OperatorPlan(node.kind, node.key(), "union", lambda: Union(schema, offsets))
        task.operators.append(union)
        return self.done(node, task, (0, MAIN), schema, None, origin=origin)

    def rebalance(self, node: RebalanceNode) -> Port:
        port = self.input_port(node)
        ranks, origin = self.ranks_of(node), port.origin.mixed()
        if self.size == 1:
            return self.done(node, port.task, port.output, port.schema, None, origin=origin)
        task = self.new_task(ranks)
        self.connect(port, task, partitioning=RebalancePartitioning())
        return self.done(node, task, (-1, MAIN), port.schema, None, origin=origin)

    def window(self, node: WindowNode) -> Port:

        from hpcstream.graph.window_plan import WindowPlan  # loads the kernels

        return WindowPlan(self, node).build()

    def late(self, node: LateNode) -> Port:
        port = self.late_ports[id(node.inputs[0])]
        origin = self.input_port(node.inputs[0]).origin.mixed()
        return self.done(node, port.task, port.output, port.schema, None, origin=origin)

    def sink(self, node: SinkNode) -> None:
        port = self.input_port(node)
        sink_number = [id(sink) for sink in self.graph.sinks].index(id(node))
        ranks = self.ranks_of(node)
        if node.gather and self.size > 1:
            task = self.new_task((0,))
            self.connect(port, task, partitioning=GatherPartitioning())
            port = Port(task, (-1, MAIN), port.schema)
        elif not node.gather:
            port = self.moved(port, ranks)
        schema = node.schema
        self.append(
            port,
            plan_of(
                node,
                lambda: SinkOperator(node.sink, schema, sink_number),
                sink_number=sink_number,
            ),
        )


_VISIT: dict[type[Node], Callable[..., Port | None]] = {
    SourceNode: _Planner.source,
    FilterNode: _Planner.filter,
    ProjectNode: _Planner.project,
    OperatorNode: _Planner.operator,
    JoinTableNode: _Planner.join_table,
    UnionNode: _Planner.union,
    RebalanceNode: _Planner.rebalance,
    WindowNode: _Planner.window,
    LateNode: _Planner.late,
    SinkNode: _Planner.sink,
}
