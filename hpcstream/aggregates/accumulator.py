"""Accumulators: words of state, their update, merge and transport between ranks.

An accumulator owns some words of each entry of a `SliceStore`. Aggregates share
accumulators: ``sum(x)`` and ``mean(x)`` read the same sum. The store counts rows; a separate
accumulator counts rows with a null in an input, so batches without nulls never touch it.

A `Word` may be wide: an array of ``width`` numbers for each entry, such as the registers of a
sketch. Its state is an array of shape ``(slots, width)``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values, record_array, validity
from hpcstream.columns.reduction import ColumnReduction
from hpcstream.columns.row_order import RowTimes
from hpcstream.state.arrays import Slots, Word

Values = npt.NDArray[Any]
Words = Sequence[Values]
Targets = Slots | np.uint64
"""Targets of partial results: their slots, or the first slot of a contiguous range."""


@dataclass(frozen=True, slots=True)
class InputRows:
    """The input columns of an accumulator for the rows of one batch.

    Attributes
    ----------
    arrays : tuple of pa.Array
        The columns as Arrow arrays.
    columns : tuple of int64[n], uint64[n] or float64[n]
        The values of each column, read-only; empty if no accumulator takes values.
    valid : bool[n] or None
        False where any of the columns is null.
    slots : uint32[n]
        The slot of each row; 0 for rows with a null.
    all_slots : uint32[n]
        The slot of each row, including rows with a null.
    when : RowTimes
        The sort keys of the rows.
    """

    arrays: tuple[pa.Array, ...]
    columns: tuple[Values, ...]
    valid: npt.NDArray[np.bool_] | None
    slots: Slots
    all_slots: Slots
    when: RowTimes

    @property
    def values(self) -> Values:
        """The values of the first column."""
        return self.columns[0]

    @property
    def floats(self) -> Values:
        """The values of the first column as float64, read-only."""
        values = self.values
        return values if values.dtype == np.float64 else frozen(values.astype(np.float64))


@dataclass(frozen=True)
class SentColumn:
    """One column of the partial rows that ranks exchange.

    Attributes
    ----------
    name, dtype : str
    reduction : ColumnReduction or None
        The elementwise merge, if there is one.
    width : int
        Numbers per row.
    """

    name: str
    dtype: str
    reduction: ColumnReduction | None = None
    width: int = 1

    @property
    def field(self) -> pa.Field:
        """The column in a schema."""
        return pa.field(self.name, arrow_type(self.dtype, self.width))


@dataclass(frozen=True)
class Transport:
    """The encoding of the words of one accumulator for other ranks.

    Attributes
    ----------
    columns : tuple of SentColumn
    pack, unpack : (arrays) -> arrays
        Convert words to columns and back; unpacked arrays are read-only.
    """

    columns: tuple[SentColumn, ...]
    pack: Callable[[Sequence[Values]], list[Values]] = list
    unpack: Callable[[Sequence[Values]], list[Values]] = list


class Accumulator:
    """Base class of accumulators: some words of state, updated from rows or partial results.

    A subclass is a frozen dataclass: aggregates share equal accumulators. Slots are not
    bounds-checked; rows and parts without an entry have slot 0, which belongs to no entry.

    Attributes
    ----------
    columns : tuple of str
        The input columns.
    takes : "values", "arrays" or "nulls"
        What `update` reads of the rows: numbers, Arrow arrays, or only which rows have a null.
    takes_ranges : bool
        Whether `merge` also accepts the first slot (uint64) of a contiguous range.
    """

    columns: tuple[str, ...]
    takes: ClassVar[Literal["values", "arrays", "nulls"]] = "values"
    takes_ranges: ClassVar[bool] = False

    @property
    def words(self) -> tuple[Word, ...]:
        """The words, in the order of ``state`` and ``parts``."""
        raise NotImplementedError

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate the rows of a batch; slots may repeat."""
        raise NotImplementedError

    def merge(self, state: Words, slots: Any, parts: Words) -> None:
        """Merge partial results, one for each of ``slots``; slots may repeat."""
        raise NotImplementedError

    @property
    def transport(self) -> Transport:
        """The encoding of the words for windows over all rows: by default gathered unchanged."""
        return Transport(tuple(SentColumn(w.name, w.dtype, None, w.width) for w in self.words))

    def word_name(self, part: str) -> str:
        """Return the name of a word: the part, and the columns in parentheses."""
        return f"{part}({', '.join(self.columns)})"


