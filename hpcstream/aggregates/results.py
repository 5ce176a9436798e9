"""Words of state as result columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.arrays import words_to_array


def result_array(
    values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], output_type: pa.DataType
) -> pa.Array:
    """Return 8-byte values as an array of the output type."""
    mask = None if valid.all() else valid
    if not pa.types.is_floating(output_type):
        words = values.view(np.int64)
        return words_to_array(
            words if mask is None else np.where(mask, words, 0), mask, output_type
        )
    array = pa.array(values, mask=None if mask is None else ~mask)
    return array if output_type == pa.float64() else pc.cast(array, output_type, safe=False)
