"""Watermark stalls and jumps: deciders, and whole jobs by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream.columns.event_time import MAX_TIME, MIN_TIME
from hpcstream.observability.watermarks import (
    ACTIVE,
    IDLE,
    SourceFacts,
    SourceTime,
    WatermarkHistory,
    WatermarkStallTracker,
    blamed,
    least_watermark,
    report_jump,
)
from hpcstream.testing import ManualClock, StepSource, start_ranks

LIVE = SourceFacts(0, "orders", "s", delay=0, live=True, idle_timeout_s=5.0)
FOR_EVER = SourceFacts(0, "orders", "s", delay=0, live=True, idle_timeout_s=None)


def at(watermark: int, *, no_rows_s: float = 0.0, split: str = "a") -> SourceTime:
    return SourceTime(watermark, ACTIVE, no_rows_s, no_rows_s, split)


def test_the_least_active_watermark_of_all_ranks_is_where_time_stands():
    times = [[at(30)], [at(20, split="b")], [SourceTime(10, IDLE)], [SourceTime()]]

    position = least_watermark([LIVE], times)

    assert position is not None
    assert (position.watermark, position.rank, position.time.split) == (20, 1, "b")


def test_sources_of_different_units_are_compared_by_seconds():
    facts = [LIVE, SourceFacts(3, "fast", "ms", live=True)]

    position = least_watermark(facts, [[at(20), at(19_000, split="m")]])

    assert position is not None
    assert position.facts.label == "fast"


def test_a_watermark_that_stands_for_seconds_is_a_hold_that_names_its_split_and_rank():
    tracker = WatermarkStallTracker([FOR_EVER])
    times = [[at(60, no_rows_s=9.0, split="lane-1")], [at(90)]]

    tracker.see(times, 0.0)
    assert tracker.now is None
    tracker.see(times, 8.0)

    assert tracker.now is not None
    text = str(tracker.now)
    assert "1970-01-01 00:01:00" in text
    assert "split 'lane-1' of orders on rank 0" in text
    assert "no rows for 9.0 s" in text
    assert "idle_timeout=" in text


def test_a_hold_ends_when_the_watermark_moves_but_the_longest_is_kept():
    tracker = WatermarkStallTracker([LIVE])
    for now_s in range(0, 9):
        tracker.see([[at(60)]], float(now_s))
    for now_s in range(9, 12):
        tracker.see([[at(60 + now_s)]], float(now_s))

    assert tracker.now is None
    assert tracker.longest is not None
    assert tracker.longest.seconds == 8.0


def test_when_all_sources_are_idle_that_is_what_holds():
    tracker = WatermarkStallTracker([LIVE])
    tracker.see([[at(60)]], 0.0)
    tracker.see([[SourceTime(60, IDLE)]], 5.0)

    assert tracker.now is not None
    assert "no split of any source has rows" in str(tracker.now)
    assert "00:01:00" in str(tracker.now)


def test_sources_that_have_ended_hold_nothing():
    tracker = WatermarkStallTracker([LIVE])
    for now_s in range(10):
        tracker.see([[SourceTime()]], float(now_s))

    assert tracker.now is None
    assert tracker.longest is None


def test_rows_that_do_not_move_time_are_told_from_no_rows():
    tracker = WatermarkStallTracker([SourceFacts(0, "orders", "s", delay=3600, live=True)])
    tracker.see([[at(60)]], 0.0)
    tracker.see([[at(60)]], 4.0)

    text = str(tracker.now)
    assert "its rows are no later than earlier ones" in text
    assert "1.0 h behind" in text


def test_a_row_from_the_far_future_is_a_jump_out_of_proportion():
    history = WatermarkHistory()
    for watermark in [0, 10, 20, 30, 5_000_000, 5_000_010]:
        history.see(watermark, "a")

    jump = history.jump

    assert jump is not None
    assert (jump.split, jump.start, jump.end) == ("a", 30, 5_000_000)
    text = str(report_jump(jump, LIVE, rank=2))
    assert "a row of 1970-02-27 20:53:20 in split 'a' of orders on rank 2" in text
    assert "from 1970-01-01 00:00:30" in text


def test_even_steps_hold_no_jump():
    history = WatermarkHistory()
    for watermark in range(0, 1000, 10):
        history.see(watermark, "a")

    assert history.jump is None


def test_a_first_row_from_the_future_is_a_jump_too():
    history = WatermarkHistory()
    for _ in range(5):
        history.see(5_000_000, "a")

    jump = history.jump

    assert jump is not None
    assert jump.start is None
    assert "first rows" in str(report_jump(jump, LIVE, rank=0))


@given(st.lists(st.integers(-(2**62), 2**62) | st.sampled_from([MIN_TIME, MAX_TIME])))
def test_a_jump_is_never_further_than_the_watermark_went(watermarks):
    history = WatermarkHistory()
    for watermark in watermarks:
        history.see(watermark, "a")

    jump = history.jump

    seen = [w for w in watermarks if w not in (MIN_TIME, MAX_TIME)]
    if jump is not None and jump.start is not None:
        assert seen[0] <= jump.start < jump.end <= max(seen)


def test_a_jump_is_mentioned_only_if_late_rows_are_many():
    history = WatermarkHistory()
    for watermark in [0, 10, 5_000_000]:
        history.see(watermark, "a")
    report = report_jump(history.jump, LIVE, rank=0)
    assert report is not None

    assert blamed([report], late_rows=0, rows_in=10) is None
    assert blamed([report], late_rows=1, rows_in=10_000) is None
    assert blamed([report], late_rows=500, rows_in=10_000) is report


# -- whole jobs, moved on by hand ------------------------------------------------------


def windowed(feed: StepSource, idle_timeout: str | None):
    def build():
        job = hs.Job("orders")
        rows = job.source(feed, event_time="t", event_time_unit="s", idle_timeout=idle_timeout)
        counts = rows.key_by("k").window(hs.tumbling("10s")).agg(n=hs.count())
        return job, counts.collect()

    return build


@pytest.fixture
def feed() -> StepSource:
    return StepSource(pa.schema({"t": pa.int64(), "k": pa.int64()}), n_splits=2)


def pass_time(ranks, seconds: float) -> None:
    goal_s = ranks.clock() + seconds
    ranks.until(lambda: ranks.clock() >= goal_s)


def test_a_split_without_rows_holds_time_back_for_ever_only_if_told_to(feed):
    clock = ManualClock(turn_s=0.001)
    with start_ranks(2, windowed(feed, None), clock=clock) as ranks:
        feed.push({"t": [1, 25], "k": [1, 1]}, split=0)
        pass_time(ranks, 9)
        stalls = ranks.workers[0].services.telemetry.watermark_stalls
        assert stalls.now is not None
        assert (stalls.now.split, stalls.now.rank) == ("split-1", 1)
        feed.end()
        result = ranks.finish().result

    assert result.watermark_stall is not None
    assert result.watermark_stall.rank == 1
    assert "idle_timeout='5s'" in str(result)


def test_after_idle_timeout_the_window_fires_without_the_silent_split(feed):
    clock = ManualClock(turn_s=0.001)
    with start_ranks(2, windowed(feed, "5s"), clock=clock) as ranks:
        emitted = [worker.tasks for worker in ranks.workers]
        feed.push({"t": [1], "k": [1]}, split=0)
        for second in range(1, 8):
            feed.push({"t": [10 * second], "k": [1]}, split=0)
            pass_time(ranks, 1)
        emitted = sum(
            task.chain.counters[0].rows_in
            for worker in ranks.workers
            for task in worker.tasks
            if task.chain.counters[-1].label == "-> collect()"
        )
        assert emitted > 0, "windows fired while the second split had never had a row"
        feed.end()
        run = ranks.finish()

    assert sum(run.table.column("n").to_pylist()) == 8
    assert "split-1 on rank 1" in run.result.idle_splits
    assert "'split-1'" in str(run.result) or "split-1 on rank 1" in str(run.result)


def test_late_rows_after_a_row_from_the_future_are_explained(feed):
    clock = ManualClock()
    with start_ranks(1, windowed(feed, "5s"), clock=clock) as ranks:
        for split in (0, 1):
            feed.push({"t": [1], "k": [1]}, split=split)
        ranks.close_round()
        for second in (10, 20, 30):
            feed.push({"t": [second], "k": [1]}, split=0)
            feed.push({"t": [second], "k": [1]}, split=1)
            ranks.close_round()
        for split in (0, 1):
            feed.push({"t": [2_000_000_000], "k": [1]}, split=split)
        ranks.close_round()
        feed.push({"t": [40, 50, 60], "k": [1, 1, 1]}, split=0)
        ranks.close_round()
        feed.end()
        result = ranks.finish().result

    assert result.late_rows == 3
    assert result.watermark_jump is not None
    assert result.watermark_jump.row_time == "2033-05-18 03:33:20"
    assert "far future" in str(result)


def test_time_taken_in_the_middle_of_a_stream_is_watched_too(feed):
    def build():
        job = hs.Job("orders")
        rows = job.source(feed).with_event_time("t", watermark_delay="5s", unit="s")
        rows.key_by("k").window(hs.tumbling("10s")).agg(n=hs.count()).collect()
        return job

    with start_ranks(1, build, clock=ManualClock(turn_s=0.001)) as ranks:
        feed.push({"t": [65], "k": [1]}, split=0)
        pass_time(ranks, 4)
        for _ in range(12):
            feed.push({"t": [3], "k": [1]}, split=0)
            pass_time(ranks, 0.5)
        stall = ranks.workers[0].services.telemetry.watermark_stalls.now
        feed.end()
        ranks.finish()

    assert stall is not None
    assert stall.watermark == "1970-01-01 00:01:00"
    assert "its rows are no later than" in stall.advice
    assert "5.0 s behind" in stall.advice
