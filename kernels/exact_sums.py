"""Sums of floats without rounding, in wide fixed-point numbers.

Every float64 is a multiple of 2**-1074 below 2**1024. A sum is an integer in units of 2**-1074:
`LIMBS` limbs of `BITS` bits, the least first, followed by a word of `FLAGS`. A limb is an int64 and
may exceed its bits, with either sign, so most additions touch two limbs and carry nothing. Integer
addition is associative: sums have the same value in any order and any tree of merges. The top
limb is 2**1054 times the unit of values, so no number of float64 values overflows a sum.

A binned sum of six floats would take less memory, but rounds: it loses ``1e-300`` in
``1e300 + 1e-300 - 1e300``. Limbs of 32 bits would carry less often, in twice the memory.
"""

import numpy as np

from hpcstream.kernels.accumulate import slot_at
from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.prefetch import prefetch

BITS = 56
LIMBS = 39
WIDTH = LIMBS + 1
FLAGS = LIMBS
HAS_INFINITY, HAS_MINUS_INFINITY, HAS_NAN = 1, 2, 4

_MASK = (1 << BITS) - 1
_FULL = 1 << 61  # carry above: the sum of two limbs and a carry still fits in int64
_FRACTION = (1 << 52) - 1
_INFINITY_BITS = 0x7FF << 52
_SPLITTER = 2.0**27 + 1  # halves the digits of a float
_AHEAD = 16  # rows whose limbs are on their way into the cache


@lean_njit(inline="always")
def _add_to_limb(limbs, at, part):
    """Add ``part``, less than 2**57, to the limb at an index, and carry to the next ones."""
    while True:
        limb = limbs[at] + part
        if -_FULL <= limb < _FULL:
            limbs[at] = limb
            return
        limbs[at] = limb & _MASK
        part = limb >> BITS
        at += 1


@lean_njit(inline="always")
def _add_bits(limbs, first, bits):
    """Add the float64 with these bits to the sum that begins at ``limbs[first]``."""
    exponent = (bits >> 52) & 0x7FF
    fraction = bits & _FRACTION
    sign = bits >> 63  # 0 or -1
    if exponent == 0x7FF:
        infinite = HAS_INFINITY if sign == 0 else HAS_MINUS_INFINITY
        limbs[first + FLAGS] |= HAS_NAN if fraction != 0 else infinite
        return
    is_normal = np.int64(exponent != 0)
    fraction |= is_normal << 52
    place = exponent - is_normal
    limb = place // BITS
    shift = place - limb * BITS
    low = (fraction << shift) & _MASK
    high = fraction >> (BITS - shift)
    _add_to_limb(limbs, first + limb, (low ^ sign) - sign)
    _add_to_limb(limbs, first + limb + 1, (high ^ sign) - sign)


@lean_njit()
def add_exactly(slots, bits, out_limbs):
    """Add float64 values to exact sums.

    Parameters
    ----------
    slots : uint32[n]
    bits : int64[n]
        The bits of the values.
    out_limbs : int64[slots * WIDTH]
    """
    n_rows = bits.shape[0]
    for row in range(n_rows):
        if row + _AHEAD < n_rows:
            place = (bits[row + _AHEAD] >> 52) & 0x7FF
            coming = np.int64(slots[row + _AHEAD]) * WIDTH + place // BITS
            prefetch(out_limbs, coming * 8)
        _add_bits(out_limbs, np.int64(slots[row]) * WIDTH, bits[row])


