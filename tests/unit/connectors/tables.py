"""Random tables of the types that a format holds, and what they are value by value."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import struct
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
INTEGERS += [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
FLOATS = [pa.float16(), pa.float32(), pa.float64()]
TIMES = [pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC")]
TIMES += [pa.timestamp("us", "Europe/Zurich"), pa.time32("s"), pa.time32("ms")]
TIMES += [pa.time64("us"), pa.time64("ns"), pa.date32(), pa.date64()]
DURATIONS = [pa.duration(unit) for unit in ("s", "ms", "us", "ns")]
TEXTS = [pa.string(), pa.large_string()]
PLAIN = [*INTEGERS, *FLOATS, *TIMES, *DURATIONS, *TEXTS, pa.bool_()]
WIDE = [pa.binary(), pa.large_binary(), pa.binary(3), pa.decimal128(38, 5), pa.decimal256(60, 2)]

NAMES = [
    "x",
    "x.valid",
    "x.valid-1",
    "x.valid_",
    "column-0",
    "column-1",
    "a/b",
    "a",
    "/",
    ".",
    "..",
]
NAMES += ["a.f0", "a.list.element", "x.f0", "a.b", "x.key_value.key", ".a"]
NAMES += ["", " ", "Zürich", "日本", "a\0b", "/x", "x/", "arrow_schema", "mask_of", "'", "x" * 300]
names = st.sampled_from(NAMES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)

SPECIAL_FLOATS = [0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1.5]
SPECIAL_TEXTS = ["", "\0", "a\0", "\0\0b", "é", "Ā\x80", "x" * 3_000, "NaN", " ", "\r\n", '"']
_DAY_MS = 86_400_000
_OF_A_DAY = {"s": 86_400, "ms": _DAY_MS, "us": _DAY_MS * 1_000, "ns": _DAY_MS * 1_000_000}


def fixed_lists(inner: Any, *, most: int = 3) -> Any:
    """Types of fixed-size lists, one in the other too."""
    return st.recursive(
        st.sampled_from(inner),
        lambda types: st.builds(pa.list_, types, st.integers(0, most)),
        max_leaves=3,
    )


def tables(types: Any, *, max_columns: int = 4, max_rows: int = 12) -> Any:
    """Tables with columns of these types: few rows or none, nulls, special values."""
    fields = st.lists(
        st.tuples(names, types), min_size=1, max_size=max_columns, unique_by=lambda one: one[0]
    )
    return st.tuples(fields, st.integers(0, max_rows)).flatmap(_table)


def _table(what: tuple[list[tuple[str, pa.DataType]], int]) -> Any:
    fields, n_rows = what
    columns = [columns_of(data_type, n_rows) for _, data_type in fields]
    return st.tuples(*columns).map(
        lambda arrays: pa.Table.from_arrays(list(arrays), names=[name for name, _ in fields])
    )


def columns_of(data_type: pa.DataType, n_rows: int) -> Any:
    """Arrays of a type: some without nulls, some of nulls alone."""
    value = values(data_type)
    several = st.sampled_from([value, value | st.none(), st.none()])
    rows = several.flatmap(lambda one: st.lists(one, min_size=n_rows, max_size=n_rows))
    return rows.map(lambda given: _array(given, data_type))


def _array(given: list[Any], data_type: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(data_type):
        plain = _array(given, data_type.value_type).dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            plain.indices.cast(data_type.index_type), plain.dictionary, ordered=data_type.ordered
        )
    return pa.array(given, data_type)


def values(data_type: pa.DataType) -> Any:
    """Values of a type, least and largest and odd ones often."""
    if pa.types.is_dictionary(data_type):
        return values(data_type.value_type)
    if pa.types.is_nested(data_type):
        return _nested_values(data_type)
    if pa.types.is_boolean(data_type):
        return st.booleans()
    if pa.types.is_decimal(data_type):
        most = 10 ** min(data_type.precision, 60) - 1
        return st.integers(-most, most).map(
            lambda n: decimal.Context(prec=80).scaleb(decimal.Decimal(n), -data_type.scale)
        )
    if data_type in TEXTS:
        return st.sampled_from(SPECIAL_TEXTS) | st.text(max_size=5)
    if pa.types.is_floating(data_type):
        width = data_type.bit_width
        special = [one for one in SPECIAL_FLOATS if width == 64 or one != 5e-324]
        return st.sampled_from(special) | st.floats(width=width)
    if pa.types.is_fixed_size_binary(data_type):
        return st.binary(min_size=data_type.byte_width, max_size=data_type.byte_width)
    if not (pa.types.is_integer(data_type) or pa.types.is_temporal(data_type)):
        return st.sampled_from([b"", b"\0", b"\xc0\x80", b"\xff"]) | st.binary(max_size=5)
    return _ticks(data_type)


def _ticks(data_type: pa.DataType) -> Any:
    if pa.types.is_time(data_type):
        return st.integers(0, _OF_A_DAY[data_type.unit] - 1)
    if pa.types.is_date64(data_type):
        return st.integers(-(10**5), 10**5).map(lambda days: days * _DAY_MS)
    if pa.types.is_timestamp(data_type) and data_type.unit == "s":
        return st.integers(-(2**53), 2**53)  # as far as milliseconds go
    if pa.types.is_unsigned_integer(data_type):
        most = 2**data_type.bit_width - 1
        return st.sampled_from([0, 1, most]) | st.integers(0, most)
    most = 2 ** (data_type.bit_width - 1)
    return st.sampled_from([0, -1, -most, most - 1]) | st.integers(-most, most - 1)


def _nested_values(data_type: pa.DataType) -> Any:
    if pa.types.is_struct(data_type):
        return st.fixed_dictionaries({f.name: values(f.type) | st.none() for f in data_type})
    if pa.types.is_map(data_type):
        pairs = st.tuples(values(data_type.key_type), values(data_type.item_type) | st.none())
        return st.lists(pairs, max_size=3)
    inner = values(data_type.value_type) | st.none()
    if pa.types.is_fixed_size_list(data_type):
        return st.lists(inner, min_size=data_type.list_size, max_size=data_type.list_size)
    return st.lists(inner, max_size=3)


def bits(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return an array value by value: floats by their bits (one NaN for all), times as counts."""
    if isinstance(array, pa.ChunkedArray):
        return [one for chunk in array.chunks for one in bits(chunk)]
    data_type = array.type
    if pa.types.is_dictionary(data_type):
        return bits(array.dictionary_decode())
    if pa.types.is_struct(data_type):
        children = [bits(child) for child in array.flatten()]
        rows = [tuple(child[i] for child in children) for i in range(len(array))]
        return [row if ok.as_py() else None for row, ok in zip(rows, array.is_valid(), strict=True)]
    if pa.types.is_nested(data_type):
        return [bits(one.values) if one.is_valid else None for one in array]
    if pa.types.is_temporal(data_type):
        width = pa.int32() if data_type.bit_width == 32 else pa.int64()
        return list(array.view(width).to_pylist())
    if pa.types.is_floating(data_type):
        return [None if one is None else _float_bits(one) for one in array.to_pylist()]
    return list(array.to_pylist())


def _float_bits(number: float) -> Any:
    return "NaN" if math.isnan(number) else struct.pack("<d", number)


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    """Names, types, nulls and values."""
    assert found.schema.names == expected.schema.names
    assert found.schema.types == expected.schema.types
    for name in expected.schema.names:
        assert bits(found.column(name)) == bits(expected.column(name)), name


EPOCH = dt.datetime(1970, 1, 1)
