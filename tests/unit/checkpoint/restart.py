"""Jobs that are killed and started again on simulated ranks, and what they must give."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import hpcstream as hs
from hpcstream import col
from hpcstream.testing import ManualClock, Ranks, start_ranks

Build = Callable[[Path], hs.Job]
OPTIONS = {"batch_rows": 80, "checkpoint_interval_s": 1e-6}


def rows(start, n):
    numbers = range(start, start + n)
    return {
        "t": list(numbers),
        "key": [f"key-{i * 7919 % 23}" if i % 11 != 5 else None for i in numbers],
        "x": [(i * 31 % 101) / 7 for i in numbers],
        "n": [i * 13 % 17 for i in numbers],
    }


def generated(job, n_rows=6000):
    return job.generate(
        rows, rows=n_rows, splits=7, event_time="t", event_time_unit="ms", watermark_delay="20ms"
    )


def sliding(out):
    job = hs.Job("sliding")
    windows = generated(job).filter(col("x") > 0.2).key_by("key").window(hs.sliding("1s", "250ms"))
    windows.agg(
        rows=hs.count(), total=col("x").sum(), worst=col("n").max(), last=col("n").last()
    ).write_parquet(out)
    return job


def medians(out):
    job = hs.Job("medians")
    windows = generated(job).key_by("key", "n").window(hs.tumbling("1s"))
    windows.agg(median=col("x").median(), distinct=col("n").count_distinct()).write_parquet(out)
    return job


def over_all_rows(out):
    job = hs.Job("all rows")
    windows = generated(job).window_all(hs.tumbling("700ms"))
    windows.agg(rows=hs.count(), total=col("x").sum(), median=col("x").median()).write_parquet(out)
    return job


def sessions(out):
    job = hs.Job("sessions")
    windows = generated(job).filter(col("x") > 3).key_by("key").window(hs.session("40ms"))
    windows.agg(rows=hs.count(), total=col("x").sum(), last=col("n").last()).write_parquet(out)
    return job


def sessions_of_all_rows(out):
    job = hs.Job("sessions of all rows")
    windows = generated(job).filter(col("n") > 11).window_all(hs.session("4ms"))
    windows.agg(rows=hs.count(), total=col("x").sum()).write_parquet(out)
    return job


def cumulating_medians(out):
    job = hs.Job("cumulating medians")
    window = hs.cumulate("1s", "200ms", only_changed=True)
    windows = generated(job).filter(col("x") > 3).key_by("key").window(window)
    windows.agg(rows=hs.count(), median=col("x").median()).write_parquet(out)
    return job


def chained(out):
    job = hs.Job("chained")
    first = generated(job).rebalance().key_by("n").window(hs.tumbling("100ms"))
    sums = first.agg(total=col("x").sum())
    second = sums.key_by("n").window(hs.tumbling("1s"))
    second.agg(total=col("total").sum(), rows=hs.count()).write_parquet(out)
    return job


def stateless(out):
    job = hs.Job("stateless")
    generated(job).with_columns(twice=col("n") * 2).write_parquet(out)
    return job


JOBS = [
    sliding,
    medians,
    over_all_rows,
    sessions,
    sessions_of_all_rows,
    cumulating_medians,
    chained,
    stateless,
]


def visible(out: Path) -> pa.Table:
    """Return the committed rows, in an order of their own."""
    parts = [pq.read_table(path) for path in sorted(out.glob("part-*.parquet"))]
    table = pa.concat_tables(parts)
    flat = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    return table.sort_by([(name, "ascending") for name in flat])


def unfailed(build: Build, folder: Path, n_ranks: int) -> tuple[pa.Table, int]:
    """Return the output of a run that nothing happens to, and how many turns it took."""
    turns = [0]

    def count() -> bool:
        turns[0] += 1
        return False

    with _started(build, folder / "unfailed", n_ranks, seed=0) as ranks:
        ranks.until(count)
        ranks.finish()
    return visible(folder / "unfailed" / "out"), turns[0]


def _started(build: Build, folder: Path, n_ranks: int, seed: int) -> Ranks:
    return start_ranks(
        n_ranks,
        lambda: build(folder / "out"),
        seed=seed,
        max_delay=3,
        clock=ManualClock(turn_s=0.01),
        checkpoint_dir=str(folder / "run"),
        **OPTIONS,
    )


def run_until_killed(build: Build, folder: Path, n_ranks: int, turns: int, seed: int) -> bool:
    """Start the job again, and drop all ranks after some turns; True if it ended before."""
    left = [turns]

    def is_over() -> bool:
        left[0] -= 1
        return left[0] < 0

    with _started(build, folder, n_ranks, seed) as ranks:
        killed = ranks.until(is_over)
        if not killed:
            ranks.finish()
    return not killed


def restarted(
    build: Build, folder: Path, sizes: Callable[[], int], *, seed: int, turns: int
) -> int:
    """Kill and restart until the job ends, which takes ``turns`` a rank; return the kills."""
    chance = random.Random(seed)
    kills = 0
    while True:
        n_ranks = sizes()
        last = n_ranks * (chance.randint(turns // 16, turns // 5) + kills * turns // 20)
        if run_until_killed(build, folder, n_ranks, last, seed + kills):
            return kills
        kills += 1