@lean_njit()
def add_squares_exactly(slots, values, out_limbs):
    """Add the squares of float64 values to exact sums, each as the sum of two floats.

    The second float is the rounding error of the first, by Dekker's method.

    Parameters
    ----------
    slots : uint32[n]
    values : float64[n]
    out_limbs : int64[slots * WIDTH]
    """
    n_rows = values.shape[0]
    for row in range(n_rows):
        value = values[row]
        square = value * value
        bits = np.float64(square).view(np.int64)
        first = np.int64(slots[row]) * WIDTH
        if row + _AHEAD < n_rows:
            coming = np.int64(slots[row + _AHEAD]) * WIDTH
            prefetch(out_limbs, (coming + ((bits >> 52) & 0x7FF) // BITS) * 8)
        _add_bits(out_limbs, first, bits)
        if square < np.inf:
            scaled = value * _SPLITTER
            high = scaled - (scaled - value)
            low = value - high
            error = ((high * high - square) + 2.0 * high * low) + low * low
            _add_bits(out_limbs, first, np.float64(error).view(np.int64))


@lean_njit()
def merge_exactly(slots, parts, out_limbs):
    """Add exact sums (int64[n * WIDTH]) to exact sums; ``slots`` may be a range."""
    for row in range(parts.shape[0] // WIDTH):
        first, part = np.int64(slot_at(slots, row)) * WIDTH, row * WIDTH
        carry = np.int64(0)
        for limb in range(LIMBS - 1):
            total = out_limbs[first + limb] + parts[part + limb] + carry
            carry = total >> BITS
            out_limbs[first + limb] = total & _MASK
        out_limbs[first + LIMBS - 1] += parts[part + LIMBS - 1] + carry
        out_limbs[first + FLAGS] |= parts[part + FLAGS]


@lean_njit(inline="always")
def _normalize(limbs, first, sign, out_digits):
    """Write ``sign`` times a sum, with limbs in 0 .. 2**BITS - 1 except for the top one."""
    carry = np.int64(0)
    for limb in range(LIMBS - 1):
        total = limbs[first + limb] * sign + carry
        carry = total >> BITS
        out_digits[limb] = total & _MASK
    out_digits[LIMBS - 1] = limbs[first + LIMBS - 1] * sign + carry


@lean_njit(inline="always")
def _rounded_bits(digits):
    """Return the bits of the float64 nearest to a normalized sum that is not negative."""
    top = LIMBS - 1
    while top > 0 and digits[top] == 0:
        top -= 1
    head = digits[top]
    length = 0  # of the head, in bits
    while length < 63 and (head >> length) != 0:
        length += 1
    n_bits = top * BITS + length
    if n_bits <= 53:  # exact: a subnormal number, or a normal one of the least exponents
        return digits[0]
    if n_bits > 2098:
        return np.int64(_INFINITY_BITS)
    below = digits[top - 1]
    rest = np.int64(0)
    for limb in range(top - 1):
        rest |= digits[limb]
    if length >= 54:  # in the head: 53 bits, and those that are rounded away
        dropped = length - 53
        kept = head >> dropped
        lost = head & ((1 << dropped) - 1)
        half = 1 << (dropped - 1)
        rest |= below
    else:
        dropped = BITS - (53 - length)
        kept = (head << (53 - length)) | (below >> dropped)
        lost = below & ((1 << dropped) - 1)
        half = 1 << (dropped - 1)
    is_up = lost > half or (lost == half and (rest != 0 or (kept & 1) != 0))
    return min(((n_bits - 53) << 52) + kept + np.int64(is_up), np.int64(_INFINITY_BITS))


@lean_njit()
def round_sums(limbs, digits, out_sums):
    """Write the float64 nearest to each exact sum, ties to even; 0.0 for a sum of no values.

    Parameters
    ----------
    limbs : int64[n * WIDTH]
    digits : int64[LIMBS]
        Scratch space.
    out_sums : int64[n]
        Bits of float64 values.
    """
    for row in range(out_sums.shape[0]):
        first = row * WIDTH
        flags = limbs[first + FLAGS]
        if flags != 0:
            bits = np.int64(_INFINITY_BITS)
            if flags >= HAS_INFINITY + HAS_MINUS_INFINITY:
                bits |= np.int64(1 << 51)  # NaN
            elif flags == HAS_MINUS_INFINITY:
                bits |= np.int64(-(2**63))
            out_sums[row] = bits
            continue
        _normalize(limbs, first, np.int64(1), digits)
        if digits[LIMBS - 1] >= 0:
            out_sums[row] = _rounded_bits(digits)
        else:
            _normalize(limbs, first, np.int64(-1), digits)
            out_sums[row] = _rounded_bits(digits) | np.int64(-(2**63))


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    slots = np.zeros(0, dtype=np.uint32)
    rows = np.zeros(0, dtype=np.int64)
    rows.setflags(write=False)
    limbs = np.zeros(WIDTH, dtype=np.int64)
    add_exactly(slots, rows, limbs)
    add_squares_exactly(slots, rows.view(np.float64), limbs)
    for targets in (slots, np.uint64(1)):
        merge_exactly(targets, rows, limbs)
    round_sums(rows, np.zeros(LIMBS, dtype=np.int64), np.zeros(0, dtype=np.int64))
