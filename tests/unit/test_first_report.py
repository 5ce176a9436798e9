"""One rank of a host shows an error of the script."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import pytest

from hpcstream.process import first_report, siblings

SPEAKER = """
import os, sys
from hpcstream.process import first_report
first_report.wait_to_report(os.environ)
first_report._held.clear()  # as when the interpreter ends, some time before the process
print("speaks", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def waits(monkeypatch):
    """What this process has waited, instead of waiting; what it holds is let go."""
    found = []
    monkeypatch.setattr(first_report.time, "sleep", found.append)
    monkeypatch.setattr(first_report, "_held", held := [])
    yield found
    for descriptor in held:
        os.close(descriptor)


def rank(number, local, job):
    return {
        "OMPI_COMM_WORLD_RANK": f"{number}",
        "OMPI_COMM_WORLD_LOCAL_RANK": f"{local}",
        "PMIX_NAMESPACE": f"prterun-{job}@1",
    }


@pytest.fixture
def job():
    return uuid.uuid4().hex


@pytest.mark.parametrize("number", [0, 1, 7])
def test_the_first_to_fail_speaks_at_once_whatever_its_number(number, job, waits):
    first_report.wait_to_report(rank(number, number, job))

    assert waits == []


def test_the_others_wait_to_be_ended_as_long_as_it_is_there(job, waits):
    environ = {**os.environ, **rank(5, 5, job)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", SPEAKER], env=environ, stdin=pipe, stdout=pipe, text=True
    ) as speaker:
        assert speaker.stdout.readline() == "speaks\n"
        first_report.wait_to_report(rank(0, 0, job))
        first_report.wait_to_report(rank(0, 0, f"{job}-another"))
        speaker.stdin.close()

    assert waits == [first_report.TO_BE_ENDED_S]
    first_report.wait_to_report(rank(0, 0, job))
    assert len(waits) == 1, "nothing of the name stays"


def test_a_rank_of_another_host_leaves_the_word_to_the_first_host(job, waits):
    first_report.wait_to_report(rank(3, 1, job))

    assert len(waits) == 1
    assert 0 < waits[0] < first_report.TO_BE_ENDED_S


@pytest.mark.parametrize(
    ("environ", "n_waits"), [({}, 0), ({"PMI_RANK": "0"}, 0), ({"PMI_RANK": "2"}, 1)]
)
def test_where_a_launcher_does_not_number_the_ranks_of_a_host_the_first_speaks(
    environ, n_waits, waits
):
    first_report.wait_to_report(environ)

    assert len(waits) == n_waits


@pytest.mark.parametrize("local", ["MPI_LOCALRANKID", "SLURM_LOCALID"])
def test_ranks_without_a_job_s_name_share_their_launcher_s(local, waits):
    first_report.wait_to_report({"PMI_RANK": "1", local: "1"})
    first_report.wait_to_report({"PMI_RANK": "0", local: "0"})

    assert waits == [first_report.TO_BE_ENDED_S]


@pytest.mark.parametrize(
    ("size", "others", "n_waits"), [(3, 2, 0), (3, 1, 1), (3, 0, 1), (1, 0, 0)]
)
def test_who_comes_when_a_rank_has_ended_already_waits(
    size, others, n_waits, job, waits, monkeypatch
):
    """The one that has spoken is gone, its name with it, and the launcher has not ended all yet."""
    monkeypatch.setattr(siblings, "_launcher_is_parent", lambda: True)
    monkeypatch.setattr(siblings, "_siblings", lambda: ["rank"] * others)

    first_report.wait_to_report(rank(2, 2, job) | {"OMPI_COMM_WORLD_LOCAL_SIZE": f"{size}"})

    assert waits == [first_report.TO_BE_ENDED_S] * n_waits


def test_of_a_rank_that_no_launcher_started_nobody_is_gone():
    assert not siblings.has_ended_sibling(5)
