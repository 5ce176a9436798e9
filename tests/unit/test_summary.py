"""The table at the end."""

from __future__ import annotations

import mmap

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream.host.process_memory import PeakMemory, own_bytes
from hpcstream.observability.metrics import OperatorReport, RankReport
from hpcstream.observability.result import JobResult, collect_result
from hpcstream.testing import run_ranks


def rank(number: int, *, busy_s: float, rows_in: int = 1_000_000) -> RankReport:
    label = "final aggregate by airport in TumblingWindows(size=86400000, offset=0): " + "x" * 90
    operators = [OperatorReport(0, label, rows_in, 1000, 0, 3 << 20)]
    return RankReport(
        number,
        rows_in=rows_in,
        seconds=12.0,
        busy_s=busy_s,
        exchange_s=1.0,
        bytes_sent=7 << 30,
        peak_bytes=300 << 20,
        operators=operators,
    )


def test_every_line_fits_a_hundred_columns():
    reports = [rank(n, busy_s=5 + 5 * (n == 3)) for n in range(8)]
    reports[0].late_rows = 4_000_000
    reports[0].idle_splits = {f"/scratch/{'x' * 50}/{n}": 9.0 for n in range(9)}

    text = str(collect_result("airport-delays", 8, reports))

    assert max(len(line) for line in text.splitlines()) <= 100
    assert "..." in text


def test_columns_are_aligned():
    lines = str(collect_result("job", 2, [rank(0, busy_s=5), rank(1, busy_s=5.5)])).splitlines()

    (head,) = [line for line in lines if line.startswith("rank ")]
    rows = [line for line in lines if line[:2] in ("0 ", "1 ")]
    assert [len(line) for line in rows] == [len(head)] * 2
    assert "busy s  waiting s  exchange s" in head


@pytest.mark.parametrize(
    ("read", "taken", "hint"),
    [
        (9_000_000, 9_000_000, "it reads more rows"),
        (1_000_000, 9_000_000, "do most of them have one key?"),
        (1_000_000, 1_000_000, "is its core slower"),
    ],
)
def test_the_slowest_rank_is_named_with_a_reason(read, taken, hint):
    reports = [rank(n, busy_s=2.0) for n in range(4)]
    reports[2] = rank(2, busy_s=8.0, rows_in=read)
    reports[2].operators[0].rows_in = taken

    text = " ".join(str(collect_result("job", 4, reports)).split())

    assert "rank 2 was busy 2.3 times as long as the mean" in text
    assert hint in text


@pytest.mark.parametrize("busy_s", [[2.0, 2.1, 1.9], [0.1, 0.001, 0.1], [3.0]])
def test_no_skew_is_claimed_without_one(busy_s):
    reports = [rank(n, busy_s=s) for n, s in enumerate(busy_s)]

    assert "times as long" not in str(collect_result("job", len(reports), reports))


def test_of_very_many_ranks_the_busiest_are_shown():
    text = str(collect_result("job", 500, [rank(n, busy_s=n / 100) for n in range(500)]))

    assert "(the 32 busiest of 500 ranks)" in text
    assert len(text.splitlines()) < 50


def test_a_result_without_rows_is_readable():
    assert str(JobResult("job", 1)).startswith("job: finished on 1 rank in 0.000 s, 0 rows/s\n")


@pytest.mark.parametrize("show", [False, True])
def test_what_puts_rows_in_doubt_is_said_without_a_summary_too(show, capfd):
    job = hs.Job("late")
    table = pa.table({"t": [0, 5, 12, 31, 3], "k": [1] * 5})
    rows = job.from_batches(table.to_batches(1)).with_event_time("t", unit="ms")
    rows.key_by("k").window(hs.tumbling("10ms")).agg(n=hs.count()).collect()
    result = job.run(show=show, batch_rows=1)
    said = " ".join(capfd.readouterr().err.split())

    assert result.late_rows == 1
    assert said.count("late rows arrived after their windows had fired") == 1
    assert ("late: finished on 1 rank" in said) is show
    assert "late rows arrived after" in " ".join(str(result).split())


@pytest.mark.parametrize("reads_late", [False, True])
def test_a_job_that_reads_its_late_rows_is_not_told_how(reads_late):
    def build():
        job = hs.Job("late")
        table = pa.table({"t": [0, 5, 12, 31, 3], "k": [1] * 5})
        rows = job.from_batches(table.to_batches(1)).with_event_time("t", unit="ms")
        counts = rows.key_by("k").window(hs.tumbling("10ms")).agg(n=hs.count())
        counts.collect()
        if reads_late:
            counts.late().collect()
        return job

    result = run_ranks(1, build, batch_rows=1).result

    assert result.late_rows == 1
    assert (".late() returns them" in " ".join(str(result).split())) is not reads_late


def test_what_ranks_report_survives_the_way_to_the_others():
    report = rank(1, busy_s=2.0)
    report.idle_splits = {"lane-1": 7.5}
    report.watermark_stall = {
        "watermark": "2001", "seconds": 4.0, "source": "s", "split": "a", "rank": 1, "advice": "-",
    }  # fmt: skip

    back = RankReport.from_json(report.to_json())

    assert back == report
    assert collect_result("job", 1, [back]).watermark_stall.rank == 1


def test_memory_counts_what_is_our_own_and_not_mapped_files(tmp_path):
    status = tmp_path / "status"
    status.write_text("VmRSS:\t 900 kB\nRssAnon:\t 100 kB\nRssFile:\t 700 kB\nRssShmem:\t 50 kB\n")

    assert own_bytes(status) == 150 * 1024
    assert own_bytes(tmp_path / "none") > 1 << 20


def test_a_peak_is_kept_after_the_memory_is_given_back():
    peak = PeakMemory()
    before = peak.peak_bytes
    with mmap.mmap(-1, 64 << 20) as block:  # not from a heap that may have kept as much
        block.write(bytes(64 << 20))
        peak.sample()
    peak.sample()

    assert peak.peak_bytes > before + (60 << 20)


def test_a_job_reports_the_most_state_it_had():
    def build():
        job = hs.Job("counts")
        table = pa.table({"t": list(range(4000)), "k": list(range(4000))})
        rows = job.from_batches(table.to_batches(200), event_time="t", event_time_unit="s")
        rows.key_by("k").window(hs.tumbling("1h")).agg(n=hs.count()).collect()
        return job

    result = run_ranks(2, build, batch_rows=100).result

    assert sum(one.state_bytes for one in result.operators) > 0
    assert all(one.peak_bytes > 1 << 20 for one in result.per_rank)
