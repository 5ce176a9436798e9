"""Types and schemas as users give them: one rule for casts, constants, readers and functions.

A type is Arrow's, the name that Arrow prints of one, or a Python class; a schema is Arrow's, or
types by column name, as a dict or as pairs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import TypeAlias

import pyarrow as pa

from hpcstream.columns.types.names import type_of_name
from hpcstream.columns.types.plain import plain_type

TypeName: TypeAlias = "pa.DataType | str | type"
"""A type as a user may give it."""

TypesByName: TypeAlias = "Mapping[str, TypeName]"
SchemaLike: TypeAlias = "pa.Schema | TypesByName | Iterable[tuple[str, TypeName]]"
"""A schema as a user may give it."""

_PYTHON_TYPES: dict[type, pa.DataType] = {
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bool: pa.bool_(),
    bytes: pa.binary(),
    dt.date: pa.date32(),
    dt.datetime: pa.timestamp("us"),
}


def given_type(given: object) -> pa.DataType:
    """Return a type that a user gave.

    Raises
    ------
    ValueError
        There is no such type.
    """
    if isinstance(given, pa.DataType):
        return given
    if isinstance(given, type) and given in _PYTHON_TYPES:
        return _PYTHON_TYPES[given]
    if isinstance(given, str):
        return type_of_name(given)
    raise ValueError(
        f"type {given!r}: expected a pyarrow type, its name, as 'int64', 'float64', 'string', "
        "'date32' or 'timestamp[us, tz=UTC]', or int, float, str, bool"
    )


def given_types(types: object, where: str) -> dict[str, pa.DataType]:
    """Return types by column name as the engine has them.

    Raises
    ------
    TypeError
        Not types by column name.
    ValueError
        There is no such type.
    """
    if not isinstance(types, Mapping):
        raise TypeError(f"{where}: expected types by column name, got {types!r}")
    return {name: plain_type(_type_of(name, one, where)) for name, one in types.items()}


def given_schema(schema: object, where: str) -> pa.Schema:
    """Return a schema that a user gave.

    Raises
    ------
    TypeError
        Neither a schema nor types by column name.
    ValueError
        There is no such type.
    """
    if isinstance(schema, pa.Schema):
        return schema
    pairs = list(schema.items()) if isinstance(schema, Mapping) else _pairs(schema, where)
    return pa.schema([(name, _type_of(name, one, where)) for name, one in pairs])


def _pairs(schema: object, where: str) -> list[tuple[object, object]]:
    pairs: list[tuple[object, object]] = []
    for one in schema if isinstance(schema, list | tuple) else [schema]:
        if isinstance(one, pa.Field):
            pairs.append((one.name, one.type))
        elif isinstance(one, tuple) and len(one) == 2:
            pairs.append(one)
        else:
            raise TypeError(
                f"{where}: expected a pyarrow schema, or types by column name, as "
                f"{{'a': 'int64'}}; got {schema!r}"
            )
    return pairs


def _type_of(name: object, given: object, where: str) -> pa.DataType:
    if not isinstance(name, str):
        raise TypeError(f"{where}: {name!r} is not the name of a column: names are text")
    try:
        return given_type(given)
    except ValueError as error:
        raise ValueError(f"{where}: column {name!r}: {error}") from None
