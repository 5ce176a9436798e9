"""The logical graph: the job as the user described it, one node per transformation.

A node has inputs, the schema of its output (the user's columns; the planner adds hidden ones)
and an event time. Nodes are immutable and shared: one node may feed several others. The
graph cannot have cycles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from hpcstream.columns.event_time import TIME_COLUMN, duration_text
from hpcstream.columns.hidden import time_field, visible_schema
from hpcstream.connectors.base import Sink, Source
from hpcstream.errors import PlanError
from hpcstream.expressions.expression import Expression, col
from hpcstream.operators.spec import Columns, OperatorSpec, Traits
from hpcstream.operators.stateless import ProjectSpec
from hpcstream.operators.stream_time import EventTime
from hpcstream.stable_keys import Key


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """A node of the logical graph. Compared by identity.

    Attributes
    ----------
    inputs : tuple of Node
    schema : pyarrow.Schema
        The user's columns that it emits.
    time : EventTime or None
    ranks : tuple of int or None
        Ranks that run it, modulo the size of the job; None: all.
    name : str or None
        The user's name of its state in checkpoints; None: derived from its definition.
    """

    inputs: tuple[Node, ...] = ()
    schema: pa.Schema
    time: EventTime | None = None
    ranks: tuple[int, ...] | None = None
    name: str | None = None

    @property
    def input_schemas(self) -> list[pa.Schema]:
        """The user's columns of each input."""
        return [node.schema for node in self.inputs]

    @property
    def traits(self) -> Traits:
        """Properties that the planner uses."""
        return Traits()

    def required(self, needed: Columns) -> Sequence[Columns]:
        """Return, for each input, the columns that this node reads to emit ``needed``."""
        return [frozenset(node.schema.names) for node in self.inputs]

    def rebuilt(self, inputs: tuple[Node, ...], needed: Columns) -> Node:
        """Return this node with other inputs, emitting at least ``needed``."""
        return replace(self, inputs=inputs)

    def describe(self) -> str:
        """Return one line for `explain`."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceNode(Node):
    """A source, and the event time of its rows.

    Attributes
    ----------
    origin : str
        Description of the source before the planner's rewrites.
    identity : str
        Identity of the source in checkpoints, before the planner's rewrites.
    watermark_delay : int
        How far out of order rows may be, in ticks.
    idle_timeout_s : float or None
        Time after which a live split without rows becomes idle; None: never.
    discover_s : float
        Interval of the discovery of new splits.
    """

    source: Source
    origin: str = ""
    identity: str = ""
    watermark_delay: int = 0
    idle_timeout_s: float | None = None
    discover_s: float = 60.0
    filters: tuple[Expression, ...] = ()

    def rebuilt(self, inputs: tuple[Node, ...], needed: Columns) -> Node:
        kept = [name for name in self.schema.names if name in needed]
        read = {*kept, self.time.column} if self.time else set(kept)
        columns = [name for name in self.schema.names if name in read]
        schema = pa.schema([self.schema.field(name) for name in kept])
        return replace(self, schema=schema, source=self.source.project(columns))

    def describe(self) -> str:
        text = self.source.describe()
        if self.time:
            text += f", {self.time.describe()}"
            delay = duration_text(self.watermark_delay, self.time.unit.name)
            text += f", watermark delay {delay}" if self.watermark_delay else ""
        text += "".join(f", pushed down: {predicate!r}" for predicate in self.filters)
        return text


@dataclass(frozen=True, eq=False, kw_only=True)
class OperatorNode(Node):
    """An operator, given by its definition.

    Attributes
    ----------
    spec : OperatorSpec
    sides : frozenset of str
        Its side outputs that have consumers.
    """

    spec: OperatorSpec
    sides: Columns = frozenset()

    @classmethod
    def of(
        cls, spec: OperatorSpec, *inputs: Node, ranks: tuple[int, ...] | None = None
    ) -> OperatorNode:
        """Return the node of an operator with the given inputs.

        Raises
        ------
        PlanError
            The inputs do not fit, or the definition contradicts itself.
        """
        schemas = [_with_time(node) for node in inputs]
        schema = spec.output_schema(schemas)
        time = spec.output_time([node.time for node in inputs], schemas)
        if time is not None and TIME_COLUMN not in schema.names:
            raise PlanError(
                f"{spec.describe()}: output_time() gives the rows an event time, but "
                f"output_schema() has no column {TIME_COLUMN!r} of it"
            )
        return cls(inputs=inputs, schema=visible_schema(schema), time=time, ranks=ranks, spec=spec)

    @property
    def traits(self) -> Traits:
        return self.spec.traits

    def required(self, needed: Columns) -> Sequence[Columns]:
        return self.spec.required(needed, self.input_schemas, self.sides)

    def rebuilt(self, inputs: tuple[Node, ...], needed: Columns) -> OperatorNode:
        if self.spec.needs_equal_inputs:
            inputs = tuple(
                _only(n, names) for n, names in zip(inputs, self.required(needed), strict=True)
            )
        spec = self.spec.pruned(needed, self.input_schemas)
        new = replace(self, inputs=inputs, spec=spec)
        schemas = zip(self.input_schemas, new.input_schemas, strict=True)
        if spec is self.spec and all(len(before) == len(now) for before, now in schemas):
            return new
        if spec.emits_only_needed:
            schema = pa.schema([field for field in self.schema if field.name in needed])
        else:
            schema = visible_schema(spec.output_schema(new.input_schemas))
        return replace(new, schema=schema)

    def describe(self) -> str:
        return self.spec.describe()


@dataclass(frozen=True, eq=False, kw_only=True)
class SideNode(Node):
    """A side output of an operator, which is its only input: rows of the operator's input 0.

    Attributes
    ----------
    output : str
        Name of the side output.
    """

    output: str

    @classmethod
    def of(cls, node: OperatorNode, output: str, ranks: tuple[int, ...] | None) -> SideNode:
        """Return the side output of a node.

        Raises
        ------
        KeyError
            The operator has no side output of this name.
        """
        schemas = [_with_time(source) for source in node.inputs]
        schema = node.spec.side_outputs(schemas)[output]
        time = node.inputs[0].time if TIME_COLUMN in schema.names else None
        visible = visible_schema(schema)
        return cls(inputs=(node,), schema=visible, time=time, ranks=ranks, output=output)

    def describe(self) -> str:
        return f"{self.output} rows"


def _with_time(node: Node) -> pa.Schema:
    return node.schema if node.time is None else node.schema.append(time_field())


@dataclass(frozen=True, eq=False, kw_only=True)
class SinkNode(Node):
    """A sink.

    Attributes
    ----------
    sink : Sink
    gather : bool
        Send all rows to rank 0 (print, collect).
    """

    sink: Sink
    gather: bool = False

    def key(self) -> Key:
        """Return the target of the sink, its identity in checkpoints."""
        return self.sink.identity()

    def describe(self) -> str:
        return f"-> {self.sink.describe()}"


def _only(node: Node, names: Columns) -> Node:
    """Return ``node``, projected to ``names`` if it emits more columns."""
    if len(node.schema) == len(names):
        return node
    columns = tuple((name, col(name)) for name in node.schema.names if name in names)
    return replace(OperatorNode.of(ProjectSpec(columns), node, ranks=node.ranks), time=node.time)


def walk(sinks: Sequence[Node]) -> Iterator[Node]:
    """Yield every node that feeds ``sinks`` once, in topological order."""
    seen: set[int] = set()
    waiting: list[tuple[Node, bool]] = [(sink, False) for sink in reversed(sinks)]
    while waiting:
        node, inputs_done = waiting.pop()
        if inputs_done:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            waiting.append((node, True))
            waiting += [(source, False) for source in reversed(node.inputs)]


@dataclass
class LogicalGraph:
    """The nodes of a job: all that feed its sinks.

    Attributes
    ----------
    sinks : list of SinkNode
    rewrites : list of str
        Descriptions of the planner's rewrites.
    """

    sinks: list[SinkNode]
    rewrites: list[str] = field(default_factory=list)

    def nodes(self) -> list[Node]:
        """Return the nodes in topological order."""
        return list(walk(self.sinks))

    @property
    def has_live_source(self) -> bool:
        """Whether any source is unbounded."""
        sources = (node for node in self.nodes() if isinstance(node, SourceNode))
        return not all(node.source.bounded for node in sources)

    def kernels(self, *, reproducible: bool) -> frozenset[str]:
        """Return the kernel families on demand that the operators call."""
        specs = (node.spec for node in self.nodes() if isinstance(node, OperatorNode))
        return frozenset[str]().union(*(s.kernels(reproducible=reproducible) for s in specs))

    def consumers(self) -> dict[int, int]:
        """Return the number of inputs that each node feeds, by ``id(node)``."""
        counts: dict[int, int] = {}
        for node in self.nodes():
            for source in node.inputs:
                counts[id(source)] = counts.get(id(source), 0) + 1
        return counts

    def rewritten(self, change: Callable[[Node, tuple[Node, ...]], Node]) -> list[Any]:
        """Return the sinks after applying ``change(node, new inputs)`` to every node."""
        new: dict[int, Node] = {}
        for node in self.nodes():
            new[id(node)] = change(node, tuple(new[id(source)] for source in node.inputs))
        return [new[id(sink)] for sink in self.sinks]
