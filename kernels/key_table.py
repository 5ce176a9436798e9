"""The table of windowed state: (slice, key) -> slot.

A *slot* is an index into the arenas that all slices share; accumulators are further arrays of
the same length, indexed by slot. Slot 0 belongs to no entry: it means "empty" in the index,
and rows without a slice have slot 0, so that accumulation needs no branch for them.

::

    header     int64[]    control fields, scratch, then three sections:
                          regions    the fields of each open slice (`NUMBER` ...)
                          chunks     base, size, next: a region's slots, in insertion order
                          directory  slice number -> region + 1, open addressing
    index    uint32[]   key -> slot, one part a region, in one of two ways:
                          hashed: open addressing, load <= 1/2
                          direct: the position of a key is ``key - DIRECT_LOW``
    keys     int64[]    key word of each slot
    rows     int64[]    number of rows of each slot; zero for unused slots

A region grows by another chunk, so no slot moves while a batch is resolved; only its part of
the index is rebuilt, larger. A closed region keeps its chunks and its index for the next
slice of about its size, so a job whose slices open and close reuses the memory of its first
slices. Other unused storage remains until `relocate` packs all regions into new arenas.
Regions that are not in the directory (merged slices) are in the same arenas.

Keys in a small range (small integers, interned strings) need no hashing: a table is
*direct* if the range of its keys is at most a few times as large as the number of entries
in a slice. Then keys neither collide nor are compared, and the index has one word for each
value of the range, about as many as for hashing. `reindex` switches between the two.

If slices hold most of the keys of a range, a *dense* region avoids even the index: it has a
slot for each of these keys, in order, so the key determines the slot. A slot without rows
is vacant and no entry. Other keys, and the null key, are ordinary entries of the region.
Density determines the order of entries (keys of the range in order, then the others by
arrival), so it must not depend on capacities: `hpcstream.state.slices.dense_range` decides.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit

# Control fields of ``header``: used ends and capacities of the arenas;
(ENTRY_END, ENTRY_CAPACITY, INDEX_END, INDEX_CAPACITY, CHUNK_END, CHUNK_CAPACITY) = range(6)
# closed regions form a list that begins at FREE_REGION (-1: none), N_OPEN are in use,
# N_LISTED of them in the directory; N_LIVE entries are in use;
(REGION_END, REGION_CAPACITY, FREE_REGION, N_OPEN, N_LISTED, N_LIVE) = range(6, 12)
# the slice opened last (-1: closed since); entries of the slice closed last; a lower bound of
# the slices in the directory;
(LAST_REGION, LAST_COUNT, LEAST_SLICE) = range(12, 15)
# of the last call: why it stopped early, the room that it needs, late rows, range of times;
(NEED, NEED_SIZE, N_LATE, BATCH_MIN, BATCH_MAX) = range(15, 20)
# set by the caller: slice size and offset, the first slice that is not late, valid times;
(SLICE_SIZE, SLICE_OFFSET, FIRST_OPEN, TIME_FLOOR, TIME_CEILING) = range(20, 25)
# offsets of the sections;
(CHUNKS_AT, DIRECTORY_AT, DIRECTORY_SIZE) = range(26, 29)
# slots that open regions hold, and the recent maximum.
(N_HELD, PEAK_HELD) = range(29, 31)
# the table is direct if DIRECT_BITS > 0: its keys are DIRECT_LOW to DIRECT_LOW + 2**bits - 1.
(DIRECT_LOW, DIRECT_BITS) = range(31, 33)
# The next slices are dense for DENSE_WIDTH keys from DENSE_LOW; dense slots of all open slices,
# those of them that have rows; whether all slices of the last batch are dense.
(DENSE_LOW, DENSE_WIDTH, DENSE_SLOTS, DENSE_LIVE, BATCH_DENSE) = range(33, 38)
N_CONTROL = 40

# Scratch: the fields of each slice of a batch for key lookups: base in the index; number of
# keys and first key if the table is direct, otherwise a shift; region. In a dense batch the
# base is that of the slots.
SPAN_AT = 40
SPAN = 1024
SPAN_FIELDS = 4
(SPAN_BASE, SPAN_WIDTH, SPAN_LOW, SPAN_REGION) = range(4)
REGIONS_AT = SPAN_AT + SPAN_FIELDS * SPAN

NEED_NOTHING, NEED_ENTRIES, NEED_INDEX, NEED_CHUNKS, NEED_REGIONS, NEED_DIRECTORY = range(6)
NEED_OTHER_TIMES, NEED_OTHER_KEYS = 6, 7

# Fields of a region: slice number (if closed, the next closed region); state: 0 closed, 1 in
# the directory, 2 open but not in the directory; its part of the index; number of entries,
# chunks; free slots in the last chunk; slot of the null key or 0; number of dense keys, first
# dense key, slot of that key, number of dense keys with rows (COUNT has the other entries);
# number of times that entries were cleared, in all slices that have used the region.
(NUMBER, STATE, INDEX_BASE, INDEX_BITS, COUNT) = range(5)
(FIRST_CHUNK, LAST_CHUNK, NEXT_SLOT, ROOM, NULL_SLOT) = range(5, 10)
(WIDTH, LOW, DENSE_BASE, N_DENSE, N_CLEARS) = range(10, 15)
REGION_FIELDS = 15
CHUNK_FIELDS = 3

FIRST_INDEX = 8  # index positions 0 to 7 are always empty
LEAST_CHUNK = 8
NO_CHUNK = -1  # end of a list of chunks; first chunk of a closed region without chunks
LOOK_AT = 8  # closed regions to examine for reuse
MOST_VACANT = 8  # slots per slot in use above which large slices would waste memory
UNKNOWN = -1  # region of a slice in the span that is not looked up yet
IS_LATE = -2


@lean_njit()
def mix(word):
    """Return a hash of a word, of which the upper bits are used.

    Multiplication by the golden ratio distributes dense integers without collisions. The hash
    is independent of the one that assigns keys to ranks.
    """
    bits = np.uint64(np.int64(word))  # also for negative numbers
    return (bits ^ (bits >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)


@lean_njit()
def _stop(header, need, size):
    header[NEED] = need
    header[NEED_SIZE] = size


@lean_njit()
def _bits_for(n_entries):
    bits = 3
    while (np.int64(1) << bits) < 2 * n_entries:
        bits += 1
    return bits


@lean_njit()
def _index_bits(header, n_entries):
    """Return the binary logarithm of the size of an index for ``n_entries``."""
    return header[DIRECT_BITS] if header[DIRECT_BITS] > 0 else _bits_for(n_entries)


@lean_njit()
def directory_home(header, number):
    """Return the home position of a slice in the directory."""
    return np.int64(mix(number) >> np.uint64(20)) & (header[DIRECTORY_SIZE] - 1)


@lean_njit()
def find_region(header, number):
    """Return the region of a slice, or -1."""
    position = directory_home(header, number)
    while True:
        found = header[header[DIRECTORY_AT] + position]
        if found == 0:
            return np.int64(-1)
        if header[REGIONS_AT + (found - 1) * REGION_FIELDS + NUMBER] == number:
            return found - 1
        position = (position + 1) & (header[DIRECTORY_SIZE] - 1)


@lean_njit()
def _list_region(header, region):
    position = directory_home(header, header[REGIONS_AT + region * REGION_FIELDS + NUMBER])
    while header[header[DIRECTORY_AT] + position] != 0:
        position = (position + 1) & (header[DIRECTORY_SIZE] - 1)
    header[header[DIRECTORY_AT] + position] = region + 1


@lean_njit()
def relist(header):
    """Fill an empty directory with all regions of state 1."""
    for region in range(header[REGION_END]):
        if header[REGIONS_AT + region * REGION_FIELDS + STATE] == 1:
            _list_region(header, region)


@lean_njit()
def _lacks_room(header, n_chunks, n_entries, n_positions):
    """Whether one of the arenas lacks room; notes which one in ``header``."""
    if header[CHUNK_END] + n_chunks > header[CHUNK_CAPACITY]:
        _stop(header, NEED_CHUNKS, n_chunks)
    elif header[ENTRY_END] + n_entries > header[ENTRY_CAPACITY]:
        _stop(header, NEED_ENTRIES, n_entries)
    elif header[INDEX_END] + n_positions > header[INDEX_CAPACITY]:
        _stop(header, NEED_INDEX, n_positions)
    else:
        return False
    return True


@lean_njit()
def open_region(header, index, keys, number, kind, low, width, expected):
    """Open a region; return it, or -1 if there is no room.

    ``kind`` is its STATE: it is in the directory, as ``number``, if that is 1. It is dense
    for ``width`` keys from ``low``, and has room for about ``expected`` other entries.
    """
    if kind == 1 and 2 * (header[N_LISTED] + 1) > header[DIRECTORY_SIZE]:
        _stop(header, NEED_DIRECTORY, 1)
        return np.int64(-1)
    reserve = max(np.int64(LEAST_CHUNK), expected)
    bits = _index_bits(header, reserve)
    region = _reopen(header, index, reserve, bits, width)
    is_fresh = region < 0
    if is_fresh:
        region = _open_fresh(header, index, reserve, bits, width)
    if region < 0:
        return region
    at = REGIONS_AT + region * REGION_FIELDS
    if width > 0 and (is_fresh or header[at + LOW] != low):
        header[at + LOW] = low
        for position in range(width):
            keys[header[at + DENSE_BASE] + position] = low + position
    header[at + N_DENSE] = 0
    header[at + NUMBER] = number
    header[at + STATE] = kind
    header[N_HELD] += width
    header[N_OPEN] += 1
    if kind == 1:
        _list_region(header, region)
        header[N_LISTED] += 1
        header[DENSE_SLOTS] += width
        header[LEAST_SLICE] = min(header[LEAST_SLICE], number)
    return region


@lean_njit()
def kept_slots(header, at):
    """Return the number of slots in the chunks of a closed region, dense slots excluded."""
    n_slots = np.int64(0)
    chunk = header[at + FIRST_CHUNK]
    while chunk != NO_CHUNK:
        n_slots += header[header[CHUNKS_AT] + chunk * CHUNK_FIELDS + 1]
        chunk = header[header[CHUNKS_AT] + chunk * CHUNK_FIELDS + 2]
    return n_slots


@lean_njit()
def _reopen(header, index, reserve, bits, width):
    """Reuse a closed region whose chunks and index have about the right size; -1 if none has."""
    before = np.int64(-1)
    region = header[FREE_REGION]
    for _ in range(LOOK_AT):
        if region < 0:
            break
        at = REGIONS_AT + region * REGION_FIELDS
        n_kept = kept_slots(header, at)
        kept_bits = header[at + INDEX_BITS]
        suits = reserve - (reserve >> 4) <= n_kept <= 4 * reserve and bits <= kept_bits <= bits + 2
        if suits and header[at + WIDTH] == width:
            if before < 0:
                header[FREE_REGION] = header[at + NUMBER]
            else:
                header[REGIONS_AT + before * REGION_FIELDS + NUMBER] = header[at + NUMBER]
            header[at + COUNT] = 0
            header[at + NULL_SLOT] = 0
            _enter_chunk(header, at, header[at + FIRST_CHUNK])
            base = header[at + INDEX_BASE]
            index[base : base + (np.int64(1) << kept_bits)] = np.uint32(0)
            return region
        before = region
        region = header[at + NUMBER]
    return np.int64(-1)


@lean_njit()
def _open_fresh(header, index, reserve, bits, width):
    """Allocate fields, slots and a part of the index for a region; -1 if there is no room."""
    region = header[FREE_REGION]
    if region < 0:
        region = header[REGION_END]
    if region >= header[REGION_CAPACITY]:
        _stop(header, NEED_REGIONS, 1)
        return np.int64(-1)
    if _lacks_room(header, 1, width + reserve, np.int64(1) << bits):
        return np.int64(-1)
    at = REGIONS_AT + region * REGION_FIELDS
    if header[FREE_REGION] >= 0:
        header[FREE_REGION] = header[at + NUMBER]
    else:
        header[REGION_END] += 1
    _start_region(header, index, at, bits, reserve, width)
    return region


@lean_njit()
def _start_region(header, index, at, bits, reserve, width):
    """Allocate the dense slots of a region, its first chunk and an empty index."""
    header[at + COUNT] = 0
    header[at + NULL_SLOT] = 0
    header[at + WIDTH] = width
    header[at + DENSE_BASE] = header[ENTRY_END]
    header[ENTRY_END] += width
    header[at + FIRST_CHUNK] = header[CHUNK_END]
    _start_chunk(header, at, reserve)
    _start_index(header, index, at, bits)


@lean_njit()
def _start_chunk(header, at, reserve):
    chunk = header[CHUNK_END]
    link = header[CHUNKS_AT] + chunk * CHUNK_FIELDS
    header[link] = header[ENTRY_END]
    header[link + 1] = reserve
    header[link + 2] = NO_CHUNK
    header[CHUNK_END] += 1
    header[ENTRY_END] += reserve
    _enter_chunk(header, at, chunk)


@lean_njit()
def _enter_chunk(header, at, chunk):
    """Make a chunk of a region the one for its next entries."""
    link = header[CHUNKS_AT] + chunk * CHUNK_FIELDS
    header[at + LAST_CHUNK] = chunk
    header[at + NEXT_SLOT] = header[link]
    header[at + ROOM] = header[link + 1]


@lean_njit()
def _start_index(header, index, at, bits):
    base = header[INDEX_END]
    size = np.int64(1) << bits
    header[at + INDEX_BASE] = base
    header[at + INDEX_BITS] = bits
    header[INDEX_END] += size
    index[base : base + size] = np.uint32(0)


@lean_njit()
def index_entries(header, index, keys, at):
    """Put all entries of a region into its (empty) index."""
    base = np.uint64(header[at + INDEX_BASE])
    shift = np.uint64(64 - header[at + INDEX_BITS])
    mask = (np.uint64(1) << (np.uint64(64) - shift)) - np.uint64(1)
    is_direct = header[DIRECT_BITS] > 0
    low = header[DIRECT_LOW]
    null_slot = header[at + NULL_SLOT]
    left = header[at + COUNT]
    link = header[CHUNKS_AT] + header[at + FIRST_CHUNK] * CHUNK_FIELDS
    while left > 0:
        n_here = min(left, header[link + 1])
        for slot in range(header[link], header[link] + n_here):
            if slot == null_slot:
                continue
            if is_direct:
                index[base + np.uint64(keys[slot] - low)] = np.uint32(slot)
                continue
            position = mix(keys[slot]) >> shift
            while index[base + position] != 0:
                position = (position + np.uint64(1)) & mask
            index[base + position] = np.uint32(slot)
        left -= n_here
        link = header[CHUNKS_AT] + header[link + 2] * CHUNK_FIELDS


@lean_njit(inline="always")
def _is_full(header, at):
    """Whether a region's index cannot take another entry."""
    return header[DIRECT_BITS] == 0 and 2 * (header[at + COUNT] + 1) > (
        np.int64(1) << header[at + INDEX_BITS]
    )


