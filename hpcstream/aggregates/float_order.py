"""Maps floats to integers of the same order: NaN is greater than any number; all NaN are equal.

Zeros keep their signs, and -0.0 is less than 0.0; add 0.0 first to make them equal.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LARGEST = 2**63 - 1
_LEAST_ORDER = int(np.float64(-np.inf).view(np.int64)) ^ _LARGEST


def float_order(values: Floats) -> Ints:
    """Return int64 numbers in the order of float64 values, NaN being the greatest."""
    bits = values.view(np.int64)
    ordered = np.where(bits < 0, bits ^ _LARGEST, bits)
    ordered[np.isnan(values)] = _LARGEST
    return ordered


def float_of_order(ordered: Ints) -> Floats:
    """Return the values of `float_order`; -inf for integers below its range."""
    bits = np.where(ordered < 0, ordered ^ _LARGEST, ordered)
    values: Floats = bits.view(np.float64)
    values[ordered < _LEAST_ORDER] = -np.inf
    values.setflags(write=False)
    return values
