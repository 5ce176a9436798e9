"""Aggregates of a table of rows with columns ``t`` (event time in ms) and ``key``, on any ranks."""

from __future__ import annotations

import hpcstream as hs
from hpcstream.testing import run_ranks


def results_of(rows, aggregates, ranks, window, *, keyed, chunk_rows, **options):
    """Return the results of windows by key, or over all rows, as a table."""

    def build():
        job = hs.Job("windowed rows")
        stream = job.from_batches(
            rows.to_batches(max_chunksize=chunk_rows),
            event_time="t",
            event_time_unit="ms",
            watermark_delay="1s",
        )
        windows = stream.key_by("key").window(window) if keyed else stream.window_all(window)
        return job, windows.agg(**aggregates).collect()

    return run_ranks(ranks, build, **options).table
