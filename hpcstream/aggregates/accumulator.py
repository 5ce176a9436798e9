"""Words of state, how rows enter them, how parts merge, and how they travel between ranks.

An accumulator owns some words of each entry of a `SliceStore`. Aggregates
share them: ``sum(x)`` and ``mean(x)`` read the same sum. The number of rows is
kept by the store; how many of them had a null in an input is an accumulator of its
own, which batches without nulls never touch.

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
"""Where partial results go: their slots, or the slot of the first of a row of them."""


@dataclass(frozen=True, slots=True)
class InputRows:
    """The input columns of an accumulator, rows of one batch.

    Attributes
    ----------
    arrays : tuple of pa.Array
        The columns as they are.
    columns : tuple of int64[n], uint64[n] or float64[n]
        The values of each column, read-only; empty if no accumulator takes values.
    valid : bool[n] or None
        False where any of the columns is null.
    slots : uint32[n]
        The slot of each row; rows with a null go to slot 0.
    all_slots : uint32[n]
        The slot of each row, with a null or without.
    when : RowTimes
        By what the rows are ordered.
    """

    arrays: tuple[pa.Array, ...]
    columns: tuple[Values, ...]
    valid: npt.NDArray[np.bool_] | None
    slots: Slots
    all_slots: Slots
    when: RowTimes

    @property
    def values(self) -> Values:
        """The values of the only column, or the first."""
        return self.columns[0]


@dataclass(frozen=True)
class SentColumn:
    """One column of partial rows that go from rank to rank.

    Attributes
    ----------
    name, dtype : str
    reduction : ColumnReduction or None
        How to merge it elementwise, if that gives the right result.
    width : int
        Numbers in a row.
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
    """How the words of one accumulator are sent.

    Attributes
    ----------
    columns : tuple of SentColumn
    pack, unpack : (arrays) -> arrays
        From words to columns and back; what comes back is read-only.
    """

    columns: tuple[SentColumn, ...]
    pack: Callable[[Sequence[Values]], list[Values]] = list
    unpack: Callable[[Sequence[Values]], list[Values]] = list


class Accumulator:
    """Some words of state and the two ways into them: the base of all accumulators.

    A subclass is a frozen dataclass: equal ones are kept once, whichever aggregates ask
    for them. No slot is checked: rows and parts that go nowhere have slot 0, which is nobody's.

    Attributes
    ----------
    columns : tuple of str
        The input columns.
    takes : "values", "arrays" or "nulls"
        What `update` reads of the rows: numbers, Arrow arrays, or only which rows have a null.
    takes_ranges : bool
        Whether `merge` also takes one slot (uint64), that of the first part: the others follow.
    """

    columns: tuple[str, ...]
    takes: ClassVar[Literal["values", "arrays", "nulls"]] = "values"
    takes_ranges: ClassVar[bool] = False

    @property
    def words(self) -> tuple[Word, ...]:
        """The words, in the order in which `update` and `merge` get them."""
        raise NotImplementedError

    def update(self, state: Words, rows: InputRows) -> None:
        """Take in the rows of a batch; a slot may come more than once."""
        raise NotImplementedError

    def merge(self, state: Words, slots: Any, parts: Words) -> None:
        """Take in partial results, one for each of ``slots``; a slot may come more than once."""
        raise NotImplementedError

    @property
    def transport(self) -> Transport:
        """How the words go from rank to rank for windows over all rows: as they are, gathered."""
        return Transport(tuple(SentColumn(w.name, w.dtype, None, w.width) for w in self.words))

    def word_name(self, part: str) -> str:
        """Return the name of a word: that of the part, and the columns."""
        return f"{part}({', '.join(self.columns)})"


@functools.cache
def word_kernels() -> ModuleType:
    """Return the kernels that accumulate; the first call loads Numba."""
    from hpcstream.kernels import accumulate

    return accumulate


@dataclass(frozen=True)
class NullCount(Accumulator):
    """How many rows had a null in any of the columns."""

    columns: tuple[str, ...]
    takes: ClassVar[Literal["nulls"]] = "nulls"
    takes_ranges: ClassVar[bool] = True

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of state."""
        return (Word(self.word_name("nulls"), "int64", 0),)

    def update(self, state: Words, rows: InputRows) -> None:
        """Take in rows."""
        if rows.valid is not None:
            word_kernels().count_nulls(rows.all_slots, rows.valid, state[0])

    def merge(self, state: Words, slots: Targets, parts: Words) -> None:
        """Take in partial results."""
        word_kernels().add_counts(slots, parts[0], state[0])

    @property
    def transport(self) -> Transport:
        """One column that is added up."""
        name = self.words[0].name
        return Transport((SentColumn(name, "int64", ColumnReduction("sum", 0)),))


def merge_at(accumulator: Accumulator, state: Words, slots: Slots | range, parts: Words) -> None:
    """Merge partial results into slots, as the accumulator takes them."""
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
    is_one = len(arrays) == 1
    valid = validity(arrays[0]) if is_one else _all_valid(arrays)
    valid_slots = slots
    if valid is not None and required.slots:
        valid_slots = np.empty_like(slots)
        word_kernels().mask_slots(slots, valid, valid_slots)
    columns: tuple[Values, ...] = ()
    if required.values:
        columns = (word_values(arrays[0]),) if is_one else tuple(map(word_values, arrays))
    return InputRows(arrays, columns, valid, valid_slots, slots, when)


def _all_valid(arrays: tuple[pa.Array, ...]) -> npt.NDArray[np.bool_] | None:
    """Return which rows have no null, read-only; None: all."""
    found = [valid for valid in map(validity, arrays) if valid is not None]
    return frozen(np.logical_and.reduce(found)) if found else None


def word_values(array: pa.Array) -> Values:
    """Return a column's values as int64, uint64 or float64, read-only."""
    values = fixed_values(array)
    if values.dtype.itemsize == 8:
        return values
    return frozen(values.astype(np.float64 if values.dtype.kind == "f" else np.int64))


def frozen(array: Values) -> Values:
    """Return an array, no longer to be written to."""
    array.setflags(write=False)
    return array


def arrow_type(dtype: str, width: int) -> pa.DataType:
    """Return the type of a column of words: wide ones are bytes."""
    if width == 1:
        return pa.from_numpy_dtype(dtype)
    return pa.binary(np.dtype(dtype).itemsize * width)


def word_array(values: Values) -> pa.Array:
    """Return words as a column of `arrow_type`."""
    return pa.array(values) if values.ndim == 1 else record_array(values)


def words_of_array(array: pa.Array, dtype: str, width: int) -> Values:
    """Return the words of a column that `word_array` made."""
    values = fixed_values(array)
    return values if width == 1 else values.view(dtype)