@functools.cache
def word_kernels() -> ModuleType:
    """Return the accumulation kernels; the first call loads Numba."""
    from hpcstream.kernels import accumulate

    return accumulate


@dataclass(frozen=True)
class NullCount(Accumulator):
    """The number of rows with a null in any of the columns."""

    columns: tuple[str, ...]
    takes: ClassVar[Literal["nulls"]] = "nulls"
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return (Word(self.word_name("nulls"), "int64", 0),)

    def update(self, state: Words, rows: InputRows) -> None:
        """Accumulate rows."""
        if rows.valid is not None:
            word_kernels().count_nulls(rows.all_slots, rows.valid, state[0])

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Merge partial results."""
        word_kernels().add_counts(slots, parts[0], state[0])

    @property
    def transport(self) -> Transport:
        """One column, reduced by addition."""
        name = self.words[0].name
        return Transport((SentColumn(name, "int64", ColumnReduction("sum", 0)),))


def merge_at(accumulator: Accumulator, state: Words, slots: Slots | range, parts: Words) -> None:
    """Merge partial results into slots; expand ranges for accumulators that take none."""
    targets: Any = slots
    if isinstance(slots, range):
        if accumulator.takes_ranges:
            targets = np.uint64(slots.start)
        else:
            targets = np.arange(slots.start, slots.stop, dtype=np.uint32)
    accumulator.merge(state, targets, parts)


class RequiredInput(NamedTuple):
    """The attributes of `InputRows` that some accumulators of the same columns read."""

    values: bool
    slots: bool

    @classmethod
    def of(cls, accumulators: Iterable[Accumulator]) -> RequiredInput:
        """Return the union of what the accumulators read."""
        kinds = {accumulator.takes for accumulator in accumulators}
        return cls("values" in kinds, kinds != {"nulls"})


def input_rows(
    arrays: tuple[pa.Array, ...], slots: Slots, when: RowTimes, required: RequiredInput
) -> InputRows:
    """Return columns of a batch as accumulators read them."""
    is_single = len(arrays) == 1
    valid = validity(arrays[0]) if is_single else _all_valid(arrays)
    valid_slots = slots
    if valid is not None and required.slots:
        valid_slots = np.empty_like(slots)
        word_kernels().mask_slots(slots, valid, valid_slots)
    columns: tuple[Values, ...] = ()
    if required.values:
        columns = (word_values(arrays[0]),) if is_single else tuple(map(word_values, arrays))
    return InputRows(arrays, columns, valid, valid_slots, slots, when)


def _all_valid(arrays: tuple[pa.Array, ...]) -> npt.NDArray[np.bool_] | None:
    """Return which rows have no null, read-only; None if no row has one."""
    found = [valid for valid in map(validity, arrays) if valid is not None]
    return frozen(np.logical_and.reduce(found)) if found else None


def word_values(array: pa.Array) -> Values:
    """Return a column's values as int64, uint64 or float64, read-only."""
    values = fixed_values(array)
    if values.dtype.itemsize == 8:
        return values
    return frozen(values.astype(np.float64 if values.dtype.kind == "f" else np.int64))


def frozen(array: Values) -> Values:
    """Make an array read-only and return it."""
    array.setflags(write=False)
    return array


def arrow_type(dtype: str, width: int) -> pa.DataType:
    """Return the type of a column of words: binary for wide words."""
    if width == 1:
        return pa.from_numpy_dtype(dtype)
    return pa.binary(np.dtype(dtype).itemsize * width)


def word_array(values: Values) -> pa.Array:
    """Return words as a column of `arrow_type`."""
    return pa.array(values) if values.ndim == 1 else record_array(values)


def words_of_array(array: pa.Array, dtype: str, width: int) -> Values:
    """Return the words of a column, the inverse of `word_array`."""
    values = fixed_values(array)
    return values if width == 1 else values.view(dtype)
