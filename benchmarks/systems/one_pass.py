"""What the hardware allows: one compiled loop over dense keys, on one core.

No hashing, no event-time bookkeeping, no exchange: keys are numbers from 0 on, found before
the clock starts. Its answer over the whole replayed stream is what the others must give.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from benchmarks.measure.trial import Trial
from benchmarks.workloads.answers import Answer, key_hashes, mix_row
from benchmarks.workloads.datasets import campaigns
from benchmarks.workloads.json_lines import parse


class OnePass:
    """`System` of one loop over dense arrays."""

    def __init__(self, trial: Trial) -> None:
        self._workload = workload = trial.query
        self._rows = rows = _Rows(trial)
        if workload.sessions:
            rows.sort()
        self._first = int(rows.times.min()) // workload.slide
        slices = workload.period // workload.slide
        assert int(rows.times.max()) // workload.slide - self._first < slices
        shape = (slices, len(rows.hashes))
        self._counts = np.zeros(shape, dtype=np.int64)
        self._sums = np.zeros(shape if workload.aggregates else (0, 0), dtype=np.float64)
        self._maxima = np.zeros(self._sums.shape, dtype=np.float64)

    def run(self, passes: int) -> tuple[float, Answer]:
        """Accumulate and fold ``passes`` times; the answer is that of the whole stream."""
        start = time.perf_counter()
        for _ in range(passes):
            self._answer(1)
        seconds = time.perf_counter() - start
        return seconds, self._answer(passes)

    def expected(self, passes: int) -> Answer:
        """Return the right answer over the whole replayed stream."""
        return self._answer(passes)

    def _answer(self, passes: int) -> Answer:
        if self._workload.sessions:
            return self._add_sessions(passes)
        self._accumulate()
        return self._fold(passes)

    def _add_sessions(self, passes: int) -> Answer:
        rows, workload = self._rows, self._workload
        replay = workload.size, passes, workload.period
        found, mix, *sums = add_sessions(rows.times, rows.keys, rows.values, rows.hashes, replay)
        by_name = dict(zip(("sum", "max"), sums, strict=True))
        columns = [by_name[name] for name in workload.aggregates]
        return Answer(found, passes * len(rows.times), int(mix), columns)

    def _accumulate(self) -> None:
        rows, slide = self._rows, self._workload.slide
        self._counts[:] = 0
        self._sums[:] = 0
        self._maxima[:] = -np.inf
        if rows.kept is not None:
            campaign, event = rows.kept
            count_kept(rows.times, rows.keys, rows.events, (campaign, event), self._counts, slide)
        else:
            tables = self._counts, self._sums, self._maxima
            accumulate(rows.times, rows.keys, rows.values, tables, slide, self._first)

    def _fold(self, passes: int) -> Answer:
        workload = self._workload
        tables = self._counts, self._sums, self._maxima
        window = workload.size // workload.slide, workload.slide, self._first
        rows, count, mix, *sums = fold(tables, self._rows.hashes, window, passes)
        by_name = dict(zip(("sum", "max", "mean"), sums, strict=True))
        return Answer(rows, count, int(mix), [by_name[name] for name in workload.aggregates])


class _Rows:
    """The columns of the file with dense keys."""

    def __init__(self, trial: Trial) -> None:
        table = pa.ipc.open_file(pa.memory_map(trial.path)).read_all()
        self.times = table["ts"].to_numpy()
        self.kept: tuple[np.ndarray, int] | None = None
        self.events = self.values = np.empty(0)
        if trial.query.is_json:
            table = pa.Table.from_batches(map(parse, table.to_batches()))
        if trial.query.counts_views:
            self._take_events(table)
        else:
            self.values = table["value"].to_numpy()
            self.keys, self.hashes = _dense([table[name] for name in trial.query.keys])

    def _take_events(self, table: pa.Table) -> None:
        ads = campaigns()
        names = pc.unique(ads["campaign"])
        campaign = pc.index_in(ads["campaign"], names).to_numpy().astype(np.int64)
        self.keys = pc.index_in(table["ad_id"], ads["ad_id"]).to_numpy().astype(np.int64)
        self.hashes = key_hashes([names])
        events = pa.array(["view", "click", "purchase"])
        self.events = pc.index_in(table["event_type"], events).to_numpy().astype(np.int8)
        self.kept = campaign, 0

    def sort(self) -> None:
        """Put the rows in the order of their times."""
        order = np.argsort(self.times, kind="stable")
        self.times, self.keys, self.values = (
            column[order] for column in (self.times, self.keys, self.values)
        )


def make(trial: Trial) -> OnePass:
    """Return the loop, its rows in memory."""
    return OnePass(trial)


def _dense(columns: list[pa.ChunkedArray]) -> tuple[np.ndarray, np.ndarray]:
    """Return a number from 0 on for each row, and the hash of the key behind each number."""
    if len(columns) == 1 and pa.types.is_integer(columns[0].type):
        keys = columns[0].to_numpy()
        return keys, np.arange(keys.max() + 1, dtype=np.uint64)
    coded = [column.combine_chunks().dictionary_encode() for column in columns]
    keys = np.zeros(len(coded[0]), dtype=np.int64)
    for column in coded:
        keys = keys * len(column.dictionary) + column.indices.to_numpy()
    grid = np.meshgrid(*(np.arange(len(c.dictionary)) for c in coded), indexing="ij")
    words: list[Any] = [
        column.dictionary.take(pa.array(index.ravel()))
        for column, index in zip(coded, grid, strict=True)
    ]
    return keys, key_hashes(words)


@njit(cache=True, nogil=True)
def accumulate(times, keys, values, tables, slide, first):
    """Add each row to the counts, sums and maxima of its slice and key."""
    counts, sums, maxima = tables
    for i in range(len(times)):
        s = times[i] // slide - first
        k = keys[i]
        v = values[i]
        counts[s, k] += 1
        sums[s, k] += v
        if v > maxima[s, k]:
            maxima[s, k] = v


@njit(cache=True, nogil=True)
def count_kept(times, keys, events, kept, counts, slide):
    """Count the rows of one event in the slice and campaign of their ad."""
    campaign, event = kept
    for i in range(len(times)):
        if events[i] == event:
            counts[times[i] // slide, campaign[keys[i]]] += 1


@njit(cache=True, nogil=True)
def add_sessions(times, keys, values, hashes, replay):
    """Add up the sessions of rows in the order of times; return the parts of the answer."""
    gap, passes, period = replay
    n_keys = len(hashes)
    first = np.zeros(n_keys, dtype=np.int64)
    last = np.zeros(n_keys, dtype=np.int64)
    count = np.zeros(n_keys, dtype=np.int64)
    total = np.zeros(n_keys, dtype=np.float64)
    most = np.zeros(n_keys, dtype=np.float64)
    rows, mix, all_sums, all_tops = 0, np.uint64(0), 0.0, 0.0
    for i in range(len(times) + n_keys):
        k = keys[i] if i < len(times) else i - len(times)
        is_over = i >= len(times) or times[i] - last[k] >= gap
        if count[k] > 0 and is_over:
            rows += passes
            for n in range(passes):
                mix += mix_row(hashes[k], first[k] + n * period, count[k])
            all_sums += passes * total[k]
            all_tops += passes * most[k]
        if i >= len(times):
            continue
        if count[k] == 0 or is_over:
            first[k] = times[i]
            count[k] = 0
            total[k] = 0.0
            most[k] = -np.inf
        last[k] = times[i]
        count[k] += 1
        total[k] += values[i]
        most[k] = max(most[k], values[i])
    return rows, mix, all_sums, all_tops


@njit(cache=True, nogil=True)
def fold(tables, hashes, window, passes):
    """Combine slices into windows, over ``passes`` replays; return the parts of the answer."""
    counts, sums, maxima = tables
    width, slide, first = window
    n_slices, n_keys = counts.shape
    n = np.empty(n_keys, dtype=np.int64)
    total = np.empty(n_keys if sums.size else 0, dtype=np.float64)
    top = np.empty(len(total), dtype=np.float64)
    rows = count = 0
    mix = np.uint64(0)
    all_sums = all_tops = all_means = 0.0
    for w in range(1 - width, n_slices * passes):
        n[:] = 0
        total[:] = 0
        top[:] = -np.inf
        for j in range(max(w, 0), min(w + width, n_slices * passes)):
            s = j % n_slices
            for k in range(n_keys):
                n[k] += counts[s, k]
            for k in range(len(total)):
                total[k] += sums[s, k]
                top[k] = max(top[k], maxima[s, k])
        start = (w + first) * slide
        for k in range(n_keys):
            if n[k]:
                rows += 1
                count += n[k]
                mix += mix_row(hashes[k], start, n[k])
                if len(total):
                    all_sums += total[k]
                    all_tops += top[k]
                    all_means += total[k] / n[k]
    return rows, count, mix, all_sums, all_tops, all_means
