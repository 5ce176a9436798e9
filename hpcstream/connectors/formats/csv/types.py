"""Types of CSV columns: which are inferred, and which Arrow's reader knows."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

_LEADING_ZERO = r"^\s*[+-]?0[0-9]"
_INTEGER = r"^\s*[+-]?[0-9]+\s*$"
_LONG = r"^\s*[+-]?[0-9]{19,}\s*$"
_FINE_TIME = r"[.][0-9]{7}"
_INT64 = 2**63

_READ_AS = {pa.float16(): pa.float32()}


def is_text(data_type: pa.DataType) -> bool:
    """Whether fields of a type are text or bytes, so that any field is a value."""
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    return bool(
        pa.types.is_string(data_type)
        or pa.types.is_large_string(data_type)
        or pa.types.is_binary(data_type)
        or pa.types.is_large_binary(data_type)
        or pa.types.is_fixed_size_binary(data_type)
    )


def read_as(data_type: pa.DataType) -> pa.DataType:
    """Return the type in which Arrow reads a column that is then cast to ``data_type``."""
    if pa.types.is_dictionary(data_type):
        known = data_type.index_type == pa.int32() and is_text(data_type) and not data_type.ordered
        return data_type if known else read_as(data_type.value_type)
    if pa.types.is_decimal(data_type) and data_type.bit_width != 128:
        return pa.string() if data_type.bit_width > 128 else _decimal128(data_type)
    return _READ_AS.get(data_type, data_type)


def _decimal128(data_type: pa.DataType) -> pa.DataType:
    return pa.decimal128(data_type.precision, data_type.scale)


def as_type(column: pa.Array, data_type: pa.DataType) -> pa.Array:
    """Return a column that was read in the type of `read_as`, cast to the wanted type."""
    if not pa.types.is_dictionary(data_type):
        return column.cast(data_type)
    encoded = as_type(column, data_type.value_type).dictionary_encode()
    indices = encoded.indices.cast(data_type.index_type)
    return pa.DictionaryArray.from_arrays(indices, encoded.dictionary, ordered=data_type.ordered)


def refined(found: pa.Schema, texts: pa.RecordBatch, fixed: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return the schema inferred from a block, corrected where Arrow would lose values.

    Parameters
    ----------
    found : pa.Schema
        As Arrow infers it.
    texts : pa.RecordBatch
        The same block, numbers and times as text.
    fixed : types by name
        Those that the user gave.
    """
    fields = []
    for field in found:
        data_type = fixed.get(field.name, field.type)
        if field.name not in fixed and field.name in texts.schema.names:
            data_type = _refined(data_type, texts.column(field.name))
        fields.append(field.with_type(pa.string() if pa.types.is_null(data_type) else data_type))
    return pa.schema(fields)


def _refined(data_type: pa.DataType, texts: pa.Array) -> pa.DataType:
    if pa.types.is_timestamp(data_type):
        return inferred_time(texts, data_type.tz)
    if pa.types.is_integer(data_type) and _any(texts, _LEADING_ZERO):
        return pa.string()
    if pa.types.is_floating(data_type) and (_any(texts, _LEADING_ZERO) or _beyond_int64(texts)):
        return pa.string()
    return data_type


def inferred_time(texts: pa.Array, zone: str | None) -> pa.DataType:
    """Return the type of times: microseconds, unless some have more digits."""
    return pa.timestamp("ns" if _any(texts, _FINE_TIME) else "us", zone)


def _beyond_int64(texts: pa.Array) -> bool:
    """Whether all are integers (or spellings of null), and some too long for int64."""
    if not _any(texts, _LONG):
        return False
    numbers = texts.filter(pc.match_substring_regex(texts, r"[0-9]"))
    return bool(pc.all(pc.match_substring_regex(numbers, _INTEGER)).as_py())


def _any(texts: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())
