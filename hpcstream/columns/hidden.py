"""Distinguishes the engine's hidden columns from the user's columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from hpcstream.columns.event_time import HIDDEN_COLUMNS, RESERVED_PREFIXES, TIME_COLUMN
from hpcstream.errors import PlanError


def visible_positions(schema: pa.Schema) -> list[int]:
    """Return the positions of the user's columns."""
    return [i for i, name in enumerate(schema.names) if name not in HIDDEN_COLUMNS]


def hidden_positions(schema: pa.Schema) -> list[int]:
    """Return the positions of the engine's columns."""
    return [i for i, name in enumerate(schema.names) if name in HIDDEN_COLUMNS]


def visible_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of the user's columns only."""
    return pa.schema([schema.field(i) for i in visible_positions(schema)])


def hidden_fields(schema: pa.Schema) -> list[pa.Field]:
    """Return the fields of the engine's columns."""
    return [schema.field(i) for i in hidden_positions(schema)]


def time_field() -> pa.Field:
    """Return the field of the hidden event time."""
    return pa.field(TIME_COLUMN, pa.int64())


def refuse_reserved_names(
    names: Iterable[str], where: str, reserved: tuple[str, ...] = RESERVED_PREFIXES
) -> None:
    """Raise `PlanError` if the name of a user's column is reserved for the engine."""
    for name in names:
        if name.startswith(reserved):
            raise PlanError(
                f"{where}: the name {name!r} is reserved for the engine's own columns; rename "
                "the column"
            )


def refuse_repeated_names(names: Sequence[str], where: str) -> None:
    """Raise `PlanError` if two output columns have the same name."""
    unique, counts = np.unique(np.array(names, dtype=object), return_counts=True)
    if len(unique) != len(names):
        repeated = ", ".join(repr(name) for name in unique[counts > 1])
        raise PlanError(f"{where}: more than one output column named {repeated}; use .alias(name)")
