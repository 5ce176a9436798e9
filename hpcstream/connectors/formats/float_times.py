"""Event time from columns of floats, or of integers that are not int64."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.errors import ConnectorError, PlanError

_IN_MICROSECONDS = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}
_LIMIT = 2.0**63


def event_time_type(data_type: pa.DataType, unit: str | None, name: str) -> pa.DataType:
    """Return the type that a column of this type has as event time.

    Floats become times in microseconds: seconds since 1970 have no finer digits in 64 bits.
    Integers become int64. All others stay what they are.

    Raises
    ------
    PlanError
        Floats or integers without a ``unit``.
    """
    is_float = pa.types.is_floating(data_type)
    if is_float or (pa.types.is_integer(data_type) and not pa.types.is_int64(data_type)):
        if unit not in _IN_MICROSECONDS:
            raise PlanError(
                f"event time {name!r} is a column of {data_type}; say what it counts, as in "
                f"event_time_unit='s' (one of {', '.join(_IN_MICROSECONDS)}); got {unit!r}"
            )
        return pa.timestamp("us") if is_float else pa.int64()
    return data_type


def as_event_time(column: pa.Array, unit: str | None, first_row: int, where: str) -> pa.Array:
    """Return a column of numbers in its `event_time_type`; floats to the nearest microsecond.

    NaN is null.

    Raises
    ------
    ConnectorError
        A time is infinite, or too large.
    """
    if pa.types.is_integer(column.type):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise ConnectorError(f"{where}: event time does not fit into int64 ({error})") from None
    assert unit is not None, "event_time_type asks for it"
    times = column.cast(pa.float64())
    values = times.fill_null(0.0).to_numpy()
    is_nan = np.isnan(values)
    whole = np.where(is_nan, 0.0, np.floor(values))
    times_of, divided_by = _IN_MICROSECONDS[unit]
    with np.errstate(invalid="ignore"):
        rest = np.where(np.isfinite(values), values - whole, 0.0)
        if divided_by == 1:
            microseconds, rest = whole * times_of, np.rint(rest * times_of)
        else:
            microseconds, rest = np.rint(values / divided_by), np.zeros_like(rest)
            microseconds[is_nan] = 0.0
    bad = ~(np.abs(microseconds) < _LIMIT)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ConnectorError(
            f"{where}: event time {values[row].item()!r} ({unit}) of row {first_row + row} does "
            "not fit into 64 bits of microseconds"
        )
    ticks = microseconds.astype(np.int64) + rest.astype(np.int64)
    missing = pa.array(is_nan)
    if column.null_count:
        missing = pc.or_(missing, column.is_null())
    return pa.array(ticks, mask=missing.to_numpy(zero_copy_only=False)).cast(pa.timestamp("us"))
