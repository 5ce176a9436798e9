"""Compares a column of strings with one string, as most filters do.

Arrow calls ``memcmp`` for each row. For one string of at most eight bytes, comparing a masked
word per row needs a fifth of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard

import numpy as np
import pyarrow as pa

from hpcstream.columns.arrays import binary_views, is_binary_type, validity
from hpcstream.expressions.binding import Bound


def is_one_string(scalar: pa.Scalar | None) -> TypeGuard[pa.Scalar]:
    """Return whether a scalar is a string that is not null."""
    return scalar is not None and scalar.is_valid and is_binary_type(scalar.type)


def is_strings(bound: Bound) -> bool:
    """Return whether an expression is a column of strings or binary values."""
    return bound.scalar is None and is_binary_type(bound.data_type)


def equal_to_string(text: pa.Scalar, *, negated: bool) -> Callable[[pa.Array], pa.BooleanArray]:
    """Return the comparison of an array with a string; null for nulls."""
    wanted = np.frombuffer(bytes(text.as_buffer()), dtype=np.uint8)

    def compare(array: pa.Array) -> pa.BooleanArray:
        from hpcstream.kernels import strings  # loads Numba

        offsets, data = binary_views(array)
        equal = np.empty((len(array) + 7) // 8, dtype=np.uint8)
        strings.equal_to(offsets, data, wanted, equal)
        valid = validity(array)
        bits = [
            None if valid is None else _packed(valid),
            pa.py_buffer(~equal if negated else equal),
        ]
        return pa.Array.from_buffers(pa.bool_(), len(array), bits)

    return compare


def _packed(flags: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))
