from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from hpcstream.errors import LauncherError
from hpcstream.launch.quirks.openmpi import quick_start
from hpcstream.process import launcher_facts as launcher

OPEN_MPI = "Open MPI v5.0.11, package: Open MPI user@localhost Distribution, ident: 5.0.11\0"
MPICH = "MPICH Version:      5.0.2\nMPICH Release date: Fri Sep 25 20:45:26 UTC 2026\n"

# Environments as ranks really saw them, without the variables that say nothing of the launch.
MPIEXEC_OF_OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": "0",
    "OMPI_TOOL_NAME": "mpiexec",
    "OMPI_VERSION": "5.0.11",
    "PMIX_NAMESPACE": "prterun-vm-5964@1",
    "PMIX_RANK": "0",
    "PRTE_LAUNCHED": "1",
}
ONE_BY_OPEN_MPI = {**MPIEXEC_OF_OPEN_MPI, "OMPI_COMM_WORLD_SIZE": "1"}
MPIEXEC_OF_MPICH = {
    "HYDI_CONTROL_FD": "7",
    "MPI_LOCALNRANKS": "2",
    "MPI_LOCALRANKID": "0",
    "PMI_FD": "9",
    "PMI_HOSTNAME": "vm",
    "PMI_RANK": "0",
    "PMI_SIZE": "2",
}
BATCH_SCRIPT = {
    "SLURM_JOB_ID": "7",
    "SLURM_TASKS_PER_NODE": "4",
    "SLURM_JOB_NUM_NODES": "1",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}
SALLOC_SHELL = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS": "4"}
SRUN = {
    **BATCH_SCRIPT,
    "SLURM_STEPID": "0",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "1",
}
SRUN_PMI2 = {**SRUN, "PMI_FD": "11", "PMI_JOBID": "7.0", "PMI_RANK": "0", "PMI_SIZE": "4"}
SRUN_PMIX = {
    **SRUN,
    "SLURM_MPI_TYPE": "pmix",
    "PMIX_RANK": "0",
    "PMIX_NAMESPACE": "slurm.pmix.7.0",
    "PMIX_VERSION": "4.2.2rc2",
}
# Slurm's manual: the interactive step of salloc has this reserved number.
INTERACTIVE_STEP = {**SRUN, "SLURM_STEP_ID": "4294967290"}


@pytest.mark.parametrize(
    ("environ", "library", "launcher_named"),
    [
        (MPIEXEC_OF_MPICH, OPEN_MPI, "MPICH's mpiexec started 2 processes"),
        (MPIEXEC_OF_OPEN_MPI, MPICH, "Open MPI's mpiexec started 2 processes"),
        (SRUN_PMI2, OPEN_MPI, "srun started 4 processes"),
        (SRUN_PMIX, MPICH, "srun started 4 processes"),
        (SRUN, OPEN_MPI, "srun started 4 processes"),
        (SRUN, MPICH, "srun started 4 processes"),
    ],
    ids=["hydra", "prterun", "srun-pmi2", "srun-pmix", "srun-ompi", "srun-mpich"],
)
def test_a_rank_alone_in_its_world_is_refused_when_its_launcher_started_several(
    environ, library, launcher_named
):
    with pytest.raises(LauncherError) as refused:
        launcher.check_launcher(1, environ, library)

    message = str(refused.value)
    assert launcher_named in message
    assert launcher.short_version(library) in message
    assert "hpcstream run -n" in message


@pytest.mark.parametrize(
    "environ",
    [
        {},
        BATCH_SCRIPT,
        SALLOC_SHELL,
        INTERACTIVE_STEP,
        MPIEXEC_OF_OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"},
    ],
    ids=["plain", "sbatch", "salloc", "interactive", "mpiexec-n-1"],
)
def test_one_process_that_was_meant_to_be_one_is_accepted(environ):
    launcher.check_launcher(1, environ, OPEN_MPI)


@pytest.mark.parametrize("environ", [MPIEXEC_OF_OPEN_MPI, SRUN_PMIX, SRUN_PMI2])
def test_a_world_of_several_ranks_is_accepted(environ):
    launcher.check_launcher(2, environ, OPEN_MPI)


def test_one_rank_by_the_own_launcher_inside_a_task_of_srun_is_accepted():
    launcher.check_launcher(1, SRUN | ONE_BY_OPEN_MPI, OPEN_MPI)


