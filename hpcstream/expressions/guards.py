"""Evaluates operands only for the rows that need them.

``when(b != 0).then(a // b)`` must not divide where ``b`` is 0. Operands that cannot raise are
evaluated for all rows, which is fastest. Other operands are tried for all rows, too; once
one has raised, it is evaluated only for the rows that need it, in this batch and all later
ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.selection import take
from hpcstream.expressions.binding import Bound, Program, Value, call, constant

_FAILURES = (pa.ArrowException, ArithmeticError, ValueError)
"""The errors of values that cannot be computed."""


def choose(condition: Bound, value: Bound, otherwise: Bound) -> Bound:
    """Return ``value`` where a condition is true, otherwise ``otherwise``, of the same type.

    The condition has no nulls.
    """
    if condition.scalar is not None:
        return value if condition.scalar.as_py() else otherwise
    whole = call("if_else", [condition, value, otherwise])
    if value.is_total and otherwise.is_total:
        return whole

    def of_rows(batch: pa.RecordBatch) -> Value:
        return _chosen(condition.run(batch), value, otherwise, batch)

    return _guarded(whole, of_rows)


def fill(value: Bound, replacement: Bound) -> Bound:
    """Return ``value``, or ``replacement`` of the same type where it is null."""
    whole = call("coalesce", [value, replacement])
    if replacement.is_total or value.scalar is not None:
        return value if value.scalar is not None and value.scalar.is_valid else whole

    def of_rows(batch: pa.RecordBatch) -> Value:
        values = value.run(batch)
        if values.null_count == 0:
            return values
        known = Bound(value.data_type, lambda rows: take(values, rows.indices), None)
        return _chosen(values.is_valid(), known, replacement, batch)

    return _guarded(whole, of_rows)


def logic(function: str, left: Bound, right: Bound) -> Bound:
    """Return ``and_kleene`` or ``or_kleene``, with short-circuit evaluation of the right side.

    False determines the result of ``and``, true that of ``or``; null determines neither.
    """
    decides = function == "or_kleene"
    if left.scalar is not None and left.scalar.as_py() is decides:
        return constant(left.scalar)
    whole = call(function, [left, right])
    if right.is_total or left.scalar is not None:
        return whole
    combine = pc.get_function(function).call

    def of_rows(batch: pa.RecordBatch) -> Value:
        sides = left.run(batch)
        is_open = pc.not_equal(sides, decides).fill_null(True)
        known = Bound(pa.bool_(), lambda rows: take(sides, rows.indices), None)
        both = Bound(pa.bool_(), lambda rows: combine([known.run(rows), right.run(rows)]), None)
        return _chosen(is_open, both, known, batch)

    return _guarded(whole, of_rows)


class SomeRows:
    """Some rows of a batch, with the interface of a batch; copies a column when it is read."""

    __slots__ = ("_batch", "_columns", "indices", "num_rows")

    def __init__(self, batch: Any, indices: np.ndarray) -> None:
        self._batch = batch
        self._columns: dict[int, pa.Array] = {}
        self.indices = pa.array(indices)
        self.num_rows = len(indices)

    def column(self, position: int) -> pa.Array:
        """Return the values of a column in these rows."""
        if position not in self._columns:
            self._columns[position] = take(self._batch.column(position), self.indices)
        return self._columns[position]


def _guarded(whole: Bound, of_rows: Program) -> Bound:
    """Return a program that evaluates all rows until that raises, and ``of_rows`` from then on.

    Arrow's scanners would evaluate it for every row, so it has no equivalent for them.
    """
    run: list[Callable[[Any], Value]] = [whole.run]

    def program(batch: pa.RecordBatch) -> Value:
        if run[0] is of_rows:
            return of_rows(batch)
        try:
            return run[0](batch)
        except _FAILURES:
            run[0] = of_rows
            return of_rows(batch)

    return replace(whole, run=program, arrow=None, is_total=False)


def _chosen(mask: pa.BooleanArray, value: Bound, otherwise: Bound, batch: Any) -> pa.Array:
    """Evaluate each side for its rows, and return the values in row order."""
    flags = mask.to_numpy(zero_copy_only=False)
    sides = [(side, np.flatnonzero(f)) for side, f in ((value, flags), (otherwise, ~flags))]
    parts = [_values(side, SomeRows(batch, rows)) for side, rows in sides if len(rows)]
    if not parts:
        return pa.nulls(0, value.data_type)
    if len(parts) == 1:
        return parts[0]
    indices = np.empty(len(flags), dtype=np.int64)
    indices[np.concatenate([rows for _, rows in sides])] = np.arange(len(flags))
    return pa.concat_arrays(parts).take(pa.array(indices))


def _values(side: Bound, rows: SomeRows) -> pa.Array:
    return side.run(rows) if side.scalar is None else pa.repeat(side.scalar, rows.num_rows)
