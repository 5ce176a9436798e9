"""Compare tables as multisets of rows, with a readable report of the differences."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

import pyarrow as pa

from hpcstream.testing.sources import Rows

_SHOWN = 10
_Row = tuple[Any, ...]
_Groups = dict[_Row, list[_Row]]


class Tolerance(NamedTuple):
    """Tolerance for floats."""

    relative: float
    absolute: float


def assert_same_rows(actual: Rows, expected: Rows, *, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Fail unless both have the same rows, each as often, in any order.

    Columns are compared by name. NaN equals NaN, null equals null only, and a
    number equals the same number of another type.

    Parameters
    ----------
    actual, expected : table, batch, columns by name, or list of dictionaries
    rtol, atol : float
        Relative and absolute tolerance for floats.

    Raises
    ------
    AssertionError
        Names the columns, or shows the rows, that only one of them has.
    """
    ours, theirs = _as_table(actual), _as_table(expected)
    if set(ours.schema.names) != set(theirs.schema.names):
        raise AssertionError(
            f"columns differ: got {ours.schema.names}, expected {theirs.schema.names}"
        )
    exact, near = _by_kind(ours, theirs)
    a, b = _groups(ours, exact, near), _groups(theirs, exact, near)
    tolerance = Tolerance(rtol, atol)
    missing: list[_Row] = []
    surplus: list[_Row] = []
    for key in sorted({*a, *b}, key=_sort_key):
        lost, extra = _difference(a.get(key, []), b.get(key, []), tolerance)
        missing += [key + floats for floats in lost]
        surplus += [key + floats for floats in extra]
    if missing or surplus:
        found = f"got {ours.num_rows} rows, expected {theirs.num_rows}"
        raise AssertionError(_report(found, exact + near, missing, surplus))


def _as_table(rows: Rows) -> pa.Table:
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, Mapping):
        return pa.table(dict(rows))
    return pa.Table.from_pylist(list(rows))


def _by_kind(ours: pa.Table, theirs: pa.Table) -> tuple[list[str], list[str]]:
    """Return the columns to compare exactly, and those that are floats on either side."""
    near = [
        name
        for name in theirs.schema.names
        if any(pa.types.is_floating(table.schema.field(name).type) for table in (ours, theirs))
    ]
    return [name for name in theirs.schema.names if name not in near], near


def _groups(table: pa.Table, exact: list[str], near: list[str]) -> _Groups:
    """Return the float columns of the rows by their other columns."""
    groups: _Groups = {}
    columns = [table.column(name).to_pylist() for name in exact + near]
    for row in zip(*columns, strict=True):
        key = tuple(_hashable(value) for value in row[: len(exact)])
        groups.setdefault(key, []).append(row[len(exact) :])
    return groups


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, (list, dict)) else value


def _sort_key(row: _Row) -> tuple[tuple[str, Any], ...]:
    return tuple(_orderable(value) for value in row)


def _orderable(value: Any) -> tuple[str, Any]:
    if value is None:
        return ("", 0)
    if isinstance(value, (bool, int, float)):
        return ("nan", 0) if value != value else ("number", value)
    return (type(value).__name__, value)


def _difference(
    ours: list[_Row], theirs: list[_Row], tolerance: Tolerance
) -> tuple[list[_Row], list[_Row]]:
    """Return the rows that only the second has, and those that only the first has."""
    ours, theirs = sorted(ours, key=_sort_key), sorted(theirs, key=_sort_key)
    pairs = zip_longest(ours, theirs)
    if all(a is not None and b is not None and _same_row(a, b, tolerance) for a, b in pairs):
        return [], []
    missing = []
    for wanted in theirs:
        match = next((i for i, row in enumerate(ours) if _same_row(row, wanted, tolerance)), None)
        if match is None:
            missing.append(wanted)
        else:
            del ours[match]
    return missing, ours


def _same_row(ours: _Row, theirs: _Row, tolerance: Tolerance) -> bool:
    return all(_same(a, b, tolerance) for a, b in zip(ours, theirs, strict=True))


def _same(a: float | None, b: float | None, tolerance: Tolerance) -> bool:
    if a is None or b is None:
        return a is b
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or abs(a - b) <= tolerance.absolute + tolerance.relative * abs(b)


def _report(found: str, names: list[str], missing: list[_Row], surplus: list[_Row]) -> str:
    lines = [
        f"rows differ: {found}; {len(missing)} missing (-), {len(surplus)} too many (+)",
        f"    ({', '.join(names)})",
    ]
    for sign, rows in (("-", missing), ("+", surplus)):
        lines += [f"  {sign} ({', '.join(map(repr, row))})" for row in rows[:_SHOWN]]
        if len(rows) > _SHOWN:
            lines.append(f"  {sign} ... and {len(rows) - _SHOWN} more")
    return "\n".join(lines)
