"""Decides when a table of slices is direct: keys index it (`hpcstream.kernels.key_table`).

The index of a direct table has an element for each value in the range of its keys, in
every slice; that of a hashed one has two to eight per entry. A table is direct while the
range has at most eight values per entry, and hashed otherwise.
"""

from __future__ import annotations

_ELEMENTS_PER_ENTRY = 8
_FREE_ELEMENTS = 1 << 12  # so few cost nothing
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
        None if the table should be hashed.
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
    """Whether the index of a direct table of this width is far larger than its entries need."""
    return (n_regions << bits) > _ELEMENTS_PER_ENTRY * n_entries + _FREE_ELEMENTS
