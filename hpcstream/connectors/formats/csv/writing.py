"""Writes CSV with Arrow, except for values that readers would not read back."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.connectors.formats.part_format import PartWriter

_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Of the years 1 to 9999, which ISO 8601 and all readers agree on."""
_TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY = 86_400
_WHOLE_MINUTES_SINCE = 63_072_000
"""From 1972 on every zone's offset is a whole number of minutes, as CSV writes it."""


class CsvWriter(PartWriter):
    """Writes a CSV file: text is quoted, so that null (empty) and ``""`` differ."""

    def __init__(self, where: Any, schema: pa.Schema, delimiter: str, *, header: bool) -> None:
        from pyarrow import csv

        for field in schema:
            if pa.types.is_nested(field.type):
                raise pa.ArrowNotImplementedError(f"column {field.name!r} is {field.type}")
        options = csv.WriteOptions(include_header=header, delimiter=delimiter)
        self._writer = csv.CSVWriter(where, schema, write_options=options)

    def write_table(self, table: pa.Table) -> None:
        """Append rows.

        Raises
        ------
        pa.ArrowInvalid
            A time beyond the years 1 to 9999, which Arrow writes in an invalid form.
        """
        columns = [
            _writable(name, column)
            for name, column in zip(table.schema.names, table.columns, strict=True)
        ]
        schema = pa.schema(list(zip(table.schema.names, (c.type for c in columns), strict=True)))
        self._writer.write_table(pa.Table.from_arrays(columns, schema=schema))

    def close(self) -> None:
        """Complete the file."""
        self._writer.close()


def _limits(data_type: pa.DataType) -> tuple[int, int] | None:
    """Return the least and the largest value of a time type that can be written."""
    if pa.types.is_date32(data_type):
        return _FIRST_SECOND // _DAY, _LAST_SECOND // _DAY
    if pa.types.is_date64(data_type):
        return _FIRST_SECOND * 1_000, _LAST_SECOND * 1_000 + 999
    if pa.types.is_timestamp(data_type) and data_type.unit != "ns":
        ticks = _TICKS[data_type.unit]
        return _FIRST_SECOND * ticks, (_LAST_SECOND + 1) * ticks - 1
    return None


def _writable(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    data_type = column.type
    limits = _limits(data_type)
    zone = data_type.tz if pa.types.is_timestamp(data_type) else None
    if limits is None and zone is None:
        return column
    ticks = column.cast(pa.int32() if pa.types.is_date32(data_type) else pa.int64())
    found = pc.min_max(ticks)
    least, largest = found["min"].as_py(), found["max"].as_py()
    if least is None:
        return column
    for value in (least, largest):
        if limits is not None and not limits[0] <= value <= limits[1]:
            raise pa.ArrowInvalid(
                f"column {name!r}: {value} as {data_type} is beyond the years 1 to 9999, in which "
                "CSV can write times; cast the column to int64"
            )
    if zone is not None and least < _WHOLE_MINUTES_SINCE * _TICKS[data_type.unit]:
        return column.cast(pa.timestamp(data_type.unit, "UTC"))
    return column
