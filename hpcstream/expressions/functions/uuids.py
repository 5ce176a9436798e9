"""UUIDs as texts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values, validity
from hpcstream.expressions.binding import Bound, constant

_DIGITS = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_DASHES = (8, 13, 18, 23)
_LENGTH = 36
_DIGIT_POSITIONS = [position for position in range(_LENGTH) if position not in _DASHES]


def uuid_text(value: Bound) -> Bound:
    """Return UUIDs of 16 bytes each in their usual text form."""
    if value.scalar is not None:
        return constant(_texts(pa.repeat(value.scalar, 1))[0])
    return Bound(pa.string(), lambda batch: _texts(value.run(batch)), None, is_total=value.is_total)


def _texts(array: pa.FixedSizeBinaryArray) -> pa.StringArray:
    octets = fixed_values(array)
    digits = np.full((len(array), _LENGTH), ord("-"), dtype=np.uint8)
    digits[:, _DIGIT_POSITIONS[0::2]] = _DIGITS[octets >> 4]
    digits[:, _DIGIT_POSITIONS[1::2]] = _DIGITS[octets & 15]
    offsets = np.arange(len(array) + 1, dtype=np.int32) * np.int32(_LENGTH)
    valid = validity(array)
    bitmap = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    buffers = [bitmap, pa.py_buffer(offsets), pa.py_buffer(digits)]
    return pa.Array.from_buffers(pa.string(), len(array), buffers)
