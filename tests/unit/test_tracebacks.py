"""A user's error shows the user's frames."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream.errors import PlanError
from hpcstream.exchange import leaving, tracebacks
from hpcstream.exchange.tracebacks import FULL, shorten


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
    assert f"{FULL}=1" in text


def test_all_frames_are_there_on_request(monkeypatch):
    monkeypatch.setenv(FULL, "1")
    with pytest.raises(KeyError) as caught:
        failing_job(fail_on_values).run(show=False)

    text = shown(caught.value)
    assert "/hpcstream/runtime/" in text
    assert f"{FULL}=1" not in text


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

    assert shown(shorten(caught.value, {})).count(FULL) == 1


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
    monkeypatch.setattr(leaving, "end_all_ranks", ended.append)
    monkeypatch.setattr(tracebacks, "let_earlier_ranks_speak", lambda rank: None)
    monkeypatch.setattr(os, "environ", environ)

    tracebacks._excepthook(ValueError, ValueError("of the script"), None)

    assert bool(ended) is waits
    assert "of the script" in capsys.readouterr().err
