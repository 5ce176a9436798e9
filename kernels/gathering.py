"""Values picked out of an array by number.

NumPy makes numbers of 8 bytes of the numbers first, which takes longer than picking.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit


@lean_njit()
def gather(values, places, out_values):
    """Copy the value at each place.

    Parameters
    ----------
    values : dtype[any length]
        An unsigned type of 1, 2, 4 or 8 bytes.
    places : uint32[n]
    out_values : dtype[n]
    """
    for row in range(out_values.shape[0]):
        out_values[row] = values[places[row]]


def warm_up():
    """Compile for the arguments the engine passes: views that are read-only."""
    places = np.zeros(1, dtype=np.uint32)
    places.setflags(write=False)
    for dtype in (np.uint8, np.uint16, np.uint32, np.uint64):
        values = np.zeros(1, dtype=dtype)
        values.setflags(write=False)
        gather(values, places, np.zeros(1, dtype=dtype))
