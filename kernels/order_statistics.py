"""Exact order statistics of values in groups."""

import numpy as np
from numba import njit

from hpcstream.kernels.compiling import lean_njit


@njit(cache=True, nogil=True)  # not lean: sorting allocates
def sort_groups(groups, values, n_groups, out_offsets, out_values):
    """Sort values by group and value, NaN last.

    Parameters
    ----------
    groups : int64[n]
        Group of each value, below ``n_groups``.
    values : float64[n]
    n_groups : int64
    out_offsets : int64[n_groups + 1]
        Group ``g`` is ``out_values[out_offsets[g]:out_offsets[g + 1]]``.
    out_values : float64[n]
    """
    out_offsets[:] = 0
    for row in range(groups.shape[0]):
        out_offsets[groups[row] + 1] += 1
    for group in range(n_groups):
        out_offsets[group + 1] += out_offsets[group]
    cursor = out_offsets[:-1].copy()
    for row in range(groups.shape[0]):
        out_values[cursor[groups[row]]] = values[row]
        cursor[groups[row]] += 1
    for group in range(n_groups):
        out_values[out_offsets[group] : out_offsets[group + 1]].sort()


@lean_njit()
def interpolate_quantile(offsets, values, fraction, out_quantiles):
    """Write a quantile of each sorted group, linear between the two nearest values.

    As SQL's ``percentile_cont`` and NumPy's default. A group without values gets NaN.

    Parameters
    ----------
    offsets : int64[n_groups + 1]
    values : float64[n]
    fraction : float64
        From 0 to 1.
    out_quantiles : float64[n_groups]
    """
    for group in range(out_quantiles.shape[0]):
        first = offsets[group]
        n_values = offsets[group + 1] - first
        if n_values == 0:
            out_quantiles[group] = np.nan
            continue
        position = fraction * np.float64(n_values - 1)
        below = np.int64(np.floor(position))
        above = min(below + 1, n_values - 1)
        low = values[first + below]
        high = values[first + above]
        rest = position - np.float64(below)
        is_exact = rest == 0.0 or low == high or (low == -np.inf and high < np.inf)
        out_quantiles[group] = low if is_exact else low + (high - low) * rest


@lean_njit()
def sum_groups(offsets, values, out_sums):
    """Write the sum of each sorted group, which depends on the values only, not on row order.

    Compensated summation (Neumaier 1974), so that summing from the least to the greatest value
    loses no digits.

    Parameters
    ----------
    offsets : int64[n_groups + 1]
    values : float64[n]
    out_sums : float64[n_groups]
    """
    for group in range(out_sums.shape[0]):
        total = 0.0
        lost = 0.0
        for row in range(offsets[group], offsets[group + 1]):
            value = values[row]
            larger = total + value
            if abs(total) >= abs(value):
                lost += (total - larger) + value
            else:
                lost += (value - larger) + total
            total = larger
        out_sums[group] = total + lost if np.isfinite(total) else total


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    groups, values, offsets = np.zeros(0, np.int64), np.zeros(0), np.zeros(1, np.int64)
    sort_groups(groups, values, 0, offsets, values)
    interpolate_quantile(offsets, values, 0.5, values)
    sum_groups(offsets, values, values)
