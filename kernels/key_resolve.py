"""Finds the slots of rows: the loop that processes every row of a windowed aggregate.

A block of rows is looked up in three passes, so that cache misses overlap and most rows need
no branch: compute each key's home position in its slice's index; load the slot there (a
guess); compare the key of that slot. Rows with a wrong guess take the slow path, row by row:
new keys, collisions, late rows, nulls. In a direct table a guess is right or empty, and in
dense slices it needs no lookup: `key_direct` has these passes.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.key_direct import (
    count_dense,
    count_direct,
    direct_slot,
    locate_in_many,
    locate_in_two,
    look_up,
)
from hpcstream.kernels.key_table import (
    BATCH_DENSE,
    BATCH_MAX,
    BATCH_MIN,
    COUNT,
    DENSE_BASE,
    DENSE_WIDTH,
    DIRECT_BITS,
    DIRECT_LOW,
    FIRST_OPEN,
    INDEX_BASE,
    INDEX_BITS,
    IS_LATE,
    LOW,
    N_DENSE,
    N_LATE,
    N_LIVE,
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
    SPAN_BASE,
    SPAN_FIELDS,
    SPAN_LOW,
    SPAN_REGION,
    SPAN_WIDTH,
    TIME_CEILING,
    TIME_FLOOR,
    UNKNOWN,
    WIDTH,
    count_rows,
    find_region,
    header_of_two,
    key_slot,
    mix,
    note_dense,
    null_slot,
    slice_region,
    take_slot,
)

BLOCK = 1024  # rows of a block


@lean_njit()
def resolve_rows(header, index, keys, rows, columns, scratch, out_slots):
    """Find or make the slot of each row; count the row there.

    Parameters
    ----------
    header, index, keys, rows : the table
        ``header`` says the slice size and offset, and which slices are late.
        ``rows[0]`` means nothing.
    columns : (times, words, valid, counts)
        int64[n], event times: a row belongs to slice ``floor((time - offset) / size)``;
        int64[n], keys; bool[n], False where the key is null, empty if none is;
        int64[n], how many rows each stands for, empty if for one.
    scratch : uint64[2 * BLOCK]
        Anything may be in it.
    out_slots : uint32[n]
        Slot of each row, 0 for late rows.

    Returns
    -------
    int64
        Number of rows done. Less than n: ``header[NEED]`` says what is missing;
        call again with the rest.

    Notes
    -----
    Rows out of order make the slice of the next row unpredictable, so a batch
    that spans few slices (nearly all do) finds its region without branches. The
    quotient comes from a multiplication by the reciprocal, put right by
    comparing the remainder: exact below 2**52.
    """
    times, words, valid, counts = columns
    header[NEED] = NEED_NOTHING
    header[N_LATE] = 0
    if times.shape[0] == 0:
        return np.int64(0)
    low = times[0]
    high = times[0]
    for row in range(times.shape[0]):
        low = min(low, times[row])
        high = max(high, times[row])
    header[BATCH_MIN] = low
    header[BATCH_MAX] = high
    if low < header[TIME_FLOOR] or high > header[TIME_CEILING]:
        header[NEED] = NEED_OTHER_TIMES
        return np.int64(0)
    size = header[SLICE_SIZE]
    first = (low - header[SLICE_OFFSET]) // size
    n_slices = (high - header[SLICE_OFFSET]) // size - first + 1
    table = (header, index, keys, rows)
    if n_slices > SPAN or size > (np.int64(1) << 52) // n_slices:
        return _resolve_far(table, columns, out_slots)
    relative = scratch[:BLOCK]
    _prepare_span(header, first, n_slices)
    span = (first, n_slices, (first + 1) * size + header[SLICE_OFFSET])
    done = np.int64(0)
    while done < times.shape[0]:
        stop = min(done + BLOCK, times.shape[0])
        block = (times[done:stop], words[done:stop], valid[done:stop], counts[done:stop])
        _guess_block(table, block, span, relative, out_slots[done:stop])
        n_here = _count_block(table, block, span, scratch, out_slots[done:stop])
        done += n_here
        if done < stop:
            break
    return done


@lean_njit()
def _guess_block(table, block, span, relative, out_slots):
    """Write a slot for each row that is likely right, in a direct table right for sure, or 0."""
    header, index, _, _ = table
    times, words, valid, _ = block
    first, n_slices, boundary = span
    is_direct = header[DIRECT_BITS] > 0 or header[BATCH_DENSE]
    if n_slices > 2:
        _locate_in_span(header, times, first, n_slices, relative)
    if is_direct:
        if n_slices > 2:
            locate_in_many(header, words, relative, out_slots)
        else:
            locate_in_two(header, times, words, boundary, out_slots)
        if not header[BATCH_DENSE]:
            look_up(index, out_slots)
    elif n_slices > 2:
        _guess_in_many(header, index, words, relative, out_slots)
    else:
        _guess_in_two(header, index, times, words, boundary, out_slots)
    for row in range(valid.shape[0]):
        out_slots[row] = out_slots[row] if valid[row] else np.uint32(0)


@lean_njit()
def _count_block(table, block, span, scratch, out_slots):
    """Count rows where they belong, put wrong guesses right; return how many rows are done."""
    relative = scratch[:BLOCK]
    header, index, keys, rows = table
    times, words, valid, counts = block
    first, n_slices, boundary = span
    is_direct = header[DIRECT_BITS] > 0
    if header[BATCH_DENSE]:
        row = _count_in_dense(table, block, span, scratch, out_slots)
    elif is_direct:
        row = count_direct(rows, counts, out_slots)
    else:
        row = _count_right_guesses(keys, rows, words, counts, out_slots)
    is_dense = header[BATCH_DENSE] > 0
    while row < words.shape[0]:
        slot = np.int64(out_slots[row])
        n_rows = counts[row] if counts.shape[0] > 0 else 1
        if slot != 0 and not is_dense and (is_direct or keys[slot] == words[row]):
            rows[slot] += n_rows
            row += 1
            continue
        nth = _nth_slice(times[row], boundary, n_slices, relative[row])
        if slot == 0 or not is_dense:
            is_null = valid.shape[0] > 0 and not valid[row]
            slot = _slot_of_row(header, index, keys, first, nth, words[row], is_null)
            if slot < 0:
                break
            out_slots[row] = np.uint32(slot)
        if slot > 0:
            region = header[SPAN_AT + SPAN_FIELDS * nth + SPAN_REGION]
            count_rows(header, rows, REGIONS_AT + region * REGION_FIELDS, slot, n_rows)
        row += 1
    return row


@lean_njit(inline="always")
def _nth_slice(time, boundary, n_slices, relative):
    """Return which slice of the batch a row is in; ``relative`` says it if there are many."""
    return np.int64(time >= boundary) if n_slices <= 2 else np.int64(relative) // SPAN_FIELDS


@lean_njit()
def _count_in_dense(table, block, span, scratch, out_slots):
    """Count rows of dense slices up to the first without a slot; return their number."""
    header, _, _, rows = table
    times, _, _, counts = block
    _, n_slices, boundary = span
    relative, of_first = scratch[:BLOCK], scratch[BLOCK:]
    n_done, n_first = count_dense(rows, counts, out_slots, of_first)
    for row in of_first[:n_first]:
        nth = _nth_slice(times[row], boundary, n_slices, relative[row])
        region = header[SPAN_AT + SPAN_FIELDS * nth + SPAN_REGION]
        note_dense(header, REGIONS_AT + region * REGION_FIELDS, 1)
    return n_done


@lean_njit()
def _prepare_span(header, first, n_slices):
    """Note where each slice of the batch begins, if it is open.

    The batch is dense if all its open slices are. They may differ in a table that has just
    become dense or ceased to be.
    """
    header[BATCH_DENSE] = header[DENSE_WIDTH] > 0
    for number in range(n_slices):
        at = SPAN_AT + SPAN_FIELDS * number
        header[at + SPAN_REGION] = IS_LATE
        if first + number >= header[FIRST_OPEN]:
            region = find_region(header, first + number)
            header[at + SPAN_REGION] = UNKNOWN if region < 0 else region
            if region >= 0 and header[REGIONS_AT + region * REGION_FIELDS + WIDTH] == 0:
                header[BATCH_DENSE] = 0
    for number in range(n_slices):
        at = SPAN_AT + SPAN_FIELDS * number
        _note_region(header, at, header[at + SPAN_REGION])


@lean_njit()
def _note_region(header, at, region):
    """Write the base of a slice to the span: in the index, or of its slots in a dense batch.

    A slice without a region, or one that needs another kind of lookup than the batch, gets
    no width, so that its guesses are empty.
    """
    is_direct = header[DIRECT_BITS] > 0 or header[BATCH_DENSE]
    header[at + SPAN_BASE] = 0
    header[at + SPAN_WIDTH] = 0 if is_direct else 61  # a guess is one of positions 0 to 7
    header[at + SPAN_LOW] = header[DIRECT_LOW]
    header[at + SPAN_REGION] = region
    if region < 0:
        return
    fields = REGIONS_AT + region * REGION_FIELDS
    if header[BATCH_DENSE]:
        header[at + SPAN_BASE] = header[fields + DENSE_BASE]
        header[at + SPAN_WIDTH] = header[fields + WIDTH]
        header[at + SPAN_LOW] = header[fields + LOW]
    elif header[fields + WIDTH] == 0:
        bits = header[fields + INDEX_BITS]
        header[at + SPAN_BASE] = header[fields + INDEX_BASE]
        header[at + SPAN_WIDTH] = np.int64(1) << bits if is_direct else 64 - bits


@lean_njit()
def _locate_in_span(header, times, first, n_slices, out_relative):
    """Write the index of each row's slice in the span."""
    size = header[SLICE_SIZE]
    origin = first * size + header[SLICE_OFFSET]
    if n_slices == 1:
        for row in range(times.shape[0]):
            out_relative[row] = np.uint64(0)
    elif n_slices == 2:
        boundary = origin + size
        for row in range(times.shape[0]):
            out_relative[row] = np.uint64(SPAN_FIELDS if times[row] >= boundary else 0)
    else:
        width = np.float64(size)
        reciprocal = 1.0 / width
        for row in range(times.shape[0]):
            elapsed = np.float64(times[row] - origin)
            quotient = np.floor(elapsed * reciprocal)
            rest = elapsed - quotient * width
            quotient += (1.0 if rest >= width else 0.0) - (1.0 if rest < 0.0 else 0.0)
            out_relative[row] = np.uint64(SPAN_FIELDS * np.int64(quotient))


