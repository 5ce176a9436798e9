"""Rewrites of the logical graph that leave its meaning as it is.

Each returns a new graph and notes what it did for `explain`.
"""

from __future__ import annotations

from dataclasses import replace

from hpcstream.expressions.expression import Expression
from hpcstream.graph.logical import (
    Columns,
    FilterNode,
    JoinTableNode,
    LateNode,
    LogicalGraph,
    Node,
    ProjectNode,
    RebalanceNode,
    SinkNode,
    SourceNode,
    UnionNode,
    WindowNode,
)


def optimized(graph: LogicalGraph) -> LogicalGraph:
    """Return the graph with filters pushed down and columns pruned."""
    pruned = prune_columns(push_filters(mark_late(graph)))
    return encode_joined_keys(filter_in_joins(pruned))


def mark_late(graph: LogicalGraph) -> LogicalGraph:
    """Tell the windows whose late rows are read to hand them out."""
    wanted = {id(node.inputs[0]) for node in graph.nodes() if isinstance(node, LateNode)}

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        if isinstance(node, WindowNode):
            return replace(node, inputs=inputs, wants_late=id(node) in wanted)
        return replace(node, inputs=inputs)

    return LogicalGraph(graph.rewritten(change), graph.rewrites)


def push_filters(graph: LogicalGraph) -> LogicalGraph:
    """Move filters towards the sources, into the scan where it can apply them.

    A filter passes an earlier one only if it cannot raise: the earlier one may be
    what keeps it from dividing by zero. It stays where others read its input.
    """
    push = _FilterPush(graph)
    return LogicalGraph(graph.rewritten(push.change), push.notes)


