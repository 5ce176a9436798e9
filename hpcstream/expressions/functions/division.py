"""Floor division and remainder, rounded down as in Python.

Arrow rounds integer division towards zero, so these two functions use NumPy. A zero divisor
raises for integers and yields infinity or NaN for floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.expressions.binding import Bound, TypeMismatch, cast, constant
from hpcstream.expressions.types import NUMERIC, align_for_arithmetic, family

Division = Callable[[Any, Any], Any]


def floor_divide(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    """Bind ``//``: the quotient, rounded down."""
    return _bind_division(np.floor_divide, arguments)


def modulo(arguments: Sequence[Bound], options: dict[str, Any]) -> Bound:
    """Bind ``%``: the remainder of ``//``, with the sign of the divisor."""
    return _bind_division(np.remainder, arguments)


def _bind_division(division: Division, arguments: Sequence[Bound]) -> Bound:
    left, right = _numbers(arguments)
    data_type = left.data_type
    if left.scalar is not None and right.scalar is not None:
        return constant(_divide(division, _array(left, 1), _array(right, 1), data_type)[0])
    if right.scalar is not None and not right.scalar.is_valid:
        return constant(right.scalar)

    def run(batch: pa.RecordBatch) -> pa.Array:
        dividend, divisor = left.run(batch), right.run(batch)
        if isinstance(dividend, pa.Scalar):
            dividend = pa.repeat(dividend, batch.num_rows)
        return _divide(division, dividend, divisor, data_type)

    floats = pa.types.is_floating(data_type) and left.is_total and right.is_total
    return Bound(data_type, run, None, is_total=floats)


def _numbers(arguments: Sequence[Bound]) -> tuple[Bound, Bound]:
    families = {family(argument.data_type) for argument in arguments}
    if not families <= NUMERIC | {"null"}:
        raise TypeMismatch("both must be numbers")
    left, right = align_for_arithmetic(*arguments)
    if "decimal" in (family(left.data_type), family(right.data_type)):
        return cast(left, pa.float64(), safe=False), cast(right, pa.float64(), safe=False)
    return left, right


def _array(bound: Bound, n_rows: int) -> pa.Array:
    return pa.repeat(bound.scalar, n_rows)


def _divide(
    division: Division, dividend: pa.Array, divisor: pa.Array | pa.Scalar, data_type: pa.DataType
) -> pa.Array:
    is_null = _nulls(dividend, divisor)
    try:
        with np.errstate(all="raise" if pa.types.is_integer(data_type) else "ignore"):
            quotient = division(_values(dividend), _divisor_values(divisor, is_null))
    except FloatingPointError as error:
        _raise_division_error(error)
    return pa.array(quotient, data_type, mask=is_null)


def _nulls(dividend: pa.Array, divisor: pa.Array | pa.Scalar) -> np.ndarray | None:
    arrays = [a for a in (dividend, divisor) if isinstance(a, pa.Array) and a.null_count]
    if not arrays:
        return None
    masks = [pc.is_null(array).to_numpy(zero_copy_only=False) for array in arrays]
    is_null: np.ndarray = np.logical_or.reduce(masks)
    return is_null


def _divisor_values(divisor: pa.Array | pa.Scalar, is_null: np.ndarray | None) -> Any:
    if isinstance(divisor, pa.Scalar):
        return divisor.type.to_pandas_dtype()(divisor.as_py())
    values = _values(divisor)
    # Values of nulls are undefined, and a zero among them must not raise.
    return values if is_null is None else np.where(is_null, values.dtype.type(1), values)


def _values(array: pa.Array) -> np.ndarray:
    """Return the values of a fixed-width array without a copy; those of nulls are undefined."""
    dtype = np.dtype(array.type.to_pandas_dtype())
    data = array.buffers()[1]
    if data is None or len(array) == 0:
        return np.empty(len(array), dtype)
    return np.frombuffer(data, dtype, count=len(array), offset=array.offset * dtype.itemsize)


def _raise_division_error(error: FloatingPointError) -> None:
    if "divide by zero" in str(error):
        raise ZeroDivisionError(
            "integer division by zero; filter zeros out, or cast to float64 to get inf or nan"
        ) from None
    raise OverflowError("integer division left the range of int64") from None
