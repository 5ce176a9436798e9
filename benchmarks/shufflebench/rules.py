"""Which consumers want a record: ranges of its hash, found through an index of slots.

Each rule has a range of the 2**63 hash values, as wide as its selectivity and somewhere at
random, around the end if need be. A slot is one of 65,536 equal parts of the values and knows
the rules whose ranges touch it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numba import njit

from hpcstream import generators as g

SLOT_BITS = 16
_HASH_BITS = 63


@dataclass(frozen=True, eq=False)
class Rules:
    """The rules and their index.

    Attributes
    ----------
    offsets, widths : int64[n_rules]
        Ranges of hash values: ``widths[i]`` values from ``offsets[i]``.
    slot_starts : int64[n_slots + 1]
        Where the rules of each slot are in ``slot_rules``.
    slot_rules : int32[n]
    """

    offsets: np.ndarray
    widths: np.ndarray
    slot_starts: np.ndarray
    slot_rules: np.ndarray

    @cached_property
    def names(self) -> pa.Array:
        """The consumer of each rule."""
        return pa.array([f"consumer_{i}" for i in range(len(self.offsets))])

    def intervals(self) -> pa.Table:
        """Return the ranges in one or two parts each: consumer, lowest, one above the highest."""
        rows = []
        for name, low, width in zip(self.names.to_pylist(), self.offsets, self.widths, strict=True):
            stop = int(low) + int(width)
            rows.append((name, int(low), min(stop, 2**63 - 1)))
            if stop > 2**63 - 1:
                rows.append((name, 0, stop - 2**63))
        names, lows, stops = zip(*rows, strict=True)
        return pa.table({"consumer": names, "low": lows, "stop": stops})


def zipf_rules(n_rules: int, total_selectivity: float, exponent: float, seed: int) -> Rules:
    """Return rules of selectivities in proportion to ``k ** -exponent``.

    Raises
    ------
    ValueError
        No rules, or a selectivity that is not between 0 and 1 for each of them.
    """
    if n_rules < 1 or total_selectivity <= 0:
        raise ValueError(f"{n_rules} rules of total selectivity {total_selectivity}: give some")
    weights = np.arange(1, n_rules + 1, dtype=np.float64) ** -exponent
    selectivities = weights / weights.sum() * total_selectivity
    if selectivities[0] >= 1.0:
        raise ValueError(f"the first rule would match {selectivities[0]:.2f} of the records")
    bits = g.random_bits(0, n_rules, g.column_seed(seed, "rules"))
    offsets = (bits >> np.uint64(1)).view(np.int64)
    widths = (selectivities * 2.0**_HASH_BITS).astype(np.int64)
    return Rules(offsets, widths, *_index(offsets, widths))


def _index(offsets: np.ndarray, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shift, n_slots = _HASH_BITS - SLOT_BITS, 1 << SLOT_BITS
    slots: list[list[int]] = [[] for _ in range(n_slots)]
    for rule, (offset, width) in enumerate(zip(offsets.tolist(), widths.tolist(), strict=True)):
        first, last = offset >> shift, (offset + width) >> shift
        for slot in range(first, min(last, first + n_slots - 1) + 1):
            slots[slot % n_slots].append(rule)
    starts = np.cumsum([0, *map(len, slots)], dtype=np.int64)
    return starts, np.array([rule for slot in slots for rule in slot], np.int32)


@njit(cache=True, nogil=True)
def _hash(first, second):
    """Return 63 bits of hash of the head of a record."""
    h = np.uint64(first) ^ (np.uint64(second) * np.uint64(0x9E3779B97F4A7C15))
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((h ^ (h >> np.uint64(31))) >> np.uint64(1))


@njit(cache=True, nogil=True)
def match(heads, slots, ranges, room, out_rows, out_rules):
    """Write each pair of a record and a rule that it matches; return how many there are.

    ``heads`` is (first, second), ``slots`` (starts, rules), ``ranges`` (offsets, widths); no
    more than ``room`` pairs are written, but all are counted.
    """
    firsts, seconds = heads
    starts, rules = slots
    offsets, widths = ranges
    found = 0
    for i in range(len(firsts)):
        h = _hash(firsts[i], seconds[i])
        slot = h >> np.int64(47)
        for k in range(starts[slot], starts[slot + 1]):
            rule = rules[k]
            if ((h - offsets[rule]) & np.int64(0x7FFFFFFFFFFFFFFF)) < widths[rule]:
                if found < room:
                    out_rows[found] = i
                    out_rules[found] = rule
                found += 1
    return found
