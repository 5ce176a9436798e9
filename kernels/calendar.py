"""Days, weeks and months of a calendar: which of them contains a time."""

import numpy as np

from hpcstream.kernels.compiling import lean_njit


@lean_njit()
def numbers_of_times(times, starts, first, out_numbers):
    """Write the number of the period that contains each time.

    Parameters
    ----------
    times : int64[n]
        Not before the first start, and before the last.
    starts : int64[m + 1]
        Starts of periods ``first`` to ``first + m``, in ascending order; where two are equal,
        the earlier period is empty.
    first : int
    out_numbers : int64[n]

    Notes
    -----
    Most batches span one period or two: a comparison tells which. Else, as periods are nearly of
    equal length, a guess is at most a few periods off, and nearly always right.
    """
    n_periods = starts.shape[0] - 1
    if n_periods <= 2:
        middle = starts[n_periods - 1]
        for row in range(times.shape[0]):
            out_numbers[row] = first + (n_periods - 1) * np.int64(times[row] >= middle)
        return
    origin = starts[0]
    per_tick = n_periods / np.float64(starts[n_periods] - origin)
    for row in range(times.shape[0]):
        time = times[row]
        nth = min(np.int64(np.float64(time - origin) * per_tick), n_periods - 1)
        while time < starts[nth]:
            nth -= 1
        while time >= starts[nth + 1]:
            nth += 1
        out_numbers[row] = first + nth


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    starts = np.array([0, 1], dtype=np.int64)
    out = np.empty(1, dtype=np.int64)
    times = np.zeros(1, dtype=np.int64)
    numbers_of_times(times, starts, 0, out)
    times.setflags(write=False)
    numbers_of_times(times, starts, 0, out)