@lean_njit()
def _make_way(header, index, keys, at):
    """Make room for another entry in a region; False if the arenas have no room."""
    count = header[at + COUNT]
    bits = header[at + INDEX_BITS]
    last_link = header[CHUNKS_AT] + header[at + LAST_CHUNK] * CHUNK_FIELDS
    reserve = np.int64(0)
    if header[at + ROOM] == 0 and header[last_link + 2] == NO_CHUNK:
        reserve = max(np.int64(LEAST_CHUNK), count)
    n_positions = np.int64(4) << bits if _is_full(header, at) else np.int64(0)
    if _lacks_room(header, 1, reserve, n_positions):
        return False
    if reserve > 0:
        header[last_link + 2] = header[CHUNK_END]
        _start_chunk(header, at, reserve)
    elif header[at + ROOM] == 0:
        _enter_chunk(header, at, header[last_link + 2])
    if n_positions > 0:
        _start_index(header, index, at, bits + 2)
        index_entries(header, index, keys, at)
    return True


@lean_njit(inline="always")
def find_position(header, index, keys, at, key):
    """Return the position of a key in the index, or the empty position where it belongs.

    Returns position 0 if the table is direct and the key is outside its range.
    """
    base = np.uint64(header[at + INDEX_BASE])
    if header[DIRECT_BITS] > 0:
        position = np.uint64(key - header[DIRECT_LOW])
        return np.uint64(0) if position >> np.uint64(header[DIRECT_BITS]) else base + position
    shift = np.uint64(64 - header[at + INDEX_BITS])
    mask = (np.uint64(1) << (np.uint64(64) - shift)) - np.uint64(1)
    position = mix(key) >> shift
    found = index[base + position]
    while found != 0 and keys[found] != key:
        position = (position + np.uint64(1)) & mask
        found = index[base + position]
    return base + position


