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
    index    uint32[]   key -> slot, one part a region, open addressing, load <= 1/2
    keys     int64[]    key word of each slot
    rows     int64[]    number of rows of each slot; zero where no slot was given out

A region grows by another chunk, so no slot ever moves while a batch is
resolved; only its part of the index is rebuilt, twice as large. A closed region
keeps its only chunk and its index for the next slice of about its size, which is
why a job whose slices come and go needs no other memory than the first few took.
What is left behind else stays until `relocate` packs everything into fresh
arenas. Regions that are not in the directory (merged slices) live in the same
arenas.
"""

import numpy as np
from numba import njit

# Control fields of ``book``: ends of what was given out and capacities of the arenas;
(ENTRY_END, ENTRY_CAPACITY, INDEX_END, INDEX_CAPACITY, CHUNK_END, CHUNK_CAPACITY) = range(6)
# closed regions form a list that begins at FREE_REGION (-1: none), N_OPEN are in use,
# N_LISTED of them in the directory; N_LIVE entries are in use;
(REGION_END, REGION_CAPACITY, FREE_REGION, N_OPEN, N_LISTED, N_LIVE) = range(6, 12)
# the slice opened last (-1: closed since) and its entries when it was closed; no slice
# of the directory is below LEAST_SLICE;
(LAST_REGION, LAST_COUNT, LEAST_SLICE) = range(12, 15)
# of the last call: why it stopped early and how much room it needs, late rows, times;
(NEED, NEED_SIZE, N_LATE, BATCH_MIN, BATCH_MAX) = range(15, 20)
# set by the caller: slices, the first that is not late, what a row adds to ``rows``, and
# the range of times;
(SLICE_SIZE, SLICE_OFFSET, FIRST_OPEN, STEP, TIME_FLOOR, TIME_CEILING) = range(20, 26)
# where the sections are;
(CHUNKS_AT, DIRECTORY_AT, DIRECTORY_SIZE) = range(26, 29)
# the most entries that were in use of late, and slots of closed regions kept for others.
(PEAK_LIVE, N_KEPT) = range(29, 31)
N_CONTROL = 32

SPAN_AT = 32  # scratch: index base, shift, region of each slice of the batch
SPAN = 1024
REGIONS_AT = 32 + 3 * 1024

NEED_NOTHING, NEED_ENTRIES, NEED_INDEX, NEED_CHUNKS, NEED_REGIONS, NEED_DIRECTORY = range(6)
NEED_OTHER_TIMES = 6

# Fields of a region: slice number (of a closed one: the next closed one); 0 closed, 1 in the
# directory, 2 open but not there; its part of the index; its entries and chunks; slots left
# in the last chunk; the slot of the null key, 0 if none.
(NUMBER, STATE, INDEX_BASE, INDEX_BITS, COUNT) = range(5)
(FIRST_CHUNK, LAST_CHUNK, NEXT_SLOT, ROOM, NULL_SLOT) = range(5, 10)
REGION_FIELDS = 10
CHUNK_FIELDS = 3

FIRST_INDEX = 8  # index places 0 to 7 stay empty
LEAST_CHUNK = 8
NO_CHUNK = -1  # first chunk of a closed region that kept nothing
LOOK_AT = 8  # closed regions that are looked at for one to use again
UNKNOWN = -1  # instead of a region in the span: not looked up yet
IS_LATE = -2
BLOCK = 1024  # rows that are guessed together


@njit(cache=True, nogil=True)
def _mix(word):
    """Return a hash of a word; its upper bits are used.

    Multiplying by the golden ratio spreads dense integers without collisions;
    it is unrelated to the hash that routes keys to ranks.
    """
    bits = np.uint64(word)
    return (bits ^ (bits >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True, nogil=True)
def _stop(book, need, size):
    book[NEED] = need
    book[NEED_SIZE] = size


@njit(cache=True, nogil=True)
def _bits_for(n_entries):
    bits = 3
    while (np.int64(1) << bits) < 2 * n_entries:
        bits += 1
    return bits


@njit(cache=True, nogil=True)
def directory_home(book, number):
    """Return where the directory looks first for a slice."""
    return np.int64(_mix(number) >> np.uint64(20)) & (book[DIRECTORY_SIZE] - 1)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _list_region(book, region):
    place = directory_home(book, book[REGIONS_AT + region * REGION_FIELDS + NUMBER])
    while book[book[DIRECTORY_AT] + place] != 0:
        place = (place + 1) & (book[DIRECTORY_SIZE] - 1)
    book[book[DIRECTORY_AT] + place] = region + 1


@njit(cache=True, nogil=True)
def relist(book):
    """Fill an empty directory with all regions that belong in it."""
    for region in range(book[REGION_END]):
        if book[REGIONS_AT + region * REGION_FIELDS + STATE] == 1:
            _list_region(book, region)


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def open_region(book, index, number, listed, expected):
    """Open a region for about ``expected`` entries; return it, or -1 for want of room.

    The directory finds it by ``number`` if it is to be ``listed``.
    """
    if listed and 2 * (book[N_LISTED] + 1) > book[DIRECTORY_SIZE]:
        _stop(book, NEED_DIRECTORY, 1)
        return np.int64(-1)
    reserve = max(np.int64(LEAST_CHUNK), expected)
    bits = _bits_for(reserve)
    region = _reopen(book, index, reserve, bits)
    if region < 0:
        region = _open_fresh(book, index, reserve, bits)
    if region < 0:
        return region
    at = REGIONS_AT + region * REGION_FIELDS
    book[at + NUMBER] = number
    book[at + STATE] = 1 if listed else 2
    book[N_OPEN] += 1
    if listed:
        _list_region(book, region)
        book[N_LISTED] += 1
        book[LEAST_SLICE] = min(book[LEAST_SLICE], number)
    return region


@njit(cache=True, nogil=True)
def _reopen(book, index, reserve, bits):
    """Take a closed region whose chunk and index are of about the right size; -1 if none is."""
    before = np.int64(-1)
    region = book[FREE_REGION]
    for _ in range(LOOK_AT):
        if region < 0:
            break
        at = REGIONS_AT + region * REGION_FIELDS
        if book[at + FIRST_CHUNK] != NO_CHUNK:
            link = book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS
            room = book[link + 1]
            kept_bits = book[at + INDEX_BITS]
            if reserve <= room <= 4 * reserve and bits <= kept_bits <= bits + 2:
                if before < 0:
                    book[FREE_REGION] = book[at + NUMBER]
                else:
                    book[REGIONS_AT + before * REGION_FIELDS + NUMBER] = book[at + NUMBER]
                book[N_KEPT] -= room
                book[at + COUNT] = 0
                book[at + NULL_SLOT] = 0
                book[at + NEXT_SLOT] = book[link]
                book[at + ROOM] = room
                base = book[at + INDEX_BASE]
                index[base : base + (np.int64(1) << kept_bits)] = np.uint32(0)
                return region
        before = region
        region = book[at + NUMBER]
    return np.int64(-1)


@njit(cache=True, nogil=True)
def _open_fresh(book, index, reserve, bits):
    """Take fields, a chunk and a part of the index that nobody has had; -1 for want of room."""
    region = book[FREE_REGION]
    if region < 0:
        region = book[REGION_END]
    if region >= book[REGION_CAPACITY]:
        _stop(book, NEED_REGIONS, 1)
        return np.int64(-1)
    if _lacks_room(book, 1, reserve, np.int64(1) << bits):
        return np.int64(-1)
    at = REGIONS_AT + region * REGION_FIELDS
    if book[FREE_REGION] >= 0:
        book[FREE_REGION] = book[at + NUMBER]
        if book[at + FIRST_CHUNK] != NO_CHUNK:
            book[N_KEPT] -= book[book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS + 1]
    else:
        book[REGION_END] += 1
    _start_region(book, index, at, bits, reserve)
    return region


@njit(cache=True, nogil=True)
def _start_region(book, index, at, bits, reserve):
    """Give a region its first chunk and an empty index."""
    book[at + COUNT] = 0
    book[at + NULL_SLOT] = 0
    book[at + FIRST_CHUNK] = book[CHUNK_END]
    _start_chunk(book, at, reserve)
    _start_index(book, index, at, bits)


@njit(cache=True, nogil=True)
def _start_chunk(book, at, reserve):
    chunk = book[CHUNK_END]
    link = book[CHUNKS_AT] + chunk * CHUNK_FIELDS
    book[link] = book[ENTRY_END]
    book[link + 1] = reserve
    book[link + 2] = -1
    book[at + LAST_CHUNK] = chunk
    book[at + NEXT_SLOT] = book[ENTRY_END]
    book[at + ROOM] = reserve
    book[CHUNK_END] += 1
    book[ENTRY_END] += reserve


@njit(cache=True, nogil=True)
def _start_index(book, index, at, bits):
    base = book[INDEX_END]
    size = np.int64(1) << bits
    book[at + INDEX_BASE] = base
    book[at + INDEX_BITS] = bits
    book[INDEX_END] += size
    index[base : base + size] = np.uint32(0)


@njit(cache=True, nogil=True)
def _index_entries(book, index, keys, at):
    """Put all entries of a region into its (empty) index."""
    base = np.uint64(book[at + INDEX_BASE])
    shift = np.uint64(64 - book[at + INDEX_BITS])
    mask = (np.uint64(1) << (np.uint64(64) - shift)) - np.uint64(1)
    null_slot = book[at + NULL_SLOT]
    left = book[at + COUNT]
    link = book[CHUNKS_AT] + book[at + FIRST_CHUNK] * CHUNK_FIELDS
    while left > 0:
        n_here = min(left, book[link + 1])
        for slot in range(book[link], book[link] + n_here):
            if slot == null_slot:
                continue
            place = _mix(keys[slot]) >> shift
            while index[base + place] != 0:
                place = (place + np.uint64(1)) & mask
            index[base + place] = np.uint32(slot)
        left -= n_here
        link = book[CHUNKS_AT] + book[link + 2] * CHUNK_FIELDS


@njit(cache=True, nogil=True)
def _make_way(book, index, keys, at):
    """Make room for one more entry in a region; False for want of room in the arenas."""
    count = book[at + COUNT]
    bits = book[at + INDEX_BITS]
    reserve = max(np.int64(LEAST_CHUNK), count) if book[at + ROOM] == 0 else np.int64(0)
    n_places = np.int64(4) << bits if 2 * (count + 1) > (np.int64(1) << bits) else np.int64(0)
    if _lacks_room(book, 1, reserve, n_places):
        return False
    if reserve > 0:
        last_link = book[CHUNKS_AT] + book[at + LAST_CHUNK] * CHUNK_FIELDS
        book[last_link + 2] = book[CHUNK_END]
        _start_chunk(book, at, reserve)
    if n_places > 0:
        _start_index(book, index, at, bits + 2)
        _index_entries(book, index, keys, at)
    return True


@njit(cache=True, nogil=True, inline="always")
def _find_place(book, index, keys, at, key):
    """Return the place of a key in the whole index, or the empty place where it belongs."""
    base = np.uint64(book[at + INDEX_BASE])
    shift = np.uint64(64 - book[at + INDEX_BITS])
    mask = (np.uint64(1) << (np.uint64(64) - shift)) - np.uint64(1)
    place = _mix(key) >> shift
    found = index[base + place]
    while found != 0 and keys[found] != key:
        place = (place + np.uint64(1)) & mask
        found = index[base + place]
    return base + place


@njit(cache=True, nogil=True, inline="always")
def _next_slot(book, index, keys, at):
    """Return a new slot of a region, or 0 for want of room in the arenas."""
    is_full = 2 * (book[at + COUNT] + 1) > (np.int64(1) << book[at + INDEX_BITS])
    if (is_full or book[at + ROOM] == 0) and not _make_way(book, index, keys, at):
        return np.int64(0)
    slot = book[at + NEXT_SLOT]
    book[at + NEXT_SLOT] = slot + 1
    book[at + ROOM] -= 1
    book[at + COUNT] += 1
    book[N_LIVE] += 1
    return slot


@njit(cache=True, nogil=True, inline="always")
def _key_slot(book, index, keys, at, key):
    """Return the slot of a key in the region with fields ``at``, adding it; 0 for want of room."""
    place = _find_place(book, index, keys, at, key)
    if index[place] != 0:
        return np.int64(index[place])
    base = book[at + INDEX_BASE]
    slot = _next_slot(book, index, keys, at)
    if slot == 0:
        return slot
    if book[at + INDEX_BASE] != base:
        place = _find_place(book, index, keys, at, key)
    keys[slot] = key
    index[place] = np.uint32(slot)
    return slot


@njit(cache=True, nogil=True)
def _null_slot(book, index, keys, at):
    """Return the slot of the null key in a region, adding it; 0 for want of room."""
    if book[at + NULL_SLOT] == 0:
        slot = _next_slot(book, index, keys, at)
        keys[slot] = 0
        book[at + NULL_SLOT] = slot
    return book[at + NULL_SLOT]


@njit(cache=True, nogil=True)
def _slice_region(book, index, number):
    """Return the region of a slice, opening it; UNKNOWN for want of room, or IS_LATE."""
    if number < book[FIRST_OPEN]:
        return np.int64(IS_LATE)
    region = find_region(book, number)
    if region >= 0:
        return region
    expected = book[LAST_COUNT]
    if book[LAST_REGION] >= 0:
        expected = book[REGIONS_AT + book[LAST_REGION] * REGION_FIELDS + COUNT]
    region = open_region(book, index, number, True, expected + (expected >> 3))
    if region >= 0:
        book[LAST_REGION] = region
    return region


@njit(cache=True, nogil=True)
def resolve_rows(book, index, keys, rows, times, words, valid, out_slots):
    """Find or make the slot of each row; count the row there.

    Parameters
    ----------
    book, index, keys, rows : the table
        ``book`` says the slice size and offset, which slices are late, and what
        a row adds to ``rows``. ``rows[0]`` means nothing.
    times : int64[n]
        Event times. A row belongs to slice ``floor((time - offset) / size)``.
    words : int64[n]
        Keys.
    valid : bool[n] or bool[0]
        False where the key is null; empty if none is.
    out_slots : uint32[n]
        Slot of each row, 0 for late rows.

    Returns
    -------
    int64
        Number of rows done. Less than n: ``book[NEED]`` says what is missing;
        call again with the rest.

    Notes
    -----
    Rows out of order make the slice of the next row unpredictable, so a batch
    that spans few slices (nearly all do) finds its region without branches. The
    quotient comes from a multiplication by the reciprocal, put right by
    comparing the remainder: exact below 2**52.
    """
    book[NEED] = NEED_NOTHING
    book[N_LATE] = 0
    if times.shape[0] == 0:
        return np.int64(0)
    low = times[0]
    high = times[0]
    for row in range(times.shape[0]):
        low = min(low, times[row])
        high = max(high, times[row])
    book[BATCH_MIN] = low
    book[BATCH_MAX] = high
    if low < book[TIME_FLOOR] or high > book[TIME_CEILING]:
        book[NEED] = NEED_OTHER_TIMES
        return np.int64(0)
    size = book[SLICE_SIZE]
    first = (low - book[SLICE_OFFSET]) // size
    n_slices = (high - book[SLICE_OFFSET]) // size - first + 1
    if n_slices > SPAN or size > (np.int64(1) << 52) // n_slices:
        return _resolve_far(book, index, keys, rows, times, words, valid, out_slots)
    relative = np.empty(BLOCK, dtype=np.uint64)
    for number in range(n_slices):
        _prepare_span(book, first, number)
    boundary = (first + 1) * size + book[SLICE_OFFSET]
    done = np.int64(0)
    while done < times.shape[0]:
        stop = min(done + BLOCK, times.shape[0])
        if n_slices <= 2:
            _guess_in_two(
                book, index, times[done:stop], words[done:stop], boundary, out_slots[done:stop]
            )
        else:
            _place_in_span(book, times[done:stop], first, n_slices, relative)
            _guess_slots(book, index, words[done:stop], relative, out_slots[done:stop])
        if valid.shape[0] > 0:
            for row in range(done, stop):
                out_slots[row] = out_slots[row] if valid[row] else np.uint32(0)
        n_right = _count_right_guesses(
            keys, rows, words[done:stop], book[STEP], out_slots[done:stop]
        )
        for row in range(done + n_right, stop):
            slot = np.int64(out_slots[row])
            if slot == 0 or keys[slot] != words[row]:
                is_null = valid.shape[0] > 0 and not valid[row]
                if n_slices <= 2:
                    nth = np.int64(times[row] >= boundary)
                else:
                    nth = np.int64(relative[row - done]) // 3
                at = SPAN_AT + 3 * nth
                slot = np.int64(0)
                if not is_null and book[at + 2] >= 0:
                    slot = _new_slot_at_home(book, index, keys, at, words[row])
                if slot == 0:
                    slot = _span_slot(book, index, keys, first, nth, words[row], is_null)
                if slot < 0:
                    return row
                out_slots[row] = np.uint32(slot)
            rows[slot] += book[STEP]
        done = stop
    return done


@njit(cache=True, nogil=True)
def _prepare_span(book, first, number):
    """Note where the index of a slice begins, if the slice is open."""
    at = SPAN_AT + 3 * number
    book[at] = 0
    book[at + 1] = 61  # so that a guess is one of places 0 to 7
    book[at + 2] = UNKNOWN
    if first + number < book[FIRST_OPEN]:
        book[at + 2] = IS_LATE
        return
    region = find_region(book, first + number)
    if region >= 0:
        _note_region(book, at, region)


@njit(cache=True, nogil=True)
def _note_region(book, at, region):
    """Note in the span where the index of a slice's region begins."""
    book[at + 2] = region
    if region >= 0:
        fields = REGIONS_AT + region * REGION_FIELDS
        book[at] = book[fields + INDEX_BASE]
        book[at + 1] = 64 - book[fields + INDEX_BITS]


