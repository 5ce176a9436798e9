"""Parquet's times of 96 bits: days and nanoseconds of the day, wider than any time of Arrow.

Arrow reads them as int64 in the unit asked for and lets what does not fit wrap round.
So they are read in two units and compared: the difference shows where a value wrapped,
and where digits were lost.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hpcstream.connectors.files.slicing import RowSlicer
from hpcstream.errors import ConnectorError

_LAST_US = (2**63 - 1) // 1_000
"""The largest count of microseconds that nanoseconds hold."""


def check_int96_unit(unit: str) -> str:
    """Return ``unit``; raises `ValueError` unless it is ``"us"`` or ``"ns"``."""
    if unit not in ("us", "ns"):
        raise ValueError(f"int96_unit {unit!r}: expected 'us' or 'ns'")
    return unit


class Int96Check:
    """Reads INT96 columns a second time, in the other unit, beside the batches delivered.

    Parameters
    ----------
    twin : pq.ParquetFile
        The same file, opened with the other unit.
    unit : str
        That of the batches delivered: ``"us"`` or ``"ns"``.
    """

    def __init__(
        self, twin: pq.ParquetFile, path: str, row_groups: list[int], names: list[str], unit: str
    ) -> None:
        batches = twin.iter_batches(row_groups=row_groups, columns=names, use_threads=False)
        self._twin = RowSlicer(batches)
        self._path, self._names, self._unit = path, names, unit

    def compare(self, batch: pa.RecordBatch) -> None:
        """Raise `ConnectorError` if a time of the next batch does not fit its unit."""
        other = self._twin.take(batch.num_rows)
        assert other is not None, "both are of the same rows"
        for name in self._names:
            pairs = zip(_times(batch.column(name)), _times(other.column(name)), strict=True)
            for delivered, again in pairs:
                self._compare(name, delivered, again)

    def _compare(self, name: str, delivered: pa.Array, again: pa.Array) -> None:
        if delivered.type == again.type:
            return  # int64 in the file, beside INT96 in a struct
        is_us = self._unit == "us"
        microseconds, nanoseconds = map(_ticks, (delivered, again) if is_us else (again, delivered))
        is_near = np.abs(microseconds) <= _LAST_US
        is_other = nanoseconds != microseconds * 1_000  # both wrap alike
        if is_us and np.any(is_other & is_near):
            why = "nanoseconds, which microseconds do not hold; read it with int96_unit='ns'"
        elif is_us and np.any(is_other):
            why = "a time so far away that Arrow does not read it rightly, or no time at all"
        elif not is_us and not np.all(is_near):
            why = "times beyond 1677 to 2262, which int96_unit='ns' does not hold; leave it at 'us'"
        else:
            return
        raise ConnectorError(f"{self._path!r}: column {name!r} (INT96) has {why}")


def _ticks(times: pa.Array) -> np.ndarray:
    ticks: np.ndarray = times.cast(pa.int64()).fill_null(0).to_numpy()
    return ticks


def _times(column: pa.Array) -> Iterator[pa.Array]:
    """Yield the timestamps in a column of any nesting."""
    if pa.types.is_timestamp(column.type):
        yield column
    elif pa.types.is_struct(column.type):
        for child in column.flatten():
            yield from _times(child)
    elif pa.types.is_map(column.type):
        yield from _times(column.keys)
        yield from _times(column.items)
    elif pa.types.is_nested(column.type):
        yield from _times(column.flatten())
