"""Formats rows as text for `print()` and notebooks.

Formats Arrow's values rather than Python's, so times beyond the year 9999 and nanoseconds
are supported. Long texts and lists are truncated, since a value may be a whole detector
frame; control characters are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.shown_times import (
    clock_text,
    span_text,
    time_texts,
    time_unit,
    timestamp_texts,
)

NULL = "None"

_MOST_CHARACTERS = 64
_MOST_ITEMS = 5
_FIRST_ITEMS = 3
_MOST_FIELDS = 8


def shown_rows(batch: pa.RecordBatch, units: Mapping[str, str] = {}) -> list[tuple[str, ...]]:
    """Return each row of a batch as the texts of its values.

    Parameters
    ----------
    units : mapping of str to str
        The units of int64 columns that hold points in time, which are shown as dates.
    """
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        unit = time_unit(field.type, units, field.name)
        columns.append(value_texts(column, unit))
    return list(zip(*columns, strict=True))


def value_texts(array: pa.Array, unit: str | None = None) -> list[str]:
    """Return the text of each value, `NULL` for a null; ``unit`` is that of int64 times."""
    if not array.null_count:
        return _plain_texts(array, unit)
    is_valid = array.is_valid().to_pylist()
    texts = iter(_plain_texts(array.drop_null(), unit))
    return [next(texts) if valid else NULL for valid in is_valid]


def _plain_texts(array: pa.Array, unit: str | None = None) -> list[str]:
    """Return the texts of an array without nulls."""
    data_type, types = array.type, pa.types
    if unit is not None:
        return time_texts(array.to_numpy(zero_copy_only=False), unit)
    if types.is_timestamp(data_type):
        return timestamp_texts(array)
    if types.is_temporal(data_type):
        return _time_texts(array)
    if types.is_nested(data_type) and not types.is_run_end_encoded(data_type):
        return [_nested_text(value) for value in array]
    if types.is_floating(data_type):
        return [str(value) for value in array.to_numpy(zero_copy_only=False)]
    return _encoded_texts(array)


def _encoded_texts(array: pa.Array) -> list[str]:
    data_type, types = array.type, pa.types
    if isinstance(data_type, pa.UuidType):
        return [str(value) for value in array.to_pylist()]
    if isinstance(array, pa.ExtensionArray):
        return value_texts(array.storage)
    if types.is_dictionary(data_type):
        return value_texts(array.dictionary_decode())
    if types.is_run_end_encoded(data_type):
        return value_texts(pc.run_end_decode(array))
    try:
        values = array.to_pylist()
    except UnicodeDecodeError:
        return [_shortened(str(value.as_buffer().to_pybytes())) for value in array]
    if is_text(data_type):
        return [_shortened(_escaped(value)) for value in values]
    return [_shortened(str(value)) for value in values]


def _time_texts(array: pa.Array) -> list[str]:
    data_type, types = array.type, pa.types
    if types.is_interval(data_type):
        return [str(value) for value in array.to_pylist()]
    width = pa.int32() if data_type.bit_width == 32 else pa.int64()
    ticks = array.cast(width).to_numpy(zero_copy_only=False).astype(np.int64)
    if types.is_date(data_type):
        texts = time_texts(ticks, "d" if types.is_date32(data_type) else "ms")
        return [text.removesuffix(" 00:00:00") for text in texts]
    text_of = span_text if types.is_duration(data_type) else clock_text
    return [text_of(tick, data_type.unit) for tick in ticks.tolist()]


def _nested_text(scalar: pa.Scalar) -> str:
    data_type, types = scalar.type, pa.types
    if types.is_struct(data_type):
        pairs = [(_escaped(name), _item_texts(scalar[name])) for name in data_type.names]
        return f"{{{_listed([f'{name}: {text}' for name, (text,) in pairs], _MOST_FIELDS)}}}"
    if types.is_union(data_type):
        return _item_texts(scalar.value)[0]
    values = scalar.values
    first = values.slice(0, len(values) if len(values) <= _MOST_ITEMS else _FIRST_ITEMS)
    if types.is_map(data_type):
        keys, items = _quoted(first.field(0)), _quoted(first.field(1))
        texts = [f"{key}: {item}" for key, item in zip(keys, items, strict=True)]
    else:
        texts = _quoted(first)
    if len(first) < len(values):
        texts.append(f"... {len(values) - len(first):,} more")
    inside = ", ".join(texts)
    return f"{{{inside}}}" if types.is_map(data_type) else f"[{inside}]"


def _item_texts(scalar: pa.Scalar) -> list[str]:
    """Return the text of a value inside another, as a list of one."""
    return _quoted(pa.array([scalar])) if not scalar.is_valid else _quoted(_array_of(scalar))


def _array_of(scalar: pa.Scalar) -> pa.Array:
    return pa.repeat(scalar, 1)


def _quoted(array: pa.Array) -> list[str]:
    """Return the texts of nested values; strings are quoted."""
    texts = value_texts(array)
    if not is_text(array.type):
        return texts
    valid = array.is_valid().to_pylist()
    return [f"'{text}'" if is_valid else text for text, is_valid in zip(texts, valid, strict=True)]


def is_text(data_type: pa.DataType) -> bool:
    """Return whether values are strings, possibly dictionary- or run-end-encoded."""
    if pa.types.is_dictionary(data_type) or pa.types.is_run_end_encoded(data_type):
        return is_text(data_type.value_type)
    return bool(
        pa.types.is_string(data_type)
        or pa.types.is_large_string(data_type)
        or pa.types.is_string_view(data_type)
    )


def _listed(texts: list[str], most: int) -> str:
    more = [f"... {len(texts) - most:,} more"] if len(texts) > most else []
    return ", ".join([*texts[:most], *more])


def _escaped(text: str) -> str:
    """Return a text with unprintable characters escaped as in Python source code."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shortened(text: str) -> str:
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[: _MOST_CHARACTERS - 3]}... ({len(text):,} characters)"


def heading(names: Iterable[str]) -> str:
    """Return the header line."""
    return line_of([_escaped(name) for name in names])


def line_of(texts: Iterable[str]) -> str:
    """Return a row in one line."""
    return " | ".join(texts)
