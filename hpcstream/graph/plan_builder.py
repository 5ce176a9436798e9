"""Builds a physical graph: tasks, chains, edges, and the output ports of nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pyarrow as pa

from hpcstream.columns.reduction import ColumnReduction
from hpcstream.exchange.partitioning import (
    ForwardPartitioning,
    HashPartitioning,
    Partitioning,
)
from hpcstream.graph.hidden_needs import HiddenNeeds
from hpcstream.graph.logical import LogicalGraph, Node, SourceNode
from hpcstream.graph.origins import UNKNOWN, Origin
from hpcstream.graph.physical import EdgePlan, OperatorPlan, TaskPlan
from hpcstream.operators.spec import MAIN, Anywhere, ByKey, Requirement


@dataclass(frozen=True)
class Port:
    """The output of a planned node: an output of a task, and properties of its rows.

    Attributes
    ----------
    task : TaskPlan
    output : (int, str)
        Index of the operator in the task's chain, and name of its output.
    schema : pyarrow.Schema
        Hidden columns included.
    partitioned_by : tuple of str or None
        Rows with equal values of these columns are on one rank.
    is_shared : bool
        Several nodes read it, so its chain cannot be extended.
    origin : Origin
        Origin of the order of rows.
    """

    task: TaskPlan
    output: tuple[int, str]
    schema: pa.Schema
    partitioned_by: tuple[str, ...] | None = None
    is_shared: bool = False
    origin: Origin = UNKNOWN


class PlanBuilder:
    """Creates tasks, edges and chains, and records the ports of planned nodes."""

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
        self.ports: dict[int, Port] = {}
        self._n_edges = 0
        self._name: str | None = None  # of the node that is being planned
        self.side_ports: dict[tuple[int, str], Port] = {}

    # -- parts -------------------------------------------------------------------------

    def ranks_of(self, node: Node) -> tuple[int, ...]:
        """Return the ranks that run a node."""
        if node.ranks is None:
            return tuple(range(self.size))
        return tuple(sorted({rank % self.size for rank in node.ranks}))

    def input_port(self, node: Node, index: int = 0) -> Port:
        """Return the port that feeds an input."""
        return self.ports[id(node.inputs[index])]

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
        """Connect a port to an input of a task."""
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

    def append(self, port: Port, operator: OperatorPlan) -> tuple[TaskPlan, tuple[int, str]]:
        """Append an operator to the chain of a port, or to a new task if the chain has ended."""
        task = port.task
        if not self._ends_chain(port):
            self._begin_local_task(port)
            task = self.tasks[-1]
        task.operators.append(replace(operator, name=self._name))
        return task, (len(task.operators) - 1, MAIN)

    def _ends_chain(self, port: Port) -> bool:
        last = len(port.task.operators) - 1
        return port.output == (last, MAIN) and not port.is_shared and not port.task.outputs

    def _begin_local_task(self, port: Port) -> None:
        self.connect(port, self.new_task(port.task.ranks))

    def moved(self, port: Port, ranks: tuple[int, ...]) -> Port:
        """Return the port on other ranks, behind a forward edge if they differ."""
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
        """Return the port of a node after it has been planned."""
        names = set(schema.names)
        if partitioned_by is not None and not names.issuperset(partitioned_by):
            partitioned_by = None
        is_shared = self._consumers.get(id(node), 0) > 1
        return Port(task, output, schema, partitioned_by, is_shared, origin)

    def hash_to(self, port: Port, keys: tuple[str, ...], task: TaskPlan, index: int = 0) -> None:
        """Connect a port by a hash edge, which sends rows to the owners of their keys."""
        self.connect(port, task, index, partitioning=HashPartitioning(keys))

    def is_placed(
        self, port: Port, requirement: Requirement, ranks: tuple[int, ...], *, alone: bool = True
    ) -> bool:
        """Return whether the rows of a port meet a requirement of an operator on ``ranks``.

        ``alone``: the operator has no other input, with which keys must be co-located.
        """
        if port.task.ranks != ranks:
            return False
        if len(ranks) == 1 or isinstance(requirement, Anywhere):
            return True
        by = port.partitioned_by
        if not isinstance(requirement, ByKey) or by is None:
            return False
        if by != requirement.columns and not (alone and set(by) <= set(requirement.columns)):
            return False
        self.notes.append(f"exchange dropped: rows are already partitioned by {', '.join(by)}")
        return True

    def note_side(self, node: Node, output: str, port: Port) -> None:
        """Record the port of a node's side output."""
        self.side_ports[id(node), output] = port
