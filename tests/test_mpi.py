"""Plain ``pytest`` runs the MPI tests too: once for each number of ranks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SUITE = Path(__file__).parent / "mpi"
DEADLOCK_SECONDS = 60


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_mpi_suite(run_ranks, ranks):
    pytest_on_ranks = ["-m", "pytest", "-q", str(SUITE), "-p", "no:cacheprovider"]
    pytest_on_ranks += ["-o", f"faulthandler_timeout={DEADLOCK_SECONDS}"]

    run = run_ranks(ranks, pytest_on_ranks, timeout=300, env={"HPCSTREAM_TEST_RANKS": str(ranks)})

    if run.returncode != 0:
        pytest.fail(run.stdout, pytrace=False)
    assert re.search(r"\d+ passed", run.stdout), run.stdout