@lean_njit()
def _guess_in_two(header, index, times, words, boundary, out_slots):
    """Write the slot at the home position of each key, for at most two slices."""
    first, following = SPAN_AT, SPAN_AT + SPAN_FIELDS
    base, next_base = (
        np.uint64(header[first + SPAN_BASE]),
        np.uint64(header[following + SPAN_BASE]),
    )
    shift = np.uint64(header[first + SPAN_WIDTH])
    next_shift = np.uint64(header[following + SPAN_WIDTH])
    for row in range(words.shape[0]):
        is_next = times[row] >= boundary
        position = mix(words[row]) >> (next_shift if is_next else shift)
        out_slots[row] = np.uint32((next_base if is_next else base) + position)
    for row in range(words.shape[0]):
        out_slots[row] = index[out_slots[row]]


@lean_njit()
def _guess_in_many(header, index, words, relative, out_slots):
    """Write the slot at the home position of each key; the loads are independent."""
    for row in range(words.shape[0]):
        at = relative[row] + np.uint64(SPAN_AT)
        shift = np.uint64(header[at + np.uint64(SPAN_WIDTH)])
        base = np.uint64(header[at + np.uint64(SPAN_BASE)])
        out_slots[row] = np.uint32(base + (mix(words[row]) >> shift))
    for row in range(words.shape[0]):
        out_slots[row] = index[out_slots[row]]


