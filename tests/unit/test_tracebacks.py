"""A user's error shows the user's frames."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream.environment import FULL_TRACEBACK
from hpcstream.errors import ConnectorError, EarlyExit, PlanError
from hpcstream.expressions import expression as expressions
from hpcstream.launch import exit_hooks
from hpcstream.launch.quirks import mpich
from hpcstream.process.failure import mark_agreed
from hpcstream.process.tracebacks import shorten, to_be_shown
from hpcstream.testing import run_ranks

PROJECT = Path(__file__).parents[2]


def failing_job(fail) -> hs.Job:
    job = hs.Job("boom")
    rows = job.from_batches(pa.table({"x": [1, 2, 3]}))
    rows.map_batches(fail, schema=pa.schema([("x", pa.int64())])).collect()
    return job


def fail_on_values(batch):
    if batch.num_rows:
        raise KeyError("no such airport")
    return batch


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_the_frames_between_run_and_the_users_function_are_left_out():
    with pytest.raises(KeyError) as caught:
        failing_job(fail_on_values).run(show=False)

    text = shown(caught.value)
    assert "fail_on_values" in text
    assert "map_batches" in text
    assert "round 0" in text
    assert "rank 0 of 1" in text
    assert "/hpcstream/runtime/" not in text
    assert "/hpcstream/operators/" not in text
    assert f"{FULL_TRACEBACK}=1" in text


def run_with(add) -> None:
    job = hs.Job("boom")
    add(job.from_batches(pa.table({"x": [1, 2, 0], "s": ["1", "two", None]}))).collect()
    job.run(show=False)


X = pa.schema([("x", pa.int64())])
ON_PURPOSE = {
    "other columns": lambda: run_with(lambda s: s.map_batches(lambda b: b, schema=X)),
    "a type for a batch": lambda: run_with(lambda s: s.map_batches(lambda b: 3, schema=X)),
    "an unknown column": lambda: run_with(lambda s: s.flat_map(lambda row: {"y": 1})),
    "division": lambda: run_with(lambda s: s.with_columns(y=1 // hs.col("x"))),
    "overflow": lambda: run_with(lambda s: s.with_columns(y=(hs.col("x") + 2**62) * 4)),
    "a cast": lambda: run_with(lambda s: s.with_columns(y=hs.col("s").cast("int64"))),
    "a duration": lambda: hs.tumbling(60),
    "a comparison": lambda: hs.col("x") == None,  # noqa: E711
    "a truth value": lambda: bool(hs.col("x")),
    "a constant": lambda: hs.lit(object()),
    "an attribute": lambda: hs.Job("j").read_kafka,
    "a name of the package": lambda: hs.sessions,
    "an option": lambda: hs.Job("j").run(batch_row=3),
    "a value of an option": lambda: hs.Job("j").run(keep=0),
    "no sink": lambda: hs.Job("j").run(),
    "a missing file": lambda: hs.Job("j").read_parquet("no such file"),
    "no file of its kind": lambda: hs.Job("j").read_hdf5(__file__),
    "rows before the run": lambda: hs.Job("j").from_batches(pa.table({"x": [1]})).collect().table,
}


def files_in(text: str) -> set[str]:
    return {Path(line.split('"')[1]).name for line in text.splitlines() if "  File " in line}


@pytest.mark.parametrize("kind", ON_PURPOSE)
def test_what_is_raised_on_purpose_shows_no_line_but_the_users(kind):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        ON_PURPOSE[kind]()

    text = shown(shorten(caught.value, {}))

    assert files_in(text) == {"test_tracebacks.py"}
    assert text.rstrip().endswith(f"{FULL_TRACEBACK}=1 shows them")


def test_an_error_of_a_library_that_the_users_function_calls_shows_the_library():
    def parse(batch):
        return json.loads("{")

    with pytest.raises(json.JSONDecodeError) as caught:
        run_with(lambda s: s.map_batches(parse, schema=X))

    text = shown(shorten(caught.value, {}))
    assert files_in(text) == {"test_tracebacks.py", "__init__.py", "decoder.py"}


def test_a_fault_of_ours_below_a_users_function_keeps_every_frame(monkeypatch):
    monkeypatch.setattr(expressions, "Column", None)

    with pytest.raises(TypeError, match="not callable") as caught:
        run_with(lambda s: s.map_batches(lambda batch: hs.col("x"), schema=X))

    assert {"expression.py", "user_functions.py", "job.py"} <= files_in(
        shown(shorten(caught.value, {}))
    )


def test_an_assertion_of_ours_is_a_fault():
    inside = Path(hs.__file__).parent / "runtime" / "broken.py"
    code = compile("assert not 1, 'never'", str(inside), "exec")
    with pytest.raises(AssertionError) as caught:
        exec(code, {})

    assert "broken.py" in shown(shorten(caught.value, {}))


def test_ipython_shows_no_line_but_those_of_cells(tmp_path):
    pytest.importorskip("IPython")
    cells = """
        import pyarrow as pa, hpcstream as hs
        stream = hs.Job("cells").from_batches(pa.table({"x": [1]}))
        stream.select("y")
        stream
        1 / 0
    """
    shell = [sys.executable, "-m", "IPython", "--simple-prompt", "--no-banner", "--quick"]

    run = subprocess.run(
        [*shell, "--colors=NoColor"],
        input=textwrap.dedent(cells).lstrip(),
        env={**os.environ, "IPYTHONDIR": str(tmp_path), "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.count("Traceback (most recent call last)") == 2
    assert "/hpcstream/" not in run.stdout
    assert "PlanError: no column 'y'; columns: x" in run.stdout
    assert "Stream of job 'cells': x: int64" in run.stdout


def test_all_frames_are_there_on_request(monkeypatch):
    monkeypatch.setenv(FULL_TRACEBACK, "1")
    with pytest.raises(KeyError) as caught:
        failing_job(fail_on_values).run(show=False)

    text = shown(caught.value)
    assert "/hpcstream/runtime/" in text
    assert f"{FULL_TRACEBACK}=1" not in text


def test_an_error_of_our_own_code_keeps_every_frame():
    inside = Path(hs.__file__).parent / "runtime" / "broken.py"
    code = compile("def broken():\n    return [][1]\nbroken()", str(inside), "exec")
    with pytest.raises(IndexError) as caught:
        exec(code, {})

    before = shown(caught.value)
    assert shown(shorten(caught.value, {})) == before
    assert "broken.py" in before


def test_an_error_that_a_library_raises_at_our_call_keeps_every_frame():
    inside = Path(hs.__file__).parent / "runtime" / "broken.py"
    code = compile("import json\njson.loads('{')", str(inside), "exec")
    with pytest.raises(ValueError, match="Expecting") as caught:
        exec(code, {})

    assert "broken.py" in shown(shorten(caught.value, {}))


def test_an_error_of_arrow_over_the_users_values_is_shown_short():
    job = hs.Job("overflow")
    rows = job.from_batches(pa.table({"x": ["1", "two"]}))
    rows.with_columns(y=hs.col("x").cast(pa.int64())).collect()
    with pytest.raises(pa.ArrowInvalid) as caught:
        job.run(show=False)

    text = shown(caught.value)
    assert "/hpcstream/operators/" not in text
    assert "round 0" in text


def test_an_error_that_we_raise_on_purpose_shows_where_the_user_called():
    with pytest.raises(PlanError) as caught:
        hs.Job("job").from_batches(pa.table({"x": [1]})).select("y")

    text = shown(shorten(caught.value, {}))
    assert "test_tracebacks.py" in text
    assert "/hpcstream/api/" not in text


def test_shortening_twice_says_so_once():
    with pytest.raises(KeyError) as caught:
        failing_job(fail_on_values).run(show=False)

    assert shown(shorten(caught.value, {})).count(FULL_TRACEBACK) == 1


def test_causes_are_shortened_too():
    def wrap(batch):
        try:
            return fail_on_values(batch)
        except KeyError as error:
            raise ValueError("cannot map") from error

    with pytest.raises(ValueError, match="cannot map") as caught:
        failing_job(wrap).run(show=False)

    text = shown(caught.value)
    assert "no such airport" in text
    assert "/hpcstream/runtime/" not in text


def test_a_cause_is_not_shown_where_the_error_says_the_same(tmp_path):
    (tmp_path / "a.parquet").write_text("no such file")
    with pytest.raises(ConnectorError) as caught:
        hs.Job("job").read_parquet(tmp_path / "a.parquet")

    assert isinstance(caught.value.__cause__, pa.ArrowInvalid)
    assert "direct cause" not in shown(to_be_shown(caught.value, {}))


@pytest.mark.parametrize("said", ["the cause", "something else"])
def test_a_cause_of_the_users_code_is_always_shown(said):
    def cause(batch):
        raise KeyError("the cause")

    with pytest.raises(PlanError, match="the cause") as caught:
        hs.Job("job").from_batches(pa.table({"x": [1]})).map_batches(cause)

    assert "in cause" in shown(to_be_shown(caught.value, {}))
    other = ValueError(said)
    other.__cause__ = ValueError("the cause")
    assert ("direct cause" in shown(to_be_shown(other, {}))) == (said != "the cause")
    other.__cause__ = ValueError("the cause")
    assert "direct cause" in shown(to_be_shown(other, {FULL_TRACEBACK: "1"}))


@pytest.mark.parametrize(
    ("environ", "waits"),
    [
        ({"PMI_SIZE": "3", "PMI_RANK": "1"}, True),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "3", "PMI_SIZE": "3"}, False),
        ({}, False),
    ],
)
def test_a_rank_that_fails_before_mpi_starts_ends_the_others_where_the_launcher_does_not(
    environ, waits, monkeypatch, capsys
):
    ended = []
    monkeypatch.setattr(mpich, "end_all_ranks", lambda status, end: ended.append(status))
    monkeypatch.setattr(exit_hooks, "wait_to_report", lambda environ: None)
    monkeypatch.setattr(os, "environ", environ)

    monkeypatch.setattr(exit_hooks, "mpi_has_started", lambda: False)

    exit_hooks.Hook(sys.__excepthook__)(ValueError, ValueError("of the script"), None)

    assert bool(ended) is waits
    assert "of the script" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "agreed", "status"),
    [(ValueError, False, 1), (KeyboardInterrupt, False, 130), (ValueError, True, None)],
)
def test_an_error_on_one_rank_ends_the_others_once_mpi_has_started(
    error, agreed, status, monkeypatch, capsys
):
    shown, ended = [], []
    monkeypatch.setattr(exit_hooks, "end_after_error", ended.append)
    monkeypatch.setattr(exit_hooks, "wait_to_report", lambda environ: None)
    raised = error("of the script")
    if agreed:
        mark_agreed(raised)

    exit_hooks.Hook(lambda *arguments: shown.append(arguments[1]))(error, raised, None)

    assert shown == [raised], "a hook of somebody else's shows it"
    assert ended == ([] if status is None else [raised])


def test_the_status_that_a_function_has_asked_for_is_that_of_the_process(capsys):
    raised = EarlyExit("f called sys.exit(7)")
    raised.exit_status = 7
    mark_agreed(raised)

    with pytest.raises(SystemExit) as left:
        exit_hooks.Hook(sys.__excepthook__)(EarlyExit, raised, None)

    assert left.value.code == 7
    assert "f called sys.exit(7)" in capsys.readouterr().err


def test_an_error_with_a_name_that_is_not_utf_8_is_told_to_the_other_ranks():
    def fail(batch):
        if batch.num_rows:
            raise ValueError("caf\udce9.csv is bad")
        return batch

    def build():
        job = hs.Job("names")
        rows = job.from_batches([pa.record_batch({"x": [i]}) for i in range(8)])
        return job, rows.map_batches(fail, schema=pa.schema([("x", pa.int64())])).collect()

    with pytest.raises(ValueError, match="caf\udce9"):
        run_ranks(2, build)
