"""The table behind windowed state: (slice, key) -> slot.

A *slot* is a position in the arenas that all slices share; accumulators live in
further arrays of the same length, indexed by slot. Slot 0 belongs to nobody: it
means "empty" in the index, and rows that no slice takes are sent there, so that
accumulating needs no branch for them.

::

    book     int64[]    control fields, scratch, then three sections:
                          regions    the fields of each open slice (`NUMBER` ...)
                          chunks     base, size, next: a region's slots, in insertion order
                          directory  slice number -> region + 1, open addressing
    index    uint32[]   key -> slot, one part a region, in one of two ways:
                          hashed: open addressing, load <= 1/2
                          direct: the place of a key is ``key - DIRECT_LOW``
    keys     int64[]    key word of each slot
    rows     int64[]    number of rows of each slot; zero where no slot was given out

A region grows by another chunk, so no slot ever moves while a batch is
resolved; only its part of the index is rebuilt, twice as large. A closed region
keeps its chunks and its index for the next slice of about its size, which is
why a job whose slices come and go needs no other memory than the first few took.
What is left behind else stays until `relocate` packs everything into fresh
arenas. Regions that are not in the directory (merged slices) live in the same
arenas.

Keys that lie close together (small integers, interned strings) need no hashing: a
table whose keys span at most a few times as many values as a slice has entries
is *direct*. Nothing collides there and no key is compared, for a word of index
a value, which is what hashing needs, too. `reindex` changes from one to the other.

Where slices hold most of the keys of a range, even looking in the index is too much: a
*dense* region has a slot for each of these keys, in order, so that the key alone gives
the slot; it has rows, or it is vacant and no entry. Other keys, and the null key, are
entries of the region like those of any other. Which regions are dense decides the order
of their entries (keys of the range in their order, then the others as they came), so it
must not depend on how much room there is: `hpcstream.state.slices.dense_range` decides.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit

# Control fields of ``book``: ends of what was given out and capacities of the arenas;
(ENTRY_END, ENTRY_CAPACITY, INDEX_END, INDEX_CAPACITY, CHUNK_END, CHUNK_CAPACITY) = range(6)
# closed regions form a list that begins at FREE_REGION (-1: none), N_OPEN are in use,
# N_LISTED of them in the directory; N_LIVE entries are in use;
(REGION_END, REGION_CAPACITY, FREE_REGION, N_OPEN, N_LISTED, N_LIVE) = range(6, 12)
# the slice opened last (-1: closed since); entries of the one closed last; no slice of the
# directory is below LEAST_SLICE;
(LAST_REGION, LAST_COUNT, LEAST_SLICE) = range(12, 15)
# of the last call: why it stopped early and how much room it needs, late rows, times;
(NEED, NEED_SIZE, N_LATE, BATCH_MIN, BATCH_MAX) = range(15, 20)
# set by the caller: slices, the first that is not late, and the range of times;
(SLICE_SIZE, SLICE_OFFSET, FIRST_OPEN, TIME_FLOOR, TIME_CEILING) = range(20, 25)
# where the sections are;
(CHUNKS_AT, DIRECTORY_AT, DIRECTORY_SIZE) = range(26, 29)
# slots that regions in use have been given, and the most of late.
(N_HELD, PEAK_HELD) = range(29, 31)
# the table is direct if DIRECT_BITS > 0: its keys are DIRECT_LOW to DIRECT_LOW + 2**bits - 1.
(DIRECT_LOW, DIRECT_BITS) = range(31, 33)
# The next slices are dense for the DENSE_WIDTH keys from DENSE_LOW on; for how many the open
# slices are, and how many of these have rows; whether all slices of the last batch are dense.
(DENSE_LOW, DENSE_WIDTH, DENSE_SLOTS, DENSE_LIVE, BATCH_DENSE) = range(33, 38)
N_CONTROL = 40

# Scratch: what is needed of each slice of a batch to look a key up: where it begins in the
# index; for how many keys, and from which one on, if the table is direct, else a shift; its
# region. In a dense batch it is the slots that begin there.
SPAN_AT = 40
SPAN = 1024
SPAN_FIELDS = 4
(SPAN_BASE, SPAN_WIDTH, SPAN_LOW, SPAN_REGION) = range(4)
REGIONS_AT = SPAN_AT + SPAN_FIELDS * SPAN

NEED_NOTHING, NEED_ENTRIES, NEED_INDEX, NEED_CHUNKS, NEED_REGIONS, NEED_DIRECTORY = range(6)
NEED_OTHER_TIMES, NEED_OTHER_KEYS = 6, 7

# Fields of a region: slice number (of a closed one: the next closed one); 0 closed, 1 in the
# directory, 2 open but not there; its part of the index; its entries and chunks; slots left
# in the last chunk; the slot of the null key, 0 if none; how many keys it is dense for, from
# which on, the slot of that, and how many of these have rows (COUNT has the other entries);
# how often entries were cleared, of all slices that it has been.
(NUMBER, STATE, INDEX_BASE, INDEX_BITS, COUNT) = range(5)
(FIRST_CHUNK, LAST_CHUNK, NEXT_SLOT, ROOM, NULL_SLOT) = range(5, 10)
(WIDTH, LOW, DENSE_BASE, N_DENSE, N_CLEARS) = range(10, 15)
REGION_FIELDS = 15
CHUNK_FIELDS = 3

FIRST_INDEX = 8  # index places 0 to 7 stay empty
LEAST_CHUNK = 8
NO_CHUNK = -1  # after the last chunk; instead of the first one of a closed region without any
LOOK_AT = 8  # closed regions that are looked at for one to use again
MOST_VACANT = 8  # slots for each one in use, beyond which opening large slices is a waste
UNKNOWN = -1  # instead of a region in the span: not looked up yet
IS_LATE = -2


@lean_njit()
def mix(word):
    """Return a hash of a word; its upper bits are used.

    Multiplying by the golden ratio spreads dense integers without collisions;
    it is unrelated to the hash that routes keys to ranks.
    """
    bits = np.uint64(np.int64(word))  # of a negative number, too
    return (bits ^ (bits >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)


@lean_njit()
def _stop(book, need, size):
    book[NEED] = need
    book[NEED_SIZE] = size


@lean_njit()
def _bits_for(n_entries):
    bits = 3
    while (np.int64(1) << bits) < 2 * n_entries:
        bits += 1
    return bits


@lean_njit()
def _index_bits(book, n_entries):
    """Return the binary logarithm of the size of an index for so many entries."""
    return book[DIRECT_BITS] if book[DIRECT_BITS] > 0 else _bits_for(n_entries)


@lean_njit()
def directory_home(book, number):
    """Return where the directory looks first for a slice."""
    return np.int64(mix(number) >> np.uint64(20)) & (book[DIRECTORY_SIZE] - 1)


@lean_njit()
def find_region(book, number):
    """Return the region of a slice, or -1."""
    place = directory_home(book, number)
    while True:
        found = book[book[DIRECTORY_AT] + place]
        if found == 0:
            return np.int64(-1)
        if book[REGIONS_AT + (found - 1) * REGION_FIELDS + NUMBER] == number:
            return found - 1
        place = (place + 1) & (book[DIRECTORY_SIZE] - 1)


@lean_njit()
def _list_region(book, region):
    place = directory_home(book, book[REGIONS_AT + region * REGION_FIELDS + NUMBER])
    while book[book[DIRECTORY_AT] + place] != 0:
        place = (place + 1) & (book[DIRECTORY_SIZE] - 1)
    book[book[DIRECTORY_AT] + place] = region + 1


@lean_njit()
def relist(book):
    """Fill an empty directory with all regions that belong in it."""
    for region in range(book[REGION_END]):
        if book[REGIONS_AT + region * REGION_FIELDS + STATE] == 1:
            _list_region(book, region)


@lean_njit()
def _lacks_room(book, n_chunks, n_entries, n_places):
    """Whether one of the arenas is too full; says which in ``book``."""
    if book[CHUNK_END] + n_chunks > book[CHUNK_CAPACITY]:
        _stop(book, NEED_CHUNKS, n_chunks)
    elif book[ENTRY_END] + n_entries > book[ENTRY_CAPACITY]:
        _stop(book, NEED_ENTRIES, n_entries)
    elif book[INDEX_END] + n_places > book[INDEX_CAPACITY]:
        _stop(book, NEED_INDEX, n_places)
    else:
        return False
    return True


@lean_njit()
def open_region(book, index, keys, number, kind, low, width, expected):
    """Open a region; return it, or -1 for want of room.

    ``kind`` is its STATE: the directory finds it by ``number`` if that is 1. It is
    dense for the ``width`` keys from ``low`` on, and has room for about ``expected``
    entries of other keys.
    """
    if kind == 1 and 2 * (book[N_LISTED] + 1) > book[DIRECTORY_SIZE]:
        _stop(book, NEED_DIRECTORY, 1)
        return np.int64(-1)
    reserve = max(np.int64(LEAST_CHUNK), expected)
    bits = _index_bits(book, reserve)
    region = _reopen(book, index, reserve, bits, width)
    is_fresh = region < 0
    if is_fresh:
        region = _open_fresh(book, index, reserve, bits, width)
    if region < 0:
        return region
    at = REGIONS_AT + region * REGION_FIELDS
    if width > 0 and (is_fresh or book[at + LOW] != low):
        book[at + LOW] = low
        for place in range(width):
            keys[book[at + DENSE_BASE] + place] = low + place
    book[at + N_DENSE] = 0
    book[at + NUMBER] = number
    book[at + STATE] = kind
    book[N_HELD] += width
    book[N_OPEN] += 1
    if kind == 1:
        _list_region(book, region)
        book[N_LISTED] += 1
        book[DENSE_SLOTS] += width
        book[LEAST_SLICE] = min(book[LEAST_SLICE], number)
    return region


@lean_njit()
def kept_slots(book, at):
    """Return how many slots a closed region kept, besides those of the keys it was dense for."""
    n_slots = np.int64(0)
    chunk = book[at + FIRST_CHUNK]
    while chunk != NO_CHUNK:
        n_slots += book[book[CHUNKS_AT] + chunk * CHUNK_FIELDS + 1]
        chunk = book[book[CHUNKS_AT] + chunk * CHUNK_FIELDS + 2]
    return n_slots


@lean_njit()
def _reopen(book, index, reserve, bits, width):
    """Take a closed region whose chunks and index are of about the right size; -1 if none is."""
    before = np.int64(-1)
    region = book[FREE_REGION]
    for _ in range(LOOK_AT):
        if region < 0:
            break
        at = REGIONS_AT + region * REGION_FIELDS
        n_kept = kept_slots(book, at)
        kept_bits = book[at + INDEX_BITS]
        suits = reserve - (reserve >> 4) <= n_kept <= 4 * reserve and bits <= kept_bits <= bits + 2
        if suits and book[at + WIDTH] == width:
            if before < 0:
                book[FREE_REGION] = book[at + NUMBER]
            else:
                book[REGIONS_AT + before * REGION_FIELDS + NUMBER] = book[at + NUMBER]
            book[at + COUNT] = 0
            book[at + NULL_SLOT] = 0
            _enter_chunk(book, at, book[at + FIRST_CHUNK])
            base = book[at + INDEX_BASE]
            index[base : base + (np.int64(1) << kept_bits)] = np.uint32(0)
            return region
        before = region
        region = book[at + NUMBER]
    return np.int64(-1)


@lean_njit()
def _open_fresh(book, index, reserve, bits, width):
    """Take fields, slots and a part of the index that nobody has had; -1 for want of room."""
    region = book[FREE_REGION]
    if region < 0:
        region = book[REGION_END]
    if region >= book[REGION_CAPACITY]:
        _stop(book, NEED_REGIONS, 1)
        return np.int64(-1)
    if _lacks_room(book, 1, width + reserve, np.int64(1) << bits):
        return np.int64(-1)
    at = REGIONS_AT + region * REGION_FIELDS
    if book[FREE_REGION] >= 0:
        book[FREE_REGION] = book[at + NUMBER]
    else:
        book[REGION_END] += 1
    _start_region(book, index, at, bits, reserve, width)
    return region


@lean_njit()
def _start_region(book, index, at, bits, reserve, width):
    """Give a region the slots it is dense for, its first chunk and an empty index."""
    book[at + COUNT] = 0
    book[at + NULL_SLOT] = 0
    book[at + WIDTH] = width
    book[at + DENSE_BASE] = book[ENTRY_END]
    book[ENTRY_END] += width
    book[at + FIRST_CHUNK] = book[CHUNK_END]
    _start_chunk(book, at, reserve)
    _start_index(book, index, at, bits)


@lean_njit()
def _start_chunk(book, at, reserve):
    chunk = book[CHUNK_END]
    link = book[CHUNKS_AT] + chunk * CHUNK_FIELDS
    book[link] = book[ENTRY_END]
    book[link + 1] = reserve
    book[link + 2] = NO_CHUNK
    book[CHUNK_END] += 1
    book[ENTRY_END] += reserve
    _enter_chunk(book, at, chunk)


@lean_njit()
def _enter_chunk(book, at, chunk):
    """Let a region's next entries go into one of its chunks."""
    link = book[CHUNKS_AT] + chunk * CHUNK_FIELDS
    book[at + LAST_CHUNK] = chunk
    book[at + NEXT_SLOT] = book[link]
    book[at + ROOM] = book[link + 1]


