"""Aligns the types of two arguments.

Comparisons: a literal is converted to the column's type rather than the column to the
literal's. Arithmetic: integers are int64 (uint64 if both are unsigned and one is uint64),
the result with a float is a float, a decimal with a float becomes float64.
"""

from __future__ import annotations

import datetime as dt
import zoneinfo

import pyarrow as pa

from hpcstream.expressions.binding import Bound, TypeMismatch, cast, constant

TEMPORAL = frozenset({"timestamp", "date"})
NUMERIC = frozenset({"integer", "float", "decimal"})

_FAMILIES = {
    "integer": pa.types.is_integer,
    "float": pa.types.is_floating,
    "decimal": pa.types.is_decimal,
    "boolean": pa.types.is_boolean,
    "string": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t),
    "binary": lambda t: (
        pa.types.is_binary(t) or pa.types.is_large_binary(t) or pa.types.is_fixed_size_binary(t)
    ),
    "timestamp": pa.types.is_timestamp,
    "date": pa.types.is_date,
    "duration": pa.types.is_duration,
    "time": pa.types.is_time,
    "null": pa.types.is_null,
}


def family(data_type: pa.DataType) -> str:
    """Return the kind of a type: ``"integer"``, ``"timestamp"``, ... or ``"other"``."""
    # Decimals are tested before binaries: for Arrow they are also fixed-size binary.
    for name, belongs in _FAMILIES.items():
        if belongs(data_type):
            return name
    return "other"


def align_for_comparison(left: Bound, right: Bound) -> tuple[Bound, Bound]:
    """Return both sides in comparable types.

    Raises
    ------
    TypeMismatch
        The types are not comparable, such as a string and a number.
    """
    if left.scalar is not None and right.scalar is None:
        right, left = align_for_comparison(right, left)
        return left, right
    families = {family(left.data_type), family(right.data_type)}
    if left.data_type.equals(right.data_type):
        return left, right
    if "null" in families:
        return _align_null(left, right)
    if families <= NUMERIC:
        return _align_numbers(left, right)
    if families <= TEMPORAL or (families & TEMPORAL and _is_text(right)):
        return _align_times(left, right)
    if len(families) == 1 and "other" not in families:
        return _align_literal(left, right)
    raise TypeMismatch(_advice(families))


def align_values(left: Bound, right: Bound) -> tuple[Bound, Bound]:
    """Return two alternatives of one result column in the same type."""
    families = {family(left.data_type), family(right.data_type)}
    if families == {"integer", "float"}:
        return cast(left, pa.float64(), safe=False), cast(right, pa.float64(), safe=False)
    return align_for_comparison(left, right)


def align_for_arithmetic(left: Bound, right: Bound) -> tuple[Bound, Bound]:
    """Return both sides in the type in which the result is computed.

    Raises
    ------
    TypeMismatch
        One side is neither a number nor a time.
    """
    families = [family(side.data_type) for side in (left, right)]
    if "null" in families:
        return _align_null(left, right)
    if set(families) <= NUMERIC:
        target = _arithmetic_type(left, right)
        if target is None:
            return left, right
        return _to_number(left, target), _to_number(right, target)
    if set(families) == {"duration", "integer"}:
        return _widened(left), _widened(right)
    if set(families) <= TEMPORAL | {"duration"}:
        return _align_moment_and_duration(left, right)
    if families[0] in TEMPORAL and _is_text(right):
        return _align_times(left, right)
    raise TypeMismatch(_advice(set(families)))


def _is_text(bound: Bound) -> bool:
    return bound.scalar is not None and family(bound.data_type) == "string"


def _align_null(left: Bound, right: Bound) -> tuple[Bound, Bound]:
    if family(left.data_type) == "null":
        return cast(left, right.data_type), right
    return left, cast(right, left.data_type)


def _align_literal(left: Bound, right: Bound) -> tuple[Bound, Bound]:
    if right.scalar is None:
        return left, right
    try:
        fitted = right.scalar.cast(left.data_type)
        # Arrow casts a timestamp to a date silently, which loses the time of day.
        if fitted.cast(right.data_type).equals(right.scalar):
            return left, constant(fitted)
    except pa.ArrowException:
        return cast(left, right.data_type), right
    return cast(left, right.data_type), right


def _align_numbers(left: Bound, right: Bound) -> tuple[Bound, Bound]:
    families = (family(left.data_type), family(right.data_type))
    if right.scalar is not None and left.scalar is None:
        fitted = _fit_number(right.scalar, left.data_type)
        if fitted is not None:
            return left, constant(fitted)
    if families == ("integer", "integer"):
        return _align_integers(left, right)
    if "float" in families:
        return cast(left, pa.float64(), safe=False), cast(right, pa.float64(), safe=False)
    return left, right


def _fit_number(scalar: pa.Scalar, data_type: pa.DataType) -> pa.Scalar | None:
    """Return a literal in the type of a column, or None if its value would change."""
    try:
        return scalar.cast(data_type, safe=not pa.types.is_floating(data_type))
    except pa.ArrowException:
        return None


