"""The edges that a task's outputs feed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from hpcstream.columns.event_time import MIN_TIME
from hpcstream.exchange.communicator import Procedure
from hpcstream.exchange.edges.base import Edge, RoundEnd
from hpcstream.runtime.tasks.chain import Output


class Outputs:
    """The edges that a task's outputs feed: the output and the edge of each."""

    def __init__(self, edges: Sequence[tuple[Output, Edge]]) -> None:
        self.edges = [edge for _, edge in edges]
        self._outputs = [output for output, _ in edges]
        self._closed = [-1] * len(edges)
        self._by_output: dict[Output, list[Edge]] = {}
        for output, edge in edges:
            self._by_output.setdefault(output, []).append(edge)

    def may_start(self, round_number: int) -> bool:
        """Return whether every edge accepts this round."""
        # Asked in each turn of the loop, where `all` takes twice as long.
        for edge in self.edges:  # noqa: SIM110
            if not edge.may_start(round_number):
                return False
        return True

    def emit(self, output: Output, batch: pa.RecordBatch) -> Iterator[None]:
        """Send a batch on every edge of an output; an output may have none."""
        for edge in self._by_output.get(output, ()):
            yield from edge.send(batch)

    def close(self, round_number: int, end_of: Callable[[Output], RoundEnd]) -> Procedure[None]:
        """Close the round on every edge on which it is still open."""
        for index, edge in enumerate(self.edges):
            if self._closed[index] < round_number:
                yield from edge.close(round_number, end_of(self._outputs[index]))
                self._closed[index] = round_number

    def reached_by(self, index: int, round_number: int) -> int | None:
        """Return how far the consumers of an operator may be after a round that all have closed.

        None while another producer of one of its edges has not closed the round.
        """
        reached = MIN_TIME
        for (operator, _), edge in zip(self._outputs, self.edges, strict=True):
            if operator == index:
                so_far = edge.reached_by(round_number)
                if so_far is None:
                    return None
                reached = max(reached, so_far)
        return reached

    def note_blocked(self, round_number: int) -> None:
        """Tell every edge that the round has begun and waits, so that each serves its peers."""
        for edge in self.edges:
            edge.note_blocked(round_number)

    def finish(self, end_round: int) -> None:
        """Send the end of the stream on every edge."""
        for edge in self.edges:
            edge.finish(end_round)
