"""The live line: records, rates, text, and a job that shows it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import log
from hpcstream.observability.progress import (
    LOG_EVERY_S,
    LOG_FIRST_S,
    JobProgress,
    ProgressLine,
    ProgressMeter,
    ProgressRecords,
    RankProgress,
    progress_text,
    terminal_width,
)
from hpcstream.observability.time_text import format_time
from hpcstream.observability.watermarks import (
    ACTIVE,
    Position,
    SourceFacts,
    SourceTime,
    WatermarkStall,
)
from hpcstream.quantities import format_bytes, format_span
from hpcstream.testing import ManualClock, StepSource, start_ranks

FACTS = SourceFacts(0, "orders", "s", live=True)
STALL = WatermarkStall("2001-01-03", 7.0, "orders", "lane-1", 2, "it has had no rows for 7.0 s")


def position(watermark: int) -> Position:
    return Position(watermark, FACTS, 0, SourceTime(watermark, ACTIVE))


sources = st.builds(
    SourceTime,
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2),
    st.integers(0, 10**6).map(float),
    st.integers(0, 10**6).map(float),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=96),
)
counts = st.integers(0, 2**62)


ranks_progress = st.builds(
    RankProgress, counts, counts, counts, counts, st.tuples(sources, sources), counts | st.just(-1)
)


@given(st.lists(ranks_progress))
def test_records_come_back_as_they_were_sent(ranks):
    records = ProgressRecords(n_sources=2)
    packed = [records.pack(rank) for rank in ranks]

    assert all(len(one) == records.n_bytes for one in packed)
    everyone = np.concatenate([np.empty(0, dtype=np.uint8), *packed])
    assert records.unpack(everyone) == ranks


def test_a_long_split_name_keeps_its_end():
    records = ProgressRecords(n_sources=1)
    sent = RankProgress(0, 0, 0, 0, (SourceTime(split="/scratch/" + 200 * "x" + "/day.parquet#3"),))

    (back,) = records.unpack(records.pack(sent))

    assert back.sources[0].split.endswith("/day.parquet#3")


def test_rates_are_those_since_the_last_look():
    meter = ProgressMeter(now_s=10.0)

    before = [RankProgress(600, 0, 1, 20), RankProgress(400, 0, 2, 19)]
    after = [RankProgress(600, 0, 1, 21), RankProgress(400, 0, 2, 21)]
    first = meter.measure(before, None, None, now_s=12.0)
    second = meter.measure(after, None, None, now_s=13.0)

    assert (first.rows, first.rows_per_s, first.rounds_per_s, first.late_rows) == (1000, 500, 10, 3)
    assert (second.rows_per_s, second.rounds_per_s) == (0, 1)


def test_the_line_shows_rows_watermark_lag_and_rounds():
    progress = JobProgress(34_500_000, 1_200_000, 812, 0, position(1_000_000_000))

    line = progress_text("orders", progress, wall_s=1_000_000_002.1, width=100)

    assert line == (
        "orders  1.2 M rows/s  34.5 M rows  watermark 2001-09-09 01:46:40  lag 2.1 s  812 rounds/s"
    )


def test_a_stream_of_another_year_has_no_lag():
    progress = JobProgress(1, 1, 1, 0, position(1_000_000_000))

    assert "lag" not in progress_text("orders", progress, wall_s=1.7e9, width=100)


def test_the_line_says_in_short_who_holds_the_watermark():
    progress = JobProgress(1, 0, 1, 0, position(60), STALL)

    assert "held 7.0 s: by lane-1 on rank 2" in progress_text("orders", progress, 0.0, 200)


@given(st.integers(4, 200))
def test_the_line_is_never_wider_than_the_terminal(width):
    progress = JobProgress(34_500_000, 1_200_000, 812, 7, position(1_000_000_000), STALL)

    assert len(progress_text("airport-delays", progress, 0.0, width)) <= width


def test_on_a_terminal_the_line_is_rewritten_in_place_and_taken_away(capsys):
    line = ProgressLine("orders", width=80)

    line.show(JobProgress(1, 1, 1, 0), 1.0, 0.0)
    line.show(JobProgress(2, 1, 1, 0), 2.0, 0.0)
    line.clear()

    shown = capsys.readouterr().err
    assert "\n" not in shown
    assert shown.count("\r\x1b[K") == 3
    assert shown.endswith("\r\x1b[K")


def test_elsewhere_lines_follow_one_another_now_and_then(capsys):
    line = ProgressLine("orders", width=0)

    for second in range(25):
        line.show(JobProgress(second, 1, 1, 0), float(second), 0.0)
    line.clear()

    shown = capsys.readouterr().err
    assert shown.count("\n") == 3
    assert "\x1b" not in shown


def test_a_hold_is_explained_once_in_full(capsys):
    line = ProgressLine("orders", width=80)

    for second in range(5):
        line.show(JobProgress(1, 0, 1, 0, position(60), STALL), float(second), 0.0)

    shown = capsys.readouterr().err
    assert shown.count("hpcstream: no window can fire") == 1
    assert "split 'lane-1' of orders on rank 2" in shown


@pytest.mark.parametrize(
    ("environ", "is_terminal", "width"),
    [({}, False, 0), ({}, True, 90), ({"HPCSTREAM_TERMINAL": "120"}, False, 120),
     ({"HPCSTREAM_TERMINAL": "0"}, True, 0)],
)  # fmt: skip
def test_the_launcher_says_what_a_rank_cannot_see(environ, is_terminal, width, monkeypatch):
    monkeypatch.setattr(log.ERR, "isatty", lambda: is_terminal)

    assert terminal_width(environ, 90) == width


def test_a_line_has_the_share_and_the_time_left_where_the_rows_are_known():
    meter = ProgressMeter(now_s=0.0)
    texts = []
    for second, read in enumerate((200, 300, 400), start=1):
        ranks = [RankProgress(read, 0, 0, 1, rows_total=600), RankProgress(0, 0, 0, 1, (), 400)]
        progress = meter.measure(ranks, None, None, now_s=float(second))
        texts.append(progress_text("job", progress, 0.0, 100))

    assert "  200 rows (20 %)  " in texts[0]
    assert "  300 rows (30 %, 7.0 s left)  " in texts[1]
    assert "  400 rows (40 %, 6.0 s left)  " in texts[2]


def test_a_source_that_does_not_tell_its_rows_has_no_share():
    ranks = [RankProgress(200, 0, 0, 1, rows_total=600), RankProgress(0, 0, 0, 1)]

    progress = ProgressMeter(0.0).measure(ranks, None, None, 1.0)

    assert (progress.done, progress.left_s) == (None, None)


def test_a_log_has_its_first_line_soon_and_then_one_a_minute(capsys):
    line = ProgressLine("orders", 0, every_s=LOG_EVERY_S, first_s=LOG_FIRST_S)

    for second in range(1, 200):
        line.show(JobProgress(second, 1, 1, 0), float(second), 0.0)

    rows = [text.split("  ")[2] for text in capsys.readouterr().err.splitlines()]
    assert rows == ["11 rows", "71 rows", "131 rows", "191 rows"]


def test_something_is_said_once(capsys):
    line = ProgressLine("orders", width=80)
    line.show(JobProgress(1, 1, 1, 0), 1.0, 0.0)

    line.warn_once("orders", "is it?")
    line.warn_once("orders", "is it still?")

    assert capsys.readouterr().err.endswith("\r\x1b[Khpcstream: is it?\n")


def test_times_are_dates_and_spans_have_units():
    assert format_time(1_000_000_000_123, "ms") == "2001-09-09 01:46:40.123"
    assert format_time(11_574, "d") == "2001-09-09"
    assert format_time(7, None) == "7"
    assert format_time(2**62, "s") == "146138514283-06-19 07:45:04"
    assert format_time(999, "us") == "1970-01-01 00:00:00"
    assert [format_span(s) for s in (0.4, 42, 90, 7200, 1e6)] == [
        "0.4 s", "42 s", "1.5 min", "2.0 h", "12 d",
    ]  # fmt: skip
    assert [format_bytes(n) for n in (5, 3072, 5 << 20)] == ["5 B", "3 KiB", "5 MiB"]


# -- in a job --------------------------------------------------------------------------


def build(feed: StepSource) -> hs.Job:
    job = hs.Job("orders")
    job.source(feed, event_time="t", event_time_unit="s").rebalance().collect()
    return job


@pytest.mark.parametrize("n_ranks", [1, 3])
def test_the_numbers_of_all_ranks_reach_rank_0_about_once_a_second(n_ranks, capsys):
    feed = StepSource(pa.schema({"t": pa.int64()}), n_splits=3)
    clock = ManualClock(turn_s=0.002)
    with start_ranks(n_ranks, lambda: build(feed), clock=clock, progress=True) as ranks:
        for second in range(24):
            for split in range(3):
                feed.push({"t": [second, second]}, split=split)
            ranks.until(lambda goal_s=second + 1: clock() >= goal_s)
        feed.end()
        result = ranks.finish().result

    lines = capsys.readouterr().err.splitlines()
    assert result.rows_in == 24 * 3 * 2
    assert len(lines) in (2, 3), "every 10 s where there is no terminal"
    assert all(" rows/s  " in line and " rounds/s" in line for line in lines)
    assert "watermark 1970-01-01 00:00:" in lines[-1]
    assert result.watermark_stall is None


def test_nothing_is_shown_where_nobody_looks(capsys):
    feed = StepSource(pa.schema({"t": pa.int64()}), n_splits=1)
    clock = ManualClock(turn_s=0.001)
    with start_ranks(2, lambda: build(feed), clock=clock) as ranks:
        ranks.until(lambda: clock() >= 5)
        feed.end()
        ranks.finish()

    assert capsys.readouterr().err == ""


def test_the_rows_of_a_bounded_job_are_known(capsys):
    def build():
        job = hs.Job("bounded")
        batches = [pa.record_batch({"x": [1, 2, 3]})] * 40
        return job, job.from_batches(batches).rebalance().collect()

    clock = ManualClock(turn_s=0.05)
    with start_ranks(2, build, clock=clock, progress=True, batch_rows=3) as ranks:
        result = ranks.finish().result

    assert result.rows_in == 120
    assert " %" in capsys.readouterr().err


@pytest.mark.parametrize("seed", range(5))
def test_a_failure_leaves_no_gathering_under_way(seed):
    feed = StepSource(pa.schema({"t": pa.int64()}), n_splits=3)
    clock = ManualClock(turn_s=0.001)
    ranks = start_ranks(3, lambda: build(feed), clock=clock, seed=seed, max_delay=3)
    with ranks:
        ranks.until(lambda: clock() >= 3.1 + 0.2 * seed)
        feed.fail(ValueError("bad row"), split=1)
        with pytest.raises(ValueError, match="bad row"):
            ranks.finish()

        assert ranks.is_drained
