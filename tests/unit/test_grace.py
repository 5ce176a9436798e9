"""A job that was asked to stop ends after a grace time, whatever it hangs in."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from hpcstream.process.stop_signals import Deadline, SignalledStop

JOB = """
import ctypes, os, sys, threading, time
import pyarrow as pa
import hpcstream as hs

def hangs(batch):
    if batch.num_rows:
        print("hangs", flush=True)
        {hang}
    return batch

job = hs.Job("hangs")
job.from_batches(pa.table({{"x": [1, 2]}})).map_batches(hangs).collect()
job.run(show=False, {options})
"""

IN_PYTHON = "time.sleep(600)"
IN_A_LOOP = "exec('while True: pass')"
IN_A_LOCK = "lock = threading.Lock(); lock.acquire(); lock.acquire()"
IN_A_LIBRARY = (
    "mutex = ctypes.create_string_buffer(64); lock = ctypes.CDLL(None).pthread_mutex_lock; "
    "lock(mutex); lock(mutex)"
)
"""Where Python cannot run a handler."""


@contextmanager
def started(tmp_path, hang, options="stop_grace_s=0.4"):
    """Yield a job that hangs; kill it if the test does not end it."""
    script = tmp_path / "job.py"
    script.write_text(JOB.format(hang=hang, options=options))
    command, pipe = [sys.executable, script], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as job:
        try:
            assert job.stdout.readline() == "hangs\n"
            yield job
        finally:
            job.kill()


@pytest.mark.parametrize(
    ("hang", "number", "options", "status"),
    [
        (IN_PYTHON, signal.SIGTERM, "stop_grace_s=0.4", 143),
        (IN_PYTHON, signal.SIGTERM, "stop_grace_s=0.4, checkpoint_dir=sys.argv[0] + '.run'", 75),
        (IN_A_LOOP, signal.SIGINT, "stop_grace_s=0.4", 130),
        (IN_A_LOCK, signal.SIGUSR2, "stop_grace_s=0.4", 143),
        (IN_A_LIBRARY, signal.SIGTERM, "stop_grace_s=0.4", 143),
    ],
    ids=["python", "with checkpoints", "loop", "lock", "library"],
)
def test_one_signal_ends_a_job_whose_function_hangs(hang, number, options, status, tmp_path):
    with started(tmp_path, hang, options) as job:
        job.send_signal(number)
        _, said = job.communicate(timeout=60)

    assert job.returncode == status, said
    assert "rank 0 gave no answer" in said
    assert "hangs (job.py, line 9)" in said
    assert "map_batches hangs" in said
    assert "Traceback" not in said


def test_what_is_waited_for_is_said_and_a_second_signal_ends_it_even_in_a_library(tmp_path):
    with started(tmp_path, IN_A_LIBRARY, "stop_grace_s=600") as job:
        job.send_signal(signal.SIGTERM)
        said = ""
        while "asked to stop" not in said:  # two signals before the first is handled are one
            said = job.stderr.readline()
            assert said
        job.send_signal(signal.SIGTERM)
        rest = job.communicate(timeout=60)[1]

    assert "asked to stop; waiting on rank 0 for hangs (job.py, line 9)" in said
    assert "again to end at once" in said
    assert job.returncode == 143, rest


def test_the_end_of_a_batch_job_s_time_ends_a_function_that_hangs(capsys):
    ended = threading.Event()
    environ = {"SLURM_JOB_END_TIME": str(int(time.time()) + 1)}
    options = {"environ": environ, "grace_s": 0.2, "abort": lambda code: ended.set()}
    with SignalledStop(has_checkpoints=True, **options) as stop:
        assert ended.wait(10)
        assert stop.status == 75

    assert Deadline(end_s=10_000.0, now_s=0.0).grace_s == 45
    assert Deadline(end_s=100.0, now_s=0.0).grace_s == 7.5


def test_a_job_that_makes_turns_or_has_stopped_is_given_all_the_time_it_takes():
    ended = []
    with SignalledStop(has_checkpoints=True, environ={}, grace_s=0.3, abort=ended.append) as stop:
        signal.raise_signal(signal.SIGTERM)
        for _ in range(8):
            time.sleep(0.1)
            stop.note_turn()
        assert stop.unanswered_s() > 0.7
        stop.answer()
        time.sleep(0.8)
        assert stop.unanswered_s() == 0

    assert not ended


def test_in_a_session_the_function_is_interrupted_and_the_process_stays(capsys):
    stop = SignalledStop(has_checkpoints=False, environ={}, grace_s=0.2, is_interactive=True)
    with stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            time.sleep(30)

    assert "asked to stop, rank 0 gave no answer" in capsys.readouterr().err


def test_handlers_and_the_pipe_that_wakes_are_put_back():
    before = signal.set_wakeup_fd(-1)
    try:
        with SignalledStop(has_checkpoints=False, environ={}):
            pass
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.set_wakeup_fd(before)