class _FilterPush:
    def __init__(self, graph: LogicalGraph) -> None:
        self.notes = list(graph.rewrites)
        self._consumers = graph.consumers()
        self._shared: dict[int, Node] = {}  # by id; the node too, so that no id comes again

    def change(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        if isinstance(node, FilterNode):
            new = self._sunk(replace(node, inputs=inputs), inputs[0])
        else:
            new = replace(node, inputs=inputs)
        if self._consumers.get(id(node), 0) > 1:
            self._shared[id(new)] = new
        return new

    def _sunk(self, node: FilterNode, below: Node) -> Node:
        """Return ``below`` with the filter put as deep into it as it can go."""
        if id(below) not in self._shared:
            if isinstance(below, SourceNode):
                return self._into_scan(node, below)
            if isinstance(below, RebalanceNode):
                return replace(below, inputs=(self._sunk(node, below.inputs[0]),))
            if isinstance(below, FilterNode) and node.predicate.is_total(below.schema):
                return replace(below, inputs=(self._sunk(node, below.inputs[0]),))
            if isinstance(below, ProjectNode) and _reads_plain_columns(node, below):
                return self._below_project(node, below)
            if isinstance(below, UnionNode):
                return self._into_union(node, below)
        return replace(node, inputs=(below,), schema=below.schema)

    def _below_project(self, node: FilterNode, below: ProjectNode) -> Node:
        predicate = node.predicate.substitute(dict(below.columns))
        self.notes.append(f"filter pushed below select: {predicate!r}")
        (source,) = below.inputs
        lower = replace(node, schema=source.schema, predicate=predicate, ranks=source.ranks)
        return replace(below, inputs=(self._sunk(lower, source),))

    def _into_union(self, node: FilterNode, below: UnionNode) -> Node:
        self.notes.append(f"filter pushed into each side of a union: {node.predicate!r}")
        sides = [self._sunk(replace(node, ranks=side.ranks), side) for side in below.inputs]
        return replace(below, inputs=tuple(sides))

    def _into_scan(self, node: FilterNode, source: SourceNode) -> Node:
        kept: list[Expression] = []
        for predicate in node.predicate.conjuncts():
            is_first = not kept and not source.filters
            may_join = is_first or predicate.is_total(source.schema)
            arrow = predicate.to_arrow(source.schema) if may_join else None
            scan = None if arrow is None else source.source.filter(arrow)
            if scan is None:
                kept.append(predicate)
            else:
                self.notes.append(f"filter pushed into the scan: {predicate!r}")
                source = replace(source, source=scan, filters=(*source.filters, predicate))
        if not kept:
            return source
        rest = kept[0]
        for predicate in kept[1:]:
            rest = rest & predicate
        return replace(node, inputs=(source,), schema=source.schema, predicate=rest)


def _reads_plain_columns(node: FilterNode, below: ProjectNode) -> bool:
    """Return whether a filter reads columns that a projection passes on as they are."""
    made = dict(below.columns)
    return all(made[name].is_column for name in node.predicate.columns())


def prune_columns(graph: LogicalGraph) -> LogicalGraph:
    """Drop, at every node, the columns that nothing after it reads."""
    needed = _needed(graph)
    notes = list(graph.rewrites)

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        new = node.rebuilt(inputs, needed[id(node)])
        if isinstance(node, SourceNode) and len(new.schema) < len(node.schema):
            read = ", ".join(new.schema.names) or "no column"
            notes.append(f"columns pruned: {node.source.describe()} hands on {read}")
        return new

    return LogicalGraph(graph.rewritten(change), notes)


def filter_in_joins(graph: LogicalGraph) -> LogicalGraph:
    """Let joins on strings look these up where they lie, instead of behind a filter.

    A filter copies the rows it keeps; of a string that is only looked up, that would
    be most of its work.
    """
    consumers = graph.consumers()
    notes = list(graph.rewrites)

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        new = replace(node, inputs=inputs)
        if not isinstance(new, JoinTableNode):
            return new
        below = node.inputs[0]
        if not new.join.looks_up_strings(below.schema):
            return new
        while isinstance(below, ProjectNode) and _only_drops_columns(below):
            if consumers.get(id(below), 0) > 1 or below.ranks != node.ranks:
                return new
            inputs, below = inputs[0].inputs, below.inputs[0]
        if not isinstance(below, FilterNode) or below.ranks != node.ranks:
            return new
        if consumers.get(id(below), 0) > 1:
            return new
        notes.append(f"filter joined with join_table: {below.predicate!r}")
        return replace(new, inputs=inputs[0].inputs, where=below.predicate)

    return LogicalGraph(graph.rewritten(change), notes)


def _only_drops_columns(node: ProjectNode) -> bool:
    return all(e.is_column and e.columns() == {name} for name, e in node.columns)


def encode_joined_keys(graph: LogicalGraph) -> LogicalGraph:
    """Let strings that a join adds only as keys of the window behind it stay numbers.

    They leave the join as dictionaries; the window's result has the strings again.
    """
    consumers = graph.consumers()
    notes = list(graph.rewrites)

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        new = replace(node, inputs=inputs)
        if not isinstance(node, WindowNode) or node.wants_late:
            return new
        (join,) = node.inputs
        if not isinstance(join, JoinTableNode) or consumers.get(id(join), 0) > 1:
            return new
        only_keys = frozenset(node.keys).difference(*(c.columns() for c in node.aggregates))
        encoded = join.join.texts(join.inputs[0].schema, only_keys)
        if not encoded:
            return new
        notes.append(f"joined keys stay dictionaries: {', '.join(sorted(encoded))}")
        (joined,) = inputs
        assert isinstance(joined, JoinTableNode)
        return replace(new, inputs=(replace(joined, encoded=encoded),))

    return LogicalGraph(graph.rewritten(change), notes)


def _needed(graph: LogicalGraph) -> dict[int, Columns]:
    needed: dict[int, Columns] = {}
    for node in reversed(graph.nodes()):
        if isinstance(node, SinkNode):
            needed[id(node)] = frozenset(node.schema.names)
        own = needed.setdefault(id(node), frozenset())
        for one, columns in zip(node.inputs, node.required(own), strict=True):
            needed[id(one)] = needed.get(id(one), frozenset()) | columns
    return needed
