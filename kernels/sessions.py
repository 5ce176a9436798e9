"""Sessions: the first and the last time of entries, and which entries go on in the next slice."""

import numpy as np

from hpcstream.kernels.accumulate import slot_at
from hpcstream.kernels.compiling import lean_njit


@lean_njit()
def keep_span(slots, firsts, lasts, out_firsts, out_lasts):
    """Keep the least of ``firsts`` and the greatest of ``lasts``; both may be one array.

    Parameters
    ----------
    slots : uint32[n], or the first of slots that are side by side
    firsts, lasts : int64[n]
    out_firsts, out_lasts : int64[capacity]
    """
    for row in range(firsts.shape[0]):
        slot = slot_at(slots, row)
        out_firsts[slot] = min(out_firsts[slot], firsts[row])
        out_lasts[slot] = max(out_lasts[slot], lasts[row])


@lean_njit()
def divide(slots, following, spans, gap, out_sources, out_ended):
    """Divide entries into those that go on in the next slice and those that end.

    Parameters
    ----------
    slots : uint32[n]
    following : uint32[n]
        The entry of the key in the next slice, 0 if there is none. Those of entries that go on
        are moved to the front, those of the others mean nothing then.
    spans : (firsts, lasts)
        int64[capacity] each, by slot.
    gap : int
    out_sources, out_ended : uint32[n]

    Returns
    -------
    int64
        How many go on.
    """
    firsts, lasts = spans
    n_sources = n_ended = np.int64(0)
    for row in range(slots.shape[0]):
        slot, target = slots[row], following[row]
        if target != 0 and firsts[target] - lasts[slot] < gap:
            out_sources[n_sources] = slot
            following[n_sources] = target
            n_sources += 1
        else:
            out_ended[n_ended] = slot
            n_ended += 1
    return n_sources


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    slots, words = np.zeros(1, dtype=np.uint32), np.zeros(1, dtype=np.int64)
    times = words.copy()
    times.setflags(write=False)
    for values in (times, words):
        keep_span(slots, values, values, words, words)
        keep_span(np.uint64(0), values, values, words, words)
    divide(slots, slots, (words, words), 1, slots, slots)