def test_jobs_of_one_process_each_can_be_allowed():
    launcher.check_launcher(1, SRUN | {launcher.ALLOW_SINGLETONS: "1"}, OPEN_MPI)


@pytest.mark.parametrize(
    ("environ", "library", "refused"),
    [
        (MPIEXEC_OF_OPEN_MPI, "MPICH Version: 5.0.2", True),
        (ONE_BY_OPEN_MPI, "MPICH Version: 5.0.2", True),
        (MPIEXEC_OF_OPEN_MPI, "Open MPI v5.0.11, package: x", False),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, "Open MPI v5.0.11, package: x", True),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, "Open MPI v5.0.11, package: x", False),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, "MPICH Version: 5.0.2", False),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, "Some MPI 1.0", False),
        (SRUN_PMI2, "Open MPI v4.1.4, package: x", False),
        (MPIEXEC_OF_OPEN_MPI | {"PMI_SIZE": "2"}, "MPICH Version: 5.0.2", False),
        (MPIEXEC_OF_OPEN_MPI | {launcher.ALLOW_SINGLETONS: "1"}, "MPICH Version: 5.0.2", False),
        ({}, "MPICH Version: 5.0.2", False),
    ],
)
def test_a_launcher_of_another_mpi_is_refused_before_mpi_starts(environ, library, refused):
    if not refused:
        launcher.check_before_start(environ, library)
        return
    with pytest.raises(LauncherError, match="must belong to the same MPI"):
        launcher.check_before_start(environ, library)


def test_only_a_task_of_a_step_counts_as_launched_by_srun():
    assert launcher.is_launched(SRUN_PMIX)
    assert launcher.is_launched(SRUN)
    assert not launcher.is_launched(BATCH_SCRIPT)
    assert not launcher.is_launched(SALLOC_SHELL)


@pytest.mark.parametrize(
    ("library", "mpi", "short"),
    [
        (OPEN_MPI, launcher.OPEN_MPI, "Open MPI v5.0.11"),
        (MPICH, launcher.MPICH, "MPICH 5.0.2"),
        ("Intel(R) MPI Library 2021.14 for Linux* OS\n", launcher.MPICH, None),
        ("", launcher.UNKNOWN, "unknown MPI"),
    ],
    ids=["openmpi", "mpich", "intel", "empty"],
)
def test_libraries_are_known_by_what_they_say(library, mpi, short):
    assert launcher.mpi_of_library(library) == mpi
    assert short is None or launcher.short_version(library) == short


@pytest.mark.parametrize(
    "environ",
    [
        {"SLURM_JOB_NUM_NODES": "2"},
        {"PBS_NODEFILE": "/var/spool/pbs/aux/1"},
        {"PRTE_MCA_prte_default_hostfile": "hosts"},
    ],
    ids=["slurm", "pbs", "hostfile"],
)
def test_a_fabric_transport_is_left_on_where_ranks_may_be_on_several_hosts(environ):
    assert quick_start(environ) == {}


def test_a_transport_that_the_user_chose_is_left_alone():
    assert "OMPI_MCA_btl" not in quick_start({"OMPI_MCA_btl": "self,tcp"})


RANK = """
import os, sys, time
from hpcstream.process.launcher_facts import die_with_parent
print(os.getpid(), die_with_parent(), flush=True)
time.sleep(60)
"""


def start_grandchild(environ):
    """Start a rank under a parent that waits; return the parent and the rank's first line."""
    parent = textwrap.dedent(f"""
        import subprocess, sys
        subprocess.run([sys.executable, "-c", {RANK!r}])
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True, env=os.environ | environ
    )
    pid, arranged = process.stdout.readline().split()
    return process, int(pid), arranged == "True"


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_rank_dies_with_the_launcher_that_started_it():
    parent, rank, arranged = start_grandchild({"PMI_SIZE": "1"})
    assert arranged

    parent.kill()
    parent.communicate()

    give_up = time.monotonic() + 5
    while is_running(rank) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert not is_running(rank)


def test_a_process_that_no_launcher_started_outlives_its_shell():
    parent, process, arranged = start_grandchild({})
    parent.kill()
    try:
        assert not arranged
        assert is_running(process)
    finally:
        os.kill(process, signal.SIGKILL)
        parent.communicate()