@lean_njit()
def _count_right_guesses(keys, rows, words, counts, slots):
    """Count rows up to the first whose guess is wrong; return their number."""
    for row in range(words.shape[0]):
        slot = slots[row]
        if slot == 0 or keys[slot] != words[row]:
            return row
        rows[slot] += counts[row] if counts.shape[0] > 0 else 1
    return words.shape[0]


@lean_njit()
def _new_slot_at_home(header, index, keys, at, key):
    """Return a new slot for a key whose home position is empty; 0 if it is not.

    ``at`` is the offset in the span of a slice whose region is known.
    """
    position = np.uint64(header[at + SPAN_BASE]) + (mix(key) >> np.uint64(header[at + SPAN_WIDTH]))
    if index[position] != 0:
        return np.int64(0)
    fields = REGIONS_AT + header[at + SPAN_REGION] * REGION_FIELDS
    count = header[fields + COUNT] + 1
    if header[fields + ROOM] == 0 or 2 * count > (np.int64(1) << header[fields + INDEX_BITS]):
        return np.int64(0)
    slot = take_slot(header, fields)
    keys[slot] = key
    index[position] = np.uint32(slot)
    return slot


@lean_njit(inline="always")
def _slot_of_row(header, index, keys, first, nth, key, is_null):
    """Return the slot of a row whose guess was wrong; 0 if it is late, -1 if there is no room."""
    at = SPAN_AT + SPAN_FIELDS * nth
    slot = np.int64(0)
    region = header[at + SPAN_REGION]
    has_guesses = region >= 0 and not header[BATCH_DENSE]
    if not is_null and has_guesses and header[REGIONS_AT + region * REGION_FIELDS + WIDTH] == 0:
        if header[DIRECT_BITS] > 0:
            slot = direct_slot(header, index, keys, at, key)
        else:
            slot = _new_slot_at_home(header, index, keys, at, key)
    if slot == 0:
        slot = _span_slot(header, index, keys, first, nth, key, is_null)
    return slot


