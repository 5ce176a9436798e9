"""The least and the largest event time of a column or of a Parquet row group."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Bounds = tuple[int | None, int | None]

_NANOSECONDS = {
    "nanoseconds": 1,
    "ns": 1,
    "microseconds": 1_000,
    "us": 1_000,
    "milliseconds": 1_000_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "d": 86_400_000_000_000,
}


def bounds_of_column(column: pa.Array | pa.ChunkedArray) -> Bounds:
    """Return least and largest time of a timestamp, date or int64 column as it counts them."""
    width = column.type.bit_width
    both = pc.min_max(column.cast(pa.int32() if width == 32 else pa.int64())).as_py()
    return both["min"], both["max"]


def merged(bounds: Bounds, other: Bounds) -> Bounds:
    """Return the bounds of both; a side without bounds has no values."""
    firsts = [b[0] for b in (bounds, other) if b[0] is not None]
    lasts = [b[1] for b in (bounds, other) if b[1] is not None]
    return min(firsts, default=None), max(lasts, default=None)


def bounds_of_statistics(statistics: Any, time_type: pa.DataType) -> Bounds:
    """Return least and largest time from Parquet column statistics, in the unit of ``time_type``.

    ``(None, None)`` if there are no statistics, as for INT96 times.
    """
    if statistics is None or not statistics.has_min_max:
        return None, None
    if statistics.physical_type not in ("INT32", "INT64"):
        return None, None
    stored = _stored_unit(statistics)
    wanted = _unit(time_type)
    if stored is None or wanted is None:
        return statistics.min_raw, statistics.max_raw
    scale = _NANOSECONDS[stored], _NANOSECONDS[wanted]
    return (
        statistics.min_raw * scale[0] // scale[1],
        statistics.max_raw * scale[0] // scale[1],
    )


def _stored_unit(statistics: Any) -> str | None:
    logical = json.loads(statistics.logical_type.to_json())
    if logical["Type"] == "Date":
        return "d"
    unit = logical.get("timeUnit")
    return unit if isinstance(unit, str) else None


def _unit(time_type: pa.DataType) -> str | None:
    if pa.types.is_timestamp(time_type):
        return str(time_type.unit)
    if pa.types.is_date64(time_type):
        return "ms"
    return "d" if pa.types.is_date32(time_type) else None
