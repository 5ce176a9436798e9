"""The stored types of Parquet columns where the Arrow types do not determine them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow.parquet as pq

from hpcstream.errors import ConnectorError


def int96_columns(file: pq.ParquetFile, columns: Sequence[str]) -> list[str]:
    """Return those of the columns that hold INT96 values, at any depth."""
    return _columns_with(file, columns, lambda leaf: bool(leaf.physical_type == "INT96"))


def refuse_intervals(file: pq.ParquetFile, path: str, columns: Sequence[str]) -> None:
    """Raise `ConnectorError` if one of the columns holds intervals: Arrow gives their raw bytes."""
    found = _columns_with(file, columns, lambda leaf: bool(leaf.converted_type == "INTERVAL"))
    if found:
        raise ConnectorError(
            f"{path!r}: column {found[0]!r} is of Parquet's type INTERVAL (months, days and "
            "milliseconds), which no column can hold; select() the other columns, or write "
            "it as a number"
        )


def _columns_with(
    file: pq.ParquetFile, columns: Sequence[str], is_wanted: Callable[[Any], bool]
) -> list[str]:
    """Return the columns with a leaf that is wanted; a leaf's path begins with its column."""
    leaves = (file.schema.column(i) for i in range(len(file.schema)))
    paths = [leaf.path for leaf in leaves if is_wanted(leaf)]
    if not paths:
        return []
    return [
        name
        for name in columns
        if any(path == name or path.startswith(f"{name}.") for path in paths)
    ]
