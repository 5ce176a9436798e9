"""The obvious version of each kernel in hpcstream.kernels.bitmap."""

from itertools import pairwise

import numpy as np


def gather_bits(bits, first_bit, order, offsets):
    """Return for each partition the bits of its rows."""
    unpacked = np.unpackbits(bits, bitorder="little")[first_bit:]
    return [unpacked[order[first:stop]] for first, stop in pairwise(offsets)]