@lean_njit()
def _start_index(book, index, at, bits):
    base = book[INDEX_END]
    size = np.int64(1) << bits
    book[at + INDEX_BASE] = base
    book[at + INDEX_BITS] = bits
    book[INDEX_END] += size
    index[base : base + size] = np.uint32(0)


@lean_njit()
def index_entries(book, index, keys, at):
    """Put all entries of a region into its (empty) index."""
    base = np.uint64(book[at + INDEX_BASE])
    shift = np.uint64(64 - book[at + INDEX_BITS])
    mask = (np.uint64(1) << (np.uint64(64) - shift)) - np.uint64(1)
    is_direct = book[DIRECT_BITS] > 0
    low = book[DIRECT_LOW]
    null_slot = book[at + NULL_SLOT]
    left = book[at + COUNT]
    link = book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS
    while left > 0:
        n_here = min(left, book[link + 1])
        for slot in range(book[link], book[link] + n_here):
            if slot == null_slot:
                continue
            if is_direct:
                index[base + np.uint64(keys[slot] - low)] = np.uint32(slot)
                continue
            place = mix(keys[slot]) >> shift
            while index[base + place] != 0:
                place = (place + np.uint64(1)) & mask
            index[base + place] = np.uint32(slot)
        left -= n_here
        link = book[CHUNKS_AT] + book[link + 2] * CHUNK_FIELDS


