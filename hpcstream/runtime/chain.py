"""A chain of operators in one task: batches and watermarks pushed through plain calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hpcstream.operators.base import Emitted, Operator, SideOutput, Turn
from hpcstream.operators.spec import MAIN
from hpcstream.process.family import end_if_child

Waiting = Iterator[Turn | None]
"""Yields what an operator says in place of rows, and None while an edge has no room."""

Emit = Callable[[tuple[int, str], pa.RecordBatch], Iterator[None]]
"""Hands a batch to the edges of an output; yields while an edge has no room."""


@dataclass(slots=True)
class OperatorCounters:
    """What one operator did on one rank."""

    label: str
    rows_in: int = 0
    rows_out: int = 0


class OperatorChain:
    """Feeds operators one after the other; the last one's output goes to ``emit``.

    Attributes
    ----------
    watermarks, marks : list
        Of each operator's output, after the last watermark.
    holding : list of (int, Operator)
        The operators that hold rows back, with their numbers.
    """

    def __init__(self, operators: Sequence[tuple[str, Operator]], emit: Emit) -> None:
        self.operators = [operator for _, operator in operators]
        self.counters = [OperatorCounters(label) for label, _ in operators]
        self.watermarks = [0] * (len(operators) + 1)
        self.marks: list[int | None] = [None] * (len(operators) + 1)
        self.holding = [
            (index, operator)
            for index, (_, operator) in enumerate(operators)
            if operator.holds_back
        ]
        self._emit = emit
        self._last = len(operators) - 1

    def push(self, index: int, batch: pa.RecordBatch, input_index: int = 0) -> Waiting:
        """Run operator ``index`` and those after it on one batch."""
        end_if_child()
        if index > self._last:
            yield from self._emit((self._last, MAIN), batch)
            return
        self.counters[index].rows_in += batch.num_rows
        yield from self._pass_on(index, self.operators[index].process_batch(batch, input_index))

    def push_watermark(self, watermark: int, mark: int | None) -> Waiting:
        """Run every operator on a watermark, each after what the one before it emitted.

        ``mark`` is what the input promises (`hpcstream.columns.event_time.least_mark`). While it
        is idle nobody waits for this chain, so that all that is held back goes out.
        """
        for index, operator in enumerate(self.operators):
            yield from self._pass_on(index, operator.process_watermark(watermark))
            if operator.derives_watermark:
                watermark = operator.output_watermark(watermark)
                mark = None if mark is None else operator.output_watermark(mark)
            self.watermarks[index], self.marks[index] = watermark, mark
        self.watermarks[self._last], self.marks[self._last] = watermark, mark
        if mark is None:
            for index, holder in self.holding:
                yield from self._pass_on(index, holder.release())

    def _pass_on(self, index: int, emitted: Iterable[Emitted]) -> Waiting:
        counters = self.counters[index]
        for out in emitted:
            if isinstance(out, SideOutput):
                yield from self._emit((index, out.name), out.batch)
            elif isinstance(out, Turn):
                yield out
            elif out.num_rows:
                counters.rows_out += out.num_rows
                yield from self.push(index + 1, out)
