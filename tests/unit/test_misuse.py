"""What is said of calls that nearly fit: a name mistyped, a function for an expression."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import inspect
import os
import re
import subprocess
import sys
import warnings

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col
from hpcstream.columns.event_time import TimeUnit, duration_text
from hpcstream.connectors.formats.csv.options import CsvOptions
from hpcstream.connectors.formats.json.format import json_source
from hpcstream.connectors.parts.sinks import csv_sink, hdf5_sink, ipc_sink, parquet_sink
from hpcstream.errors import ConnectorError


@pytest.fixture
def stream():
    return hs.Job("misused").from_batches(pa.table({"amount": [1, 2], "country": ["DE", "FR"]}))


@pytest.mark.parametrize(
    "call",
    [
        lambda stream, function: stream.filter(function),
        lambda stream, function: stream.with_columns(x=function),
        lambda stream, function: stream.with_columns(function),
        lambda stream, function: stream.select(x=function),
        lambda stream, function: stream.select(function),
    ],
    ids=range(5),
)
@pytest.mark.parametrize("function", [lambda row: row["amount"] > 5, len], ids=["lambda", "len"])
def test_a_function_for_an_expression_is_refused_with_what_to_write(stream, call, function):
    said = r"takes an expression such as col\('amount'\) > 5; got a function .*; for functions of "
    with pytest.raises(TypeError, match=f"^(filter|select|with_columns) {said}batches use map_bat"):
        call(stream, function)


def test_an_expression_for_a_function_is_refused(stream):
    with pytest.raises(TypeError, match=r"map_batches takes a function of .*; got col\('amount'\)"):
        stream.map_batches(col("amount"))


def test_a_mistyped_option_of_run_is_named(stream):
    stream.collect()
    for name, meant in (
        ("batch_row", "batch_rows"),
        ("checkpoint_dri", "checkpoint_dir"),
        ("checkpoint_interval_s", "checkpoint_interval"),
    ):
        said = f"run(): unknown option {name!r}; did you mean {meant!r}?; see Job.run and hpcstream"
        with pytest.raises(TypeError, match=re.escape(said)):
            stream._job.run(**{name: 10})


@pytest.mark.parametrize(
    ("method", "option", "meant"),
    [
        ("write_parquet", "compressions", "compression"),
        ("write_parquet", "dictionary", "use_dictionary"),
        ("write_csv", "delimiters", "delimiter"),
        ("write_ipc", "compress", "compression"),
        ("write_hdf5", "max_row", "max_rows"),
    ],
)
def test_a_mistyped_option_of_a_sink_is_named_when_it_is_declared(stream, method, option, meant):
    said = rf"{method}\(\): unknown option '{option}'; did you mean '{meant}'\?; see help"
    with pytest.raises(TypeError, match=said):
        getattr(stream, method)("out", **{option: "zstd"})
    assert stream._job._sinks == []


def test_a_value_that_a_writer_refuses_is_not_blamed_on_the_columns(stream, tmp_path):
    with pytest.raises(ConnectorError, match="with the options given: Unsupported compression"):
        stream.write_parquet(tmp_path / "out", compression="zstdd")


def test_a_mistyped_option_of_a_source_is_named(tmp_path):
    said = r"read_csv\(\): unknown option 'delimiters'; did you mean 'delimiter'\?; see help"
    with pytest.raises(TypeError, match=said):
        hs.Job("reads").read_csv(tmp_path / "orders.csv", delimiters=";")
    with pytest.raises(TypeError, match=r"read_json\(\): unknown option 'block_byte'"):
        hs.Job("reads").read_json(tmp_path / "orders.json", block_byte=9)


@pytest.mark.parametrize(
    ("call", "options", "said"),
    [
        ("read_csv", {"sep": ";"}, "it is called 'delimiter'"),
        ("read_csv", {"dtype": {}}, "it is called 'column_types'"),
        ("read_csv", {"names": []}, "it is called 'column_names'"),
        ("read_json", {"dtypes": {}}, "it is called 'column_types'"),
        ("read_json", {"timestamp": "t"}, "it is called 'event_time'"),
    ],
)
def test_what_others_call_an_option_is_understood(call, options, said):
    with pytest.raises(TypeError, match=rf"{call}\(\): unknown option .*{said}; see help"):
        getattr(hs.Job("reads"), call)("orders", **options)


def test_options_of_files_are_arguments_that_editors_see():
    names = {
        name: set(inspect.signature(getattr(owner, name)).parameters)
        for owner in (hs.Job, hs.Stream)
        for name in dir(owner)
        if name.startswith(("read_", "write_"))
    }
    assert names["read_csv"] >= {field.name for field in dataclasses.fields(CsvOptions)}
    json = set(inspect.signature(json_source).parameters) - {"unit"}
    assert names["read_json"] >= json
    sinks = {"parquet": parquet_sink, "ipc": ipc_sink, "csv": csv_sink, "hdf5": hdf5_sink}
    for kind, make in sinks.items():
        assert names[f"write_{kind}"] >= set(inspect.signature(make).parameters)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("join", "joins of two streams do not exist yet; join_table"),
        ("map", "map_batches"),
        ("group_by", "it is called key_by"),
        ("with_column", r"did you mean 'with_columns'\?"),
    ],
)
def test_what_a_stream_does_not_have_is_said_with_what_there_is(stream, name, said):
    with pytest.raises(AttributeError, match=f"'Stream' object has no attribute '{name}'.*{said}"):
        getattr(stream, name)
    assert not hasattr(stream, "nothing_like_it")
    assert copy.copy(stream) == stream


@pytest.mark.parametrize(
    ("misuse", "error", "said"),
    [
        (lambda s: s["amount"], TypeError, r"expressions, as hs\.col\('amount'\)"),
        (lambda s: s[col("amount") > 1], TypeError, r"write \.filter\(col\('amount'\) > 1\)"),
        (lambda s: s[0], TypeError, "has no positions"),
        (lambda s: s.amount, AttributeError, r"expressions, as hs\.col\('amount'\)"),
        (list, TypeError, "no rows before the job runs"),
        (lambda s: s.filter("amount > 0"), TypeError, r"write filter\(col\('amount'\) > 0\)"),
        (lambda s: s.filter("a = 'x'"), TypeError, r"filter\(col\('a'\) == 'x'\)"),
        (lambda s: s.filter("good"), TypeError, "takes an expression, not text"),
        (lambda s: col("amount").is_in(3), TypeError, r"as is_in\(\[3\]\); == compares"),
        (lambda s: col("country").is_in("DE"), TypeError, r"as is_in\(\['DE'\]\)"),
        (lambda s: s.print(limit="all"), hs.PlanError, "a number of rows, or None"),
        (lambda s: s.print(limit=-1), hs.PlanError, "a number of rows, or None"),
        (lambda s: s.print(label=3), TypeError, "takes a text"),
        (lambda s: s.union([s]), TypeError, r"write a\.union\(\*streams\)"),
        (lambda s: s.union(None), TypeError, "is not a stream; got None"),
        (lambda s: s.union(), hs.PlanError, r"names nothing; write union\(stream\)"),
        (lambda s: s.drop(), hs.PlanError, r"names nothing; write drop\('name'\)"),
        (lambda s: s.rename({}), hs.PlanError, "names nothing; write rename"),
        (lambda s: s.with_columns(), hs.PlanError, r"write with_columns\(name=expression\)"),
        (lambda s: s._job.run(batch_rows="a"), TypeError, "a whole number or None; got 'a'"),
        (lambda s: s._job.run(keep=2.5), TypeError, "keep must be a whole number; got 2.5"),
        (lambda s: s._job.run(linger_s=True), TypeError, "a number of seconds; got True"),
        (lambda s: s._job.run(progress="yes"), TypeError, "progress must be True or False or"),
        (lambda s: s._job.run(stall_timeout_s=0), ValueError, "must be positive"),
    ],
    ids=range(24),
)
def test_what_nearly_fits_is_refused_with_what_to_write(stream, misuse, error, said):
    with pytest.raises(error, match=said):
        misuse(stream)


def test_streams_of_two_jobs_are_not_mixed(stream):
    other = hs.Job("other").from_batches(pa.table({"amount": [1], "country": ["DE"]}))

    with pytest.raises(hs.PlanError, match="input 1 is a stream of job 'other', this one is of"):
        stream.union(other)


def test_two_prints_of_a_job_are_told_apart(stream, capsys):
    stream.print()
    stream.filter(col("amount") > 1).print()
    stream.select("country").print(label="countries")

    stream._job.run(show=False)

    lines = capsys.readouterr().out.splitlines()
    assert sorted(line for line in lines if "FR" in line) == [
        "countries: FR",
        "print 1: 2 | FR",
        "print 2: 2 | FR",
    ]


def test_event_time_of_integers_is_printed_as_dates(capsys):
    job = hs.Job("dates")
    rows = pa.table({"t": [1_772_323_207, 1_772_323_208], "n": [1, 2]})
    stream = job.from_batches(rows, event_time="t", event_time_unit="s")
    stream.window_all(hs.tumbling("1h")).agg(n=hs.count(), last=col("t").max()).print()

    job.run(show=False)

    assert capsys.readouterr().out.splitlines()[-1] == (
        "2026-03-01 00:00:00 | 2026-03-01 01:00:00 | 2 | 2026-03-01 00:00:08"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("session_window", r"it is called session\(\)"),
        ("sum", r"methods of it, as in col\('amount'\)\.sum\(\)"),
        ("tumblin", r"did you mean 'tumbling'\?"),
    ],
)
def test_what_the_package_does_not_have_is_said_with_what_there_is(name, said):
    with pytest.raises(AttributeError, match=f"'hpcstream' has no attribute '{name}'.*{said}"):
        getattr(hs, name)


SCRIPT = """
import sys
import warnings
import hpcstream as hs

