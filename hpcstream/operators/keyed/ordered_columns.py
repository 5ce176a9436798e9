"""Columns computed from earlier rows of the key, in event order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values
from hpcstream.columns.event_time import TIME_COLUMN, TimeUnit
from hpcstream.columns.hidden import visible_positions
from hpcstream.expressions.expression import Expression
from hpcstream.expressions.ordering import OrderedCall
from hpcstream.kernels import ordered_columns
from hpcstream.operators.base import Emitted
from hpcstream.operators.keyed.operator import NOTHING, KeyedOperator
from hpcstream.operators.keyed.ordered_functions import KeyRows, function_of
from hpcstream.operators.keyed.spec import KeyedSpec
from hpcstream.operators.spec import OperatorContext
from hpcstream.operators.stateless import NamedExpressions, Project
from hpcstream.state.arrays import Allocator, Ints, Slots, Word
from hpcstream.state.keyed.columns import SlotColumn
from hpcstream.state.table import StateTable


class OrderedColumns(KeyedOperator):
    """Adds columns to the rows of each key, in event order.

    Parameters
    ----------
    spec, context, allocator
        As for `KeyedOperator`.
    calls : sequence of (OrderedCall, pa.DataType)
        Inner ones first, each with the type of its argument.
    finals : sequence of (str, Expression)
        What leaves, computed of the rows and the results of the calls.
    ttl : int or None
        A key is forgotten that long after its last row, in ticks.
    """

    def __init__(
        self,
        spec: KeyedSpec,
        context: OperatorContext,
        allocator: Allocator,
        *,
        calls: Sequence[tuple[OrderedCall, pa.DataType]],
        finals: NamedExpressions,
        ttl: int | None,
    ) -> None:
        self._functions = [function_of(call, kind, TimeUnit(spec.unit)) for call, kind in calls]
        words = [word for function in self._functions for word in function.words]
        super().__init__(spec, context, (Word("seen", "int64", 0), *words), allocator)
        self._columns = [
            [
                SlotColumn(self._state, self._table, data_type, n, allocator, call.name)
                for data_type, n in function.kept
            ]
            for function, (call, _) in zip(self._functions, calls, strict=True)
        ]
        self._arguments = [Expression(call.argument) for call, _ in calls]
        self._names = [call.name for call, _ in calls]
        self._project = Project(finals)
        self._ttl = ttl
        self._last: Ints = np.full(0, -1, dtype=np.int64)

    def tables(self) -> Sequence[StateTable]:
        """Return the tables, those of columns behind that of the keys."""
        return (*super().tables(), *chain.from_iterable(self._columns))

    def on_due(self, slots: Slots, times: Ints) -> Iterable[Emitted]:
        """Forget keys, and the values that are kept of them."""
        for column in chain.from_iterable(self._columns):
            column.forget(slots)
        self._state.free(slots)
        return NOTHING

    def on_rows(self, batch: pa.RecordBatch, slots: Slots) -> Iterator[Emitted]:
        """Yield the rows with their columns."""
        if self._ttl is None:
            yield from self._computed(batch, slots)
            return
        while batch.num_rows:
            times = fixed_values(batch.column(TIME_COLUMN))
            n = ordered_columns.rows_until_due(slots, times, self._ttl, self._state.due)
            if n:
                self._state.set_due(slots[:n], times[:n] + self._ttl)
                yield from self._computed(batch.slice(0, n), slots[:n])
            if n == batch.num_rows:
                break
            # The key of row n was forgotten before it, and so were others.
            self.on_due(*self._state.expired(int(times[n]) + 1))
            batch = batch.slice(n)
            slots = self._state.resolve(*self._codec.encode(batch))

    def _computed(self, batch: pa.RecordBatch, slots: Slots) -> Iterable[Emitted]:
        n_rows, seen = len(slots), self._state.words[0]
        if len(seen) > len(self._last):
            self._last = np.full(len(seen), -1, dtype=np.int64)
        previous, ordinals = np.empty(n_rows, dtype=np.int64), np.empty(n_rows, dtype=np.int64)
        ordered_columns.link_rows(slots, seen, self._last, previous, ordinals)
        times, at = fixed_values(batch.column(TIME_COLUMN)), 1
        for function, columns, argument, name in zip(
            self._functions, self._columns, self._arguments, self._names, strict=True
        ):
            words = self._state.words[at : at + len(function.words)]
            at += len(function.words)
            rows = KeyRows(slots, times, previous, ordinals, seen, self._last, words, columns)
            result = function.compute(rows, _plain(argument.evaluate(batch)))
            batch = batch.add_column(len(visible_positions(batch.schema)), name, result)
        return self._project.process_batch(batch)


def _plain(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
