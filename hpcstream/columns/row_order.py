"""The order of rows of equal event time, independent of the number of ranks.

::

    order   source (7 bits) | split (20) | row of the split (36)     of a source row
            the word of the first key column                         of a window's result
    place   0, then for each operator that derives several rows from one: the row's number

Rows of equal event time are sorted by (order, place, value). None of the three depends on
ranks or on arrival. All source rows have different orders: numbers that do not fit in
their bits are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.arrays import (
    LARGE_TYPE_OF_VIEW,
    binary_views,
    fixed_values,
    is_binary_type,
    is_word_type,
    key_words,
    validity,
)
from hpcstream.columns.event_time import ORDER_COLUMN, PLACE_COLUMN, TIME_COLUMN
from hpcstream.errors import ConnectorError

Ints = npt.NDArray[np.int64]

_SOURCE_BITS, _SPLIT_BITS, _ROW_BITS = 7, 20, 36
MOST_SOURCES, MOST_SPLITS, MOST_ROWS = 1 << _SOURCE_BITS, 1 << _SPLIT_BITS, 1 << _ROW_BITS
"""Most sources of a job, splits of a source and rows of a split."""
CHILD_BITS = 18
"""Bits of the number of a row among those derived from the same row."""
BATCH_BITS = 16
"""The same where a function is called per batch."""


class RowTimes(NamedTuple):
    """The sort keys of the rows of a batch, int64[n] each; empty places are all 0."""

    times: Ints
    orders: Ints
    places: Ints

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> RowTimes:
        """Return the sort keys of a batch with event time; without an order its rows tie."""
        times = fixed_values(batch.column(TIME_COLUMN))
        names = batch.schema.names
        orders = fixed_values(batch.column(ORDER_COLUMN)) if ORDER_COLUMN in names else times
        places = fixed_values(batch.column(PLACE_COLUMN)) if PLACE_COLUMN in names else NO_PLACES
        return cls(times, orders, places)

    def take(self, rows: npt.NDArray[np.int64]) -> RowTimes:
        """Return the sort keys of some rows."""
        places = self.places[rows] if len(self.places) else self.places
        return RowTimes(self.times[rows], self.orders[rows], places)


NO_PLACES: Ints = np.zeros(0, dtype=np.int64)
NO_PLACES.setflags(write=False)


def orders_of_rows(source: int, split: int, start: int, n_rows: int) -> Ints:
    """Return the orders of consecutive source rows.

    Raises
    ------
    ConnectorError
        The number of the source, split or row is too large.
    """
    if split >= MOST_SPLITS or start + n_rows > MOST_ROWS or source >= MOST_SOURCES:
        raise ConnectorError(_too_many(source, split, start + n_rows))
    first = (((source << _SPLIT_BITS) + split) << _ROW_BITS) + start
    return np.arange(first, first + n_rows, dtype=np.int64)


def _too_many(source: int, split: int, n_rows: int) -> str:
    if source >= MOST_SOURCES:
        what, most = f"source number {source:,} of a job", MOST_SOURCES
    elif split >= MOST_SPLITS:
        what, most = f"split number {split:,} of a source", MOST_SPLITS
    else:
        what, most = f"row number {n_rows - 1:,} of a split", MOST_ROWS
    return (
        f"{what} is too large for the order of rows, which is limited to {most:,}; a plan needs "
        "that order for first(), last() and other results that depend on it, and for "
        "reproducible=True"
    )


def of_later_sources(orders: Ints, offset: int) -> Ints:
    """Return orders with ``offset`` added to the source numbers, which must not overflow."""
    return orders + (offset << (_SPLIT_BITS + _ROW_BITS))


def runs_of_splits(orders: Ints) -> list[tuple[int, int]]:
    """Return the ranges of rows of a batch that are of the same split."""
    if not len(orders):
        return [(0, 0)]
    cuts = (np.flatnonzero(np.diff(orders >> _ROW_BITS)) + 1).tolist()
    return list(zip([0, *cuts], [*cuts, len(orders)], strict=True))


def event_order(when: RowTimes) -> npt.NDArray[np.uint32] | None:
    """Return the numbers of rows in their order, ties as they came; None: they are in order."""
    from hpcstream.kernels import time_order

    n_rows = len(when.times)
    n_runs = time_order.count_runs(*when) if n_rows else 1
    if n_runs == 1:
        return None
    bins, keys = np.empty(time_order.BINS, dtype=np.int64), np.empty(2 * n_rows, dtype=np.uint64)
    scratch, rows = np.empty(n_rows, dtype=np.uint32), np.empty(n_rows, dtype=np.uint32)
    time_order.order_rows(*when, n_runs, bins, keys, scratch, rows)
    return rows


def order_fields(*, placed: bool) -> list[pa.Field]:
    """Return the fields of the hidden columns that order rows."""
    names = (ORDER_COLUMN, PLACE_COLUMN) if placed else (ORDER_COLUMN,)
    return [pa.field(name, pa.int64()) for name in names]


def places_of(batch: pa.RecordBatch) -> Ints:
    """Return the places of the rows of a batch."""
    if PLACE_COLUMN in batch.schema.names:
        return fixed_values(batch.column(PLACE_COLUMN))
    return np.zeros(batch.num_rows, dtype=np.int64)


def nested_places(places: Ints, numbers: Ints, bits: int) -> Ints:
    """Return the places of rows from those of their parents and their numbers among siblings."""
    return (places << bits) | np.minimum(numbers, (1 << bits) - 1)


def key_orders(columns: Sequence[pa.Array]) -> tuple[Ints, Ints | None]:
    """Return orders, and places unless these are all 1, of rows with different keys.

    The order is the first key column, of text its first eight bytes. Ties are broken by a
    hash of the whole key.
    """
    from hpcstream.columns.key_hash import hash_keys  # loads Numba

    orders = _leading_words(columns[0])
    valid = validity(columns[0])
    if valid is not None:
        orders = np.where(valid, orders, -(2**63))
    if len(columns) == 1 and is_word_type(columns[0].type):
        return orders, None if valid is None else valid.astype(np.int64)
    names = [str(number) for number in range(len(columns))]
    hashes = hash_keys(pa.RecordBatch.from_arrays(list(columns), names=names), names)
    return orders, hashes.view(np.int64)


def _leading_words(column: pa.Array) -> Ints:
    """Return an int64 for each value that sorts as the values do, up to ties."""
    if is_word_type(column.type):
        words = key_words(column)
        return words ^ np.int64(-(2**63)) if column.type == pa.uint64() else words
    column = column.cast(LARGE_TYPE_OF_VIEW.get(column.type, column.type))
    if not is_binary_type(column.type):
        return np.zeros(len(column), dtype=np.int64)
    offsets, data = binary_views(column)
    positions = offsets[:-1, None] + np.arange(8)
    exists = positions < offsets[1:, None]
    leading = np.zeros((len(column), 8), dtype=np.uint8)
    leading[exists] = data[positions[exists]]
    return (leading.view(">u8").reshape(-1).astype(np.uint64) ^ np.uint64(1 << 63)).view(np.int64)