job = hs.Job("forgotten")
job.generate(lambda start, n: {"t": range(n)}, rows=9).collect()
"""


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        ("", True),
        ("job.run(show=False)", False),
        ("job.explain()", False),
        ("print(no_such_name)", False),
        ("sys.ps1 = '>>> '", False),
        ("del job", True),
        ("import os\nif os.fork(): job.run(show=False)", False),
        ("sys.modules['pytest'] = sys", False),
    ],
)
def test_a_job_that_nobody_runs_is_named_when_the_script_ends(rest, told):
    script = SCRIPT + rest

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert ("the script ended without job.run() of 'forgotten'\n" in ended.stderr) == told


def test_the_first_rank_alone_tells_of_a_job_that_nobody_runs():
    environ = {**os.environ, "PMI_RANK": "1", "HPCSTREAM_ALLOW_SINGLETONS": "1"}

    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environ
    )

    assert ended.stderr == ""


def test_a_process_that_imports_the_script_for_a_function_does_not_tell(tmp_path):
    script = tmp_path / "spawns.py"
    script.write_text(
        SCRIPT + "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.get_context('spawn').Pool(1).map(abs, [1])\n"
        "    job.run(show=False)\n"
    )

    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)

    assert "the script ended" not in ended.stderr


def test_of_many_jobs_that_nobody_runs_three_are_named():
    script = "import hpcstream as hs\nfor i in range(5):\n    job = hs.Job(f'job {i}')\n"
    script += "    job.generate(lambda start, n: {'t': range(n)}, rows=9).collect()\n"

    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert ended.stderr.endswith("of 'job 0', 'job 1', 'job 2' and 2 others\n")


@given(
    st.sampled_from(["ns", "us", "ms", "s"]),
    st.integers(1, 10**7),
    st.sampled_from(["size", "slide", "offset", "lateness", "delay"]),
)
def test_a_duration_of_any_length_is_taken_or_refused_with_what_to_do(unit, weeks, what):
    given = {"size": "1w", "slide": "1w", "offset": "0s", "lateness": "0s", "delay": "0s"}
    given[what] = f"{weeks}w"
    if what == "slide":
        given["size"] = given["slide"]
    ticks = weeks * 604_800 * {"ns": 10**9, "us": 10**6, "ms": 1000, "s": 1}[unit]
    table = pa.table({"t": pa.array([0, 1], pa.timestamp(unit))})

    def build():
        job = hs.Job("long")
        stream = job.from_batches(table, event_time="t", watermark_delay=given["delay"])
        window = hs.sliding(given["size"], given["slide"], offset=given["offset"])
        return stream.window_all(window).allowed_lateness(given["lateness"]).agg(n=hs.count())

    if ticks <= 2**61:
        build()
        return
    with pytest.raises(hs.PlanError, match=f"'{weeks}w' is longer than"):
        build()


UTC_ROWS = pa.table({"t": pa.array([0, 7_200], pa.timestamp("s", "UTC"))})


@pytest.mark.parametrize(
    ("moment", "warned"),
    [
        (dt.datetime(1970, 1, 1, 1), True),
        ("1970-01-01 01:00", True),
        (dt.date(1970, 1, 1), True),
        (dt.datetime(1970, 1, 1, 1, tzinfo=dt.UTC), False),
        ("1970-01-01T01:00+00:00", False),
    ],
    ids=range(5),
)
def test_a_moment_without_a_zone_is_said_to_be_one_of_the_column_s(moment, warned):
    stream = hs.Job("zones").from_batches(UTC_ROWS)
    for condition in (col("t") > moment, ~(hs.lit(moment) < col("t")) & (col("t") != moment)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stream.filter(condition)

        assert bool(caught) is warned
        for one in caught:
            assert "no time zone, col('t') has: it is taken as a time in UTC" in str(one.message)
            assert one.filename == __file__


def test_a_column_without_a_zone_is_compared_without_a_word():
    stream = hs.Job("zones").from_batches(pa.table({"t": pa.array([0], pa.timestamp("s"))}))

    stream.filter(col("t") > dt.datetime(1970, 1, 1))


@pytest.mark.parametrize(
    ("ticks", "unit", "text"),
    [
        (1_000_000_000, "ns", "1s"),
        (5_400, "s", "90min"),
        (7_200_000, "ms", "2h"),
        (1_500, "ms", "1500ms"),
        (3, "d", "3d"),
        (0, "us", "0s"),
        (7, "ns", "7ns"),
    ],
)
def test_durations_are_shown_in_the_greatest_unit_they_fill(ticks, unit, text):
    assert duration_text(ticks, unit) == text
    assert TimeUnit(unit).ticks(text, what="it") == ticks


def test_a_plan_has_no_names_of_the_engine_s_own():
    job = hs.Job("plan")
    table = pa.table({"t": pa.array([0], pa.timestamp("ns")), "k": ["a"], "x": [1.5]})
    stream = job.from_batches(table).with_event_time("t", watermark_delay="1s")
    windows = stream.key_by("k").window(hs.tumbling("1h")).allowed_lateness("90s")
    windows.agg(mean=col("x").mean()).collect()
    windows.agg(n=hs.count()).collect()

    plan = job.explain(ranks=2)

    assert "__" not in plan
    assert "watermark delay 1s" in plan
    assert "lateness 90s" in plan
