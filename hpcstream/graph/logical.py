"""The logical graph: what the user described, one node a transformation.

A node knows its inputs, the schema of what it emits (the user's columns; hidden
ones are the planner's business) and its event time. Nodes are immutable and
shared; the same node may feed several others. Cycles cannot be built.
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
        Ranks that run it, counted modulo the size of the job; None: all.
    name : str or None
        Under which a checkpoint finds its state again; None: from its description.
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
        """What the planner heeds of it."""
        return Traits()

    def required(self, needed: Columns) -> Sequence[Columns]:
        """Return, for each input, the columns this node reads to emit ``needed``."""
        return [frozenset(node.schema.names) for node in self.inputs]

    def rebuilt(self, inputs: tuple[Node, ...], needed: Columns) -> Node:
        """Return this node over other inputs, emitting at least ``needed``."""
        return replace(self, inputs=inputs)

    def describe(self) -> str:
        """Return one line for `explain`."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceNode(Node):
    """A source, with how event time is taken from its rows.

    Attributes
    ----------
    origin : str
        The source as the user described it, whatever the planner asks of it later.
    identity : str
        By which a checkpoint finds it again, likewise.
    watermark_delay : int
        How far out of order rows may be, in ticks.
    idle_timeout_s : float or None
        When a live split without rows stops holding time back; None: never.
    discover_s : float
        How often a source that discovers splits is asked for them.
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
    """An operator, by its definition.

    Attributes
    ----------
    spec : OperatorSpec
    sides : frozenset of str
        Its side outputs that are read.
    """

    spec: OperatorSpec
    sides: Columns = frozenset()

    @classmethod
    def of(
        cls, spec: OperatorSpec, *inputs: Node, ranks: tuple[int, ...] | None = None
    ) -> OperatorNode:
        """Return the node of an operator behind others; its definition says what leaves.

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
    """A side output of an operator, its only input: rows of that one's first input.

    Attributes
    ----------
    output : str
        Its name.
    """

    output: str

    @classmethod
    def of(cls, node: OperatorNode, output: str, ranks: tuple[int, ...] | None) -> SideNode:
        """Return the side output of a node.

        Raises
        ------
        KeyError
            It has none of this name.
        """
        schemas = [_with_time(one) for one in node.inputs]
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
    """Where rows leave the job.

    Attributes
    ----------
    sink : Sink
    gather : bool
        All rows go to rank 0 (print, collect).
    """

    sink: Sink
    gather: bool = False

    def key(self) -> Key:
        """Return what is written to, by which a checkpoint knows the sink."""
        return self.sink.identity()

    def describe(self) -> str:
        return f"-> {self.sink.describe()}"


def _only(node: Node, names: Columns) -> Node:
    """Return ``node``, cut to ``names`` if it emits more."""
    if len(node.schema) == len(names):
        return node
    columns = tuple((name, col(name)) for name in node.schema.names if name in names)
    return replace(OperatorNode.of(ProjectSpec(columns), node, ranks=node.ranks), time=node.time)


def walk(sinks: Sequence[Node]) -> Iterator[Node]:
    """Yield every node that feeds ``sinks``, once, inputs before their consumers."""
    seen: set[int] = set()
    waiting: list[tuple[Node, bool]] = [(sink, False) for sink in reversed(sinks)]
    while waiting:
        node, inputs_done = waiting.pop()
        if inputs_done:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            waiting.append((node, True))
            waiting += [(one, False) for one in reversed(node.inputs)]


@dataclass
class LogicalGraph:
    """The nodes that a job runs: those that feed its sinks.

    Attributes
    ----------
    sinks : list of SinkNode
    rewrites : list of str
        What the planner changed, in words.
    """

    sinks: list[SinkNode]
    rewrites: list[str] = field(default_factory=list)

    def nodes(self) -> list[Node]:
        """Return the nodes, inputs before their consumers."""
        return list(walk(self.sinks))

    @property
    def has_live_source(self) -> bool:
        """Whether any source does not end by itself."""
        sources = (node for node in self.nodes() if isinstance(node, SourceNode))
        return not all(node.source.bounded for node in sources)

    def consumers(self) -> dict[int, int]:
        """Return how many inputs each node feeds, by ``id(node)``."""
        counts: dict[int, int] = {}
        for node in self.nodes():
            for one in node.inputs:
                counts[id(one)] = counts.get(id(one), 0) + 1
        return counts

    def rewritten(self, change: Callable[[Node, tuple[Node, ...]], Node]) -> list[Any]:
        """Return the sinks after ``change(node, new inputs)`` was applied to every node."""
        new: dict[int, Node] = {}
        for node in self.nodes():
            new[id(node)] = change(node, tuple(new[id(one)] for one in node.inputs))
        return [new[id(sink)] for sink in self.sinks]