@lean_njit(inline="always")
def _is_full(book, at):
    """Whether one more entry would be too many for a region's index."""
    return book[DIRECT_BITS] == 0 and 2 * (book[at + COUNT] + 1) > (
        np.int64(1) << book[at + INDEX_BITS]
    )


@lean_njit()
def _make_way(book, index, keys, at):
    """Make room for one more entry in a region; False for want of room in the arenas."""
    count = book[at + COUNT]
    bits = book[at + INDEX_BITS]
    last_link = book[CHUNKS_AT] + book[at + LAST_CHUNK] * CHUNK_FIELDS
    reserve = np.int64(0)
    if book[at + ROOM] == 0 and book[last_link + 2] == NO_CHUNK:
        reserve = max(np.int64(LEAST_CHUNK), count)
    n_places = np.int64(4) << bits if _is_full(book, at) else np.int64(0)
    if _lacks_room(book, 1, reserve, n_places):
        return False
    if reserve > 0:
        book[last_link + 2] = book[CHUNK_END]
        _start_chunk(book, at, reserve)
    elif book[at + ROOM] == 0:
        _enter_chunk(book, at, book[last_link + 2])
    if n_places > 0:
        _start_index(book, index, at, bits + 2)
        index_entries(book, index, keys, at)
    return True


