"""Parses Arrow types from their names as Arrow prints them, and from their aliases.

``"timestamp[us, tz=UTC]"``, ``"list<item: double>"``, ``"decimal128(10, 2)"``. A struct
field may have any name, so the grammar is ambiguous and the parser backtracks.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

Readings = Iterator[tuple[Any, int]]
"""All parses of a text from a position: the result, and the position after it."""

_SIMPLE = re.compile(r"[a-z_0-9]+(?:\[(?:s|ms|us|ns|day)\])?", re.IGNORECASE)
_EXTENSIONS = {"arrow.uuid": pa.uuid(), "arrow.json": pa.json_(), "arrow.bool8": pa.bool8()}
_MEANT = {
    "int": "int64",
    "integer": "int64",
    "long": "int64",
    "bigint": "int64",
    "text": "string",
    "varchar": "string",
    "object": "string",
    "datetime": "timestamp[us]",
    "timestamp": "timestamp[us]",
    "timestamptz": "timestamp[us, tz=UTC]",
    "date": "date32",
    "time": "time64[us]",
    "decimal": "decimal128(10, 2)",
    "bytes": "binary",
    "duration": "duration[us]",
    "timedelta": "duration[us]",
    "category": "dictionary<values=string, indices=int32, ordered=0>",
    "list": "list<item: double>",
}
_KNOWN = (
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "float", "double", "halffloat", "bool", "null"),
    *("string", "large_string", "string_view", "binary", "large_binary", "binary_view"),
    *("date32", "date64", "timestamp[s]", "timestamp[ms]", "timestamp[us]", "timestamp[ns]"),
)


def type_of_name(name: str) -> pa.DataType:
    """Return the type that prints as ``name``, or has it as an alias.

    Raises
    ------
    ValueError
        There is none; the message suggests a similar name.
    """
    text = name.strip()
    if text in ("uuid", "json", "bool8"):
        text = f"extension<arrow.{text}>"
    for data_type, end in _types(text, 0):
        if end == len(text):
            return data_type
    raise ValueError(f"there is no type {name!r}{_advice(text)}")


def _advice(text: str) -> str:
    meant = _MEANT.get(text.lower())
    near = [meant] if meant else difflib.get_close_matches(text, _KNOWN, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _types(text: str, start: int) -> Readings:
    """Yield all parses of a type from a position."""
    for opening, read in _COMPOSED.items():
        if text.startswith(opening, start):
            yield from read(text, start + len(opening))
            return
    match = _SIMPLE.match(text, start)
    if match is not None:
        try:
            yield pa.type_for_alias(match[0]), match.end()
        except ValueError:
            return


def _nested(make: Callable[[pa.Field], pa.DataType]) -> Callable[[str, int], Readings]:
    """Return the parser of a list type: a field, or a type only, and the end."""

    def read(text: str, start: int) -> Readings:
        for field, end in _fields(text, start):
            if text.startswith(">", end):
                yield make(field), end + 1
        for data_type, end in _types(text, start):
            if text.startswith(">", end):
                yield make(pa.field("item", data_type)), end + 1

    return read


def _fields(text: str, start: int) -> Readings:
    """Yield all parses of a field, ``name: type`` or ``name: type not null``, with any name."""
    colon = text.find(": ", start)
    while colon >= 0:
        for data_type, end in _types(text, colon + 2):
            is_nullable = not text.startswith(" not null", end)
            field = pa.field(text[start:colon], data_type, is_nullable)
            yield field, end if is_nullable else end + len(" not null")
        colon = text.find(": ", colon + 1)


def _several(text: str, start: int, read: Callable[[str, int], Readings]) -> Readings:
    """Yield the first parse of a comma-separated list of ``read``, up to ``>``, if there is any."""
    found = _first_of_several(text, start, read)
    if found is not None:
        yield list(found[0]), found[1]


@functools.lru_cache(maxsize=1_000)  # without it a malformed struct of n fields has 2**n parses
def _first_of_several(
    text: str, start: int, read: Callable[[str, int], Readings]
) -> tuple[tuple[Any, ...], int] | None:
    for first, end in read(text, start):
        if text.startswith(">", end):
            return (first,), end + 1
        if text.startswith(", ", end):
            others = _first_of_several(text, end + 2, read)
            if others is not None:
                return (first, *others[0]), others[1]
    return None


def _struct(text: str, start: int) -> Readings:
    if text.startswith(">", start):
        yield pa.struct([]), start + 1
    for fields, end in _several(text, start, _fields):
        yield pa.struct(fields), end


def _union(make: Callable[..., pa.DataType]) -> Callable[[str, int], Readings]:
    def coded(text: str, start: int) -> Readings:
        for field, end in _fields(text, start):
            code = re.compile(r"=(\d+)").match(text, end)
            if code is not None:
                yield (field, int(code[1])), code.end()

    def read(text: str, start: int) -> Readings:
        for parts, end in _several(text, start, coded):
            yield make([field for field, _ in parts], [code for _, code in parts]), end

    return read


def _map(text: str, start: int) -> Readings:
    end_of_map = re.compile(r"(, keys_sorted)?>")
    for key, comma in _named(text, start, "key"):
        if not text.startswith(", ", comma):
            continue
        for item, end in _named(text, comma + 2, "value"):
            match = end_of_map.match(text, end)
            if match is not None:
                yield pa.map_(key.with_nullable(False), item, bool(match[1])), match.end()


def _named(text: str, start: int, name: str) -> Readings:
    """Yield all parses of a map's field: a type, and its name if it is not the default."""
    for data_type, end in _types(text, start):
        match = re.compile(r" \('(.*?)'\)").match(text, end)
        given = name if match is None else match[1]
        yield pa.field(given, data_type), end if match is None else match.end()


