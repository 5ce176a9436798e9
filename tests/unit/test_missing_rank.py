"""Whether a rank is missed that ended before it started MPI."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hpcstream.launch.quirks import missing_rank as looking
from hpcstream.launch.quirks.missing_rank import LOOK_EVERY_S, WAITED_FOR_S, MissingRank
from hpcstream.process import launcher_facts as launcher


class Host:
    """Stands for a host: the ranks that are there, and whether they have loaded MPI."""

    def __init__(self, monkeypatch):
        self.now_s = 0.0
        self.ranks: dict[int, bool] = {}
        monkeypatch.setattr(looking.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(looking, "_ranks_below", lambda launcher: list(self.ranks))
        monkeypatch.setattr(looking, "is_in_mpi", lambda process: self.ranks[int(process.name)])
        monkeypatch.setattr(looking, "parent_of", lambda pid: 1 if pid in self.unlisted else None)
        self.unlisted: set[int] = set()
        self.early = MissingRank(1)

    def sees(self, seconds=LOOK_EVERY_S, **ranks):
        """Let time pass; return what is seen of ranks, each ``"out"`` or ``"in"`` of MPI."""
        self.now_s += seconds
        self.ranks = {int(name[1:]): where == "in" for name, where in ranks.items()}
        return self.early.look()


@pytest.fixture
def host(monkeypatch):
    return Host(monkeypatch)


def test_a_rank_that_left_before_mpi_is_waited_for(host):
    assert not host.sees(p10="out", p11="out")
    assert not host.sees(p10="out")
    assert not host.sees(p10="in")
    assert not host.sees(WAITED_FOR_S / 2, p10="in")
    assert host.sees(WAITED_FOR_S, p10="in")


def test_a_rank_that_has_started_mpi_may_leave(host):
    host.sees(p10="out", p11="out")
    host.sees(p10="out", p11="in")
    host.sees(p10="in")
    assert not host.early.is_watching
    assert not host.sees(10 * WAITED_FOR_S, p10="in")


def test_without_mpi_ranks_come_and_go_as_they_like(host):
    host.sees(p10="out", p11="out")
    host.sees(p10="out")
    assert not host.sees(10 * WAITED_FOR_S, p10="out")


def test_what_happened_while_nobody_looked_proves_nothing(host):
    """The supervisor may have been stopped, and the rank have done all its work meanwhile."""
    host.sees(p10="out", p11="out")
    host.sees(60.0, p10="in")
    assert not host.sees(10 * WAITED_FOR_S, p10="in")


def test_a_rank_that_a_list_of_children_misses_is_not_gone(host):
    host.sees(p10="out", p11="out")
    host.unlisted = {11}
    host.sees(p10="out")
    host.sees(p10="in", p11="in")
    assert not host.sees(10 * WAITED_FOR_S, p10="in", p11="in")


def test_who_is_alive():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert looking.parent_of(process.pid) is None  # ended, though nobody has asked how
    assert looking.parent_of(os.getpid()) == os.getppid()
    assert looking.parent_of(process.pid) is None


def test_children_of_processes_and_threads_that_end_meanwhile(monkeypatch):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.pid in launcher.children_of(os.getpid())
        threads = [str(os.getpid()), "0"]  # no such thread any more
        monkeypatch.setattr(launcher.os, "listdir", lambda path: threads)
        assert process.pid in launcher.children_of(os.getpid())
        monkeypatch.undo()
        process.communicate(b"\n")
    assert launcher.children_of(process.pid) == []


def test_it_is_not_looked_for_ever(host):
    host.sees(p10="out", p11="in")
    host.sees(1000.0, p10="out", p11="in")
    assert not host.early.is_watching


def test_ranks_are_found_below_what_the_launcher_started():
    wait = "import sys; print(flush=True); sys.stdin.read()"
    rank = [sys.executable, "-c", wait]
    proxy = f"import os, subprocess; subprocess.run({rank}, env=dict(os.environ, PMI_RANK='0'))"
    with subprocess.Popen(
        [sys.executable, "-c", proxy], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        (found,) = looking._ranks_below(os.getpid())
        assert found != process.pid
        process.stdin.close()
