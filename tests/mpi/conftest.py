"""Tests that every rank runs: a failure on one rank is a failure on all."""

from __future__ import annotations

import os
import sys

import pytest

from mpi4py import MPI

from hpcstream.exchange.mpi import communicator

WORLD = MPI.COMM_WORLD


def pytest_sessionstart(session):
    asked = int(os.environ["HPCSTREAM_TEST_RANKS"])
    if WORLD.size != asked:
        pytest.exit(f"asked for {asked} ranks, but the world has {WORLD.size}", returncode=2)


@pytest.fixture
def world():
    """All ranks, as mpi4py has them: to compare what ranks hold, not to test with."""
    return WORLD


@pytest.fixture
def comm():
    """A communicator of this test's own, so that a stray message stays in it."""
    ours = communicator(WORLD)
    yield ours
    ours.free()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Fail a test on all ranks if it failed on one; say so before waiting for them."""
    report = yield
    if report.when == "call":
        if report.failed:
            print(f"\n[rank {WORLD.rank}] {report.longreprtext}", file=sys.__stderr__, flush=True)
        failed = [rank for rank, bad in enumerate(WORLD.allgather(report.failed)) if bad]
        if failed and not report.failed:
            report.outcome = "failed"
            report.longrepr = f"{item.name} passed here but failed on ranks {failed}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    if WORLD.rank > 0:  # one report is enough: failures elsewhere reach it
        config.pluginmanager.unregister(name="terminalreporter")