@lean_njit(inline="always")
def take_slot(header, at):
    """Return a new slot of a region that has room."""
    slot = header[at + NEXT_SLOT]
    header[at + NEXT_SLOT] = slot + 1
    header[at + ROOM] -= 1
    header[at + COUNT] += 1
    header[N_LIVE] += 1
    header[N_HELD] += 1
    return slot


@lean_njit(inline="always")
def note_dense(header, at, n_new):
    """Count dense slots of a slice that are no longer vacant."""
    header[at + N_DENSE] += n_new
    header[N_LIVE] += n_new
    header[DENSE_LIVE] += n_new


@lean_njit(inline="always")
def count_rows(header, rows, at, slot, n_rows):
    """Add rows to an entry of the slice with fields ``at``, which may have been vacant."""
    if rows[slot] == 0 and np.uint64(slot - header[at + DENSE_BASE]) < np.uint64(
        header[at + WIDTH]
    ):
        note_dense(header, at, 1)
    rows[slot] += n_rows


@lean_njit(inline="always")
def _next_slot(header, index, keys, at):
    """Return a new slot of a region, or 0 if the arenas have no room."""
    if (_is_full(header, at) or header[at + ROOM] == 0) and not _make_way(header, index, keys, at):
        return np.int64(0)
    return take_slot(header, at)


