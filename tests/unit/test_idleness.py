"""Splits that fall silent, wake and end, in any order: the rows are those of one rank.

HPCSTREAM_IDLE_RUNS says how many random histories are tried in each test.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col
from hpcstream.checkpoint.storage.directory import CheckpointStore
from hpcstream.testing import ListSink, ManualClock, Ranks, StepSource, start_ranks
from tests.unit.naive_idleness import NaiveLiveJob, NaiveSplit
from tests.unit.naive_jobs import NaiveWindows

RUNS = int(os.environ.get("HPCSTREAM_IDLE_RUNS", "20"))
SCHEMA = pa.schema({"t": pa.int64(), "k": pa.int64(), "x": pa.int64()})
TIMEOUT_S = 5.5
PAUSES_S = (3.0, 6.0, 6.0)  # no sum of them comes near the timeout
TIME = {"event_time": "t", "event_time_unit": "ms"}


@dataclass(frozen=True)
class Shape:
    """What the job does, and over how many splits of which kind."""

    windows: NaiveWindows
    n_silent: int  # splits with a timeout
    n_awaited: int  # splits without one
    bounded: tuple[dict[str, int], ...]  # rows of a stream that ends at once
    keyed: bool
    holistic: bool
    delay: int

    def build(self, feeds: list[StepSource], sink: ListSink, late: ListSink) -> hs.Job:
        """Return the job of one rank."""
        job = hs.Job("idle")
        streams = [
            job.source(feed, idle_timeout=timeout, watermark_delay=f"{self.delay}ms", **TIME)
            for feed, timeout in zip(feeds, (f"{TIMEOUT_S}s", None), strict=True)
            if feed.list_splits()
        ]
        if self.bounded:
            table = pa.Table.from_pylist(list(self.bounded), schema=SCHEMA)
            streams.append(job.from_batches(table, **TIME))
        stream = streams[0].union(*streams[1:]) if len(streams) > 1 else streams[0]
        size, slide = self.windows.size, self.windows.slide
        assigner = (
            hs.tumbling(f"{size}ms") if size == slide else hs.sliding(f"{size}ms", f"{slide}ms")
        )
        windows = stream.key_by("k").window(assigner) if self.keyed else stream.window_all(assigner)
        if self.windows.lateness:
            windows = windows.allowed_lateness(f"{self.windows.lateness}ms")
        middle = {"middle": col("x").median()} if self.holistic else {}
        results = windows.agg(n=hs.count(), total=col("x").sum(), **middle)
        results.sink(sink)
        results.late().sink(late)
        return job

    def naive(self) -> NaiveLiveJob:
        """Return the same for the reference."""
        timeouts = [TIMEOUT_S] * self.n_silent + [None] * self.n_awaited
        splits = [NaiveSplit(timeout) for timeout in timeouts]
        return NaiveLiveJob(splits, self.windows, delay=self.delay, keyed=self.keyed)

    def told(self, results: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        """Return what the job tells of the results of the reference."""
        return {one if self.holistic else one[:4] for one in results}


class History:
    """One job, run by the engine and by the reference, event after event."""

    def __init__(self, shape: Shape, n_ranks: int, **options: Any) -> None:
        self.shape = shape
        self.n_ranks = n_ranks
        self.options = options
        self.naive = shape.naive()
        self.feeds = [StepSource(SCHEMA, n_splits=n) for n in (shape.n_silent, shape.n_awaited)]
        self.sink, self.late = ListSink(), ListSink()
        self.clock = ManualClock()
        self.ranks = self._start()
        self.ranks.settle()
        self.naive.poll(0.0)
        self.naive.close_round(shape.bounded)

    def _start(self) -> Ranks:
        def build() -> hs.Job:
            return self.shape.build(self.feeds, self.sink, self.late)

        return start_ranks(self.n_ranks, build, clock=self.clock, progress=False, **self.options)

    def push(self, split: int, rows: list[dict[str, int]]) -> None:
        feed, number = self._place(split)
        feed.push(rows, split=number)
        self.naive.splits[split].pushed += rows

    def end(self, split: int) -> None:
        feed, number = self._place(split)
        feed.end(split=number)
        self.naive.splits[split].is_to_end = True

    def _place(self, split: int) -> tuple[StepSource, int]:
        n_silent = self.shape.n_silent
        return (self.feeds[0], split) if split < n_silent else (self.feeds[1], split - n_silent)

    def pause(self, seconds: float) -> None:
        self.ranks.advance(seconds)
        self.naive.poll(self.clock())
        self.naive.close_round()

    def close_round(self) -> None:
        """Let what happened come through: one of two sources may be some rounds ahead."""
        for _ in range(3 if self.shape.n_awaited else 1):
            self.naive.poll(self.clock())
            self.ranks.close_round()
            self.naive.poll(self.clock())
            self.naive.close_round()

    def check(self) -> None:
        """Compare what was told so far."""
        assert _told(self.sink) == self.shape.told(self.naive.results)
        assert _rows(self.late.written) == _rows(self.naive.late)

    def kill(self, n_ranks: int) -> None:
        """Wait for a checkpoint that has everything, let all ranks die and start some again."""
        store = CheckpointStore(self.options["checkpoint_dir"])
        last = max((one.number for one in store.candidates()), default=-1)
        for _ in range(60):
            self.close_round()
            if max((one.number for one in store.candidates()), default=-1) >= last + 2:
                break
        else:
            raise AssertionError("no checkpoint was taken")
        self.ranks.close()
        self.naive.restart(self.clock())
        self.n_ranks = n_ranks
        self.ranks = self._start()
        self.close_round()

    def finish(self) -> None:
        """End every split, and compare the whole."""
        for split in range(len(self.naive.splits)):
            self.end(split)
        self.close_round()
        result = self.ranks.finish().result
        self.check()
        assert result.late_rows == len(self.naive.late)


def _told(sink: ListSink) -> set[tuple[Any, ...]]:
    names = ("k", "window_start", "n", "total", "middle")
    return {
        tuple(row.get(name) for name in names if name in row or name == "k") for row in sink.written
    }


def _rows(rows: list[dict[str, int]]) -> list[tuple[int, ...]]:
    return sorted((row["t"], row["k"], row["x"]) for row in rows)


# -- one rule each -------------------------------------------------------------------------


def row(t: int) -> list[dict[str, int]]:
    return [{"t": t, "k": 0, "x": t}]


def shape_with(n_silent: int, *, lateness: int = 0, **changes: Any) -> Shape:
    windows = NaiveWindows(10, 10, lateness=lateness)
    usual = {"n_awaited": 0, "bounded": (), "keyed": True, "holistic": False, "delay": 0}
    return Shape(windows, n_silent, **(usual | changes))


def run_history(shape: Shape, n_ranks: int, *events: Any) -> tuple[dict[int, list[int]], list[int]]:
    """Run events: ``{split: time}`` is a row each, a number a pause, a string a split that ends.

    Returns
    -------
    results : dict
        For each window start, how many rows it had each time that it fired.
    late : list of int
        Times of late rows.
    """
    history = History(shape, n_ranks)
    with history.ranks:
        for event in events:
            if isinstance(event, dict):
                for split, time in event.items():
                    history.push(split, row(time))
            elif isinstance(event, str):
                history.end(int(event))
            else:
                history.pause(event)
            history.close_round()
            history.check()
        history.finish()
    results: dict[int, list[int]] = {}
    for one in history.sink.written:
        results.setdefault(one["window_start"], []).append(one["n"])
    return results, [one["t"] for one in history.late.written]


on_ranks = pytest.mark.parametrize("n_ranks", [1, 2, 3])


@on_ranks
def test_rows_that_a_rank_holds_are_counted_though_time_goes_on_without_it(n_ranks):
    results, late = run_history(shape_with(2), n_ranks, {0: 1, 1: 2}, 6.0, {0: 26})

    assert (results, late) == ({0: [2], 20: [1]}, [])


@on_ranks
def test_a_split_that_wakes_behind_the_others_is_late_where_windows_have_fired(n_ranks):
    events = [{0: 1, 1: 2}, 6.0, {0: 26}, {1: 9}, {1: 23}]

    results, late = run_history(shape_with(2), n_ranks, *events)

    assert (results, late) == ({0: [2], 20: [2]}, [9])


@on_ranks
def test_a_split_that_wakes_within_the_allowed_lateness_makes_its_window_fire_again(n_ranks):
    events = [{0: 1, 1: 2}, 6.0, {0: 26}, {1: 9}, {1: 8}]

    results, late = run_history(shape_with(2, lateness=100), n_ranks, *events)

    assert (results, late) == ({0: [2, 3, 4], 20: [1]}, [])


@on_ranks
def test_a_split_that_wakes_holds_time_back_for_all_ranks(n_ranks):
    """Whether or not a split beside it on its rank had gone on meanwhile."""
    events = [{0: 1, 1: 1, 2: 1}, 6.0, {0: 70, 1: 30}, {2: 32}, {1: 90}, {2: 41}]

    results, late = run_history(shape_with(3), n_ranks, *events)

    assert late == []
    assert {start: counts[-1] for start, counts in results.items()} == {
        0: 3, 30: 2, 40: 1, 70: 1, 90: 1
    }  # fmt: skip


@on_ranks
def test_an_idle_split_beside_an_ended_one_does_not_end_the_stream(n_ranks):
    events = [{0: 1, 1: 3}, "1", 6.0, {0: 26}, 6.0, {0: 47}]

    results, late = run_history(shape_with(2), n_ranks, *events)

    assert (results, late) == ({0: [2], 20: [1], 40: [1]}, [])


@on_ranks
def test_ranks_without_a_split_do_not_end_a_stream_that_pauses(n_ranks):
    results, late = run_history(shape_with(1), n_ranks, {0: 1}, 6.0, {0: 26}, 6.0, {0: 47})

    assert (results, late) == ({0: [1], 20: [1], 40: [1]}, [])


@on_ranks
@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("holistic", [True, False])
def test_a_bounded_stream_that_ended_does_not_end_a_live_one_that_pauses(n_ranks, keyed, holistic):
    shape = shape_with(1, bounded=(*row(5), *row(28)), keyed=keyed, holistic=holistic)

    results, late = run_history(shape, n_ranks, 6.0, {0: 1}, 6.0, {0: 26}, 6.0, {0: 47})

    assert (results, late) == ({0: [2], 20: [2], 40: [1]}, [])


# -- random histories ----------------------------------------------------------------------

WINDOWS = [(10, 10), (20, 5), (12, 8)]


def rows_around(time: int, chance: Random) -> list[dict[str, int]]:
    return [
        {"t": time + chance.randint(-12, 12), "k": chance.randint(0, 2), "x": chance.randint(0, 9)}
        for _ in range(chance.randint(1, 3))
    ]


def shape_of(chance: Random) -> Shape:
    size, slide = chance.choice(WINDOWS)
    return Shape(
        NaiveWindows(size, slide, lateness=chance.choice([0, 0, 7, 30])),
        n_silent=chance.choice([1, 2, 2, 3, 3, 4]),
        n_awaited=chance.choice([0, 0, 0, 1, 2]),
        bounded=tuple(rows_around(20, chance)) if chance.random() < 0.3 else (),
        keyed=chance.random() < 0.8,
        holistic=chance.random() < 0.2,
        delay=chance.choice([0, 3]),
    )


def options_of(chance: Random) -> dict[str, Any]:
    return {
        "n_ranks": chance.choice([1, 2, 2, 2, 3, 3]),
        "seed": chance.randint(0, 99),
        "max_delay": chance.choice([0, 4]),
        "rounds_in_flight": chance.choice([1, 3]),
        "local_aggregation": chance.random() < 0.8,
    }


def happen(history: History, chance: Random, number: int) -> None:
    """Let rows come to some splits, a split end, or time pass with or without them."""
    splits = history.naive.splits
    alive = [i for i, split in enumerate(splits) if not split.is_to_end]
    kind = chance.choice(["rows"] * 6 + ["pause"] * 4 + ["end"])
    if kind == "pause":
        history.pause(chance.choice(PAUSES_S))
    elif kind == "end" and len(alive) > 1:
        history.end(chance.choice(alive))
    else:
        # With two sources a rank may be a round ahead, and takes its rows in another one.
        most = 1 if history.shape.n_awaited else len(alive)
        for split in chance.sample(alive, chance.randint(1, most)):
            history.push(split, rows_around(6 * number, chance))
    history.close_round()


def tried(runs: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test on so many seeds, of which everything in a history is made."""
    settled = settings(
        max_examples=runs, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES
    )
    return lambda test: given(seed=st.integers(0, 2**32))(settled(test))


PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # seeds do not shrink


@tried(RUNS)
def test_any_history_of_splits_gives_the_rows_of_the_reference(seed):
    chance = Random(seed)
    history = History(shape_of(chance), **options_of(chance))
    with history.ranks:
        for number in range(chance.randint(6, 18)):
            happen(history, chance, number)
            history.check()
        history.finish()


@tried(max(2, RUNS // 8))
def test_a_job_killed_after_every_event_gives_the_same_rows(tmp_path_factory, seed):
    chance = Random(seed)
    folder = str(tmp_path_factory.mktemp("run"))
    options = options_of(chance) | {"checkpoint_dir": folder, "checkpoint_interval_s": 1e-6}
    history = History(shape_of(chance), **options)
    sizes = chance.choice([[history.n_ranks], [1, 2, 3]])
    try:
        for number in range(chance.randint(4, 9)):
            happen(history, chance, number)
            history.check()
            history.kill(chance.choice(sizes))
        history.finish()
    finally:
        history.ranks.close()
