"""Stable keys: they identify a thing in a checkpoint, in a later version, on another rank.

A key is plain data: strings, numbers, and lists and mappings of these. It never contains text for
people (``describe()``, ``repr``, a label of a plan), which may change at any time, nor a memory
address, which differs between ranks and runs.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

Key: TypeAlias = "bool | int | float | str | Sequence[Key] | Mapping[str, Key] | None"

_VALUES_SPELLED_OUT = 16
"""An array with more values enters a key as a digest."""


def key_text(key: Key) -> str:
    """Return a key as text: equal keys have equal texts, in every version."""
    return json.dumps(key, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def function_name(function: Callable[..., Any]) -> str:
    """Return the qualified name of a function of the user.

    For a `functools.partial`, that of the wrapped function; for a callable object, that of its
    type.
    """
    while isinstance(function, functools.partial | functools.partialmethod):
        function = function.func
    for attribute in ("__qualname__", "__name__"):
        name = getattr(function, attribute, None)
        if isinstance(name, str):
            return name
    return type(function).__qualname__


def schema_key(schema: pa.Schema) -> Key:
    """Return names and types of a schema."""
    return [[field.name, str(field.type)] for field in schema]


def scalar_key(scalar: pa.Scalar) -> Key:
    """Return a constant without its type."""
    if not scalar.is_valid:
        return None
    types, data_type = pa.types, scalar.type
    if types.is_temporal(data_type) and data_type != pa.month_day_nano_interval():
        return int(scalar.value)
    if types.is_dictionary(data_type):
        return scalar_key(scalar.value)
    value = scalar.as_py()
    if isinstance(value, bool | int | float | str):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def value_key(value: Any) -> Key:
    """Return a constant of an expression or an aggregate."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, pa.Array):
        return _array_key(value)
    if isinstance(value, pa.Scalar):
        return [str(value.type), scalar_key(value)]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(name): value_key(item) for name, item in value.items()}
    if isinstance(value, Sequence):
        return [value_key(item) for item in value]
    return str(value)  # Arrow's types, numbers of other libraries


def _array_key(values: pa.Array) -> Key:
    keys: list[Key] = [scalar_key(value) for value in values]
    if len(keys) > _VALUES_SPELLED_OUT:
        keys = [len(keys), hashlib.sha256(key_text(keys).encode()).hexdigest()]
    return [str(values.type), keys]
