"""Gathers values of an array by index.

NumPy converts indices to 8 bytes first, which takes longer than the gather itself.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit


@lean_njit()
def gather(values, indices, out_values):
    """Copy the value at each index.

    Parameters
    ----------
    values : dtype[any length]
        An unsigned type of 1, 2, 4 or 8 bytes.
    indices : uint32[n]
    out_values : dtype[n]
    """
    for row in range(out_values.shape[0]):
        out_values[row] = values[indices[row]]


def warm_up():
    """Compile for the arguments the engine passes: views that are read-only."""
    indices = np.zeros(1, dtype=np.uint32)
    indices.setflags(write=False)
    for dtype in (np.uint8, np.uint16, np.uint32, np.uint64):
        values = np.zeros(1, dtype=dtype)
        values.setflags(write=False)
        gather(values, indices, np.zeros(1, dtype=dtype))
