"""Who leaves the script before MPI starts, and what that says to the others."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcstream.launch import exit_hooks
from hpcstream.launch.quirks import mpich
from hpcstream.process import exit_notice, siblings

UNDER_MPICH = {"PMI_SIZE": "3", "PMI_RANK": "1"}


@pytest.fixture
def at_exit(monkeypatch):
    """Watch ``sys.exit`` as under MPICH; return what Python calls at exit."""
    registered = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    monkeypatch.setattr(sys, "exit", sys.exit)  # put back after the test
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    exit_hooks.watch_exit(UNDER_MPICH)
    exit_hooks.watch_exit(UNDER_MPICH)  # watched once only
    ((call, *arguments),) = registered
    return lambda: call(*arguments)


@pytest.mark.parametrize(
    ("status", "ends_with"), [(7, [7]), ("no input", [1]), (256 + 3, [3]), (0, []), (None, [])]
)
def test_the_status_of_an_exit_ends_the_others_unless_it_is_success(
    status, ends_with, at_exit, monkeypatch
):
    ended = []
    monkeypatch.setattr(mpich, "end_all_ranks", lambda status, end: ended.append(status))
    monkeypatch.setattr(siblings, "siblings_here", list)

    with pytest.raises(SystemExit) as left:
        sys.exit(status)
    at_exit()

    assert left.value.code == status
    assert ended == ends_with


@pytest.mark.parametrize("started", [True, False])
def test_once_mpi_is_loaded_the_rules_of_mpi_s_time_hold(started, at_exit, monkeypatch):
    ended, left = [], []
    monkeypatch.setattr(mpich, "end_all_ranks", lambda status, end: ended.append(status))
    monkeypatch.setattr(exit_hooks, "leave_together", ended.append)
    monkeypatch.setattr(exit_hooks, "mpi_has_started", lambda: started)
    monkeypatch.setattr(exit_hooks, "_world", lambda: None)
    monkeypatch.setattr(exit_notice, "leave", lambda world, status: left.append(status))
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", object())

    with pytest.raises(SystemExit):
        sys.exit(7)
    at_exit()

    assert not ended
    assert left == ([7] if started else [])


@pytest.mark.parametrize("size", [2, 3, 64, 65, 100, 4096])
def test_all_ranks_are_told_who_leaves_or_a_few_of_many(size):
    told = list(exit_notice.listeners(size))
    assert told[0] == 0
    assert len(told) == size if size <= 64 else 4 <= len(told) <= 8
    assert max(told) < size


class Ended(Exception):
    """Stands for the end of all ranks, with a status."""


class PretendedWorld:
    """Three ranks, of which this is rank 1."""

    def __init__(self, *left):
        self.rank, self.size = 1, 3
        self.left = dict(left)
        self.told = None

    def notify_exit(self, status):
        self.told = status

    def exited_ranks(self):
        return self.left

    def abort(self, code):
        raise Ended(code)


@pytest.fixture
def no_patience(monkeypatch):
    monkeypatch.setattr(exit_notice, "GRACE_S", 0.05)
    monkeypatch.setattr(exit_notice, "_PATIENCE_S", 0.05)
    monkeypatch.setattr(siblings, "mark_as_left", lambda: None)


@pytest.mark.parametrize(
    ("status", "left", "ends"),
    [(0, [], False), (4, [(0, 4), (2, 0)], False), (4, [(0, 4)], True), (4, [], True)],
)
def test_who_leaves_with_an_error_ends_those_who_stay(status, left, ends, no_patience, capsys):
    world = PretendedWorld(*left)

    if ends:
        with pytest.raises(Ended, match=str(status)):
            exit_notice.leave(world, status)
        assert f"rank 1 left the script with status {status}" in capsys.readouterr().err
    else:
        exit_notice.leave(world, status)
    assert world.told == status


@pytest.mark.parametrize(("status", "ends_with"), [(0, 1), (4, 4)])
def test_a_rank_that_waits_for_one_that_left_ends_all(status, ends_with, no_patience, capsys):
    world = PretendedWorld((2, status))
    in_vain = exit_notice.ExitWatch(world, {0, 1, 2})
    in_vain.look()
    time.sleep(0.1)
    if status:
        in_vain.look()  # who leaves with an error ends the others itself
        time.sleep(0.2)

    with pytest.raises(Ended, match=str(ends_with)):
        in_vain.look()

    assert "waits in job.run(), but rank 2 has left the script" in capsys.readouterr().err


def test_a_rank_that_waits_for_others_than_who_left_goes_on(no_patience):
    world = PretendedWorld((2, 0))
    watch = exit_notice.ExitWatch(world, {0, 1})
    for _ in range(3):
        watch.look()
        time.sleep(0.03)


@pytest.mark.parametrize("environ", [{}, {"PMI_SIZE": "1"}, {"OMPI_COMM_WORLD_SIZE": "1"}])
def test_elsewhere_exit_is_left_alone(environ, monkeypatch):
    before = sys.exit
    monkeypatch.setattr(sys, "exit", before)

    exit_hooks.watch_exit(environ)

    assert sys.exit is before


def test_who_leaves_with_success_waits_until_all_have_left(at_exit, monkeypatch):
    ended, seen = [], [["other"], ["other"], []]
    monkeypatch.setattr(mpich, "end_all_ranks", lambda status, end: ended.append(status))
    monkeypatch.setattr(exit_hooks, "_LOOK_EVERY_S", 0)
    monkeypatch.setattr(siblings, "siblings_here", lambda: seen.pop(0))
    monkeypatch.setattr(siblings, "is_in_mpi", lambda other: False)

    at_exit()

    assert not seen
    assert not ended


def test_who_leaves_with_success_ends_those_that_wait_in_mpi(at_exit, monkeypatch, capsys):
    class Ended(Exception):
        pass

    def end(status, end_world):
        raise Ended(status)

    monkeypatch.setattr(mpich, "end_all_ranks", end)
    monkeypatch.setattr(siblings, "siblings_here", lambda: ["other"])
    monkeypatch.setattr(siblings, "is_in_mpi", lambda other: True)

    with pytest.raises(Ended, match="1"):
        at_exit()
    assert "before job.run(), where others wait" in capsys.readouterr().err


@pytest.mark.parametrize("reason", ["an error", "singletons"])
def test_who_is_not_waited_for_does_not_wait(reason, at_exit, monkeypatch):
    waited = []
    monkeypatch.setattr(exit_hooks, "leave_together", waited.append)
    if reason == "an error":
        monkeypatch.setattr(sys, "last_type", ValueError, raising=False)
    else:
        monkeypatch.setitem(UNDER_MPICH, exit_hooks.ALLOW_SINGLETONS, "1")

    at_exit()

    assert not waited


def test_only_what_a_launcher_started_as_a_rank_is_another_rank():
    program = "import time; print(flush=True); time.sleep(60)"
    environ = {**os.environ, "PMI_RANK": "0"}
    with (
        subprocess.Popen([sys.executable, "-c", program], env=environ, stdout=subprocess.PIPE) as a,
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as b,
    ):
        try:
            a.stdout.readline()
            b.stdout.readline()
            assert siblings.is_rank(Path("/proc", str(a.pid)))
            assert not siblings.is_rank(Path("/proc", str(b.pid)))
            assert not siblings.is_in_mpi(Path("/proc", str(a.pid)))
        finally:
            a.kill()
            b.kill()
    assert siblings.siblings_here() == [], "nobody's launcher is the parent of this process"


def test_the_launcher_is_asked_in_its_own_words(monkeypatch):
    """Answered as MPICH's does; that it does what is asked is shown in tests/jobs."""
    ours, launchers = socket.socketpair()
    monkeypatch.setattr(mpich, "_ANSWER_S", 0.01)
    launchers.sendall(b"cmd=response_to_init rc=0 pmi_version=1 pmi_subversion=2\n")

    with ours, launchers:
        mpich.ask_launcher(7, {"PMI_FD": str(ours.fileno())})
        said = launchers.recv(1000).decode().splitlines()

    assert said == ["cmd=init pmi_version=1 pmi_subversion=1", "cmd=abort exitcode=7"]


@pytest.mark.parametrize("environ", [{}, {"PMI_FD": "none"}, {"PMI_FD": "999999"}])
def test_a_launcher_that_cannot_be_asked_is_passed_over(environ):
    mpich.ask_launcher(7, environ)
