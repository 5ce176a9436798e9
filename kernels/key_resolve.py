"""Rows to slots: the loop that every row of a windowed aggregate goes through.

A block of rows is looked up in three passes, so that cache misses overlap and most
rows meet no branch: where each key's first place in its slice's index is; what is
there (a guess); whether the entry there is of that key. What the guess got wrong
goes the long way, row by row: new keys, collisions, late rows, nulls. In a direct
table a guess is right or empty: `key_direct` has its passes.
"""

import numpy as np
from numba import njit

from hpcstream.kernels.key_direct import (
    count_direct,
    direct_slot,
    guess_direct,
    guess_direct_in_two,
)
from hpcstream.kernels.key_table import (
    BATCH_MAX,
    BATCH_MIN,
    CHUNK_FIELDS,
    CHUNKS_AT,
    COUNT,
    DIRECT_BITS,
    DIRECT_LOW,
    DIRECTORY_AT,
    DIRECTORY_SIZE,
    FIRST_OPEN,
    INDEX_BASE,
    INDEX_BITS,
    IS_LATE,
    N_LATE,
    NEED,
    NEED_NOTHING,
    NEED_OTHER_TIMES,
    REGION_FIELDS,
    REGIONS_AT,
    ROOM,
    SLICE_OFFSET,
    SLICE_SIZE,
    SPAN,
    SPAN_AT,
    STEP,
    TIME_CEILING,
    TIME_FLOOR,
    UNKNOWN,
    find_region,
    key_slot,
    mix,
    null_slot,
    slice_region,
    take_slot,
)

BLOCK = 1024  # rows that are guessed together


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
    is_direct = book[DIRECT_BITS] > 0
    done = np.int64(0)
    while done < times.shape[0]:
        stop = min(done + BLOCK, times.shape[0])
        here, out = words[done:stop], out_slots[done:stop]
        if n_slices > 2:
            _place_in_span(book, times[done:stop], first, n_slices, relative)
            _guess_slots(book, index, here, relative, out)
        elif is_direct:
            guess_direct_in_two(book, index, times[done:stop], here, boundary, out)
        else:
            _guess_in_two(book, index, times[done:stop], here, boundary, out)
        if valid.shape[0] > 0:
            for row in range(done, stop):
                out_slots[row] = out_slots[row] if valid[row] else np.uint32(0)
        if is_direct:
            row = done + count_direct(rows, book[STEP], out)
        else:
            row = done + _count_right_guesses(keys, rows, here, book[STEP], out)
        while row < stop:
            slot = np.int64(out_slots[row])
            if slot == 0 or (not is_direct and keys[slot] != words[row]):
                is_null = valid.shape[0] > 0 and not valid[row]
                if n_slices <= 2:
                    nth = np.int64(times[row] >= boundary)
                else:
                    nth = np.int64(relative[row - done]) // 3
                slot = _slot_of_row(book, index, keys, first, nth, words[row], is_null)
                if slot < 0:
                    return row
                out_slots[row] = np.uint32(slot)
            rows[slot] += book[STEP]
            row += 1
        done = stop
    return done


@njit(cache=True, nogil=True)
def _prepare_span(book, first, number):
    """Note where the index of a slice begins, if the slice is open."""
    at = SPAN_AT + 3 * number
    book[at] = 0
    book[at + 1] = 0 if book[DIRECT_BITS] > 0 else 61  # so that a guess is one of places 0 to 7
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
        bits = book[fields + INDEX_BITS]
        book[at + 1] = np.int64(1) << bits if book[DIRECT_BITS] > 0 else 64 - bits


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
        place = mix(words[row]) >> (next_shift if is_next else shift)
        out_slots[row] = np.uint32((next_base if is_next else base) + place)
    for row in range(words.shape[0]):
        out_slots[row] = index[out_slots[row]]


