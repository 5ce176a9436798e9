"""Rewrites of the logical graph that preserve its semantics.

Each returns a new graph with a note for `explain`. Definitions of operators determine what
commutes with them; the rewrites know only filters and projections, which they move and create.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hpcstream.expressions.expression import Expression
from hpcstream.graph.logical import (
    LogicalGraph,
    Node,
    OperatorNode,
    SideNode,
    SinkNode,
    SourceNode,
)
from hpcstream.operators.spec import Columns
from hpcstream.operators.stateless import FilterSpec, ProjectSpec


def optimized(graph: LogicalGraph) -> LogicalGraph:
    """Return the graph with filters pushed down and columns pruned."""
    pruned = prune_columns(push_filters(mark_sides(graph)))
    return encode_keys(absorb_filters(pruned))


def mark_sides(graph: LogicalGraph) -> LogicalGraph:
    """Set the side outputs that have consumers, for all operators."""
    wanted: dict[int, set[str]] = {}
    for node in graph.nodes():
        if isinstance(node, SideNode):
            wanted.setdefault(id(node.inputs[0]), set()).add(node.output)

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        if isinstance(node, OperatorNode):
            sides = frozenset(wanted.get(id(node), ()))
            return replace(node, inputs=inputs, sides=sides)
        return replace(node, inputs=inputs)

    return LogicalGraph(graph.rewritten(change), graph.rewrites)


def push_filters(graph: LogicalGraph) -> LogicalGraph:
    """Move filters towards the sources, into the scan if it can apply them.

    A filter does not move past a node that has other consumers.
    """
    push = _FilterPush(graph)
    return LogicalGraph(graph.rewritten(push.change), push.notes)


class _FilterPush:
    def __init__(self, graph: LogicalGraph) -> None:
        self.notes = list(graph.rewrites)
        self._consumers = graph.consumers()
        self._shared: dict[int, Node] = {}  # by id; keeps nodes alive, so that ids stay unique

    def change(self, node: Node, inputs: tuple[Node, ...]) -> Node:
        new = replace(node, inputs=inputs)
        if isinstance(new, OperatorNode) and isinstance(new.spec, FilterSpec):
            new = self._sunk(new, new.spec.predicate, inputs[0])
        if self._consumers.get(id(node), 0) > 1:
            self._shared[id(new)] = new
        return new

    def _sunk(self, node: OperatorNode, predicate: Expression, below: Node) -> Node:
        """Return ``below`` with the filter pushed down as deep as possible."""
        if id(below) not in self._shared:
            if isinstance(below, SourceNode):
                return self._into_scan(node, predicate, below)
            if isinstance(below, OperatorNode):
                passed = below.spec.below_filter(predicate, below.input_schemas)
                if passed is not None:
                    return self._past(node, predicate, below, passed)
        return replace(node, inputs=(below,), schema=below.schema)

    def _past(
        self,
        node: OperatorNode,
        predicate: Expression,
        below: OperatorNode,
        passed: Sequence[Expression | None],
    ) -> Node:
        """Return ``below`` with filters on its inputs instead of its output."""
        what = below.spec.kind
        if len(passed) > 1 and all(own is not None for own in passed):
            self.notes.append(f"filter pushed into each side of a {what}: {predicate!r}")
        elif len(passed) > 1 or passed[0] is not predicate:
            below_it = ", ".join(repr(own) for own in passed if own is not None)
            self.notes.append(f"filter pushed below {what}: {below_it}")
        inputs = []
        for own, side in zip(passed, below.inputs, strict=True):
            if own is not None:
                spec = FilterSpec(own)
                lower = replace(
                    node, spec=spec, schema=side.schema, time=side.time, ranks=side.ranks
                )
                side = self._sunk(lower, own, side)
            inputs.append(side)
        return replace(below, inputs=tuple(inputs))

    def _into_scan(self, node: OperatorNode, whole: Expression, source: SourceNode) -> Node:
        kept: list[Expression] = []
        for predicate in whole.conjuncts():
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
        return replace(node, inputs=(source,), schema=source.schema, spec=FilterSpec(rest))


def prune_columns(graph: LogicalGraph) -> LogicalGraph:
    """Drop, at every node, the columns that no consumer reads."""
    needed = _needed(graph)
    notes = list(graph.rewrites)

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        new = node.rebuilt(inputs, needed[id(node)])
        if isinstance(node, SourceNode) and len(new.schema) < len(node.schema):
            read = ", ".join(new.schema.names) or "no column"
            notes.append(f"columns pruned: {node.source.describe()} hands on {read}")
        return new

    return LogicalGraph(graph.rewritten(change), notes)


def absorb_filters(graph: LogicalGraph) -> LogicalGraph:
    """Merge filters into the operators after them that can filter more efficiently."""
    consumers = graph.consumers()
    notes = list(graph.rewrites)

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        new = replace(node, inputs=inputs)
        if not isinstance(node, OperatorNode) or len(node.inputs) != 1:
            return new
        below = node.inputs[0]
        while _only_drops_columns(below) and not _is_apart(below, node, consumers):
            inputs, below = inputs[0].inputs, below.inputs[0]
        predicate = _predicate(below)
        if predicate is None or _is_apart(below, node, consumers):
            return new
        spec = node.spec.with_filter(predicate, node.input_schemas)
        if spec is None:
            return new
        notes.append(f"filter joined with {spec.kind}: {predicate!r}")
        return replace(node, inputs=inputs[0].inputs, spec=spec)

    return LogicalGraph(graph.rewritten(change), notes)


def encode_keys(graph: LogicalGraph) -> LogicalGraph:
    """Dictionary-encode strings that an operator adds only as keys of the next operator.

    The next operator decodes the keys of its results.
    """
    consumers = graph.consumers()
    notes = list(graph.rewrites)

    def change(node: Node, inputs: tuple[Node, ...]) -> Node:
        new = replace(node, inputs=inputs)
        if not isinstance(node, OperatorNode) or node.sides or len(inputs) != 1:
            return new
        (before,), (below,) = node.inputs, inputs
        names = node.spec.takes_dictionaries
        if not names or not isinstance(below, OperatorNode) or consumers.get(id(before), 0) > 1:
            return new
        found = below.spec.with_dictionaries(names, below.input_schemas)
        if found is None:
            return new
        spec, encoded = found
        notes.append(f"joined keys stay dictionaries: {', '.join(sorted(encoded))}")
        return replace(new, inputs=(replace(below, spec=spec),))

    return LogicalGraph(graph.rewritten(change), notes)


def _predicate(node: Node) -> Expression | None:
    """Return the condition of a filter; None for other nodes."""
    if isinstance(node, OperatorNode) and isinstance(node.spec, FilterSpec):
        return node.spec.predicate
    return None


def _only_drops_columns(node: Node) -> bool:
    if isinstance(node, OperatorNode) and isinstance(node.spec, ProjectSpec):
        return node.spec.only_drops
    return False


def _is_apart(node: Node, consumer: Node, consumers: dict[int, int]) -> bool:
    """Return whether a node has other consumers, or runs on other ranks than this one."""
    return consumers.get(id(node), 0) > 1 or node.ranks != consumer.ranks


def _needed(graph: LogicalGraph) -> dict[int, Columns]:
    needed: dict[int, Columns] = {}
    for node in reversed(graph.nodes()):
        if isinstance(node, SinkNode):
            needed[id(node)] = frozenset(node.schema.names)
        own = needed.setdefault(id(node), frozenset())
        for source, columns in zip(node.inputs, node.required(own), strict=True):
            needed[id(source)] = needed.get(id(source), frozenset()) | columns
    return needed