def _fixed_size_list(text: str, start: int) -> Readings:
    for field, end in _nested(lambda field: field)(text, start):
        size = re.compile(r"\[(\d+)\]").match(text, end)
        if size is not None:
            yield pa.list_(field, int(size[1])), size.end()


def _dictionary(text: str, start: int) -> Readings:
    for values, comma in _types(text, start):
        match = re.compile(r", indices=(\w+)(?:, ordered=([01]))?>").match(text, comma)
        if match is not None:
            index = pa.type_for_alias(match[1])
            yield pa.dictionary(index, values, match[2] == "1"), match.end()


def _run_ends(text: str, start: int) -> Readings:
    for ends, comma in _types(text, start):
        if text.startswith(", values: ", comma):
            for values, end in _types(text, comma + len(", values: ")):
                if text.startswith(">", end):
                    yield pa.run_end_encoded(ends, values), end + 1


def _extension(text: str, start: int) -> Readings:
    for name, data_type in _EXTENSIONS.items():
        if text.startswith(f"{name}>", start):
            yield data_type, start + len(name) + 1
    if text.startswith("arrow.opaque[storage_type=", start):
        for stored, end in _types(text, start + len("arrow.opaque[storage_type=")):
            match = re.compile(r", type_name=(.*?), vendor_name=(.*?)\]>").match(text, end)
            if match is not None:
                yield pa.opaque(stored, match[1], match[2]), match.end()
    if text.startswith("arrow.fixed_shape_tensor[value_type=", start):
        yield from _tensor(text, start + len("arrow.fixed_shape_tensor[value_type="))


def _tensor(text: str, start: int) -> Readings:
    lists = r"(?:, permutation=\[([\d,]*)\])?(?:, dim_names=\[(.*?)\])?"
    pattern = re.compile(rf", shape=\[([\d,]*)\]{lists}\]>")
    for value, end in _types(text, start):
        match = pattern.match(text, end)
        if match is not None:
            shape, order = (m and [int(n) for n in m.split(",")] for m in match.group(1, 2))
            names = match[3].split(",") if match[3] else None
            yield pa.fixed_shape_tensor(value, shape, names, order), match.end()


def _by_pattern(pattern: str, make: Callable[..., pa.DataType]) -> Callable[[str, int], Readings]:
    """Return the parser of a regular expression; ``make`` gets its groups."""
    compiled = re.compile(pattern)

    def read(text: str, start: int) -> Readings:
        match = compiled.match(text, start)
        if match is not None:
            try:
                yield make(*match.groups()), match.end()
            except (ValueError, pa.ArrowException):  # such as a decimal of 99 digits
                return

    return read


def _decimal(make: Callable[[int, int], pa.DataType]) -> Callable[[str, int], Readings]:
    pattern = r"(\d+)(?:, ?(-?\d+))?\)"
    return _by_pattern(pattern, lambda digits, scale: make(int(digits), int(scale or 0)))


_COMPOSED: dict[str, Callable[[str, int], Readings]] = {
    "list<": _nested(pa.list_),
    "large_list<": _nested(pa.large_list),
    "list_view<": _nested(pa.list_view),
    "large_list_view<": _nested(pa.large_list_view),
    "fixed_size_list<": _fixed_size_list,
    "struct<": _struct,
    "map<": _map,
    "dense_union<": _union(pa.dense_union),
    "sparse_union<": _union(pa.sparse_union),
    "dictionary<values=": _dictionary,
    "run_end_encoded<run_ends: ": _run_ends,
    "extension<": _extension,
    "fixed_size_binary[": _by_pattern(r"(\d+)\]", lambda width: pa.binary(int(width))),
    "decimal(": _decimal(pa.decimal128),
    "decimal32(": _decimal(pa.decimal32),
    "decimal64(": _decimal(pa.decimal64),
    "decimal128(": _decimal(pa.decimal128),
    "decimal256(": _decimal(pa.decimal256),
    "timestamp[s, ": _by_pattern(r"(?:tz=)?(.+?)\]", lambda zone: pa.timestamp("s", zone)),
    "timestamp[ms, ": _by_pattern(r"(?:tz=)?(.+?)\]", lambda zone: pa.timestamp("ms", zone)),
    "timestamp[us, ": _by_pattern(r"(?:tz=)?(.+?)\]", lambda zone: pa.timestamp("us", zone)),
    "timestamp[ns, ": _by_pattern(r"(?:tz=)?(.+?)\]", lambda zone: pa.timestamp("ns", zone)),
}
"""Parsers by the prefix of a name; other names are aliases."""
