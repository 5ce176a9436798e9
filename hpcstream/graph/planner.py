"""Logical graph to physical graph: chains, local and final aggregation, exchanges, placement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from hpcstream.connectors.file_sinks import FileSink
from hpcstream.errors import PlanError
from hpcstream.event_time import HIDDEN_COLUMNS, ORDER_COLUMN, PLACE_COLUMN, TIME_COLUMN
from hpcstream.exchange.partitioning import (
    ForwardPartitioning,
    GatherPartitioning,
    HashPartitioning,
    Partitioning,
    RebalancePartitioning,
)
from hpcstream.exchange.reduce_edge import ColumnReduction
from hpcstream.graph.hidden_needs import HiddenNeeds
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
from hpcstream.graph.origins import UNKNOWN, Origin, united
from hpcstream.graph.physical import MAIN, EdgePlan, OperatorPlan, PhysicalGraph, TaskPlan
from hpcstream.graph.rewrites import optimized
from hpcstream.operators.base import Operator
from hpcstream.operators.join_table import JoinTable
from hpcstream.operators.row_order import order_fields
from hpcstream.operators.sink import SinkOperator
from hpcstream.operators.stateless import Filter, Project
from hpcstream.operators.union import Union
from hpcstream.operators.user_functions import FlatMap, MapBatches

ORDERING = (ORDER_COLUMN, PLACE_COLUMN)


@dataclass(frozen=True)
class Port:
    """Where a node's rows come out: an output of a task, and what is known of them.

    Attributes
    ----------
    task : TaskPlan
    output : (int, str)
        Number of the operator in the task's chain, and name of its output.
    schema : pyarrow.Schema
        Hidden columns included.
    partitioned_by : tuple of str or None
        Rows with equal values of these columns are on one rank.
    is_shared : bool
        Several nodes read it, so no chain may go on from it.
    origin : Origin
        Which sources their order names.
    """

    task: TaskPlan
    output: tuple[int, str]
    schema: pa.Schema
    partitioned_by: tuple[str, ...] | None = None
    is_shared: bool = False
    origin: Origin = UNKNOWN


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


class _Planner:
    def __init__(
        self, graph: LogicalGraph, size: int, local_aggregation: bool, reproducible: bool
    ) -> None:
        self.graph = graph
        self.size = size
        self.local_aggregation = local_aggregation
        self.reproducible = reproducible
        self.tasks: list[TaskPlan] = []
        self.notes = list(graph.rewrites)
        self.hidden_needs = HiddenNeeds(graph)
        self._consumers = graph.consumers()
        self._ports: dict[int, Port] = {}
        self._n_edges = 0
        self._name: str | None = None  # of the node that is being planned
        self._late: dict[int, Port] = {}

    def run(self) -> PhysicalGraph:
        for node in self.graph.nodes():
            self._name = node.name
            port = _VISIT[type(node)](self, node)
            if port is not None:
                self._ports[id(node)] = port
        return PhysicalGraph(self.size, self.tasks, self.notes)

    # -- parts -------------------------------------------------------------------------

    def ranks_of(self, node: Node) -> tuple[int, ...]:
        """Return the ranks that run a node."""
        if node.ranks is None:
            return tuple(range(self.size))
        return tuple(sorted({rank % self.size for rank in node.ranks}))

    def hidden(self, node: Node, schema: pa.Schema) -> pa.Schema:
        """Return a node's schema with the hidden columns of ``schema``."""
        kept = [f for f in schema if f.name in HIDDEN_COLUMNS]
        if node.time is None:
            kept = [f for f in kept if f.name != TIME_COLUMN]
        return pa.schema([*node.schema, *kept])

    def visible(self, schema: pa.Schema) -> pa.Schema:
        """Return the user's columns of a schema."""
        return pa.schema([f for f in schema if f.name not in HIDDEN_COLUMNS])

    def input_port(self, node: Node, index: int = 0) -> Port:
        """Return the port that feeds an input."""
        return self._ports[id(node.inputs[index])]

    def new_task(self, ranks: tuple[int, ...], source: SourceNode | None = None) -> TaskPlan:
        """Add a task."""
        task = TaskPlan(number=len(self.tasks), ranks=ranks, source=source)
        self.tasks.append(task)
        return task

    def connect(
        self,
        port: Port,
        consumer: TaskPlan,
        input_index: int = 0,
        partitioning: Partitioning | None = None,
        reduction: Mapping[str, ColumnReduction] | None = None,
    ) -> EdgePlan:
        """Join a port to an input of a task."""
        edge = EdgePlan(
            number=self._n_edges,
            producer=port.task,
            output=port.output,
            schema=port.schema,
            partitioning=partitioning,
            consumer=consumer,
            input_index=input_index,
            reduction=reduction,
        )
        self._n_edges += 1
        port.task.outputs.append(edge)
        consumer.inputs.append(edge)
        consumer.level = max(consumer.level, port.task.level + 1)
        return edge

    def append(
        self,
        port: Port,
        label: str,
        make: Callable[[], Operator],
        *,
        output: str = MAIN,
        state: str = "",
        reduces: bool = False,
    ) -> tuple[TaskPlan, tuple[int, str]]:
        """Chain an operator behind a port, or begin a task where no chain can go on."""
        task = port.task
        if not self._ends_chain(port):
            self._begin_local_task(port)
            task = self.tasks[-1]
        task.operators.append(OperatorPlan(label, make, self._name, state=state, reduces=reduces))
        return task, (len(task.operators) - 1, output)

    def _ends_chain(self, port: Port) -> bool:
        last = len(port.task.operators) - 1
        return port.output == (last, MAIN) and not port.is_shared and not port.task.outputs

    def _begin_local_task(self, port: Port) -> None:
        self.connect(port, self.new_task(port.task.ranks))

    def moved(self, port: Port, ranks: tuple[int, ...]) -> Port:
        """Return the port on other ranks: a forward edge if they differ."""
        if port.task.ranks == ranks:
            return port
        task = self.new_task(ranks)
        self.connect(port, task, partitioning=ForwardPartitioning())
        return Port(task, (-1, MAIN), port.schema, None, port.is_shared, port.origin)

    def done(
        self,
        node: Node,
        task: TaskPlan,
        output: tuple[int, str],
        schema: pa.Schema,
        partitioned_by: tuple[str, ...] | None,
        *,
        origin: Origin = UNKNOWN,
    ) -> Port:
        """Return the port of a node that was just planned."""
        names = set(schema.names)
        if partitioned_by is not None and not names.issuperset(partitioned_by):
            partitioned_by = None
        is_shared = self._consumers.get(id(node), 0) > 1
        return Port(task, output, schema, partitioned_by, is_shared, origin)

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
        task, output = self.append(port, node.describe(), lambda: Filter(node.predicate, kept))
        by = port.partitioned_by
        return self.done(node, task, output, schema, by, origin=port.origin)

    def project(self, node: ProjectNode) -> Port:
        port = self.moved(self.input_port(node), self.ranks_of(node))
        task, output = self.append(port, node.describe(), lambda: Project(node.columns))
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
        schema = operator.output_schema(port.schema)  # type: ignore[attr-defined]
        task, output = self.append(port, node.label, make)
        if isinstance(operator, (MapBatches, FlatMap)):
            task.operators[-1] = replace(task.operators[-1], runs_user_code=True)
        by = port.partitioned_by if node.passes_columns else None
        return self.done(node, task, output, schema, by, origin=port.origin)

    def join_table(self, node: JoinTableNode) -> Port:
        port = self.moved(self.input_port(node), self.ranks_of(node))
        names, stream = node.schema.names, self.visible(port.schema)

        def make() -> JoinTable:
            return node.join.emitting(stream, names, node.encoded, node.where)

        schema = make().output_schema(port.schema)
        task, output = self.append(port, node.describe(), make)
        by = port.partitioned_by
        return self.done(node, task, output, schema, by, origin=port.origin)

    def union(self, node: UnionNode) -> Port:
        ranks = self.ranks_of(node)
        ports = [self.moved(self._ports[id(one)], ranks) for one in node.inputs]
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
        task.operators.append(OperatorPlan("union", lambda: Union(schema, offsets)))
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
        port = self._late[id(node.inputs[0])]
        origin = self.input_port(node.inputs[0]).origin.mixed()
        return self.done(node, port.task, port.output, port.schema, None, origin=origin)

    def note_late(self, node: WindowNode, port: Port) -> None:
        """Remember where the late rows of a window come out."""
        self._late[id(node)] = port

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
        task, _ = self.append(
            port, node.describe(), lambda: SinkOperator(node.sink, schema, sink_number)
        )
        identity = f"-> {node.sink.real_call}" if isinstance(node.sink, FileSink) else ""
        task.operators[-1] = replace(task.operators[-1], sink_number=sink_number, identity=identity)

    def hash_to(self, port: Port, keys: tuple[str, ...], task: TaskPlan, index: int = 0) -> None:
        """Send rows to the rank that owns their key."""
        self.connect(port, task, index, partitioning=HashPartitioning(keys))


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
