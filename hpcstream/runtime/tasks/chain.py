"""A chain of operators in one task: batches and watermarks passed on by plain calls."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeAlias

import pyarrow as pa

from hpcstream.columns.event_time import MAX_TIME
from hpcstream.metric import Counter
from hpcstream.operators.base import Emitted, Marks, Operator, SideOutput, Turn
from hpcstream.operators.spec import MAIN
from hpcstream.process.family import end_if_child

Output: TypeAlias = tuple[int, str]
"""An output of a chain: the operator's index, and the name of its output."""

Waits: TypeAlias = Generator[Turn | None, None, None]
"""Yields a `Turn` when an operator yields one, and None while an edge has no room."""

Emit: TypeAlias = Callable[[Output, pa.RecordBatch], Iterator[None]]
"""Sends a batch on the edges of an output; yields while an edge has no room."""


class OperatorCounters:
    """The metrics of one operator on one rank."""

    rows_in = Counter("rows in")
    rows_out = Counter("rows out")

    def __init__(self, label: str) -> None:
        self.label = label

    def restore(self, rows_in: int, rows_out: int) -> None:
        """Count on from a snapshot."""
        self.rows_in, self.rows_out = rows_in, rows_out


class OperatorChain:
    """Feeds operators one after the other; the last one's output goes to ``emit``.

    Attributes
    ----------
    watermarks, marks : list
        Of each operator's output, after the last watermark; the last element is the input's.
    holding, clocked, waited_for : list of (int, Operator)
        The operators that hold rows back, use the time of day, and may have results left
        when their input has ended; with their indices.
    """

    def __init__(self, operators: Sequence[tuple[str, Operator]], emit: Emit) -> None:
        self.operators = [operator for _, operator in operators]
        self.counters = [OperatorCounters(label) for label, _ in operators]
        self.watermarks = [0] * (len(operators) + 1)
        self.marks: list[int | None] = [None] * (len(operators) + 1)
        numbered = list(enumerate(self.operators))
        self.holding = [(index, operator) for index, operator in numbered if operator.holds_back]
        self.clocked = [(index, operator) for index, operator in numbered if operator.uses_clock]
        self.waited_for = [(i, operator) for i, operator in numbered if operator.may_be_pending]
        self._emit = emit
        self._last = len(operators) - 1

    def push(self, index: int, batch: pa.RecordBatch, input_index: int = 0) -> Waits:
        """Run operator ``index`` and those after it on one batch."""
        end_if_child()
        if index > self._last:
            yield from self._emit((self._last, MAIN), batch)
            return
        self.counters[index].rows_in += batch.num_rows
        yield from self._pass_on(index, self.operators[index].process_batch(batch, input_index))

    def push_clock(self, now_us: int) -> Waits:
        """Pass the time of day to the operators that use it."""
        for index, operator in self.clocked:
            yield from self._pass_on(index, operator.process_clock(now_us))

    @property
    def has_pending(self) -> bool:
        """Whether an operator has results left, or may get some since its input has not ended.

        Asked between two rounds of the sources: rows may be under way to this chain.
        """
        return any(
            self.watermarks[index - 1] != MAX_TIME or operator.has_pending
            for index, operator in self.waited_for
        )

    def push_watermark(
        self, watermark: int, mark: int | None, of_inputs: Marks | None = None
    ) -> Waits:
        """Run every operator on a watermark, each after the output of the one before.

        Parameters
        ----------
        watermark : int
        mark : int or None
            Of the input (`hpcstream.columns.event_time.least_mark`). While it is idle nothing
            waits for this chain, so all rows held back are released.
        of_inputs : tuple, optional
            The watermark of each input of the first operator; None: it has one input.
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

    def _pass_on(self, index: int, emitted: Iterable[Emitted]) -> Waits:
        counters = self.counters[index]
        for out in emitted:
            if isinstance(out, SideOutput):
                yield from self._emit((index, out.name), out.batch)
            elif isinstance(out, Turn):
                yield out
            elif out.num_rows:
                counters.rows_out += out.num_rows
                yield from self.push(index + 1, out)
