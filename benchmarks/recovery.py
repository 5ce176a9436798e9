"""What checkpoints cost, and how fast a job goes on: a script, run by itself or on ranks.

::

    hpcstream run -n 2 benchmarks/recovery.py cost          rows a second with and without
    hpcstream run -n 2 benchmarks/recovery.py state         pause beside a memcpy, restore
    hpcstream run -n 3 benchmarks/recovery.py restore       what `state` left, on other ranks
    python benchmarks/recovery.py ranks                     what one rank wrote, on one and on two
    hpcstream run -n 2 benchmarks/recovery.py incremental   bytes written beside bytes changed
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import hpcstream as hs
from hpcstream import col
from hpcstream.checkpoint.storage.directory import CheckpointStore
from hpcstream.checkpoint.storage.manifest import Manifest, read_manifest
from hpcstream.graph.physical import LOCAL

KEYS = 1000
ROWS_A_SECOND = 1_000_000  # of event time
_ENTRY_BYTES = 41  # key, rows, is_null, sum, its nulls, max


class Nothing:
    """A sink that keeps nothing."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Forget a batch."""


def few_keys(start: int, n: int) -> pa.RecordBatch:
    """Return rows as those of the workload ``tumbling``, cheap to make."""
    numbers = np.arange(start, start + n)
    return pa.record_batch({"t": numbers // 1000, "key": numbers * 7919 % KEYS, "x": numbers * 0.5})


def new_keys(start: int, n: int) -> pa.RecordBatch:
    """Return rows of which each has a key of its own."""
    numbers = np.arange(start, start + n)
    return pa.record_batch({"t": numbers // 1000, "key": numbers, "x": numbers * 0.5})


def windows(make: Any, rows: int, window: Any, delay: str = "0s") -> hs.Job:
    """Return a job of one aggregate."""
    job = hs.Job("recovery")
    stream = job.generate(
        make, rows=rows, splits=64, event_time="t", event_time_unit="ms", watermark_delay=delay
    )
    keyed = stream.key_by("key").window(window)
    keyed.agg(n=hs.count(), total=col("x").sum(), most=col("x").max()).sink(Nothing())
    return job


def cost(options: argparse.Namespace, say: Any) -> None:
    """Run ``tumbling`` with a checkpoint each second, and without, by turns.

    Where others use the machine too, the processor time says more than the rate.
    """

    def run(*, rows: int, checked: bool) -> tuple[float, float, int]:
        where = {"checkpoint_dir": options.directory, "checkpoint_interval": "1s"}
        more: dict[str, Any] = {**where, "restore_from": None} if checked else {}
        began = time.process_time()
        result = windows(few_keys, rows, hs.tumbling("1s")).run(show=False, **more)
        cpu_s = time.process_time() - began
        return result.rows_in / result.seconds / 1e6, cpu_s, result.checkpoints or 0

    for checked in (False, True):
        run(rows=options.rows // 20, checked=checked)
    turns = [
        [run(rows=options.rows, checked=checked) for checked in (False, True)]
        for _ in range(options.repeats)
    ]
    plain, checked_ = ([turn[which] for turn in turns] for which in (0, 1))
    costs = sorted(100 * (1 - with_[0] / without[0]) for without, with_ in turns)
    say(f"tumbling: {statistics.median(run[0] for run in plain):.2f} M rows/s without checkpoints, "
        f"{statistics.median(run[0] for run in checked_):.2f} with one a second; cost in "
        f"{len(turns)} pairs of runs {costs[0]:+.1f} to {costs[-1]:+.1f} %, median "
        f"{statistics.median(costs):+.1f} %")  # fmt: skip
    say(f"  all: {[round(run[0], 1) for run in plain]}, {[round(run[0], 1) for run in checked_]}")
    before_s, after_s = (statistics.median(run[1] for run in runs) for runs in (plain, checked_))
    n_taken = statistics.median(run[2] for run in checked_)
    say(f"  processor time of rank 0: {before_s:.2f} s without, {after_s:.2f} s with "
        f"{n_taken:g} checkpoints: {1e3 * (after_s - before_s) / max(n_taken, 1):.0f} ms "
        "each, the start and the end of a job with them counted in")  # fmt: skip


def state(options: argparse.Namespace, say: Any) -> None:
    """Fill a window with state that changes all the time, stop, and go on from the checkpoint.

    The last checkpoint is the one it stops with: nothing waits for that one's copy.
    """
    store = CheckpointStore(options.directory)
    made = stopping(
        lambda start, n: keys_again(start, n, options),
        options.entries * 5 // 4,
        lambda: len(store.stored()) >= options.checkpoints,
    )
    stopped(all_keys(made, options), options.directory, options.interval)
    for manifest in list(manifests(options.directory))[::-1]:
        say(pause_beside_memcpy(manifest))
    restore(options, say)


def restore(options: argparse.Namespace, say: Any) -> None:
    """Go on from what `state` left, and say how long it took until the first row was read."""
    before = next(manifests(options.directory))
    read_s: list[float] = []

    def rows(start: int, n: int) -> pa.RecordBatch:
        read_s.append(time.perf_counter())
        return keys_again(start, n, options)

    job = all_keys(stopping(rows, 200_000), options)  # asks for a few rows, to know their types
    read_s.clear()
    began_s = time.perf_counter()
    stopped(job, options.directory, "1h")
    n_bytes = sum(operator.state_bytes for operator in before.operators)
    n_files = len(before.files) + len(before.shared)
    say(f"restore: {n_bytes / 1e9:.2f} GB of state in {n_files} files of {before.size} ranks, read "
        f"by {size()}; {read_s[0] - began_s:.2f} s to the first row")  # fmt: skip


def ranks(options: argparse.Namespace, say: Any) -> None:
    """Fill a window on one rank, and restore it by turns on one and on two."""
    on_ranks(1, "state", options)
    stored = CheckpointStore(options.directory).stored()[0]
    options.path = stored.path
    n_bytes = sum(one.state_bytes for one in read_manifest(stored.path).operators)
    took: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(options.repeats):
        for n_ranks, times in took.items():
            times.append(float(on_ranks(n_ranks, "again", options)))
    one, two = (statistics.median(times) for times in took.values())
    say(f"{n_bytes / 1e9:.2f} GB of one rank: {one:.2f} s to the first row on one rank, "
        f"{two:.2f} s on two, {two / one:.2f} times; all: {took[1]}, {took[2]}")  # fmt: skip


def on_ranks(n_ranks: int, what: str, options: argparse.Namespace) -> str:
    """Run this script on ranks; return the last line that it printed."""
    names = ("directory", "entries", "keys", "checkpoints", "path")
    given = [f"--{name}={getattr(options, name)}" for name in names]
    command = [sys.executable, "-m", "hpcstream", "run", "-n", str(n_ranks), __file__, what, *given]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1]


class FirstRow(Exception):
    """Rows are read again."""


def again(options: argparse.Namespace, say: Any) -> None:
    """Go on from one checkpoint, and say how long it took until the first row was read."""
    is_asked_for = False

    def rows(start: int, n: int) -> pa.RecordBatch:
        if is_asked_for:
            raise FirstRow
        return keys_again(start, n, options)

    job = all_keys(rows, options)  # asks for a few rows, to know their types
    is_asked_for = True
    began_s = time.perf_counter()
    try:
        job.run(show=False, checkpoint_dir=f"{options.directory}-again", restore_from=options.path)
    except FirstRow:
        say(f"{time.perf_counter() - began_s:.3f}")


def keys_again(start: int, n: int, options: argparse.Namespace) -> pa.RecordBatch:
    """Return rows whose keys come again and again."""
    numbers = np.arange(start, start + n)
    keys: Any = numbers % options.entries
    if options.keys == "strings":
        keys = pc.binary_join_element_wise("a key of text", pa.array(keys).cast("string"), "-")
    return pa.record_batch({"t": numbers // 1000, "key": keys, "x": numbers * 0.5})


def all_keys(make: Any, options: argparse.Namespace) -> hs.Job:
    """Return a job of one window that does not end."""
    return windows(make, 10_000 * options.entries, hs.tumbling("100d"))


def pause_beside_memcpy(manifest: Manifest) -> str:
    """Return what a checkpoint's copy took beside a memcpy of as much, by the clock and in CPU."""
    facts = manifest.facts
    copies = [memcpy(facts["copied_bytes"], touched=touched) for touched in (True, False)]
    pause = facts["pause_s"], facts["pause_cpu_s"]
    ratios = [[took / copy for took, copy in zip(pause, row, strict=True)] for row in copies]
    return (
        f"  checkpoint {manifest.number}: {facts['copied_bytes'] / 1e6:.0f} MB copied on a rank, "
        f"written in {facts['seconds']:.2f} s, pause {1e3 * pause[0]:.1f} ms, "
        f"{ratios[0][0]:.2f} times a memcpy to touched memory ({1e3 * copies[0][0]:.1f} ms), "
        f"{ratios[1][0]:.2f} to fresh ({1e3 * copies[1][0]:.1f} ms); by processor time "
        f"{1e3 * pause[1]:.1f} ms, {ratios[0][1]:.2f} and {ratios[1][1]:.2f} times"
    )


def incremental(options: argparse.Namespace, say: Any) -> None:
    """Show what each checkpoint copies of a state that grows by slices.

    What local stages hold goes to other ranks later, and is written there once more.
    """
    # Windows that fired would hand out all keys so far, again and again: none does.
    make = stopping(new_keys, options.entries // 2)
    job = windows(make, options.entries, hs.sliding("1h", "100ms"), delay="1d")
    stopped(job, options.directory, options.interval)
    before = 0
    for manifest in reversed(list(manifests(options.directory))):
        n_bytes = sum(operator.state_bytes for operator in manifest.operators)
        on_its_way = sum(
            operator.state_bytes for operator in manifest.operators if operator.role == LOCAL
        )
        say(f"  checkpoint {manifest.number}: state {n_bytes / 1e6:8.1f} MB, grown by "
            f"{(n_bytes - before) / 1e6:6.1f} MB, {on_its_way / 1e6:.1f} MB of it in local stages; "
            f"written {manifest.facts['bytes'] / 1e6:6.1f} MB, "
            f"{len(manifest.shared)} files referred to, pause "
            f"{1e3 * manifest.facts['pause_s']:.1f} ms")  # fmt: skip
        before = n_bytes


def stopping(make: Any, after: int, also: Callable[[], bool] = lambda: True) -> Any:
    """Return ``make``, but send the signal that stops the job after so many rows, once ``also``."""
    made, is_sent = 0, False

    def rows(start: int, n: int) -> pa.RecordBatch:
        nonlocal made, is_sent
        made += n
        if not is_sent and made >= after / size() and also():
            is_sent = True
            os.kill(os.getpid(), signal.SIGUSR2)
        return make(start, n)

    return rows


def stopped(job: hs.Job, directory: str, interval: str) -> Manifest:
    """Run a job until it is stopped; return its last checkpoint."""
    try:
        job.run(show=False, checkpoint_dir=directory, checkpoint_interval=interval, keep=100)
    except hs.JobStopped:
        return next(manifests(directory))
    raise SystemExit("the job ended before it was stopped: more --entries")


def manifests(directory: str) -> Iterator[Manifest]:
    """Yield the manifests of a checkpoint directory, newest first."""
    return (read_manifest(entry.path) for entry in CheckpointStore(directory).stored())


def memcpy(n_bytes: int, *, touched: bool) -> tuple[float, float]:
    """Return how long a copy takes, and its processor time: medians of five.

    ``touched``: to memory of which every page is there; else the kernel has to find it first.
    """
    source = np.ones(n_bytes, dtype=np.uint8)
    copy = np.zeros_like(source)
    copy.fill(1)
    times, cpu_times = [], []
    for _ in range(5):
        started, cpu_started = time.perf_counter(), time.thread_time()
        if touched:
            np.copyto(copy, source)
        else:
            copy = source.copy()
        times.append(time.perf_counter() - started)
        cpu_times.append(time.thread_time() - cpu_started)
    return statistics.median(times), statistics.median(cpu_times)


def size() -> int:
    """Return the number of ranks."""
    return int(os.environ.get("OMPI_COMM_WORLD_SIZE") or os.environ.get("PMI_SIZE") or 1)


def rank() -> int:
    """Return this process's rank."""
    return int(os.environ.get("OMPI_COMM_WORLD_RANK") or os.environ.get("PMI_RANK") or 0)


def main() -> int:
    """Run what was asked for and print figures on rank 0."""
    modes = {one.__name__: one for one in (cost, state, restore, ranks, again, incremental)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=tuple(modes))
    parser.add_argument("--directory", default="out/recovery", help="for checkpoints; is removed")
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--entries", type=int, default=1_000_000_000 // _ENTRY_BYTES)
    parser.add_argument("--interval", default="2s", help="between checkpoints of `state`")
    parser.add_argument("--checkpoints", type=int, default=5, help="of `state`, before it stops")
    parser.add_argument("--path", default="", help="checkpoint to go on from, of `again`")
    parser.add_argument("--keys", choices=("integers", "strings"), default="integers")
    options = parser.parse_args()

    def say(text: str) -> None:
        if rank() == 0:
            print(text, flush=True)

    if rank() == 0 and options.what not in ("restore", "again"):
        shutil.rmtree(options.directory, ignore_errors=True)
    modes[options.what](options, say)
    return 0


if __name__ == "__main__":
    assert Path(__file__).exists()
    sys.exit(main())
