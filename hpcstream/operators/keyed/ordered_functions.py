"""Functions of the rows of each key in order: what each keeps of a key, and how it is computed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.arrays import fixed_values, key_words, validity, words_to_array
from hpcstream.columns.event_time import MIN_TIME, TimeUnit, parse_duration
from hpcstream.columns.selection import take
from hpcstream.errors import HpcstreamError
from hpcstream.expressions.ordering import OrderedCall
from hpcstream.kernels import ordered_columns
from hpcstream.state.arrays import Bools, Ints, Slots, Word, read_only
from hpcstream.state.keyed.columns import SlotColumn
from hpcstream.state.rows.columns import fixed_array

_SIGN = np.int64(MIN_TIME)


class KeyRows(NamedTuple):
    """Rows in event order.

    Attributes
    ----------
    slots : uint32[n]
    times, previous, ordinals : int64[n]
        Event times; what `ordered_columns.link_rows` wrote.
    seen, last : int64[capacity]
        Rows of each key, these included; scratch.
    words : list of array[capacity]
        Those of the function.
    columns : list of SlotColumn
        What the function keeps besides: one column, or none.
    """

    slots: Slots
    times: Ints
    previous: Ints
    ordinals: Ints
    seen: Ints
    last: Ints
    words: Sequence[npt.NDArray[Any]]
    columns: Sequence[SlotColumn]


class OrderedFunction(ABC):
    """One ordered call.

    Attributes
    ----------
    words : tuple of Word
        What it keeps of a key in numbers.
    kept : tuple of (pa.DataType, int)
        Columns of values that it keeps besides: their type, and how many of a key.
    """

    words: tuple[Word, ...] = ()
    kept: tuple[tuple[pa.DataType, int], ...] = ()

    @abstractmethod
    def compute(self, rows: KeyRows, values: pa.Array) -> pa.Array:
        """Return the result for each row, of which ``values`` is the argument."""


class Shift(OrderedFunction):
    """The value some rows before."""

    def __init__(self, data_type: pa.DataType, n: int, fill: Any) -> None:
        self._n = n
        self._fill = None if fill is None else pa.scalar(fill).cast(data_type)
        self.kept = ((data_type, n),)

    def compute(self, rows: KeyRows, values: pa.Array) -> pa.Array:
        """Return the value ``n`` rows before, ``fill`` where there is no such row."""
        found, n_rows = self.before(rows, values), len(rows.slots)
        if self._fill is None or int(rows.ordinals.min()) >= self._n:
            return found
        is_early = pa.array(rows.ordinals < self._n)
        return pc.if_else(is_early, pa.repeat(self._fill, n_rows), found)

    def before(self, rows: KeyRows, values: pa.Array) -> pa.Array:
        """Return the value ``n`` rows before, null where there is no such row."""
        n, n_rows, (column,) = self._n, len(rows.slots), rows.columns
        sources, places = np.empty(n_rows, dtype=np.int64), np.empty(n_rows, dtype=np.uint32)
        links = (rows.previous, rows.ordinals)
        n_places = ordered_columns.shifted_rows(rows.slots, n, links, sources, places)
        found = _picked(values, column, sources, places[:n_places])
        left = ordered_columns.rows_to_leave(
            rows.slots, n, rows.seen, rows.ordinals, sources, places
        )
        column.write(places[:left], take(values, pa.array(sources[:left])))
        return found


class Changed(OrderedFunction):
    """Whether the value is another than in the row before."""

    def __init__(self, data_type: pa.DataType) -> None:
        self._shift = Shift(data_type, 1, None)
        self.kept = self._shift.kept

    def compute(self, rows: KeyRows, values: pa.Array) -> pa.Array:
        """Return it; true in the first row of a key."""
        before = self._shift.before(rows, values)
        one_is_null = pc.not_equal(pc.is_null(values), pc.is_null(before))
        differs = pc.coalesce(pc.not_equal(values, before), one_is_null)
        return pc.or_(differs, pa.array(rows.ordinals == 0))


class ForwardFill(OrderedFunction):
    """The last value that was not null."""

    def __init__(self, name: str, data_type: pa.DataType) -> None:
        self.words = (Word(f"{name}:has_value", "int64", 0),)
        self.kept = ((data_type, 1),)

    def compute(self, rows: KeyRows, values: pa.Array) -> pa.Array:
        """Return it for each row."""
        n_rows, (has_value,), (column,) = len(rows.slots), rows.words, rows.columns
        sources, places = np.empty(n_rows, dtype=np.int64), np.empty(n_rows, dtype=np.uint32)
        valid = _valid(values)
        n_places = ordered_columns.filled_rows(
            rows.slots, valid, has_value, rows.last, sources, places
        )
        found = _picked(values, column, sources, places[:n_places])
        left = ordered_columns.values_to_leave(rows.slots, has_value, rows.last, sources, places)
        column.write(places[:left], take(values, pa.array(sources[:left])))
        return found


class RunningCount(OrderedFunction):
    """How many values there were."""

    def __init__(self, name: str) -> None:
        self.words = (Word(f"{name}:count", "int64", 0),)

    def compute(self, rows: KeyRows, values: pa.Array) -> pa.Array:
        """Return it for each row."""
        out = np.empty(len(rows.slots), dtype=np.int64)
        ordered_columns.running_counts(rows.slots, _valid(values), rows.words[0], out)
        return pa.array(out)


class RunningSum(OrderedFunction):
    """The sum of the values."""

    def __init__(self, name: str, data_type: pa.DataType) -> None:
        self._type = pa.int64() if pa.types.is_integer(data_type) else pa.float64()
        kind = "int64" if pa.types.is_integer(data_type) else "float64"
        self.words = (Word(f"{name}:sum", kind, 0),)

    def compute(self, rows: KeyRows, values: pa.Array) -> pa.Array:
        """Return it for each row."""
        given, valid = fixed_values(values.cast(self._type)), _valid(values)
        out = np.empty(len(given), dtype=given.dtype)
        arguments = (rows.slots, given, valid, rows.words[0], out)
        if self._type == pa.float64():
            ordered_columns.running_sums(*arguments)
        elif (row := ordered_columns.running_int_sums(*arguments)) >= 0:
            raise HpcstreamError(
                f"cum_sum(): the sum of a key does not fit int64, at its row of event time "
                f"{int(rows.times[row])}; cast the column to 'float64' first"
            )
        return fixed_array(out, validity(values), self._type)


class RunningExtreme(OrderedFunction):
    """The least or the greatest of the values."""

    def __init__(self, name: str, data_type: pa.DataType, *, is_least: bool) -> None:
        self._type = data_type
        self._is_float = pa.types.is_floating(data_type)
        identity: float
        if self._is_float:
            identity = math.nan if is_least else -math.inf
        else:
            identity = -(MIN_TIME + 1) if is_least else MIN_TIME
        self.words = (Word(f"{name}:extreme", "float64" if self._is_float else "int64", identity),)
        self._kernel = (
            ordered_columns.running_least if is_least else ordered_columns.running_greatest
        )

    def compute(self, rows: KeyRows, values: pa.Array) -> pa.Array:
        """Return it for each row."""
        if self._is_float:
            given = fixed_values(values.cast(pa.float64()))
        else:
            given = self._turned(key_words(values))
        out = np.empty(len(given), dtype=given.dtype)
        self._kernel(rows.slots, given, _valid(values), rows.words[0], out)
        if self._is_float:
            return fixed_array(out, validity(values), pa.float64()).cast(self._type)
        return words_to_array(self._turned(out), validity(values), self._type)

    def _turned(self, words: Ints) -> Ints:
        """Return words in whose order uint64 are, and back."""
        return read_only(words ^ _SIGN) if self._type == pa.uint64() else words


class EwmMean(OrderedFunction):
    """The mean in which a value counts half as much after a half-life of event time."""

    def __init__(self, name: str, half_life: float) -> None:
        words = (Word(f"{name}:mean", "float64", 0.0), Word(f"{name}:time", "int64", MIN_TIME))
        self.words = words
        self._decay = math.log(2.0) / half_life

    def compute(self, rows: KeyRows, values: pa.Array) -> pa.Array:
        """Return it for each row."""
        given, valid = fixed_values(values.cast(pa.float64())), _valid(values)
        out, state = np.empty(len(given), dtype=np.float64), (rows.words[0], rows.words[1])
        ordered_columns.running_means(rows.slots, given, valid, rows.times, self._decay, state, out)
        return fixed_array(out, validity(values), pa.float64())


def _valid(values: pa.Array) -> Bools:
    valid = validity(values)
    return read_only(np.ones(len(values), dtype=np.bool_)) if valid is None else valid


def _picked(values: pa.Array, column: SlotColumn, sources: Ints, places: Slots) -> pa.Array:
    """Return values by their source: a row of the batch, or one of the places behind them."""
    if len(places):
        values = pa.concat_arrays([values, column.take(places)])
    mask = sources < 0
    return take(values, pa.array(sources, mask=mask if mask.any() else None))


def function_of(call: OrderedCall, data_type: pa.DataType, unit: TimeUnit) -> OrderedFunction:
    """Return what computes a call whose argument has a type; ``unit``: of event time."""
    options = dict(call.options)
    match call.function:
        case "shift":
            return Shift(data_type, **options)
        case "changed":
            return Changed(data_type)
        case "forward_fill":
            return ForwardFill(call.name, data_type)
        case "cum_count":
            return RunningCount(call.name)
        case "cum_sum":
            return RunningSum(call.name, data_type)
        case "ewm_mean":
            half_life_s = parse_duration(options["half_life"]) / 1e9
            return EwmMean(call.name, half_life_s / unit.seconds(1))
    return RunningExtreme(call.name, data_type, is_least=call.function == "cum_min")
