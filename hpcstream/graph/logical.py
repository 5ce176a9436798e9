"""The logical graph: what the user described, one node a transformation.

A node knows its inputs, the schema of what it emits (the user's columns; hidden
ones are the planner's business) and its event time. Nodes are immutable and
shared; the same node may feed several others. Cycles cannot be built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa

from hpcstream.aggregates.base import AggregateCall
from hpcstream.columns.event_time import TimeUnit, duration_text
from hpcstream.connectors.adapt import own_identity
from hpcstream.connectors.base import Sink, Source
from hpcstream.expressions.expression import Expression
from hpcstream.operators.base import Operator
from hpcstream.operators.joins.table import JoinTable
from hpcstream.operators.windows.assigners import WindowAssigner
from hpcstream.stable_keys import Key

Columns = frozenset[str]


class EventClock(NamedTuple):
    """A watermark that begins at an operator: the unit of its times, and its delay in ticks."""

    unit: str
    delay: int


@dataclass(frozen=True)
class EventTime:
    """What a stream's event time is. It travels beside the columns, whatever becomes of these.

    Attributes
    ----------
    column : str or None
        The user's column that holds it; None: no column does any more.
    unit : TimeUnit
        What one tick is.
    data_type : pyarrow.DataType
        Type of the column it was taken from, and so of ``window_start`` and ``window_end``.
    shift : int
        Event time is the column plus so many ticks: -1 behind windows.
    """

    column: str | None
    unit: TimeUnit
    data_type: pa.DataType
    shift: int = 0

    def behind(self, columns: Sequence[tuple[str, Expression]]) -> EventTime:
        """Return the same event time where a projection to ``columns`` has passed."""
        holders = [n for n, e in columns if e.is_column and e.columns() == {self.column}]
        held = self.column in holders
        return self if held else replace(self, column=holders[0] if holders else None)

    def describe(self) -> str:
        """Return a few words for `explain` and the like."""
        held = "in no column" if self.column is None else repr(self.column)
        shift = f" {self.shift:+d}" if self.shift and self.column else ""
        return f"event time {held}{shift} [{self.unit.name}]"

    def beside(self, other: EventTime | None) -> EventTime:
        """Return the event time of a union with a stream of another."""
        if other is not None and (other.column, other.shift) == (self.column, self.shift):
            return self
        return replace(self, column=None)


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

    def required(self, needed: Columns) -> list[Columns]:
        """Return, for each input, the columns this node reads to emit ``needed``."""
        return [frozenset(node.schema.names) for node in self.inputs]

    def rebuilt(self, inputs: tuple[Node, ...], needed: Columns) -> Node:
        """Return this node over other inputs, emitting at least ``needed``."""
        return replace(self, inputs=inputs)

    @property
    def kind(self) -> str:
        """The kind of operator, by which, with `key`, a checkpoint finds its state again."""
        raise NotImplementedError

    def key(self) -> Key:
        """Return what the operator does as plain data: the same whatever `describe` says."""
        raise NotImplementedError

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
class FilterNode(Node):
    """Keeps the rows for which ``predicate`` is true, and of its columns those of ``schema``."""

    predicate: Expression
    kind = "filter"

    def key(self) -> Key:
        return self.predicate.key()

    def required(self, needed: Columns) -> list[Columns]:
        return [needed | self.predicate.columns()]

    def rebuilt(self, inputs: tuple[Node, ...], needed: Columns) -> Node:
        schema = pa.schema([field for field in inputs[0].schema if field.name in needed])
        return replace(self, inputs=inputs, schema=schema)

    def describe(self) -> str:
        return f"filter {self.predicate!r}"


@dataclass(frozen=True, eq=False, kw_only=True)
class ProjectNode(Node):
    """Computes columns from expressions: select, with_columns, drop and rename."""

    columns: tuple[tuple[str, Expression], ...]
    kind = "select"

    def key(self) -> Key:
        return [[name, expression.key()] for name, expression in self.columns]

    def required(self, needed: Columns) -> list[Columns]:
        read = [e.columns() for name, e in self.columns if name in needed]
        return [frozenset().union(*read)]

    def rebuilt(self, inputs: tuple[Node, ...], needed: Columns) -> Node:
        columns = tuple((name, e) for name, e in self.columns if name in needed)
        schema = pa.schema([self.schema.field(name) for name, _ in columns])
        return replace(self, inputs=inputs, columns=columns, schema=schema)

    def describe(self) -> str:
        shown = [repr(e) if repr(e) == f"col({n!r})" else f"{n}={e!r}" for n, e in self.columns]
        return f"select {', '.join(shown)}"


@dataclass(frozen=True, eq=False, kw_only=True)
class OperatorNode(Node):
    """Any operator of one input that the planner does not look into.

    Attributes
    ----------
    make : callable
        Called once a rank with the input's schema (hidden columns last).
    label : str
    reads : frozenset of str or None
        Columns it needs; None: all.
    passes_columns : bool
        Whether it hands its input's columns on as they are.
    operator : str
        Its kind.
    fields : tuple
        What tells it from others of its kind.
    clock : EventClock or None
        Its output has an event time of its own.
    stays : bool
        It runs where its input is, whatever ``ranks`` says, before rows of several
        ranks meet: event time is in order only there.
    """

    make: Callable[[pa.Schema], Operator]
    operator: str
    label: str
    fields: tuple[Key, ...] = ()
    reads: Columns | None = None
    passes_columns: bool = False
    clock: EventClock | None = None
    stays: bool = False

    @property
    def kind(self) -> str:
        return self.operator

    def key(self) -> Key:
        return list(self.fields)

    def required(self, needed: Columns) -> list[Columns]:
        names = frozenset(self.inputs[0].schema.names)
        return [names if self.reads is None else (self.reads | needed) & names]

    def rebuilt(self, inputs: tuple[Node, ...], needed: Columns) -> Node:
        if self.reads is None:
            return replace(self, inputs=inputs)
        before = set(self.inputs[0].schema.names)
        gone = before - set(inputs[0].schema.names)
        schema = pa.schema([f for f in self.schema if f.name not in gone])
        return replace(self, inputs=inputs, schema=schema)

    def describe(self) -> str:
        return self.label


@dataclass(frozen=True, eq=False, kw_only=True)
class JoinTableNode(Node):
    """Each row with the matching rows of a table that every rank holds.

    Attributes
    ----------
    join : JoinTable
        The operator as the user asked for it: it knows where each column comes from.
    encoded : frozenset of str
        Columns that leave as dictionaries, whatever the schema says.
    where : Expression or None
        Which rows of the input are joined; None: all. The input may have more columns
        than the join knows of.
    path : str
        Of the table's file; empty: the script has the table.
    """

    join: JoinTable
    encoded: Columns = frozenset()
    where: Expression | None = None
    path: str = ""
    kind = "join_table"

    def key(self) -> Key:
        where = None if self.where is None else self.where.key()
        return [self.join.key(), sorted(self.encoded), where]

    def required(self, needed: Columns) -> list[Columns]:
        return [self.join.stream_columns(self.inputs[0].schema, needed)]

    def rebuilt(self, inputs: tuple[Node, ...], needed: Columns) -> Node:
        schema = pa.schema([field for field in self.schema if field.name in needed])
        join = self.join.emitting(self.inputs[0].schema, tuple(schema.names))
        return replace(self, inputs=inputs, schema=schema, join=join)

    def describe(self) -> str:
        where = "" if self.where is None else f" where {self.where!r}"
        return f"{self.join.describe()}{where}"


@dataclass(frozen=True, eq=False, kw_only=True)
class UnionNode(Node):
    """All rows of all inputs; they have one schema."""

    kind = "union"

    def key(self) -> Key:
        return None

    def required(self, needed: Columns) -> list[Columns]:
        return [needed for _ in self.inputs]

    def rebuilt(self, inputs: tuple[Node, ...], needed: Columns) -> Node:
        names = [name for name in self.schema.names if name in needed]
        even = tuple(_only(node, names) for node in inputs)
        return replace(self, inputs=even, schema=even[0].schema)

    def describe(self) -> str:
        return f"union of {len(self.inputs)}"


@dataclass(frozen=True, eq=False, kw_only=True)
class RebalanceNode(Node):
    """Spreads rows evenly over the ranks."""

    kind = "rebalance"

    def key(self) -> Key:
        return None

    def required(self, needed: Columns) -> list[Columns]:
        return [needed]

    def rebuilt(self, inputs: tuple[Node, ...], needed: Columns) -> Node:
        return replace(self, inputs=inputs, schema=inputs[0].schema)

    def describe(self) -> str:
        return "rebalance"


@dataclass(frozen=True, eq=False, kw_only=True)
class WindowNode(Node):
    """Aggregates per key (or, without keys, over all rows) and window.

    Attributes
    ----------
    keys : tuple of str
    assigner : WindowAssigner
    aggregates : tuple of AggregateCall
        Each under the name of its output column.
    window : str
        The windows as the user wrote them.
    allowed_lateness : int
        In ticks.
    wants_late : bool
        Whether the late rows are read.
    """

    keys: tuple[str, ...]
    assigner: WindowAssigner
    aggregates: tuple[AggregateCall, ...]
    window: str
    allowed_lateness: int = 0
    wants_late: bool = False
    kind = "aggregate"

    def key(self) -> Key:
        windows = (self.assigner.size, self.assigner.slide, self.assigner.offset)
        return {
            "keys": self.keys,
            "windows": [*windows, self.unit],
            "lateness": self.allowed_lateness,
            "aggregates": [call.key() for call in self.aggregates],
        }

    def required(self, needed: Columns) -> list[Columns]:
        if self.wants_late:
            return [frozenset(self.inputs[0].schema.names)]
        return [frozenset(self.keys).union(*(call.columns() for call in self.aggregates))]

    def describe(self) -> str:
        by = f"by {', '.join(self.keys)} " if self.keys else "all rows "
        what = ", ".join(f"{call.name}={_unnamed(call)!r}" for call in self.aggregates)
        late = duration_text(self.allowed_lateness, self.unit) if self.allowed_lateness else ""
        late = f", lateness {late}" if late else ""
        return f"aggregate {by}in {self.window}{late}: {what}"

    @property
    def unit(self) -> str:
        """Name of the unit of event time."""
        return "" if self.time is None else self.time.unit.name


@dataclass(frozen=True, eq=False, kw_only=True)
class LateNode(Node):
    """The rows that came too late for a `WindowNode`, its only input."""

    def required(self, needed: Columns) -> list[Columns]:
        return [frozenset(self.inputs[0].schema.names)]

    def describe(self) -> str:
        return "late rows"


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
    kind = "sink"

    def key(self) -> Key:
        return own_identity(self.sink)

    def describe(self) -> str:
        describe = getattr(self.sink, "describe", None)
        return f"-> {describe() if describe else type(self.sink).__name__}"


def _unnamed(call: AggregateCall) -> AggregateCall:
    return replace(call, alias_name=None)


def _only(node: Node, names: Sequence[str]) -> Node:
    """Return ``node``, cut to ``names`` if it emits more."""
    if node.schema.names == list(names):
        return node
    from hpcstream.expressions.expression import col

    schema = pa.schema([node.schema.field(name) for name in names])
    return ProjectNode(
        inputs=(node,),
        schema=schema,
        time=node.time,
        ranks=node.ranks,
        columns=tuple((name, col(name)) for name in names),
    )


def walk(sinks: Sequence[Node]) -> Iterator[Node]:
    """Yield every node that feeds ``sinks``, once, inputs before their consumers."""
    seen: set[int] = set()

    def visit(node: Node) -> Iterator[Node]:
        if id(node) in seen:
            return
        seen.add(id(node))
        for one in node.inputs:
            yield from visit(one)
        yield node

    for sink in sinks:
        yield from visit(sink)


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