@lean_njit(inline="always")
def find_place(book, index, keys, at, key):
    """Return the place of a key in the whole index, or the empty place where it belongs.

    Return place 0 if the table is direct and the key is none of its keys.
    """
    base = np.uint64(book[at + INDEX_BASE])
    if book[DIRECT_BITS] > 0:
        place = np.uint64(key - book[DIRECT_LOW])
        return np.uint64(0) if place >> np.uint64(book[DIRECT_BITS]) else base + place
    shift = np.uint64(64 - book[at + INDEX_BITS])
    mask = (np.uint64(1) << (np.uint64(64) - shift)) - np.uint64(1)
    place = mix(key) >> shift
    found = index[base + place]
    while found != 0 and keys[found] != key:
        place = (place + np.uint64(1)) & mask
        found = index[base + place]
    return base + place


@lean_njit(inline="always")
def take_slot(book, at):
    """Return a new slot of a region that has room."""
    slot = book[at + NEXT_SLOT]
    book[at + NEXT_SLOT] = slot + 1
    book[at + ROOM] -= 1
    book[at + COUNT] += 1
    book[N_LIVE] += 1
    book[N_HELD] += 1
    return slot


@lean_njit(inline="always")
def note_dense(book, at, n_new):
    """Note that slots of keys that a slice is dense for are vacant no more."""
    book[at + N_DENSE] += n_new
    book[N_LIVE] += n_new
    book[DENSE_LIVE] += n_new


