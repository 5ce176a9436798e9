"""The table behind keyed state: key -> slot, and the due time of each slot.

::

    index   int64[]    (key, slot) side by side, open addressing, at most half full; slot 0: empty
    live    uint8[]    what a slot is: `FREE`, `KEY`, or `NULL`, the slot of the null key
    free    uint32[]   slots that were given back, the last one first
    due     int64[]    when a slot is due; `NEVER`: it is not
    least   int64[]    no slot of a block of 256 is due before this; it may be earlier

A key that goes is taken out by moving later ones of its cluster back (Knuth, The Art of Computer
Programming 3, 6.4, algorithm R), so there are no tombstones, and a table whose keys come and go
stays as fast as it was. A due time that moves to later leaves `least` too early: the block is
then looked at once in vain, and is exact again.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.prefetch import prefetch

# Fields of ``book``: slots below END were given out; N_FREE are in ``free``; N_LIVE in use;
# the slot of the null key, 0: none; the number of the interval that touched slots are marked with;
# 64 less the binary logarithm of the size of the index.
(END, N_FREE, N_LIVE, NULL_SLOT, EPOCH, SHIFT) = range(6)
N_FIELDS = 8

FREE, KEY, NULL = 0, 1, 2
NEVER = 2**63 - 1
DUE_BITS = 8
EPOCH_BITS = 12
_AHEAD = 16
_ENTRY_BYTES = 16


@lean_njit()
def _home(book, key):
    """Return where a key would be, were the index empty; dense integers do not collide."""
    bits = np.uint64(np.int64(key))
    mixed = (bits ^ (bits >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64(mixed >> np.uint64(book[SHIFT]))


@lean_njit()
def _place(book, index, key):
    """Return the place of a key, or of the empty entry where it belongs."""
    mask = index.shape[0] // 2 - 1
    place = _home(book, key)
    while index[2 * place + 1] != 0 and index[2 * place] != key:
        place = (place + 1) & mask
    return place


@lean_njit()
def _take_slot(book, live, free):
    """Return a slot that is free; 0: there is none."""
    if book[N_FREE] > 0:
        book[N_FREE] -= 1
        slot = np.int64(free[book[N_FREE]])
    elif book[END] < live.shape[0]:
        slot = book[END]
        book[END] += 1
    else:
        return np.int64(0)
    book[N_LIVE] += 1
    return slot


@lean_njit()
def _null_slot(book, live, free, keys):
    slot = book[NULL_SLOT]
    if slot == 0:
        slot = _take_slot(book, live, free)
        if slot:
            book[NULL_SLOT] = slot
            live[slot] = NULL
            keys[slot] = 0
    return slot


@lean_njit()
def resolve(book, index, keys, slots, words, valid, out_slots):
    """Find the slot of each key, or make one.

    Parameters
    ----------
    book : int64[N_FIELDS]
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
        Rows that are done; fewer than all: there is no room for another slot.
    """
    live, free, epochs = slots
    n_rows = words.shape[0]
    room = index.shape[0] // 4
    for row in range(n_rows):
        if row + _AHEAD < n_rows:
            prefetch(index, _home(book, words[row + _AHEAD]) * _ENTRY_BYTES)
        if valid.shape[0] > 0 and not valid[row]:
            slot = _null_slot(book, live, free, keys)
        else:
            key = words[row]
            place = _place(book, index, key)
            slot = index[2 * place + 1]
            if slot == 0:
                slot = _take_slot(book, live, free) if book[N_LIVE] < room else np.int64(0)
                if slot:
                    index[2 * place] = key
                    index[2 * place + 1] = slot
                    keys[slot] = key
                    live[slot] = KEY
        if slot == 0:
            return row
        epochs[slot >> EPOCH_BITS] = book[EPOCH]
        out_slots[row] = np.uint32(slot)
    return n_rows


@lean_njit()
def find(book, index, words, valid, out_slots):
    """Write the slot of each key, 0 where there is none; arguments as for `resolve`."""
    n_rows = words.shape[0]
    for row in range(n_rows):
        if row + _AHEAD < n_rows:
            prefetch(index, _home(book, words[row + _AHEAD]) * _ENTRY_BYTES)
        if valid.shape[0] > 0 and not valid[row]:
            out_slots[row] = np.uint32(book[NULL_SLOT])
        else:
            out_slots[row] = np.uint32(index[2 * _place(book, index, words[row]) + 1])


@lean_njit()
def _close_gap(book, index, gap):
    """Take an entry out: move later ones of its cluster back if they may be there."""
    mask = index.shape[0] // 2 - 1
    place = gap
    while True:
        index[2 * gap + 1] = 0
        while True:
            place = (place + 1) & mask
            if index[2 * place + 1] == 0:
                return
            home = _home(book, index[2 * place])
            # It may move unless its home lies cyclically in (gap, place].
            if ((place - home) & mask) >= ((place - gap) & mask):
                break
        index[2 * gap] = index[2 * place]
        index[2 * gap + 1] = index[2 * place + 1]
        gap = place


@lean_njit()
def release(book, index, keys, slots, given):
    """Give slots (uint32[n], distinct, in use) back; arguments as for `resolve`."""
    live, free, epochs = slots
    for number in range(given.shape[0]):
        slot = np.int64(given[number])
        if live[slot] == NULL:
            book[NULL_SLOT] = 0
        else:
            _close_gap(book, index, _place(book, index, keys[slot]))
        live[slot] = FREE
        free[book[N_FREE]] = np.uint32(slot)
        book[N_FREE] += 1
        book[N_LIVE] -= 1
        epochs[slot >> EPOCH_BITS] = book[EPOCH]


@lean_njit()
def fill_index(book, index, keys, live):
    """Enter all keys into an index that is empty; note where the null key is."""
    book[NULL_SLOT] = 0
    for slot in range(1, book[END]):
        if live[slot] == KEY:
            place = _place(book, index, keys[slot])
            index[2 * place] = keys[slot]
            index[2 * place + 1] = slot
        elif live[slot] == NULL:
            book[NULL_SLOT] = slot


@lean_njit()
def touch(book, epochs, given):
    """Note that slots (uint32[n]) were changed in this interval."""
    for number in range(given.shape[0]):
        epochs[np.int64(given[number]) >> EPOCH_BITS] = book[EPOCH]


@lean_njit()
def set_due(due, least, given, times):
    """Set when slots (uint32[n]) are due; of a slot that is there twice the last time counts.

    Returns
    -------
    int64
        The least of the times, `NEVER` without any.
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
    """Write the slots that are due before a watermark, ascending; the caller sets them anew.

    Parameters
    ----------
    due, least : int64
    watermark : int64
    end : int64
        All slots are below.
    out_slots : uint32[n]
        As long as there may be any, but at least 256.

    Returns
    -------
    n, earliest : int64
        How many; the least of what is left: if that is before the watermark, there are more.
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
    """Write the least due time of each block, and return that of all."""
    out_least[:] = NEVER
    earliest = np.int64(NEVER)
    for slot in range(1, end):
        block = slot >> DUE_BITS
        out_least[block] = min(out_least[block], due[slot])
        earliest = min(earliest, due[slot])
    return earliest


def warm_up():
    """Compile for the arguments the engine passes: keys and times of Arrow, or our own."""
    book, index = np.zeros(N_FIELDS, dtype=np.int64), np.zeros(16, dtype=np.int64)
    words, valid = np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.bool_)
    live, free, given = np.zeros(4, np.uint8), np.zeros(4, np.uint32), np.zeros(1, np.uint32)
    slots, read_only = (live, free, words), words.view()
    book[END], book[SHIFT] = 1, 61
    for array in (read_only, valid):
        array.setflags(write=False)
    resolve(book, index, np.zeros(4, np.int64), slots, read_only, valid, given)
    find(book, index, read_only, valid, given)
    touch(book, words, given)
    release(book, index, np.zeros(4, np.int64), slots, given)
    fill_index(book, index, words, live)
    for times in (words, read_only):
        set_due(np.zeros(4, np.int64), words, given, times)
    find_expired(np.zeros(4, np.int64), words, 0, 1, given)
    find_least(np.zeros(4, np.int64), 1, words)
