"""Behind which nodes event time is read, and the order of rows of equal event time."""

from __future__ import annotations

from hpcstream.graph.logical import LateNode, LogicalGraph, Node, OperatorNode, WindowNode


class HiddenNeeds:
    """Of which nodes the rows need an event time or an order, for what follows.

    A window gives its results an event time and an order of their own, so what follows it
    needs neither of its input.
    """

    def __init__(self, graph: LogicalGraph) -> None:
        self._time: set[int] = set()
        self._order: set[int] = set()
        for node in reversed(graph.nodes()):
            self._note(node)

    def has_time(self, node: Node) -> bool:
        """Whether the event time of a node's rows is read."""
        return id(node) in self._time

    def has_order(self, node: Node) -> bool:
        """Whether the order of a node's rows is read."""
        return id(node) in self._order

    def _note(self, node: Node) -> None:
        if isinstance(node, WindowNode):
            self._time.add(id(node.inputs[0]))
            if any(call.aggregate.needs_order for call in node.aggregates):
                self._order.add(id(node.inputs[0]))
            return
        # Late rows are rows that went into the window, as they were.
        inputs = node.inputs[0].inputs if isinstance(node, LateNode) else node.inputs
        sets_time = isinstance(node, OperatorNode) and node.clock is not None
        for one in inputs:
            if self.has_time(node) and not sets_time:
                self._time.add(id(one))
            if self.has_order(node):
                self._order.add(id(one))