@lean_njit(inline="always")
def key_slot(header, index, keys, at, key):
    """Return the slot of a key in the region with fields ``at``; 0 if there is no room for it."""
    distance = np.uint64(key - header[at + LOW])
    if distance < np.uint64(header[at + WIDTH]):
        return header[at + DENSE_BASE] + np.int64(distance)
    position = find_position(header, index, keys, at, key)
    if index[position] != 0:
        return np.int64(index[position])
    if position == 0:
        _stop(header, NEED_OTHER_KEYS, 0)
        return np.int64(0)
    base = header[at + INDEX_BASE]
    slot = _next_slot(header, index, keys, at)
    if slot == 0:
        return slot
    if header[at + INDEX_BASE] != base:
        position = find_position(header, index, keys, at, key)
    keys[slot] = key
    index[position] = np.uint32(slot)
    return slot


@lean_njit()
def null_slot(header, index, keys, at):
    """Return the slot of the null key in a region; 0 if there is no room for it."""
    if header[at + NULL_SLOT] == 0:
        slot = _next_slot(header, index, keys, at)
        keys[slot] = 0
        header[at + NULL_SLOT] = slot
    return header[at + NULL_SLOT]


@lean_njit()
def slice_region(header, index, keys, number):
    """Return the region of a slice, opening it; UNKNOWN if there is no room, or IS_LATE."""
    if number < header[FIRST_OPEN]:
        return np.int64(IS_LATE)
    region = find_region(header, number)
    if region >= 0:
        return region
    expected = header[LAST_COUNT]
    if header[LAST_REGION] >= 0:
        last = header[REGIONS_AT + header[LAST_REGION] * REGION_FIELDS + COUNT]
        expected = max(expected, last)
    expected += expected >> 3
    # Slices in a period with few rows should be smaller than those before it.
    if header[ENTRY_END] > MOST_VACANT * max(header[N_HELD], header[PEAK_HELD]) + 2 * expected:
        expected = np.int64(0)
    width = header[DENSE_WIDTH]
    if header[DENSE_SLOTS] > MOST_VACANT * header[DENSE_LIVE] + 2 * width:
        width = np.int64(0)
    region = open_region(header, index, keys, number, 1, header[DENSE_LOW], width, expected)
    if region >= 0:
        header[LAST_REGION] = region
    return region