@njit(cache=True, nogil=True)
def _place_in_span(book, times, first, n_slices, out_relative):
    """Write three times the relative slice of each row."""
    size = book[SLICE_SIZE]
    origin = first * size + book[SLICE_OFFSET]
    if n_slices == 1:
        for row in range(times.shape[0]):
            out_relative[row] = np.uint64(0)
    elif n_slices == 2:
        boundary = origin + size
        for row in range(times.shape[0]):
            out_relative[row] = np.uint64(3) if times[row] >= boundary else np.uint64(0)
    else:
        width = np.float64(size)
        reciprocal = 1.0 / width
        for row in range(times.shape[0]):
            elapsed = np.float64(times[row] - origin)
            quotient = np.floor(elapsed * reciprocal)
            rest = elapsed - quotient * width
            quotient += (1.0 if rest >= width else 0.0) - (1.0 if rest < 0.0 else 0.0)
            out_relative[row] = np.uint64(3 * np.int64(quotient))


@njit(cache=True, nogil=True)
def _guess_in_two(book, index, times, words, boundary, out_slots):
    """Write what the index holds at the first place of each key, for two slices at most."""
    base, next_base = np.uint64(book[SPAN_AT]), np.uint64(book[SPAN_AT + 3])
    shift, next_shift = np.uint64(book[SPAN_AT + 1]), np.uint64(book[SPAN_AT + 4])
    for row in range(words.shape[0]):
        is_next = times[row] >= boundary
        place = _mix(words[row]) >> (next_shift if is_next else shift)
        out_slots[row] = np.uint32((next_base if is_next else base) + place)
    for row in range(words.shape[0]):
        out_slots[row] = index[out_slots[row]]


