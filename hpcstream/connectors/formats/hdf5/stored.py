"""The selected columns of an HDF5 file, and reading their rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hpcstream.connectors.formats.float_times import as_event_time, event_time_type
from hpcstream.connectors.formats.hdf5.columns import ColumnEntry, Values, from_values
from hpcstream.connectors.formats.hdf5.paths import Found, find
from hpcstream.connectors.formats.hdf5.types import read_values
from hpcstream.errors import ConnectorError


@dataclass(frozen=True)
class TableSpec:
    """The selected table of a file.

    Attributes
    ----------
    table : str
        A group whose datasets are the columns, or a compound dataset, whose fields are.
    columns : tuple of (str, str), optional
        Name and path of each column, from ``table`` on unless it begins with a slash.
    event_time, unit : str, optional
        Floats in ``event_time`` are converted to times.
    """

    table: str = "/"
    columns: tuple[tuple[str, str], ...] | None = None
    event_time: str | None = None
    unit: str | None = None

    @classmethod
    def of(
        cls,
        table: str,
        columns: Mapping[str, str] | None,
        event_time: str | None,
        unit: str | None,
    ) -> TableSpec:
        """Return what `read_hdf5` was given.

        Raises
        ------
        TypeError, ValueError
            ``columns`` are not names and paths, or there are none.
        """
        if columns is None:
            return cls(table, None, event_time, unit)
        if not isinstance(columns, Mapping) or not all(
            isinstance(text, str) for pair in columns.items() for text in pair
        ):
            raise TypeError(
                "columns: expected names and paths in the file, as in "
                f"{{'frame': '/entry/data/data'}}; got {columns!r}"
            )
        if not columns:
            raise ValueError("columns: expected at least one name and path, got none")
        return cls(table, tuple(columns.items()), event_time, unit)


class StoredColumn:
    """A column of a file.

    Parameters
    ----------
    found : Found
        Its dataset, or the field of one.
    entry : ColumnEntry
        Its type, and its masks.
    spec : TableSpec
    group : h5py.Group, optional
        Where the masks are.
    """

    def __init__(
        self, name: str, found: Found, entry: ColumnEntry, spec: TableSpec, group: Any = None
    ) -> None:
        self.name, self._found, self._entry = name, found, entry
        self._masks = [None if name is None else find(group, name).node for name in entry.masks]
        stored = entry.field.type
        is_time = name == spec.event_time
        self._unit = spec.unit if is_time else None
        self.type = event_time_type(stored, spec.unit, name) if is_time else stored

    @property
    def where(self) -> str:
        """The file and the path in it, for messages."""
        return self._found.where

    @property
    def datasets(self) -> list[Any]:
        """That of the values, and those of the masks."""
        return [self._found.node, *(mask for mask in self._masks if mask is not None)]

    def read(self, start: int, length: int) -> pa.Array:
        """Return rows.

        Raises
        ------
        ConnectorError
            The file is damaged, was changed, or has a text that is not UTF-8.
        """
        rows = slice(start, start + length)
        dataset, fields, stored = self._found.node, self._found.fields, self._entry.field.type
        if dataset.shape[0] < rows.stop:
            raise ConnectorError(f"{self.where} is shorter than when it was listed")
        try:
            values = read_values(dataset, fields, rows)
            masks = [None if mask is None else mask[rows] for mask in self._masks]
        except (OSError, RuntimeError) as error:
            raise ConnectorError(
                f"{self.where}: cannot read rows {rows.start} to {rows.stop}; damaged or changed "
                f"while it was read? ({error})"
            ) from error
        try:
            column = from_values(values, masks, stored, has_nul=self._entry.has_nul)
        except pa.ArrowInvalid:
            raise ConnectorError(_not_utf8(values, start, self.where)) from None
        if self.type == stored:
            return column
        return as_event_time(column, self._unit, start, self.where)


def _not_utf8(values: Values, start: int, where: str) -> str:
    """Return the error of the first text that is not UTF-8."""
    for at, value in enumerate(values.reshape(-1).tolist()):
        try:
            value.decode()
        except UnicodeDecodeError:
            row = start + at * len(values) // values.size
            return f"{where}: row {row}: {value[:40]!r} is not UTF-8 text; write it as UTF-8"
    raise AssertionError("one of them is not UTF-8")