@lean_njit(inline="always")
def count_rows(book, rows, at, slot, n_rows):
    """Note more rows of an entry of the slice with fields ``at``, which may have been vacant."""
    if rows[slot] == 0 and np.uint64(slot - book[at + DENSE_BASE]) < np.uint64(book[at + WIDTH]):
        note_dense(book, at, 1)
    rows[slot] += n_rows


@lean_njit(inline="always")
def _next_slot(book, index, keys, at):
    """Return a new slot of a region, or 0 for want of room in the arenas."""
    if (_is_full(book, at) or book[at + ROOM] == 0) and not _make_way(book, index, keys, at):
        return np.int64(0)
    return take_slot(book, at)


@lean_njit(inline="always")
def key_slot(book, index, keys, at, key):
    """Return the slot of a key in the region with fields ``at``, adding it; 0 for want of room."""
    distance = np.uint64(key - book[at + LOW])
    if distance < np.uint64(book[at + WIDTH]):
        return book[at + DENSE_BASE] + np.int64(distance)
    place = find_place(book, index, keys, at, key)
    if index[place] != 0:
        return np.int64(index[place])
    if place == 0:
        _stop(book, NEED_OTHER_KEYS, 0)
        return np.int64(0)
    base = book[at + INDEX_BASE]
    slot = _next_slot(book, index, keys, at)
    if slot == 0:
        return slot
    if book[at + INDEX_BASE] != base:
        place = find_place(book, index, keys, at, key)
    keys[slot] = key
    index[place] = np.uint32(slot)
    return slot


