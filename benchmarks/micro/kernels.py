"""Kernels against the bandwidth of memory: a STREAM-like loop is measured in the same turns.

Bytes are those that a kernel must read and write once. A batch of the engine fits a cache, so
there are two loops to compare with: one over arrays larger than any cache, one over arrays as
large as the kernels'.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from benchmarks.measure.trial import Trial
from benchmarks.measure.trial_process import MARK

STREAM = "STREAM triad, from memory"
CACHED = "STREAM triad, arrays as large as the kernels'"
_KEYS = 10_000


@njit(cache=True, nogil=True)
def triad(a, b, out):
    """Add one array to three times another, as STREAM's triad does."""
    for i in range(len(a)):
        out[i] = a[i] + 3.0 * b[i]


Work = tuple[str, int, Callable[[], Any]]


def works(rows: int, scale: int) -> Iterator[Work]:
    """Yield a name, the bytes moved, and what to time; each over ``rows`` rows.

    STREAM's arrays have ``scale`` times as many, to be larger than any cache.
    """
    from hpcstream.kernels.accumulate import add_counts, add_floats, keep_greatest_float
    from hpcstream.kernels.exact_sums import WIDTH, add_exactly
    from hpcstream.kernels.hashing import hash_words
    from hpcstream.kernels.partition import order_by_partition, partition_of_words

    random = np.random.default_rng(1)
    a, b, c = (np.ones(rows * scale) for _ in range(3))
    yield STREAM, 24 * rows * scale, lambda: triad(a, b, c)
    near = [array[:rows].copy() for array in (a, b, c)]
    yield CACHED, 24 * rows, lambda: triad(*near)
    keys, values = random.integers(0, _KEYS, rows), random.random(rows)
    hashes, order = np.empty(rows, np.uint64), np.empty(rows, np.int32)
    sums, tops, ones = np.zeros(_KEYS), np.zeros(_KEYS), np.ones(rows, np.int64)
    counts = np.zeros(_KEYS, np.int64)
    yield "hash_words", 16 * rows, lambda: hash_words(keys, hashes)
    for n in (2, 8):
        owners, ends = np.empty(rows, np.uint16), np.empty(n + 1, np.int64)
        partition_of_words(keys, n, owners)
        yield f"partition_of_words, {n}", 10 * rows, partial(partition_of_words, keys, n, owners)
        ordered = partial(order_by_partition, owners, n, order, ends)
        yield f"order_by_partition, {n}", 8 * rows, ordered
    yield "add_floats", 32 * rows, lambda: add_floats(keys, values, sums)
    limbs = np.zeros(_KEYS * WIDTH, np.int64)
    yield "add_exactly", 48 * rows, lambda: add_exactly(keys, values.view(np.int64), limbs)
    yield "add_counts", 32 * rows, lambda: add_counts(keys, ones, counts)
    yield "keep_greatest_float", 24 * rows, lambda: keep_greatest_float(keys, values, tops)
    yield from _ordering(rows, keys)
    yield from _packing(rows, keys, values)


def _ordering(rows: int, keys: np.ndarray) -> Iterator[Work]:
    """Yield what rows of a key in event order take: their order, their slots, their timers."""
    from hpcstream.columns.row_order import NO_PLACES, RowTimes, event_order
    from hpcstream.kernels.ordered_rows import keep_first
    from hpcstream.state.arrays import HeapAllocator, read_only
    from hpcstream.state.keyed.store import KeyedState

    random = np.random.default_rng(2)
    times = np.arange(rows) * 4
    shapes = {
        "in order": times,
        "eight runs": np.concatenate([times[run::8] for run in range(8)]),
        "disorder of 5,000 ticks": times + random.integers(0, 5_000, rows),
        "random": random.permutation(times),
    }
    for name, shape in shapes.items():
        when = RowTimes(read_only(shape), read_only(shape), NO_PLACES)
        yield f"event_order, {name}", 20 * rows, partial(event_order, when)
    state, words, when = KeyedState((), HeapAllocator()), read_only(keys), read_only(times)
    slots = state.resolve(words)
    yield "resolve keyed slots", 28 * rows, partial(state.resolve, words)
    yield "set_due, each row moves a timeout", 28 * rows, partial(state.set_due, slots, when)
    until, keep = np.zeros(state.slots_end, dtype=np.int64), np.empty(rows, dtype=np.bool_)
    yield "keep_first", 29 * rows, partial(keep_first, slots, when, 100, until, keep)


def _packing(rows: int, keys: np.ndarray, values: np.ndarray) -> Iterator[Work]:
    """Yield the wire format: rows to messages for two ranks, three columns of 8 bytes."""
    import pyarrow as pa

    from hpcstream.exchange.partitioning import HashPartitioning, encode_partitioned
    from hpcstream.exchange.wire.format import WireFormat
    from hpcstream.memory.pool import process_pool

    batch = pa.record_batch({"ts": np.arange(rows), "key": keys, "value": values})
    wire = WireFormat(batch.schema, process_pool())
    by_key = HashPartitioning(("key",))
    yield (
        "hash, partition and pack",
        (2 * 24 + 10 + 8) * rows,
        lambda: encode_partitioned(by_key, wire, batch, 2, 0, 0),
    )


def rate(n_bytes: int, work: Callable[[], Any], budget_s: float) -> float:
    """Return the bytes a second of the best of many calls."""
    work()
    best, end = np.inf, time.perf_counter() + budget_s
    while time.perf_counter() < end:
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return float(n_bytes / best)


def main() -> None:
    """Measure every kernel in turns, on one core."""
    options = Trial.from_json(sys.argv[1]).options
    all_works = list(works(options["rows"], options["scale"]))
    found = [
        {"repetition": k, "name": name, "bytes_per_second": rate(n, work, options["budget_s"])}
        for k in range(options["repeats"])
        for name, n, work in all_works
    ]
    print(MARK + json.dumps({"kernels": found}), flush=True)


if __name__ == "__main__":
    main()