@lean_njit()
def relocate(header, index, keys):
    """Lay out all regions anew, for entries packed in the order of `held_slots`.

    ``keys`` are packed already, from slot 1 on. ``index`` and the chunk section are large
    enough and will be overwritten.
    """
    header[ENTRY_END] = 1
    header[INDEX_END] = FIRST_INDEX
    header[CHUNK_END] = 0
    index[:FIRST_INDEX] = np.uint32(0)
    for region in range(header[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if header[at + STATE] == 0:
            header[at + FIRST_CHUNK] = NO_CHUNK
            continue
        count = header[at + COUNT]
        null_position = header[at + NULL_SLOT]
        bits = _index_bits(header, max(np.int64(4), count))
        _start_region(header, index, at, bits, count, header[at + WIDTH])
        first = header[at + NEXT_SLOT]
        header[at + COUNT] = count
        header[at + NEXT_SLOT] = first + count
        header[at + ROOM] = 0
        header[at + NULL_SLOT] = first + null_position - 1 if null_position > 0 else 0
        index_entries(header, index, keys, at)


@lean_njit()
def reindex(header, index, keys, low, bits):
    """Make the table direct for the ``2**bits`` keys from ``low``, or hashed if bits is 0.

    ``index`` is large enough for all open regions. Entries do not move; closed regions lose
    their storage.
    """
    header[DIRECT_LOW] = low
    header[DIRECT_BITS] = bits
    header[INDEX_END] = FIRST_INDEX
    for region in range(header[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if header[at + STATE] == 0:
            header[at + FIRST_CHUNK] = NO_CHUNK
            continue
        _start_index(header, index, at, _index_bits(header, max(np.int64(4), header[at + COUNT])))
        index_entries(header, index, keys, at)


def header_of_two():
    """Return the header of an empty table with room for two regions, to call kernels with."""
    header = np.zeros(REGIONS_AT + 2 * REGION_FIELDS + 8 * CHUNK_FIELDS + 4, dtype=np.int64)
    header[CHUNKS_AT] = REGIONS_AT + 2 * REGION_FIELDS
    header[DIRECTORY_AT] = header[CHUNKS_AT] + 8 * CHUNK_FIELDS
    header[DIRECTORY_SIZE] = 4
    header[SLICE_SIZE] = 1
    header[FREE_REGION] = -1
    return header


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    header = header_of_two()
    keys = np.zeros(1, dtype=np.int64)
    index = np.zeros(8, dtype=np.uint32)
    open_region(header, index, keys, 0, 2, 0, 0, 0)
    find_region(header, 0)
    relist(header)
    relocate(header, index, keys)
    reindex(header, index, keys, 0, 0)