@lean_njit()
def null_slot(book, index, keys, at):
    """Return the slot of the null key in a region, adding it; 0 for want of room."""
    if book[at + NULL_SLOT] == 0:
        slot = _next_slot(book, index, keys, at)
        keys[slot] = 0
        book[at + NULL_SLOT] = slot
    return book[at + NULL_SLOT]


@lean_njit()
def slice_region(book, index, keys, number):
    """Return the region of a slice, opening it; UNKNOWN for want of room, or IS_LATE."""
    if number < book[FIRST_OPEN]:
        return np.int64(IS_LATE)
    region = find_region(book, number)
    if region >= 0:
        return region
    expected = book[LAST_COUNT]
    if book[LAST_REGION] >= 0:
        last = book[REGIONS_AT + book[LAST_REGION] * REGION_FIELDS + COUNT]
        expected = max(expected, last)
    expected += expected >> 3
    # Slices in a stretch of time with few rows should not be as large as those before it.
    if book[ENTRY_END] > MOST_VACANT * max(book[N_HELD], book[PEAK_HELD]) + 2 * expected:
        expected = np.int64(0)
    width = book[DENSE_WIDTH]
    if book[DENSE_SLOTS] > MOST_VACANT * book[DENSE_LIVE] + 2 * width:
        width = np.int64(0)
    region = open_region(book, index, keys, number, 1, book[DENSE_LOW], width, expected)
    if region >= 0:
        book[LAST_REGION] = region
    return region


@lean_njit()
def relocate(book, index, keys):
    """Lay out all regions afresh, for entries packed in the order of `held_slots`.

    ``keys`` are the packed ones already (from slot 1 on); ``index`` and the
    chunk section are large enough and hold nothing that is still needed.
    """
    book[ENTRY_END] = 1
    book[INDEX_END] = FIRST_INDEX
    book[CHUNK_END] = 0
    index[:FIRST_INDEX] = np.uint32(0)
    for region in range(book[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if book[at + STATE] == 0:
            book[at + FIRST_CHUNK] = NO_CHUNK
            continue
        count = book[at + COUNT]
        null_place = book[at + NULL_SLOT]
        bits = _index_bits(book, max(np.int64(4), count))
        _start_region(book, index, at, bits, count, book[at + WIDTH])
        first = book[at + NEXT_SLOT]
        book[at + COUNT] = count
        book[at + NEXT_SLOT] = first + count
        book[at + ROOM] = 0
        book[at + NULL_SLOT] = first + null_place - 1 if null_place > 0 else 0
        index_entries(book, index, keys, at)


@lean_njit()
def reindex(book, index, keys, low, bits):
    """Make the table direct for keys from ``low`` to ``low + 2**bits - 1``; hashed if bits are 0.

    ``index`` is large enough for all regions in use. Entries stay where they are;
    what closed regions kept is lost.
    """
    book[DIRECT_LOW] = low
    book[DIRECT_BITS] = bits
    book[INDEX_END] = FIRST_INDEX
    for region in range(book[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if book[at + STATE] == 0:
            book[at + FIRST_CHUNK] = NO_CHUNK
            continue
        _start_index(book, index, at, _index_bits(book, max(np.int64(4), book[at + COUNT])))
        index_entries(book, index, keys, at)


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    book = np.zeros(REGIONS_AT + 2 * REGION_FIELDS + 8 * CHUNK_FIELDS + 4, dtype=np.int64)
    book[CHUNKS_AT] = REGIONS_AT + 2 * REGION_FIELDS
    book[DIRECTORY_AT] = book[CHUNKS_AT] + 8 * CHUNK_FIELDS
    book[DIRECTORY_SIZE] = 4
    book[FREE_REGION] = -1
    keys = np.zeros(1, dtype=np.int64)
    index = np.zeros(8, dtype=np.uint32)
    open_region(book, index, keys, 0, 2, 0, 0, 0)
    find_region(book, 0)
    relist(book)
    relocate(book, index, keys)
    reindex(book, index, keys, 0, 0)