@lean_njit()
def _span_slot(header, index, keys, first, number, key, is_null):
    """Return the slot of a row by the slow path; 0 if it is late, -1 if there is no room."""
    at = SPAN_AT + SPAN_FIELDS * number
    region = header[at + SPAN_REGION]
    if region == UNKNOWN:
        region = slice_region(header, index, keys, first + number)
        if region == UNKNOWN:
            return np.int64(-1)
        _note_region(header, at, region)
    if region == IS_LATE:
        header[N_LATE] += 1
        return np.int64(0)
    fields = REGIONS_AT + region * REGION_FIELDS
    if is_null:
        slot = null_slot(header, index, keys, fields)
    else:
        slot = key_slot(header, index, keys, fields, key)
    if slot == 0:
        return np.int64(-1)
    _note_region(header, at, region)
    return slot


@lean_njit()
def _resolve_far(table, columns, out_slots):
    """Resolve rows of any number of slices, one by one."""
    header, index, keys, rows = table
    times, words, valid, counts = columns
    size = header[SLICE_SIZE]
    offset = header[SLICE_OFFSET]
    number = np.int64(0)
    region = np.int64(UNKNOWN)
    for row in range(times.shape[0]):
        wanted = (times[row] - offset) // size
        if region == UNKNOWN or wanted != number:
            number = wanted
            region = slice_region(header, index, keys, number)
            if region == UNKNOWN:
                return row
        if region == IS_LATE:
            header[N_LATE] += 1
            out_slots[row] = np.uint32(0)
            continue
        fields = REGIONS_AT + region * REGION_FIELDS
        if valid.shape[0] > 0 and not valid[row]:
            slot = null_slot(header, index, keys, fields)
        else:
            slot = key_slot(header, index, keys, fields, words[row])
        if slot == 0:
            return row
        n_rows = counts[row] if counts.shape[0] > 0 else 1
        count_rows(header, rows, fields, slot, n_rows)
        out_slots[row] = np.uint32(slot)
    return times.shape[0]


