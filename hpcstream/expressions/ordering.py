"""Functions of the rows of a key in order: methods of expressions, and how they are taken out.

``col("x").diff() / col("x").shift(1)`` reads earlier rows. It is computed in steps: each ordered
call becomes a column, and what is left is an expression over these.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.calls import answers_wrong_calls
from hpcstream.columns.arrays import is_word_type
from hpcstream.columns.event_time import Duration, parse_duration
from hpcstream.errors import PlanError
from hpcstream.expressions.binding import Bound
from hpcstream.expressions.nodes import Call, Column, Node, node_key
from hpcstream.stable_keys import key_text

ORDERED_PREFIX = "__ordered:"
"""Begins the names of columns that hold the results of ordered calls."""

MOST_ROWS_BACK = 1000

ORDERED = frozenset(
    ["shift", "forward_fill", "changed", "cum_sum", "cum_count", "cum_min", "cum_max", "ewm_mean"]
)


class _Callable(Protocol):
    def _call(self: _E, function: str, *others: Any, **options: Any) -> _E: ...

    def __sub__(self: _E, other: Any) -> _E: ...


_E = TypeVar("_E", bound=_Callable)


@answers_wrong_calls
class Ordering:
    """Methods of `Expression` for `KeyedStream.with_columns`: they read earlier rows of the key."""

    __slots__ = ()

    def shift(self: _E, n: int = 1, *, fill: Any = None) -> _E:
        """Return the value ``n`` rows before, of the same key; ``fill`` in its first rows.

        Raises
        ------
        PlanError
            ``n`` is not from 1 to 1,000: what comes after a row is not known.
        """
        if not isinstance(n, int) or not 0 < n <= MOST_ROWS_BACK:
            raise PlanError(
                f"shift({n!r}): takes from 1 to {MOST_ROWS_BACK:,} rows back; a row would wait "
                "for ever for rows after it"
            )
        return self._call("shift", n=n, fill=fill)

    def diff(self: _E, n: int = 1) -> _E:
        """Return the difference to the value ``n`` rows before, of the same key."""
        return self - Ordering.shift(self, n)

    def forward_fill(self: _E) -> _E:
        """Return the last value of the key that is not null, up to this row."""
        return self._call("forward_fill")

    def changed(self: _E) -> _E:
        """Return whether the value is another than in the row before, of the same key.

        True in the first row of a key. Null is a value of its own.
        """
        return self._call("changed")

    def cum_sum(self: _E) -> _E:
        """Return the sum of the values of the key up to this row; null where this is null."""
        return self._call("cum_sum")

    def cum_count(self: _E) -> _E:
        """Return how many values of the key were not null, up to this row."""
        return self._call("cum_count")

    def cum_min(self: _E) -> _E:
        """Return the least value of the key up to this row; null where this is null."""
        return self._call("cum_min")

    def cum_max(self: _E) -> _E:
        """Return the greatest value of the key up to this row; NaN is greater than any number."""
        return self._call("cum_max")

    def ewm_mean(self: _E, half_life: Duration) -> _E:
        """Return the mean of the key up to this row, in which older values count less.

        A value counts half as much after ``half_life`` of event time. Null where this is null.
        """
        if parse_duration(half_life) <= 0:
            raise PlanError(f"ewm_mean(half_life={half_life!r}): must be positive")
        if isinstance(half_life, dt.timedelta):
            half_life = f"{half_life // dt.timedelta(microseconds=1)}us"
        return self._call("ewm_mean", half_life=half_life)


class OrderedCall(NamedTuple):
    """One ordered call: the column it becomes, and of what it is computed."""

    name: str
    function: str
    argument: Node
    options: tuple[tuple[str, Any], ...]


def take_out(nodes: Sequence[Node]) -> tuple[list[OrderedCall], list[Node]]:
    """Return the ordered calls in expressions, inner ones first, and what is left of these."""
    calls: dict[str, OrderedCall] = {}

    def left(node: Node) -> Node:
        if not isinstance(node, Call):
            return node
        arguments = tuple(left(argument) for argument in node.arguments)
        rest = Call(node.function, arguments, node.options)
        if node.function not in ORDERED:
            return rest
        key = key_text(node_key(rest))
        if key not in calls:
            name = f"{ORDERED_PREFIX}{len(calls)}"
            calls[key] = OrderedCall(name, node.function, arguments[0], node.options)
        return Column(calls[key].name)

    finals = [left(node) for node in nodes]
    return list(calls.values()), finals


def result_type(function: str, given: pa.DataType) -> pa.DataType:
    """Return the type of an ordered call's results.

    Raises
    ------
    PlanError
        It does not take values of this type.
    """
    types = pa.types
    is_number = types.is_integer(given) or types.is_floating(given)
    if function in ("shift", "forward_fill"):
        return given
    if function == "cum_count":
        return pa.int64()
    if function == "changed" and _can_compare(given):
        return pa.bool_()
    if function == "cum_sum" and is_number:
        return pa.int64() if types.is_integer(given) else pa.float64()
    if function == "ewm_mean" and is_number:
        return pa.float64()
    is_word = is_word_type(given) and not types.is_decimal(given)
    if function in ("cum_min", "cum_max") and (is_word or types.is_floating(given)):
        return given
    raise PlanError(f"{function}(): does not take values of type {given}; cast them first")


def _can_compare(given: pa.DataType) -> bool:
    try:
        pc.not_equal(pa.nulls(0, given), pa.nulls(0, given))
    except pa.ArrowNotImplementedError:
        return False
    return True


def refuse_ordered(function: str) -> Any:
    """Return the rule of an ordered function where rows are not in order."""

    def rule(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
        raise PlanError(
            f"{function}() reads earlier rows of a key: write .key_by('key').with_columns(...)"
        )

    return rule