@njit(cache=True, nogil=True)
def _guess_slots(book, index, words, relative, out_slots):
    """Write what the index holds at the first place of each key: loads that need not wait."""
    for row in range(words.shape[0]):
        at = relative[row] + np.uint64(SPAN_AT)
        shift = np.uint64(book[at + np.uint64(1)])
        out_slots[row] = np.uint32(np.uint64(book[at]) + (_mix(words[row]) >> shift))
    for row in range(words.shape[0]):
        out_slots[row] = index[out_slots[row]]


@njit(cache=True, nogil=True)
def _count_right_guesses(keys, rows, words, step, slots):
    """Count rows up to the first whose guess is wrong; return how many."""
    for row in range(words.shape[0]):
        slot = slots[row]
        if slot == 0 or keys[slot] != words[row]:
            return row
        rows[slot] += step
    return words.shape[0]


@njit(cache=True, nogil=True)
def _new_slot_at_home(book, index, keys, at, key):
    """Return a slot for a key that is new, for nobody is at its first place; 0: look further.

    ``at`` is the place in the span of a slice whose region is known.
    """
    place = np.uint64(book[at]) + (_mix(key) >> np.uint64(book[at + 1]))
    if index[place] != 0:
        return np.int64(0)
    fields = REGIONS_AT + book[at + 2] * REGION_FIELDS
    count = book[fields + COUNT] + 1
    if book[fields + ROOM] == 0 or 2 * count > (np.int64(1) << book[fields + INDEX_BITS]):
        return np.int64(0)
    slot = book[fields + NEXT_SLOT]
    book[fields + NEXT_SLOT] = slot + 1
    book[fields + ROOM] -= 1
    book[fields + COUNT] = count
    book[N_LIVE] += 1
    keys[slot] = key
    index[place] = np.uint32(slot)
    return slot