@lean_njit()
def resolve_entries(header, index, keys, rows, source, of_null, region, out_slots):
    """Find or make, in ``region``, the slot of each entry of another region; add its rows.

    ``source`` (uint32[n]) are the entries' slots, ``of_null`` the one of the null
    key or 0; none is of a key that ``region`` is dense for. Returns the number of
    entries done, as `resolve_rows`.
    """
    header[NEED] = NEED_NOTHING
    at = REGIONS_AT + region * REGION_FIELDS
    is_direct = header[DIRECT_BITS] > 0
    shift = np.uint64(64 - header[at + INDEX_BITS])
    base = np.uint64(header[at + INDEX_BASE])
    size = np.uint64(1) << np.uint64(header[at + INDEX_BITS])
    for row in range(source.shape[0]):  # guesses, as in `_guess_in_many`
        key = keys[source[row]]
        position = np.uint64(key - header[DIRECT_LOW]) if is_direct else mix(key) >> shift
        # The null key is a zero, which may be none of the keys of a direct table.
        has_position = position < size and np.int64(source[row]) != of_null
        out_slots[row] = index[base + position if has_position else np.uint64(0)]
    header[BATCH_DENSE] = 0
    _note_region(header, SPAN_AT, region)
    for row in range(source.shape[0]):
        slot = np.int64(source[row])
        found = np.int64(out_slots[row])
        if found == 0 or not (is_direct or keys[found] == keys[slot]):
            found = _entry_slot(header, index, keys, region, slot, of_null)
            if found == 0:
                return row
            out_slots[row] = np.uint32(found)
        rows[found] += rows[slot]
    return source.shape[0]


@lean_njit()
def _entry_slot(header, index, keys, region, slot, of_null):
    """Return the slot of an entry in the first region of the span; 0 if there is no room."""
    found = np.int64(0)
    at = REGIONS_AT + region * REGION_FIELDS
    if slot != of_null and header[at + WIDTH] == 0:
        if header[DIRECT_BITS] > 0:
            found = direct_slot(header, index, keys, SPAN_AT, keys[slot])
        else:
            found = _new_slot_at_home(header, index, keys, SPAN_AT, keys[slot])
    if found == 0:  # the slow path, after which the index may have moved
        if slot == of_null:
            found = null_slot(header, index, keys, at)
        else:
            found = key_slot(header, index, keys, at, keys[slot])
        _note_region(header, SPAN_AT, region)
    return found


@lean_njit()
def merge_dense(header, rows, source, region):
    """Add the rows of the dense keys of a region to those of another one."""
    from_, to = REGIONS_AT + source * REGION_FIELDS, REGIONS_AT + region * REGION_FIELDS
    width = header[to + WIDTH]
    more = rows[header[from_ + DENSE_BASE] : header[from_ + DENSE_BASE] + width]
    sums = rows[header[to + DENSE_BASE] : header[to + DENSE_BASE] + width]
    n_new = np.int64(0)
    for position in range(width):
        n_new += (sums[position] == 0) & (more[position] != 0)
        sums[position] += more[position]
    header[to + N_DENSE] += n_new
    header[N_LIVE] += n_new


def warm_up():
    """Compile every kernel for the arguments the engine passes."""
    header = header_of_two()
    keys, rows = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    index, slots = np.zeros(8, dtype=np.uint32), np.zeros(0, dtype=np.uint32)
    valid = np.zeros(0, dtype=np.bool_)
    words = np.zeros(0, dtype=np.int64)
    for array in (valid, words):
        array.setflags(write=False)
    scratch = np.empty(2 * BLOCK, dtype=np.uint64)
    resolve_rows(header, index, keys, rows, (words, words, valid, words), scratch, slots)
    resolve_entries(header, index, keys, rows, slots, 0, 0, slots)
    merge_dense(header, rows, 0, 0)
