"""A metric is declared in one line, and appears in the summary, the report and the live numbers."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream.metric import BYTES, Counter, Gauge, Measurement, declared, measure, note_peaks
from hpcstream.observability.metrics import OperatorReport, RankReport
from hpcstream.observability.progress import ProgressLine
from hpcstream.observability.result import collect_result
from hpcstream.testing import ListSink, ListSource, ManualClock, run_ranks, start_ranks


class Store:
    def __init__(self):
        self.n_bytes = 0


class Part:
    seen = Counter("seen")
    held = Gauge("held", "_store.n_bytes", unit=BYTES, is_peak=True)
    furthest = Gauge("furthest", "round_number", over_ranks="max")

    def __init__(self, rounds=0):
        self._store = Store()
        self.rounds = rounds

    def round_number(self):
        return self.rounds


class Special(Part):
    dropped = Counter("dropped", unit=BYTES)


def test_a_counter_is_a_plain_number_that_starts_at_0():
    part = Special()

    assert part.seen == 0
    part.seen += 3
    part.seen += 4

    assert part.seen == vars(part)["seen"] == 7, "an attribute: counting costs an addition"
    assert Special().seen == 0
    assert [one.name for one in declared(Special)] == ["seen", "held", "furthest", "dropped"]


def test_a_gauge_reads_a_path_or_a_method_when_it_is_asked():
    part = Part(rounds=5)
    part._store.n_bytes = 512

    assert (part.held, part.furthest) == (512, 5)
    assert measure(part)["held"] == Measurement(512, BYTES)


def test_of_a_peak_the_greatest_value_that_was_seen_counts():
    part, peaks = Part(), {}
    for n_bytes in (5, 90, 20):
        part._store.n_bytes = n_bytes
        note_peaks(part, peaks)

    assert peaks == {"held": 90}
    assert measure(part, peaks=peaks)["held"].value == 90
    part._store.n_bytes = 100
    assert measure(part, peaks=peaks)["held"].value == 100, "seen by nobody before"


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=5))
def test_metrics_of_one_name_go_together_as_they_say(values):
    parts = []
    for seen, rounds in values:
        part = Part(rounds)
        part.seen = seen
        parts.append(part)

    measured = measure(*parts)

    assert measured["seen"].value == sum(seen for seen, _ in values)
    assert measured["furthest"].value == max(rounds for _, rounds in values)


def test_metrics_survive_the_way_to_the_others_and_are_added_up():
    reports = []
    for number, n_bytes in enumerate((1024, 2048)):
        operator = OperatorReport.of(
            0,
            "filter",
            {"rows in": Measurement(5), "skipped": Measurement(n_bytes, BYTES)},
        )
        report = RankReport(number, operators=[operator])
        report.metrics = {"deepest": Measurement(3 + number, over_ranks="max")}
        reports.append(RankReport.from_json(report.to_json()))
        assert reports[-1] == report

    result = collect_result("job", 2, reports)

    assert result.operators[0].rows_in == 10
    assert result.metrics == {"skipped": 3072, "deepest": 4}
    lines = str(result).splitlines()
    assert lines[3].split()[-1] == "skipped"
    assert lines[4].endswith("3 KiB")
    assert max(map(len, lines)) <= 100


class CountingSource(ListSource):
    asked = Counter("splits asked for")

    def open(self, split, position=None):
        self.asked += 1
        return super().open(split, position)


class CountingSink(ListSink):
    n_batches = Counter("batches written")

    def write(self, batch):
        self.n_batches += 1
        super().write(batch)


def build():
    job = hs.Job("counted")
    splits = [[pa.record_batch({"t": [i], "k": [i % 2]}) for i in range(start, start + 20)]
              for start in (0, 20, 40)]  # fmt: skip
    source = CountingSource(splits)
    rows = job.source(source, event_time="t", event_time_unit="s")
    sink = CountingSink()
    rows.rebalance().sink(sink)
    return job


def test_what_a_source_and_a_sink_of_the_user_declare_is_in_the_result():
    result = run_ranks(2, build, batch_rows=4).result

    assert result.metrics["splits asked for"] == 3
    assert result.metrics["batches written"] >= 60 / 4
    assert "batches written" in str(result)
    assert result.rounds == max(one.rounds for one in result.per_rank) > 0
    assert sum(one.bytes_sent for one in result.per_rank) > 0


def test_ranks_tell_each_other_their_metrics_while_the_job_runs(monkeypatch):
    seen = []
    monkeypatch.setattr(ProgressLine, "show", lambda self, one, now_s, wall_s: seen.append(one))

    clock = ManualClock(turn_s=0.05)
    with start_ranks(2, build, clock=clock, progress=True, batch_rows=1) as ranks:
        result = ranks.finish().result

    assert seen
    names = {"rows in", "rows out", "late rows", "state", "sent", "rounds", "splits asked for"}
    assert all(names | {"batches written"} == one.metrics.keys() for one in seen)
    for before, after in pairwise(seen):
        assert all(after.metrics[name] >= value for name, value in before.metrics.items())
    assert seen[-1].metrics["rounds"] <= result.rounds
    assert 0 < seen[-1].metrics["batches written"] <= result.metrics["batches written"]