@njit(cache=True, nogil=True)
def _span_slot(book, index, keys, first, number, key, is_null):
    """Return the slot of a row the long way; 0 if it is late, -1 for want of room."""
    at = SPAN_AT + 3 * number
    region = book[at + 2]
    if region == UNKNOWN:
        region = _slice_region(book, index, first + number)
        if region == UNKNOWN:
            return np.int64(-1)
        _note_region(book, at, region)
    if region == IS_LATE:
        book[N_LATE] += 1
        return np.int64(0)
    fields = REGIONS_AT + region * REGION_FIELDS
    if is_null:
        slot = _null_slot(book, index, keys, fields)
    else:
        slot = _key_slot(book, index, keys, fields, key)
    if slot == 0:
        return np.int64(-1)
    _note_region(book, at, region)
    return slot


@njit(cache=True, nogil=True)
def _resolve_far(book, index, keys, rows, times, words, valid, out_slots):
    """Resolve rows of any number of slices, one by one."""
    size = book[SLICE_SIZE]
    offset = book[SLICE_OFFSET]
    number = np.int64(0)
    region = np.int64(UNKNOWN)
    for row in range(times.shape[0]):
        wanted = (times[row] - offset) // size
        if region == UNKNOWN or wanted != number:
            number = wanted
            region = _slice_region(book, index, number)
            if region == UNKNOWN:
                return row
        if region == IS_LATE:
            book[N_LATE] += 1
            out_slots[row] = np.uint32(0)
            continue
        fields = REGIONS_AT + region * REGION_FIELDS
        if valid.shape[0] > 0 and not valid[row]:
            slot = _null_slot(book, index, keys, fields)
        else:
            slot = _key_slot(book, index, keys, fields, words[row])
        if slot == 0:
            return row
        rows[slot] += book[STEP]
        out_slots[row] = np.uint32(slot)
    return times.shape[0]


