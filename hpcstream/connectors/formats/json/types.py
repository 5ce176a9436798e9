"""Types of JSON fields: Arrow's, but times in text are recognized as in CSV."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.connectors.formats.csv.types import inferred_time

_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}"
_ZONED = r"[0-9](Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_MANY_DIGITS = re.compile(rb"[0-9]{19}")
_INT64 = range(-(2**63), 2**63)


def as_text(data_type: pa.DataType) -> pa.DataType:
    """Return a type with text instead of times and dates, which Arrow reads without zones."""
    if pa.types.is_timestamp(data_type) or pa.types.is_date(data_type):
        return pa.string()
    return _rebuilt(data_type, as_text)


def _rebuilt(data_type: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Return a nested type with each of its fields changed; any other one as it is."""
    if pa.types.is_struct(data_type):
        return pa.struct([field.with_type(change(field.type)) for field in data_type])
    if pa.types.is_large_list(data_type):
        return pa.large_list(data_type.value_field.with_type(change(data_type.value_type)))
    if pa.types.is_list(data_type):
        return pa.list_(data_type.value_field.with_type(change(data_type.value_type)))
    return data_type


def with_times(values: pa.Array) -> pa.DataType:
    """Return the type of values with the times in it that their text has.

    A field without values is text.
    """
    data_type = values.type
    if pa.types.is_null(data_type):
        return pa.string()
    if pa.types.is_string(data_type):
        return _time(values) or data_type
    if pa.types.is_struct(data_type):
        fields = [
            field.with_type(with_times(pc.struct_field(values, [i])))
            for i, field in enumerate(data_type)
        ]
        return pa.struct(fields)
    if pa.types.is_list(data_type):
        return pa.list_(data_type.value_field.with_type(with_times(values.flatten())))
    return data_type


def _time(texts: pa.Array) -> pa.DataType | None:
    """Return the time or date type that all texts fit; None if there is none."""
    texts = texts.drop_null()
    if not len(texts):
        return None
    if _all(texts, _DATE):
        return _fitting(texts, pa.date32())
    if not _all(texts, _TIME):
        return None
    zoned = pc.match_substring_regex(texts, _ZONED)
    if pc.any(zoned).as_py() != pc.all(zoned).as_py():
        return None
    return _fitting(texts, inferred_time(texts, "UTC" if zoned[0].as_py() else None))


def _fitting(texts: pa.Array, data_type: pa.DataType) -> pa.DataType | None:
    try:
        texts.cast(data_type)
    except pa.ArrowInvalid:
        return None
    return data_type


def _all(texts: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def integer_beyond_int64(block: bytes, types: Mapping[str, pa.DataType]) -> tuple[str, int] | None:
    """Return field and value of an integer that a double would round, if a block has one.

    Only in fields without a type in ``types`` whose numbers are all integers; of those
    whose numbers are not, some are doubles anyway.
    """
    if not _MANY_DIGITS.search(block):
        return None
    long: dict[str, int] = {}
    fractional = set()
    for line in block.splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # cut off by the end of the block, or said by Arrow
            continue
        for name, value in _numbers(row, ""):
            if isinstance(value, float):
                fractional.add(name)
            elif value not in _INT64:
                long.setdefault(name, value)
    for name, value in long.items():
        if name not in fractional and name.split(".", 1)[0] not in types:
            return name, value
    return None


def _numbers(value: Any, name: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _numbers(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for inner in value:
            yield from _numbers(inner, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value
