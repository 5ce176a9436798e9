"""Checks types and schemas that users give."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress

import pyarrow as pa

from hpcstream.columns.types.plain import plain_type
from hpcstream.connectors.scan import plain_schema

_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), ?tz=([^\]]+)\]")


def given_schema(schema: object, where: str) -> pa.Schema:
    """Return the `plain_schema` of a user's schema, or types by name."""
    if not isinstance(schema, pa.Schema):
        if not isinstance(schema, Mapping):
            raise TypeError(f"{where}: expected a pyarrow schema, got {schema!r}")
        schema = pa.schema(list(given_types(schema, where).items()))
    return plain_schema(schema, where)


def given_types(types: object, where: str) -> dict[str, pa.DataType]:
    """Return the engine's types by column name; names of Arrow types are accepted.

    Raises
    ------
    TypeError
        Not a mapping of names to types.
    """
    if not isinstance(types, Mapping):
        raise TypeError(f"{where}: expected types by column name, got {types!r}")
    return {name: plain_type(_given_type(name, one, where)) for name, one in types.items()}


def _given_type(name: str, given: object, where: str) -> pa.DataType:
    if isinstance(given, pa.DataType):
        return given
    if isinstance(given, str):
        zoned = _ZONED.fullmatch(given)
        with suppress(ValueError):
            return pa.timestamp(*zoned.groups()) if zoned else pa.type_for_alias(given)
    raise TypeError(
        f"{where}: {name!r} is {given!r}; expected a pyarrow type as pa.int64(), or its name "
        "as 'int64' or 'timestamp[us, tz=UTC]'"
    )