@njit(cache=True, nogil=True)
def resolve_entries(book, index, keys, source, null_slot, region, out_slots):
    """Find or make, in ``region``, the slot of each entry of another region.

    ``source`` (uint32[n]) are the entries' slots, ``null_slot`` the one of the null
    key or 0. Returns the number of entries done, as `resolve_rows`.
    """
    book[NEED] = NEED_NOTHING
    at = REGIONS_AT + region * REGION_FIELDS
    for row in range(source.shape[0]):  # guesses, as in `_guess_slots`
        place = _mix(keys[source[row]]) >> np.uint64(64 - book[at + INDEX_BITS])
        out_slots[row] = index[np.uint64(book[at + INDEX_BASE]) + place]
    for row in range(source.shape[0]):
        slot = np.int64(source[row])
        guess = out_slots[row]
        if slot == null_slot:
            found = _null_slot(book, index, keys, at)
        elif guess != 0 and keys[guess] == keys[slot]:
            continue
        else:
            found = _key_slot(book, index, keys, at, keys[slot])
        if found == 0:
            return row
        out_slots[row] = np.uint32(found)
    return source.shape[0]


@njit(cache=True, nogil=True)
def relocate(book, index, keys):
    """Lay out all regions afresh, for entries packed in the order of `live_slots`.

    ``keys`` are the packed ones already (from slot 1 on); ``index`` and the
    chunk section are large enough and hold nothing that is still needed.
    """
    book[ENTRY_END] = 1
    book[INDEX_END] = FIRST_INDEX
    book[CHUNK_END] = 0
    book[N_KEPT] = 0
    index[:FIRST_INDEX] = np.uint32(0)
    for region in range(book[REGION_END]):
        at = REGIONS_AT + region * REGION_FIELDS
        if book[at + STATE] == 0:
            book[at + FIRST_CHUNK] = NO_CHUNK
            continue
        count = book[at + COUNT]
        null_place = book[at + NULL_SLOT]
        first = book[ENTRY_END]
        _start_region(book, index, at, _bits_for(max(np.int64(4), count)), count)
        book[at + COUNT] = count
        book[at + NEXT_SLOT] = first + count
        book[at + ROOM] = 0
        book[at + NULL_SLOT] = first + null_place - 1 if null_place > 0 else 0
        _index_entries(book, index, keys, at)


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    book = np.zeros(REGIONS_AT + 2 * REGION_FIELDS + 8 * CHUNK_FIELDS + 4, dtype=np.int64)
    book[CHUNKS_AT] = REGIONS_AT + 2 * REGION_FIELDS
    book[DIRECTORY_AT] = book[CHUNKS_AT] + 8 * CHUNK_FIELDS
    book[DIRECTORY_SIZE] = 4
    book[SLICE_SIZE] = 1
    keys, rows = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    index, slots = np.zeros(8, dtype=np.uint32), np.zeros(0, dtype=np.uint32)
    valid = np.zeros(0, dtype=np.bool_)
    words = np.zeros(0, dtype=np.int64)
    for array in (valid, words):
        array.setflags(write=False)
    resolve_rows(book, index, keys, rows, words, words, valid, slots)
    resolve_entries(book, index, keys, slots, 0, 0, slots)
    open_region(book, index, 0, False, 0)
    find_region(book, 0)
    relist(book)
    relocate(book, index, keys)
