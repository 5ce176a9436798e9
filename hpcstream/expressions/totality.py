"""Determines which Arrow functions are total: they never raise, whatever the values.

Other functions raise for some values: integers that overflow, text that is not a number. They
are not evaluated for rows that do not need them (`hpcstream.expressions.guards`), nor for
rows that an earlier filter removes.
"""

from __future__ import annotations

import pyarrow as pa

from hpcstream.columns.arrays import stored_type

_TOTAL = frozenset(
    (
        "equal",
        "not_equal",
        "less",
        "less_equal",
        "greater",
        "greater_equal",
        "and_kleene",
        "or_kleene",
        "invert",
        "is_null",
        "is_valid",
        "is_nan",
        "is_in",
        "coalesce",
        "if_else",
        "sqrt",
        "exp",
        "ln",
        "binary_join_element_wise",
        "starts_with",
        "ends_with",
        "match_substring",
        "match_substring_regex",
        "replace_substring",
        "replace_substring_regex",
        "year",
        "quarter",
        "month",
        "iso_week",
        "day",
        "day_of_year",
        "day_of_week",
        "hour",
        "minute",
        "second",
        "millisecond",
        "microsecond",
        "nanosecond",
        "floor_temporal",
        "local_timestamp",
        "assume_timezone",  # with options for ambiguous and nonexistent times
        "subtract",
    )
)
_TOTAL_OF_FLOATS = frozenset(("divide", "round", "floor", "ceil"))


def is_total_call(function_name: str, types: list[pa.DataType]) -> bool:
    """Return whether a function never raises for arguments of these types."""
    if function_name == "cast":
        return False  # the caller uses `is_total_cast`
    if function_name in _TOTAL_OF_FLOATS:
        return all(map(pa.types.is_floating, types))
    return function_name in _TOTAL or function_name.startswith("utf8_")


def is_total_cast(source: pa.DataType, target: pa.DataType, *, safe: bool) -> bool:
    """Return whether every value of one type can be cast to another."""
    types = pa.types
    source = stored_type(source)
    if source.equals(target) or types.is_null(source):
        return True
    if types.is_dictionary(source) or types.is_run_end_encoded(source):
        return is_total_cast(source.value_type, target, safe=safe)
    if _is_text(source):
        return _is_text(target) or _is_binary(target)
    if _is_binary(source):
        return _is_binary(target)
    if _is_text(target):
        return _is_number(source) or types.is_date32(source)
    if types.is_date32(source):
        return bool(target.equals(pa.timestamp("s")))
    return bool(_is_number(source) and _holds(target, source, safe=safe))


def _holds(target: pa.DataType, source: pa.DataType, *, safe: bool) -> bool:
    """Return whether every number of one type is a number of another."""
    types = pa.types
    if types.is_floating(target):
        exact = types.is_floating(source) or source.bit_width < target.bit_width
        return bool(not safe or exact or types.is_boolean(source))
    if not types.is_integer(target) or types.is_floating(source):
        return False
    if not safe or types.is_boolean(source):
        return True
    if types.is_signed_integer(source):
        return bool(types.is_signed_integer(target) and source.bit_width <= target.bit_width)
    wider = source.bit_width < target.bit_width
    same = source.bit_width == target.bit_width and types.is_unsigned_integer(target)
    return bool(wider or same)


def _is_number(data_type: pa.DataType) -> bool:
    types = pa.types
    of_one_word = types.is_integer(data_type) or types.is_floating(data_type)
    return bool(of_one_word or types.is_boolean(data_type))


def _is_text(data_type: pa.DataType) -> bool:
    return any(map(data_type.equals, (pa.string(), pa.large_string(), pa.string_view())))


def _is_binary(data_type: pa.DataType) -> bool:
    return any(map(data_type.equals, (pa.binary(), pa.large_binary(), pa.binary_view())))