@njit(cache=True, nogil=True)
def _guess_slots(book, index, words, relative, out_slots):
    """Write what the index holds at the first place of each key: loads that need not wait."""
    if book[DIRECT_BITS] > 0:
        guess_direct(book, index, words, relative, out_slots)
        return
    for row in range(words.shape[0]):
        at = relative[row] + np.uint64(SPAN_AT)
        shift = np.uint64(book[at + np.uint64(1)])
        out_slots[row] = np.uint32(np.uint64(book[at]) + (mix(words[row]) >> shift))
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
    place = np.uint64(book[at]) + (mix(key) >> np.uint64(book[at + 1]))
    if index[place] != 0:
        return np.int64(0)
    fields = REGIONS_AT + book[at + 2] * REGION_FIELDS
    count = book[fields + COUNT] + 1
    if book[fields + ROOM] == 0 or 2 * count > (np.int64(1) << book[fields + INDEX_BITS]):
        return np.int64(0)
    slot = take_slot(book, fields)
    keys[slot] = key
    index[place] = np.uint32(slot)
    return slot


@njit(cache=True, nogil=True, inline="always")
def _slot_of_row(book, index, keys, first, nth, key, is_null):
    """Return the slot of a row whose guess was wrong; 0 if it is late, -1 for want of room."""
    at = SPAN_AT + 3 * nth
    slot = np.int64(0)
    if not is_null and book[at + 2] >= 0:
        if book[DIRECT_BITS] > 0:
            slot = direct_slot(book, index, keys, at, key)
        else:
            slot = _new_slot_at_home(book, index, keys, at, key)
    if slot == 0:
        slot = _span_slot(book, index, keys, first, nth, key, is_null)
    return slot


@njit(cache=True, nogil=True)
def _span_slot(book, index, keys, first, number, key, is_null):
    """Return the slot of a row the long way; 0 if it is late, -1 for want of room."""
    at = SPAN_AT + 3 * number
    region = book[at + 2]
    if region == UNKNOWN:
        region = slice_region(book, index, first + number)
        if region == UNKNOWN:
            return np.int64(-1)
        _note_region(book, at, region)
    if region == IS_LATE:
        book[N_LATE] += 1
        return np.int64(0)
    fields = REGIONS_AT + region * REGION_FIELDS
    if is_null:
        slot = null_slot(book, index, keys, fields)
    else:
        slot = key_slot(book, index, keys, fields, key)
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
            region = slice_region(book, index, number)
            if region == UNKNOWN:
                return row
        if region == IS_LATE:
            book[N_LATE] += 1
            out_slots[row] = np.uint32(0)
            continue
        fields = REGIONS_AT + region * REGION_FIELDS
        if valid.shape[0] > 0 and not valid[row]:
            slot = null_slot(book, index, keys, fields)
        else:
            slot = key_slot(book, index, keys, fields, words[row])
        if slot == 0:
            return row
        rows[slot] += book[STEP]
        out_slots[row] = np.uint32(slot)
    return times.shape[0]


@njit(cache=True, nogil=True)
def resolve_entries(book, index, keys, source, of_null, region, out_slots):
    """Find or make, in ``region``, the slot of each entry of another region.

    ``source`` (uint32[n]) are the entries' slots, ``of_null`` the one of the null
    key or 0. Returns the number of entries done, as `resolve_rows`.
    """
    book[NEED] = NEED_NOTHING
    at = REGIONS_AT + region * REGION_FIELDS
    is_direct = book[DIRECT_BITS] > 0
    shift = np.uint64(64 - book[at + INDEX_BITS])
    base = np.uint64(book[at + INDEX_BASE])
    for row in range(source.shape[0]):  # guesses, as in `_guess_slots`
        key = keys[source[row]]
        place = np.uint64(key - book[DIRECT_LOW]) if is_direct else mix(key) >> shift
        # The null key is a zero, which may be none of the keys of a direct table.
        place = base + place if np.int64(source[row]) != of_null else np.uint64(0)
        out_slots[row] = index[place]
    _note_region(book, SPAN_AT, region)
    for row in range(source.shape[0]):
        slot = np.int64(source[row])
        guess = out_slots[row]
        if guess != 0 and (is_direct or keys[guess] == keys[slot]):
            continue
        found = np.int64(0)
        if slot != of_null and is_direct:
            found = direct_slot(book, index, keys, SPAN_AT, keys[slot])
        elif slot != of_null:
            found = _new_slot_at_home(book, index, keys, SPAN_AT, keys[slot])
        if found == 0:  # the long way, after which the index may be elsewhere
            if slot == of_null:
                found = null_slot(book, index, keys, at)
            else:
                found = key_slot(book, index, keys, at, keys[slot])
            _note_region(book, SPAN_AT, region)
        if found == 0:
            return row
        out_slots[row] = np.uint32(found)
    return source.shape[0]


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
