"""Signals and time limits as requests to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from hpcstream.process.stop_signals import Deadline, SignalledStop


@pytest.mark.parametrize(
    ("number", "with_checkpoints", "without"),
    [(signal.SIGTERM, 75, 143), (signal.SIGUSR2, 75, 143), (signal.SIGINT, 130, 130)],
)
def test_a_signal_asks_to_stop(number, with_checkpoints, without):
    for has_checkpoints, status in ((True, with_checkpoints), (False, without)):
        with SignalledStop(has_checkpoints=has_checkpoints, environ={}) as stop:
            assert stop.status == 0
            os.kill(os.getpid(), number)
            assert stop.status == status


def test_handlers_are_put_back():
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    with SignalledStop(has_checkpoints=True, environ={}):
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    assert {n: signal.getsignal(n) for n in before} == before


def test_outside_the_main_thread_there_are_no_handlers():
    found = []

    def run():
        with SignalledStop(has_checkpoints=True, environ={}) as stop:
            found.append((signal.getsignal(signal.SIGTERM), stop.status))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(signal.getsignal(signal.SIGTERM), 0)]


def test_the_second_signal_ends_the_process_at_once():
    text = (
        "import os, signal, time\n"
        "from hpcstream.process.stop_signals import SignalledStop\n"
        "with SignalledStop(has_checkpoints=True, environ={}):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", text], timeout=50).returncode == -signal.SIGTERM


def test_a_job_stops_shortly_before_the_end_of_its_time():
    deadline = Deadline(end_s=10_000.0, now_s=0.0)
    deadline.look(9_939.0)
    assert deadline.status == 0
    deadline.look(9_940.0)
    assert deadline.status == 75

    short = Deadline(end_s=100.0, now_s=0.0)
    assert short.stop_at_s == 90.0


def test_slurm_says_when_the_time_is_over():
    with SignalledStop(has_checkpoints=True, environ={"SLURM_JOB_END_TIME": "1000"}) as stop:
        assert stop.status == 75
    with SignalledStop(has_checkpoints=False, environ={"SLURM_JOB_END_TIME": "1000"}) as stop:
        assert stop.status == 0
