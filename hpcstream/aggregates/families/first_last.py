"""The first and the last value in the order of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.aggregates.accumulator import (
    Accumulator,
    InputRows,
    NullCount,
    Targets,
    Words,
    word_kernels,
)
from hpcstream.aggregates.base import Aggregate, Entries, Inputs, result_array
from hpcstream.aggregates.grouped_values import GroupedValues, Ints
from hpcstream.columns.event_time import MAX_TIME, MIN_TIME
from hpcstream.state.arrays import Word


class _Edge(Aggregate):
    """The first or last value that is not null, sorted by (event time, order, place, value)."""

    is_last: ClassVar[bool]
    needs_order: ClassVar[bool] = True
    returns_input: ClassVar[bool] = True
    is_method: ClassVar[bool] = True

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return the type of the input."""
        return types[0]

    def finish(self, entries: Entries, inputs: Inputs, output_type: pa.DataType) -> pa.Array:
        """Return the values."""
        bits = entries[inputs.word(self.name)]
        values = bits.view(np.float64) if pa.types.is_floating(output_type) else bits
        return result_array(values, inputs.n_values(entries) > 0, output_type)

    def from_values(self, rows: GroupedValues) -> pa.Array:
        """Return the values."""
        keys = (rows.when.places, rows.when.orders, rows.when.times, rows.groups)
        at = edges_of_groups(keys, rows.values, rows.n_groups, last=self.is_last)
        return rows.values.take(pa.array(at, mask=at < 0))


@dataclass(frozen=True)
class First(_Edge):
    """The value of the first row."""

    name: ClassVar[str] = "first"
    is_last: ClassVar[bool] = False

    def accumulators(self, inputs: Inputs) -> tuple[Accumulator, ...] | None:
        """Return the first value."""
        if not inputs.are_words:
            return None
        return NullCount(inputs.names), FirstValue(inputs.names, inputs.is_placed)


@dataclass(frozen=True)
class Last(_Edge):
    """The value of the last row."""

    name: ClassVar[str] = "last"
    is_last: ClassVar[bool] = True

    def accumulators(self, inputs: Inputs) -> tuple[Accumulator, ...] | None:
        """Return the last value."""
        if not inputs.are_words:
            return None
        return NullCount(inputs.names), LastValue(inputs.names, inputs.is_placed)


@dataclass(frozen=True)
class FirstValue(Accumulator):
    """The value with the least (event time, order) among those that are not null.

    Attributes
    ----------
    is_placed : bool
        Rows have places (`PLACE_COLUMN`), which sort rows of equal order.
    """

    columns: tuple[str, ...]
    is_placed: bool = False
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return _edge_words(self, "first", MAX_TIME, self.is_placed)

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows."""
        self.merge(state, rows.slots, _edge_parts(rows, self.is_placed))

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Merge partial results."""
        if self.is_placed:
            word_kernels().keep_first_placed(slots, tuple(parts), tuple(state))
        else:
            word_kernels().keep_first(slots, *parts, *state)


@dataclass(frozen=True)
class LastValue(Accumulator):
    """The value with the greatest (event time, order), as in `FirstValue`."""

    columns: tuple[str, ...]
    is_placed: bool = False
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return _edge_words(self, "last", MIN_TIME, self.is_placed)

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows."""
        self.merge(state, rows.slots, _edge_parts(rows, self.is_placed))

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Merge partial results."""
        if self.is_placed:
            word_kernels().keep_last_placed(slots, tuple(parts), tuple(state))
        else:
            word_kernels().keep_last(slots, *parts, *state)


def _edge_words(
    accumulator: Accumulator, function: str, outermost: int, is_placed: bool
) -> tuple[Word, ...]:
    ordering = ("time", "order", "place") if is_placed else ("time", "order")
    names = [accumulator.word_name(f"{function}_{name}") for name in ordering]
    words = (Word(name, "int64", outermost) for name in names)
    return (*words, Word(accumulator.word_name(function), "int64", 0))


def _edge_parts(rows: InputRows, is_placed: bool) -> Words:
    bits = rows.values.view(np.int64)
    when = rows.when
    if is_placed:
        return when.times, when.orders, when.places, bits
    return when.times, when.orders, bits


def edges_of_groups(keys: tuple[Ints, ...], values: pa.Array, n_groups: int, *, last: bool) -> Ints:
    """Return the first or last row of each group; -1 for groups without rows.

    Parameters
    ----------
    keys : tuple of int64[n]
        Sort keys for `numpy.lexsort`, the last of which is the group number.
    values : pa.Array of n
        The sort key of rows that are equal in all others.
    n_groups : int
    last : bool
    """
    in_order = np.lexsort(keys)
    if len(in_order) and _has_ties(keys, in_order):
        in_order = np.lexsort((value_ranks(values), *keys))
    groups = keys[-1][in_order]
    is_edge = np.ones(len(groups), dtype=np.bool_)
    changes = groups[1:] != groups[:-1]
    if last:
        is_edge[:-1] = changes
    else:
        is_edge[1:] = changes
    found = np.full(n_groups, -1, dtype=np.int64)
    found[groups[is_edge]] = in_order[is_edge]
    return found


def _has_ties(keys: Sequence[Ints], order: Ints) -> bool:
    """Return whether two consecutive rows of an order have equal keys."""
    agree = np.ones(len(order) - 1, dtype=np.bool_)
    for key in keys:
        agree &= key[order[1:]] == key[order[:-1]]
    return bool(agree.any())


def value_ranks(values: pa.Array) -> Ints:
    """Return integers in the order of values; of types without an order, in that of their repr."""
    if pa.types.is_nested(values.type) or pa.types.is_interval(values.type):
        values = pa.array([repr(value) for value in values.to_pylist()])
    order = pc.sort_indices(values).to_numpy()
    in_order = values.take(pa.array(order)).dictionary_encode()
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = in_order.indices.to_numpy()
    return ranks
