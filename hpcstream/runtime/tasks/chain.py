"""A chain of operators in one task: batches and watermarks pushed through plain calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import pyarrow as pa

from hpcstream.columns.event_time import MAX_TIME
from hpcstream.metric import Counter
from hpcstream.operators.base import Emitted, Marks, Operator, SideOutput, Turn
from hpcstream.operators.spec import MAIN
from hpcstream.process.family import end_if_child

Waiting = Iterator[Turn | None]
"""Yields what an operator says in place of rows, and None while an edge has no room."""

Emit = Callable[[tuple[int, str], pa.RecordBatch], Iterator[None]]
"""Hands a batch to the edges of an output; yields while an edge has no room."""


class OperatorCounters:
    """What one operator did on one rank."""

    rows_in = Counter("rows in")
    rows_out = Counter("rows out")

    def __init__(self, label: str) -> None:
        self.label = label


class OperatorChain:
    """Feeds operators one after the other; the last one's output goes to ``emit``.

    Attributes
    ----------
    watermarks, marks : list
        Of each operator's output, after the last watermark; the last ones are the input's.
    holding, clocked, waited_for : list of (int, Operator)
        The operators that hold rows back, use the time of day, and may have results to come
        when their input has ended; with their numbers.
    """

    def __init__(self, operators: Sequence[tuple[str, Operator]], emit: Emit) -> None:
        self.operators = [operator for _, operator in operators]
        self.counters = [OperatorCounters(label) for label, _ in operators]
        self.watermarks = [0] * (len(operators) + 1)
        self.marks: list[int | None] = [None] * (len(operators) + 1)
        numbered = list(enumerate(self.operators))
        self.holding = [(index, one) for index, one in numbered if one.holds_back]
        self.clocked = [(index, one) for index, one in numbered if one.uses_clock]
        self.waited_for = [(index, one) for index, one in numbered if one.may_be_pending]
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

    def push_clock(self, now_us: int) -> Waiting:
        """Tell the operators that use it the time of day."""
        for index, operator in self.clocked:
            yield from self._pass_on(index, operator.process_clock(now_us))

    @property
    def has_pending(self) -> bool:
        """Whether an operator has results to come, or its input, which has not ended, may give it.

        Asked between two rounds of the sources: rows may be under way to this chain.
        """
        return any(
            self.watermarks[index - 1] != MAX_TIME or operator.has_pending
            for index, operator in self.waited_for
        )

    def push_watermark(
        self, watermark: int, mark: int | None, of_inputs: Marks | None = None
    ) -> Waiting:
        """Run every operator on a watermark, each after what the one before it emitted.

        ``mark`` is what the input promises (`hpcstream.columns.event_time.least_mark`). While it
        is idle nobody waits for this chain, so that all that is held back goes out.
        ``of_inputs``: the watermark of each input of the first operator; None: it has one.
        """
        self.watermarks[-1], self.marks[-1] = watermark, mark
        for index, operator in enumerate(self.operators):
            if operator.notes_watermarks:
                operator.note_watermarks(of_inputs or (None if mark is None else watermark,))
            of_inputs = None
            yield from self._pass_on(index, operator.process_watermark(watermark))
            if operator.derives_watermark:
                watermark = operator.output_watermark(watermark)
                mark = None if mark is None else operator.output_watermark(mark)
            self.watermarks[index], self.marks[index] = watermark, mark
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
