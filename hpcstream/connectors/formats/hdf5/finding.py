"""The columns of a table in an HDF5 file, as we or others wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from hpcstream.connectors.formats.hdf5.columns import (
    MASK_OF,
    SCHEMA,
    ColumnEntry,
    dataset_layout,
    stored_entries,
)
from hpcstream.connectors.formats.hdf5.paths import (
    Found,
    datasets_with_rows,
    find,
    groups_with_rows,
)
from hpcstream.connectors.formats.hdf5.stored import StoredColumn, TableSpec
from hpcstream.connectors.formats.hdf5.types import UnreadableType, field_names, type_of
from hpcstream.errors import ConnectorError


def columns_of(
    file: Any, spec: TableSpec, only: Sequence[str] | None = None
) -> dict[str, StoredColumn]:
    """Return the columns that a specification selects, or the wanted ones of these.

    Raises
    ------
    ConnectorError
        They do not exist, or cannot be columns.
    """
    if spec.columns is not None:
        base = _group(find(file, spec.table), "table=")
        return {
            name: _by_path(name, find(base, path), spec)
            for name, path in spec.columns
            if only is None or name in only
        }
    table = find(file, spec.table)
    if not table.is_group:
        return {
            name: _column(name, replace(table, fields=(*table.fields, name)), spec)
            for name in _fields(table)
            if only is None or name in only
        }
    ours = _entries(table.node)
    make = _written if ours else StoredColumn
    return {
        entry.field.name: make(
            entry.field.name, find(table.node, entry.dataset), entry, spec, table.node
        )
        for entry in ours or _guessed_entries(table.node)
        if only is None or entry.field.name in only
    }


def _group(found: Found, asked_by: str) -> Any:
    if not found.is_group:
        raise ConnectorError(f"{found.where} is a dataset; {asked_by} beside columns= is a group")
    return found.node


def _fields(table: Found) -> tuple[str, ...]:
    names = field_names(table.node, table.fields)
    if not names:
        path = "/".join((table.node.name, *table.fields))
        name = path.rsplit("/", 1)[-1]
        raise ConnectorError(
            f"{table.where} is a dataset, not a group of them; say columns={{{name!r}: {path!r}}}"
        )
    return names


def _by_path(name: str, found: Found, spec: TableSpec) -> StoredColumn:
    if found.is_group:
        inside = ", ".join(found.node) or "nothing"
        raise ConnectorError(
            f"{found.where} is a group, not the dataset of column {name!r}; it has {inside}"
        )
    if not found.node.shape:
        raise ConnectorError(f"{found.where} is a single value, not the rows of column {name!r}")
    if not found.fields:
        for entry in _entries(found.group):
            if entry.dataset == found.name:
                return _written(name, found, entry, spec, found.group)
    return _column(name, found, spec)


def _column(name: str, found: Found, spec: TableSpec) -> StoredColumn:
    return StoredColumn(name, found, ColumnEntry(pa.field(name, _type_of(found)), ""), spec)


def _entries(group: Any) -> list[ColumnEntry]:
    """Return the entries that we wrote into a group; none if others wrote it."""
    text = group.attrs.get(SCHEMA)
    if text is None:
        return []
    try:
        return stored_entries(text, group)
    except (ValueError, pa.ArrowException) as error:
        raise ConnectorError(
            f"{_where(group)}: its attribute {SCHEMA!r} is damaged ({error})"
        ) from error


def _guessed_entries(group: Any) -> list[ColumnEntry]:
    """Return the datasets of a group as entries, if others wrote it.

    Raises
    ------
    ConnectorError
        None has rows, or one has a type that no column can hold.
    """
    datasets = datasets_with_rows(group)
    if not datasets:
        rows = groups_with_rows(group.file)
        there = (
            f"groups that have rows: {rows}; name one with table=, or datasets with columns="
            if rows
            else "nor has any other group of the file"
        )
        raise ConnectorError(f"{_where(group)}: no datasets with rows; {there}")
    masks: dict[str, list[str | None]] = {}
    for dataset in datasets:
        if MASK_OF in dataset.node.attrs:
            own = masks.setdefault(str(dataset.node.attrs[MASK_OF]), [])
            own += [None] * (dataset.node.ndim - len(own))
            own[dataset.node.ndim - 1] = dataset.name
    return [
        ColumnEntry(
            pa.field(dataset.name, _type_of(dataset)), dataset.name, masks.get(dataset.name, [])
        )
        for dataset in datasets
        if MASK_OF not in dataset.node.attrs
    ]


def _where(group: Any) -> str:
    return f"{group.file.filename!r}: {group.name}"


def _type_of(found: Found) -> pa.DataType:
    try:
        return type_of(found.node, found.fields)
    except UnreadableType as error:
        raise ConnectorError(
            f"{found.where} has {error}, which no column can hold; name the datasets to be read "
            "with columns="
        ) from error


def _written(
    name: str, found: Found, entry: ColumnEntry, spec: TableSpec, group: Any
) -> StoredColumn:
    """Return a column that we wrote, if its dataset agrees with its entry."""
    import h5py

    dtype, sizes = dataset_layout(entry.field.type)
    is_text = h5py.check_string_dtype(dtype) is not None
    there = found.node
    same = h5py.check_string_dtype(there.dtype) is not None if is_text else there.dtype == dtype
    if not same or there.shape[1:] != sizes:
        raise ConnectorError(
            f"{found.where} is of type {there.dtype} and shape {there.shape}, but its group's "
            f"attribute {SCHEMA!r} says {entry.field.type}; if another program wrote it anew, "
            "remove the attribute"
        )
    return StoredColumn(name, found, entry, spec, group)