def _align_integers(left: Bound, right: Bound) -> tuple[Bound, Bound]:
    for side in (left, right):
        if side.scalar is not None and _fit_number(side.scalar, pa.int64()) is None:
            raise TypeMismatch(f"{side.scalar} is not in the range of the column")
    if pa.types.is_uint64(left.data_type) and right.scalar is not None:
        raise TypeMismatch(f"{right.scalar} is not in the range of the column")
    return cast(left, pa.int64()), cast(right, pa.int64())


def _align_times(left: Bound, right: Bound) -> tuple[Bound, Bound]:
    if right.scalar is not None and left.scalar is None:
        right = constant(_moment_like(right.scalar, left.data_type))
    _refuse_mixed_zones(left.data_type, right.data_type)
    if right.scalar is None or left.scalar is not None:
        return left, right
    return _align_literal(left, right)


def _moment_like(scalar: pa.Scalar, data_type: pa.DataType) -> pa.Scalar:
    """Return a date, datetime or ISO text literal as an instant in a column's time zone."""
    zone = getattr(data_type, "tz", None)
    if family(scalar.type) == "string":
        try:
            moment: dt.datetime | dt.date = dt.datetime.fromisoformat(scalar.as_py())
        except ValueError:
            raise TypeMismatch(
                f"{scalar.as_py()!r} is not an ISO date or time, as '2001-01-31 12:30:00'"
            ) from None
        return _moment_like(pa.scalar(moment), data_type)
    if family(scalar.type) == "date":
        scalar = scalar.cast(pa.timestamp("ms" if scalar.type == pa.date64() else "s"))
    if zone is None or scalar.type.tz is not None:
        return scalar
    return _in_zone(scalar, zone)


def _in_zone(scalar: pa.Scalar, zone: str) -> pa.Scalar:
    """Return a naive timestamp as local time of a zone."""
    whole = scalar.cast(pa.timestamp("us"), safe=False).as_py()
    if zone.upper() == "UTC":
        aware = whole.replace(tzinfo=dt.UTC)
    elif zone[0] in "+-":
        aware = dt.datetime.fromisoformat(f"{whole.isoformat()}{zone}")
    else:
        aware = whole.replace(tzinfo=_zone_info(zone))
    return pa.scalar(aware).cast(pa.timestamp("us", zone))


def _zone_info(zone: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise TypeMismatch(
            f"this machine does not know the time zone {zone!r}; give a datetime with a time zone"
        ) from None


def _refuse_mixed_zones(left: pa.DataType, right: pa.DataType) -> None:
    zones = [getattr(side, "tz", None) is not None for side in (left, right)]
    if zones[0] != zones[1]:
        raise TypeMismatch(
            "one has a time zone and the other has none; cast one of them, as in "
            ".cast(pa.timestamp('us', 'UTC'))"
        )


def _align_moment_and_duration(left: Bound, right: Bound) -> tuple[Bound, Bound]:
    families = (family(left.data_type), family(right.data_type))
    if "duration" not in families:
        return _align_times(left, right)
    for literal, column in ((left, right), (right, left)):
        unit = getattr(column.data_type, "unit", None)
        if literal.scalar is not None and column.scalar is None and unit in ("s", "ms", "us", "ns"):
            fitted = _fit_duration(literal, unit)
            return (fitted, column) if literal is left else (column, fitted)
    return left, right


def _fit_duration(literal: Bound, unit: str) -> Bound:
    if family(literal.data_type) != "duration":
        return literal
    try:
        return cast(literal, pa.duration(unit))
    except pa.ArrowException:
        return literal


def _arithmetic_type(left: Bound, right: Bound) -> pa.DataType | None:
    """Return the type of the computation; None for decimals, whose scale Arrow determines."""
    types = [left.data_type, right.data_type]
    families = {family(t) for t in types}
    if "float" in families:
        single = all(
            side.data_type == pa.float32() or side.scalar is not None for side in (left, right)
        )
        return pa.float32() if single and pa.float32() in types else pa.float64()
    if "decimal" in families:
        return None
    if pa.uint64() in types and all(_is_not_negative(side) for side in (left, right)):
        return pa.uint64()
    return pa.int64()


def _widened(bound: Bound) -> Bound:
    return cast(bound, pa.int64()) if family(bound.data_type) == "integer" else bound


def _is_not_negative(bound: Bound) -> bool:
    if bound.scalar is not None and bound.scalar.is_valid:
        return bool(bound.scalar.as_py() >= 0)
    return bool(pa.types.is_unsigned_integer(bound.data_type))


def _to_number(bound: Bound, target: pa.DataType) -> Bound:
    return cast(bound, target, safe=not pa.types.is_floating(target))


def _advice(families: set[str]) -> str:
    if "string" in families and families & NUMERIC:
        return "cast the string first, as in .cast('int64')"
    if "boolean" in families and families & NUMERIC:
        return "cast the boolean first, as in .cast('int64')"
    if "string" in families and families & TEMPORAL:
        return "cast the string first, as in .cast('timestamp[us]')"
    return ""
