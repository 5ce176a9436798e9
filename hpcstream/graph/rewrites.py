"""Rewrites of the logical graph that leave its meaning as it is.

Each returns a new graph and notes what it did for `explain`.
"""

from __future__ import annotations

from dataclasses import replace

from hpcstream.graph.logical import (
    Columns,
    FilterNode,
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
from hpcstream.operators.expressions import Expression


def optimized(graph: LogicalGraph) -> LogicalGraph:
    """Return the graph with filters pushed down and columns pruned."""
    return prune_columns(push_filters(mark_late(graph)))


def mark_late(graph: LogicalGraph) -> LogicalGraph:
    """Tell the windows whose late rows are read to hand them out."""
    wanted = {id(node.inputs[0]) for node in graph.nodes() if isinstance(node, LateNode)}

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        if isinstance(node, WindowNode):
            return replace(node, inputs=inputs, wants_late=id(node) in wanted)
        return replace(node, inputs=inputs)

    return LogicalGraph(graph.rewritten(change), graph.rewrites)


def push_filters(graph: LogicalGraph) -> LogicalGraph:
    """Move filters towards the sources, into the scan where it can apply them."""
    consumers = graph.consumers()
    shared = {key for key, count in consumers.items() if count > 1}
    notes = list(graph.rewrites)
    origin: dict[int, int] = {}

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        if not isinstance(node, FilterNode):
            new = replace(node, inputs=inputs)
        else:
            may_move = id(node.inputs[0]) not in shared
            new = _sunk(node, inputs[0], notes) if may_move else replace(node, inputs=inputs)
        origin[id(new)] = id(node)
        return new

    return LogicalGraph(graph.rewritten(change), notes)


def _sunk(node: FilterNode, below: Node, notes: list[str]) -> Node:
    """Return ``below`` with the filter put as deep into it as it can go."""
    if isinstance(below, SourceNode):
        return _into_scan(node, below, notes)
    if isinstance(below, FilterNode | RebalanceNode):
        inner = _sunk(node, below.inputs[0], notes)
        return replace(below, inputs=(inner,))
    if isinstance(below, ProjectNode):
        predicate = node.predicate.substitute(dict(below.columns))
        notes.append(f"filter pushed below select: {predicate!r}")
        lower = replace(
            node, schema=below.inputs[0].schema, predicate=predicate, ranks=below.inputs[0].ranks
        )
        return replace(below, inputs=(_sunk(lower, below.inputs[0], notes),))
    if isinstance(below, UnionNode):
        notes.append(f"filter pushed into each side of a union: {node.predicate!r}")
        sides = tuple(_sunk(replace(node, ranks=s.ranks), s, notes) for s in below.inputs)
        return replace(below, inputs=sides)
    return replace(node, inputs=(below,), schema=below.schema)


def _into_scan(node: FilterNode, source: SourceNode, notes: list[str]) -> Node:
    kept: list[Expression] = []
    for predicate in node.predicate.conjuncts():
        arrow = predicate.to_arrow(source.schema)
        scan = None if arrow is None else source.source.filter(arrow)
        if scan is None:
            kept.append(predicate)
        else:
            notes.append(f"filter pushed into the scan: {predicate!r}")
            source = replace(source, source=scan, filters=(*source.filters, predicate))
    if not kept:
        return source
    rest = kept[0]
    for predicate in kept[1:]:
        rest = rest & predicate
    return replace(node, inputs=(source,), predicate=rest)


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


def _needed(graph: LogicalGraph) -> dict[int, Columns]:
    needed: dict[int, Columns] = {}
    for node in reversed(graph.nodes()):
        if isinstance(node, SinkNode):
            needed[id(node)] = frozenset(node.schema.names)
        own = needed.setdefault(id(node), frozenset())
        for one, columns in zip(node.inputs, node.required(own), strict=True):
            needed[id(one)] = needed.get(id(one), frozenset()) | columns
    return needed
