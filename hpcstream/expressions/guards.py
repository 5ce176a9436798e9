"""Operands that are computed only for the rows that ask for them.

``when(b != 0).then(a // b)`` must not divide where ``b`` is 0. What cannot fail is
computed for all rows, which is fastest. What can is tried for all rows, too; once it has
failed, it is computed for the rows that take it, in this batch and all later ones.
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
"""What a value that cannot be computed raises."""


def choose(condition: Bound, value: Bound, otherwise: Bound) -> Bound:
    """Return ``value`` where a condition without nulls holds, else ``otherwise``, of one type."""
    if condition.scalar is not None:
        return value if condition.scalar.as_py() else otherwise
    whole = call("if_else", [condition, value, otherwise])
    if value.is_total and otherwise.is_total:
        return whole

    def of_rows(batch: pa.RecordBatch) -> Value:
        return _chosen(condition.run(batch), value, otherwise, batch)

    return _guarded(whole, of_rows)


def fill(value: Bound, replacement: Bound) -> Bound:
    """Return ``value``, and where it is null ``replacement``, of the same type."""
    whole = call("coalesce", [value, replacement])
    if replacement.is_total or value.scalar is not None:
        return value if value.scalar is not None and value.scalar.is_valid else whole

    def of_rows(batch: pa.RecordBatch) -> Value:
        values = value.run(batch)
        if values.null_count == 0:
            return values
        known = Bound(value.data_type, lambda rows: take(values, rows.places), None)
        return _chosen(values.is_valid(), known, replacement, batch)

    return _guarded(whole, of_rows)


def logic(function: str, left: Bound, right: Bound) -> Bound:
    """Return ``and_kleene`` or ``or_kleene``; the right side only where the left does not decide.

    False decides for ``and``, true for ``or``; null never does.
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
        known = Bound(pa.bool_(), lambda rows: take(sides, rows.places), None)
        both = Bound(pa.bool_(), lambda rows: combine([known.run(rows), right.run(rows)]), None)
        return _chosen(is_open, both, known, batch)

    return _guarded(whole, of_rows)


class SomeRows:
    """Some rows of a batch, as programs ask for them: a column is copied when it is read."""

    __slots__ = ("_batch", "_columns", "num_rows", "places")

    def __init__(self, batch: Any, places: np.ndarray) -> None:
        self._batch = batch
        self._columns: dict[int, pa.Array] = {}
        self.places = pa.array(places)
        self.num_rows = len(places)

    def column(self, position: int) -> pa.Array:
        """Return the values of a column in these rows."""
        if position not in self._columns:
            self._columns[position] = take(self._batch.column(position), self.places)
        return self._columns[position]


def _guarded(whole: Bound, of_rows: Program) -> Bound:
    """Return what computes all at once until that fails for the first time.

    Arrow's scanners would compute all for every row: they do not get it.
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
    """Return each side for the rows that take it, in the order of the rows."""
    flags = mask.to_numpy(zero_copy_only=False)
    sides = [(side, np.flatnonzero(f)) for side, f in ((value, flags), (otherwise, ~flags))]
    parts = [_values(side, SomeRows(batch, places)) for side, places in sides if len(places)]
    if not parts:
        return pa.nulls(0, value.data_type)
    if len(parts) == 1:
        return parts[0]
    places = np.empty(len(flags), dtype=np.int64)
    places[np.concatenate([rows for _, rows in sides])] = np.arange(len(flags))
    return pa.concat_arrays(parts).take(pa.array(places))


def _values(side: Bound, rows: SomeRows) -> pa.Array:
    return side.run(rows) if side.scalar is None else pa.repeat(side.scalar, rows.num_rows)
