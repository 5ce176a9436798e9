"""Single parts of our own path against what the machine gives, in one run.

    mpiexec -n 2 python -m benchmarks.micro

* memory: a copying loop as in STREAM (McCalpin 1995), on every rank at once
* kernels: bytes that a kernel must read and write a second, as a part of the memory's
* exchange: payload a second through a rebalanced edge, as a part of raw ``Ialltoallv``
* rounds: microseconds a round of the whole loop takes, by rows a round
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from mpi4py import MPI

import hpcstream as hs
from benchmarks.tables import as_text
from hpcstream.kernels import accumulate, hashing, partition
from hpcstream.state.slice_store import HeapAllocator, SliceStore, Word

WORLD = MPI.COMM_WORLD
REPEATS = 5
_ROW_BYTES = 32

Row = tuple[str, str, str]


def main() -> None:
    """Measure everything; rank 0 prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.micro", description=__doc__)
    parser.add_argument("--rows", type=int, default=1 << 20, help="that kernels are given")
    parser.add_argument("--rounds", type=int, default=400, help="of a job")
    options = parser.parse_args()
    gigabytes, memory_rows = memory(options.rows)
    rows = memory_rows + kernels(options.rows, gigabytes)
    rows += exchange(options.rows) + rounds(options.rounds)
    if WORLD.rank == 0:
        print(as_text(("what", "figure", "of the machine"), rows), flush=True)


@njit(cache=True, nogil=True)
def _copy(source, target):
    for i in range(source.shape[0]):
        target[i] = source[i]


def best_of(action: Callable[[], Any]) -> float:
    """Return the median seconds of an action that all ranks do at once, after one for warmth."""
    action()
    seconds = []
    for _ in range(REPEATS):
        WORLD.Barrier()
        start = time.perf_counter()
        action()
        seconds.append(WORLD.allreduce(time.perf_counter() - start, MPI.MAX))
    return statistics.median(seconds)


def memory(n_rows: int) -> tuple[float, list[Row]]:
    """Return the gigabytes a second that a rank copies, reads and writes together."""
    source, target = np.ones(8 * n_rows), np.empty(8 * n_rows)
    gigabytes = 2 * source.nbytes / best_of(lambda: _copy(source, target)) / 1e9
    return gigabytes, [("memory, copying loop, a rank", f"{gigabytes:.1f} GB/s", "")]


def kernels(n_rows: int, limit: float) -> list[Row]:
    """Return what kernels of the hot path move, beside the copying loop."""
    random = np.random.default_rng(WORLD.rank)
    words = random.integers(0, 10_000, n_rows)
    values, times = random.random(n_rows), np.zeros(n_rows, dtype=np.int64)
    for array in (words, values, times):
        array.setflags(write=False)
    hashes, order = np.empty(n_rows, dtype=np.uint64), np.empty(n_rows, dtype=np.int32)
    offsets = np.empty(WORLD.size + 1, dtype=np.int64)
    store = SliceStore(1_000, 0, [Word("sum", "float64", 0.0)], HeapAllocator())
    slots = store.resolve(times, words).copy()
    cases: list[tuple[str, int, Callable[[], Any]]] = [
        ("hash_words", 16, lambda: hashing.hash_words(words, hashes)),
        (
            "partition_rows",
            20,
            lambda: partition.partition_rows(hashes, WORLD.size, order, offsets),
        ),
        ("resolve_rows, 10,000 keys", 20, lambda: store.resolve(times, words)),
        ("add_floats", 12, lambda: accumulate.add_floats(slots, values, store.words[0])),
    ]
    rows = []
    for name, row_bytes, action in cases:
        seconds = best_of(action)
        moved = row_bytes * n_rows / seconds / 1e9
        figure = f"{n_rows / seconds / 1e6:.0f} M rows/s, {moved:.1f} GB/s"
        rows.append((name, figure, f"{moved / limit:.0%} of memory"))
    return rows


def exchange(n_rows: int) -> list[Row]:
    """Return payload through raw ``Ialltoallv`` and through an edge of ours."""
    if WORLD.size == 1:
        return []
    n_bytes = 4 << 20
    counts = np.full(WORLD.size, n_bytes // WORLD.size)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sent, received = np.ones(n_bytes, np.uint8), np.empty(n_bytes, np.uint8)
    parts = (counts, starts)

    def raw() -> None:
        WORLD.Ialltoallv([sent, parts, MPI.BYTE], [received, parts, MPI.BYTE]).Wait()

    limit = n_bytes / best_of(raw) / 1e9
    n_rows *= 4
    seconds = best_of(lambda: _through_an_edge(n_rows))
    ours = n_rows * _ROW_BYTES / seconds / 1e9
    return [
        ("Ialltoallv of 4 MiB, a rank", f"{limit:.2f} GB/s", ""),
        ("an edge of ours, rebalance, a rank", f"{ours:.2f} GB/s", f"{ours / limit:.0%} of it"),
    ]


class _Counting:
    rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows


def _through_an_edge(n_rows: int) -> None:
    """Send rows of 32 bytes from every rank evenly to all."""
    piece = pa.record_batch({name: np.zeros(min(n_rows, 65_536)) for name in "abcd"})
    job, sink = hs.Job("edge"), _Counting()
    batches = [piece] * (n_rows // piece.num_rows)
    job.from_batches(batches, per_rank=True).rebalance().sink(sink)
    job.run(show=False)
    assert WORLD.allreduce(sink.rows) == len(batches) * piece.num_rows * WORLD.size


def rounds(n_rounds: int) -> list[Row]:
    """Return the microseconds of a round with a hash exchange and a window behind it."""
    rows = []
    for n_rows in (1, 1_024, 16_384):
        many = best_of(partial(_many_rounds, n_rows, n_rounds))
        one = best_of(partial(_many_rounds, n_rows, 1))
        figure = f"{1e6 * (many - one) / n_rounds:.0f} us"
        rows.append((f"round of {n_rows:,} rows a rank", figure, ""))
    return rows


def _many_rounds(n_rows: int, n_rounds: int) -> None:
    times = np.arange(n_rows, dtype=np.int64)
    piece = pa.record_batch({"t": times, "k": times % 1_000})
    job = hs.Job("rounds")
    stream = job.from_batches(
        [piece] * n_rounds, per_rank=True, event_time="t", event_time_unit="ms"
    )
    stream.key_by("k").window(hs.tumbling("1d")).agg(n=hs.count()).sink(_Counting())
    job.run(show=False, batch_rows=n_rows, local_aggregation=False)


if __name__ == "__main__":
    main()
