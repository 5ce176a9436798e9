"""The table of keyed state: key -> slot, and the due time of each slot.

::

    index   int64[]    (key, slot) pairs, open addressing, at most half full; slot 0: empty
    live    uint8[]    state of a slot: `FREE`, `KEY`, or `NULL`, the slot of the null key
    free    uint32[]   stack of released slots
    due     int64[]    due time of a slot, or `NEVER`
    least   int64[]    lower bound of the due times of each block of 256 slots

A key is removed by moving later keys of its cluster back (Knuth, The Art of Computer
Programming 3, 6.4, algorithm R), so there are no tombstones, and a table whose keys come and go
remains fast. If a due time is postponed, `least` is too low: the next scan of the block finds
nothing and makes it exact.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.prefetch import prefetch

# Fields of ``header``: end of the used slots; number of slots in ``free``, and in use; the slot
# of the null key or 0; the epoch that marks touched slots; 64 minus the binary logarithm of the
# size of the index.
(END, N_FREE, N_LIVE, NULL_SLOT, EPOCH, SHIFT) = range(6)
N_FIELDS = 8

FREE, KEY, NULL = 0, 1, 2
NEVER = 2**63 - 1
DUE_BITS = 8
EPOCH_BITS = 12
_AHEAD = 16
_ENTRY_BYTES = 16


@lean_njit()
def _home(header, key):
    """Return the home position of a key; dense integers do not collide."""
    bits = np.uint64(np.int64(key))
    mixed = (bits ^ (bits >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64(mixed >> np.uint64(header[SHIFT]))


@lean_njit()
def _position(header, index, key):
    """Return the position of a key, or of the empty entry where it belongs."""
    mask = index.shape[0] // 2 - 1
    position = _home(header, key)
    while index[2 * position + 1] != 0 and index[2 * position] != key:
        position = (position + 1) & mask
    return position


@lean_njit()
def _take_slot(header, live, free):
    """Return a free slot, or 0 if there is none."""
    if header[N_FREE] > 0:
        header[N_FREE] -= 1
        slot = np.int64(free[header[N_FREE]])
    elif header[END] < live.shape[0]:
        slot = header[END]
        header[END] += 1
    else:
        return np.int64(0)
    header[N_LIVE] += 1
    return slot


@lean_njit()
def _null_slot(header, live, free, keys):
    slot = header[NULL_SLOT]
    if slot == 0:
        slot = _take_slot(header, live, free)
        if slot:
            header[NULL_SLOT] = slot
            live[slot] = NULL
            keys[slot] = 0
    return slot


@lean_njit()
def resolve(header, index, keys, slots, words, valid, out_slots):
    """Find the slot of each key; add missing keys.

    Parameters
    ----------
    header : int64[N_FIELDS]
    index : int64[2 * size]
    keys : int64[capacity]
    slots : (live, free, epochs)
    words : int64[n_rows]
        Keys.
    valid : bool[n_rows] or bool[0]
        False: the key is null.
    out_slots : uint32[n_rows]

    Returns
    -------
    int64
        Number of rows done; less than all if there is no room for another slot.
    """
    live, free, epochs = slots
    n_rows = words.shape[0]
    room = index.shape[0] // 4
    for row in range(n_rows):
        if row + _AHEAD < n_rows:
            prefetch(index, _home(header, words[row + _AHEAD]) * _ENTRY_BYTES)
        if valid.shape[0] > 0 and not valid[row]:
            slot = _null_slot(header, live, free, keys)
        else:
            key = words[row]
            position = _position(header, index, key)
            slot = index[2 * position + 1]
            if slot == 0:
                slot = _take_slot(header, live, free) if header[N_LIVE] < room else np.int64(0)
                if slot:
                    index[2 * position] = key
                    index[2 * position + 1] = slot
                    keys[slot] = key
                    live[slot] = KEY
        if slot == 0:
            return row
        epochs[slot >> EPOCH_BITS] = header[EPOCH]
        out_slots[row] = np.uint32(slot)
    return n_rows


@lean_njit()
def find(header, index, words, valid, out_slots):
    """Write the slot of each key, 0 for missing keys; arguments as for `resolve`."""
    n_rows = words.shape[0]
    for row in range(n_rows):
        if row + _AHEAD < n_rows:
            prefetch(index, _home(header, words[row + _AHEAD]) * _ENTRY_BYTES)
        if valid.shape[0] > 0 and not valid[row]:
            out_slots[row] = np.uint32(header[NULL_SLOT])
        else:
            out_slots[row] = np.uint32(index[2 * _position(header, index, words[row]) + 1])


@lean_njit()
def _close_gap(header, index, gap):
    """Remove an entry: move later entries of its cluster back where that is allowed."""
    mask = index.shape[0] // 2 - 1
    position = gap
    while True:
        index[2 * gap + 1] = 0
        while True:
            position = (position + 1) & mask
            if index[2 * position + 1] == 0:
                return
            home = _home(header, index[2 * position])
            # It may move unless its home is cyclically in (gap, position].
            if ((position - home) & mask) >= ((position - gap) & mask):
                break
        index[2 * gap] = index[2 * position]
        index[2 * gap + 1] = index[2 * position + 1]
        gap = position


@lean_njit()
def release(header, index, keys, slots, given):
    """Release slots (uint32[n], distinct, in use); arguments as for `resolve`."""
    live, free, epochs = slots
    for number in range(given.shape[0]):
        slot = np.int64(given[number])
        if live[slot] == NULL:
            header[NULL_SLOT] = 0
        else:
            _close_gap(header, index, _position(header, index, keys[slot]))
        live[slot] = FREE
        free[header[N_FREE]] = np.uint32(slot)
        header[N_FREE] += 1
        header[N_LIVE] -= 1
        epochs[slot >> EPOCH_BITS] = header[EPOCH]


@lean_njit()
def fill_index(header, index, keys, live):
    """Insert all keys into an empty index, and find the null key."""
    header[NULL_SLOT] = 0
    for slot in range(1, header[END]):
        if live[slot] == KEY:
            position = _position(header, index, keys[slot])
            index[2 * position] = keys[slot]
            index[2 * position + 1] = slot
        elif live[slot] == NULL:
            header[NULL_SLOT] = slot


@lean_njit()
def touch(header, epochs, given):
    """Mark slots (uint32[n]) as changed in the current epoch."""
    for number in range(given.shape[0]):
        epochs[np.int64(given[number]) >> EPOCH_BITS] = header[EPOCH]


@lean_njit()
def set_due(due, least, given, times):
    """Set the due times of slots (uint32[n]); for repeated slots the last time counts.

    Returns
    -------
    int64
        The least of the times, or `NEVER`.
    """
    earliest = np.int64(NEVER)
    for number in range(given.shape[0]):
        slot, time = np.int64(given[number]), times[number]
        due[slot] = time
        block = slot >> DUE_BITS
        least[block] = min(least[block], time)
        earliest = min(earliest, time)
    return earliest


@lean_njit()
def find_expired(due, least, watermark, end, out_slots):
    """Write the slots that are due before a watermark, ascending; the caller resets them.

    Parameters
    ----------
    due, least : int64
    watermark : int64
    end : int64
        End of the used slots.
    out_slots : uint32[n]
        At least 256 long.

    Returns
    -------
    n, earliest : int64
        Number of slots; least remaining due time: before the watermark if there are more slots.
    """
    n_found = 0
    earliest = np.int64(NEVER)
    n_blocks = (end + (1 << DUE_BITS) - 1) >> DUE_BITS
    for block in range(n_blocks):
        if least[block] < watermark and out_slots.shape[0] - n_found >= (1 << DUE_BITS):
            of_block = np.int64(NEVER)
            for slot in range(block << DUE_BITS, min((block + 1) << DUE_BITS, end)):
                if due[slot] < watermark:
                    out_slots[n_found] = np.uint32(slot)
                    n_found += 1
                else:
                    of_block = min(of_block, due[slot])
            least[block] = of_block
        earliest = min(earliest, least[block])
    return n_found, earliest


@lean_njit()
def find_least(due, end, out_least):
    """Write the least due time of each block, and return the least of all."""
    out_least[:] = NEVER
    earliest = np.int64(NEVER)
    for slot in range(1, end):
        block = slot >> DUE_BITS
        out_least[block] = min(out_least[block], due[slot])
        earliest = min(earliest, due[slot])
    return earliest


def warm_up():
    """Compile for the arguments the engine passes: keys and times of Arrow, or our own."""
    header, index = np.zeros(N_FIELDS, dtype=np.int64), np.zeros(16, dtype=np.int64)
    words, valid = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    live, free, given = np.zeros(4, np.uint8), np.zeros(4, np.uint32), np.zeros(1, np.uint32)
    slots, read_only = (live, free, words), words.view()
    header[END], header[SHIFT] = 1, 61
    for array in (read_only, valid):
        array.setflags(write=False)
    resolve(header, index, np.zeros(4, np.int64), slots, read_only, valid, given)
    find(header, index, read_only, valid, given)
    touch(header, words, given)
    release(header, index, np.zeros(4, np.int64), slots, given)
    fill_index(header, index, words, live)
    for times in (words, read_only):
        set_due(np.zeros(4, np.int64), words, given, times)
    find_expired(np.zeros(4, np.int64), words, 0, 1, given)
    find_least(np.zeros(4, np.int64), 1, words)
