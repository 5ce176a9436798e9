"""When a table of slices is direct, that is, needs no hashing (`hpcstream.kernels.key_table`).

A direct table has an index place for each value that its keys span, in every
slice; a hashed one has two to eight for each entry. So direct it is while the
keys span at most eight values for each entry, and hashed otherwise.
"""

from __future__ import annotations

_PLACES_PER_ENTRY = 8
_FREE_PLACES = 1 << 12  # so few cost nothing
_MOST_BITS = 28


def direct_layout(low: int, high: int, n_regions: int, n_entries: int) -> tuple[int, int] | None:
    """Return the least key and the binary logarithm of the width of a direct table.

    Parameters
    ----------
    low, high : int
        The range of its keys; none if ``high`` is less.
    n_regions, n_entries : int
        How many slices it has, and how many entries in all of them.

    Returns
    -------
    tuple of int, or None
        None if the table had better be hashed.
    """
    if high < low:
        return None
    bits = max(3, (high - low).bit_length())
    if bits > _MOST_BITS or is_sparse(bits, n_regions, n_entries):
        return None
    if low >= 0 and high < 1 << bits:
        return 0, bits
    spare = (1 << bits) - 1 - (high - low)
    return max(-(2**63), low - spare // 2), bits


def is_sparse(bits: int, n_regions: int, n_entries: int) -> bool:
    """Whether a direct table of this width has far more places than entries."""
    return (n_regions << bits) > _PLACES_PER_ENTRY * n_entries + _FREE_PLACES
