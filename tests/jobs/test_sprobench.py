"""SProBench: its pipelines on simulated ranks against DuckDB, its lines and its loads."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from benchmarks.nexmark.oracle import answer
from benchmarks.sprobench.command import _parser, main, source
from benchmarks.sprobench.lines import DEVIATION, MEAN, Sensors
from benchmarks.sprobench.load import ShapedClock, clock
from benchmarks.sprobench.pipeline import parse, queries
from hpcstream.testing import ManualClock, assert_same_rows, run_ranks

OPTIONS = _parser().parse_args(["--records", "8000", "--per-second", "500"])


@pytest.mark.parametrize("name", ["p0", "p1", "p2"])
def test_a_pipeline_gives_the_rows_of_duckdb_on_any_number_of_ranks(name):
    query = queries(5_000, 1_000)[name]
    lines = source(OPTIONS)

    def build():
        job = hs.Job(name)
        return job, query.build(lines.views(job, query)).collect()

    for n_ranks in (1, 2, 3):
        found = run_ranks(n_ranks, build, batch_rows=900).table
        expected, _ = answer(query, lines.tables(query), found.schema)
        assert expected.num_rows > 100
        assert_same_rows(found, expected, rtol=1e-12)


@pytest.mark.parametrize("load", ["random", "burst"])
def test_a_load_that_changes_gives_the_same_rows(load):
    query, made = queries(5_000, 5_000)["p2"], Sensors(per_second=500)
    real = ManualClock(turn_s=1e-4)

    def build():
        job = hs.Job("p2")
        shape = clock(load, period_s=0.5)
        assert isinstance(shape, ShapedClock)
        shape.now = real
        lines = job.generate(
            made.columns(), rows=4_000, rate=2_000, clock=shape, event_time="time", splits=2
        )
        return job, query.build({"lines": lines}).collect()

    found = run_ranks(2, build, clock=real).table
    expected, _ = answer(query, {"lines": made.table(4_000)}, found.schema)
    assert_same_rows(found, expected, rtol=1e-12)


def test_lines_look_as_published_and_are_the_same_read_in_any_part():
    column = Sensors(count=3).columns()["line"]
    lines = column.values(0, 1_000, 0).to_pylist()
    time, name, temperature = lines[5].split(",")
    assert (time, name[:9], len(name)) == ("1739183658407", "sensor02-", 14)
    assert len(temperature.split(".")[1]) == 2
    assert column.values(7, 20, 0, 16).to_pylist() == lines[7 : 7 + 320 : 16]


def test_lines_are_read_as_they_were_written():
    batch = Sensors().table(50_000).combine_chunks().to_batches()[0].slice(11, 40_000)
    found = parse(batch)
    pieces = [line.split(",") for line in batch["line"].to_pylist()]
    assert found["timestamp"].to_pylist() == [int(p[0]) for p in pieces]
    assert found["sensor"].to_pylist() == [p[1] for p in pieces]
    assert found["celsius"].to_pylist() == [float(p[2]) for p in pieces]
    celsius = found["celsius"].to_numpy()
    assert np.mean(celsius) == pytest.approx(MEAN, abs=0.5)
    assert np.std(celsius) == pytest.approx(DEVIATION, abs=0.5)


@pytest.mark.parametrize("line", ["", "12", "12,sensor", "12,sensor,", "x,sensor,1.0", "1,s,1.0x"])
def test_a_bad_line_is_named(line):
    times = pa.array([0, 0], pa.timestamp("ms"))
    batch = pa.record_batch([times, pa.array(["1,sensor,-2.5", line])], ["time", "line"])
    assert parse(batch.slice(0, 1))["celsius"].to_pylist() == [-2.5]
    with pytest.raises(ValueError, match="expected time,name,temperature"):
        parse(batch)


def test_a_burst_gives_all_of_a_period_in_its_first_part():
    now = ManualClock()
    shape = ShapedClock(np.array([0.25, 0.75]), np.array([1.0, 0.0]), now)
    shown = [shape()]
    for _ in range(8):
        now.advance(0.125)
        shown.append(shape())
    assert shown == pytest.approx([0, 0.5, 1, 1, 1, 1, 1, 1, 1])


def test_a_random_load_keeps_its_average():
    shape = clock("random")
    assert isinstance(shape, ShapedClock)
    now = ManualClock()
    shape.now = now
    first = shape()
    now.advance(60.0)
    assert shape() - first == pytest.approx(60.0)


def test_the_command_checks_its_answer(tmp_path, capsys):
    assert main(["--records", "5000", "--repeats", "1", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("checked") == 3
