"""Which launcher started this process, and whether it matches the MPI library.

A launcher of one MPI with the library of another gives N worlds of one rank, each of which would
run the whole job. Launchers set environment variables with the number of processes they started;
this module compares it with the size of the world. It reads environments and library names only
and does not import MPI.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcstream.environment import ALLOW_SINGLETONS
from hpcstream.errors import LauncherError

OPEN_MPI = "Open MPI"
MPICH = "MPICH"
UNKNOWN = "unknown MPI"

_SEVERAL_HOSTS = (
    "PBS_NODEFILE",
    "LSB_HOSTS",
    "PE_HOSTFILE",
    "OMPI_MCA_orte_default_hostfile",
    "PRTE_MCA_prte_default_hostfile",
    "HYDRA_HOST_FILE",
)
_MPICH_FAMILY = ("MPICH", "Intel(R) MPI", "MVAPICH", "CRAY MPI")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_FIRST_RESERVED_STEP = 0xFFFF_FFF0  # Slurm's own steps: batch, interactive, extern


@dataclass(frozen=True)
class Launch:
    """The processes that a launcher started, by its environment variables.

    Attributes
    ----------
    launcher : str
        Its name, for messages.
    mpi : str
        The MPI whose library it serves: `OPEN_MPI`, `MPICH`, or `UNKNOWN` if it serves several.
    size : int
        How many processes it started.
    evidence : str
        The environment variable that contains the number.
    """

    launcher: str
    mpi: str
    size: int
    evidence: str


def mpi_of_library(library_version: str) -> str:
    """Return the MPI that ``MPI.Get_library_version()`` names: `OPEN_MPI`, `MPICH` or `UNKNOWN`."""
    if OPEN_MPI in library_version:
        return OPEN_MPI
    if any(name in library_version for name in _MPICH_FAMILY):
        return MPICH
    return UNKNOWN


def short_version(library_version: str) -> str:
    """Return name and number of an MPI library, without its build details."""
    lines = library_version.strip("\0 \n").splitlines() or [UNKNOWN]
    return " ".join(lines[0].split(",")[0].replace("Version:", " ").split())


def launches(environ: Mapping[str, str]) -> list[Launch]:
    """Return the launchers visible in an environment."""
    found = [
        _launch(environ, "Open MPI's mpiexec", OPEN_MPI, "OMPI_COMM_WORLD_SIZE"),
        _launch(environ, _pmi_launcher(environ), MPICH, "PMI_SIZE"),
        _slurm_step(environ),
    ]
    return [launch for launch in found if launch is not None]


def is_launched(environ: Mapping[str, str]) -> bool:
    """Whether a launcher started this process as a rank (of one or more)."""
    return bool(launches(environ)) or "PMIX_RANK" in environ


def check_launcher(world_size: int, environ: Mapping[str, str], library_version: str) -> None:
    """Refuse a launcher that does not match the MPI library.

    Parameters
    ----------
    world_size : int
        The size of ``COMM_WORLD``.
    environ : mapping
        The environment of this process.
    library_version : str
        The value of ``MPI.Get_library_version()``.

    Raises
    ------
    LauncherError
        A launcher started several processes, but this one is alone in its world.
    """
    if world_size > 1 or environ.get(ALLOW_SINGLETONS) == "1":
        return
    found = launches(environ)
    mpi = mpi_of_library(library_version)
    if any(launch.size == 1 and launch.mpi == mpi for launch in found):
        return  # the library's own launcher started one process, perhaps inside another launcher
    for launch in found:
        if launch.size > 1:
            raise LauncherError(_mismatch(launch, mpi, short_version(library_version)))


def check_before_start(environ: Mapping[str, str], library_version: str) -> None:
    """Refuse, before MPI starts, a launcher that is known to be of another MPI than the library.

    MPI's start would end the process without a reason, or create N worlds of one rank.

    Raises
    ------
    LauncherError
        The launcher that started this process and the library belong to different MPIs.
    """
    mpi = mpi_of_library(library_version)
    if mpi == UNKNOWN or environ.get(ALLOW_SINGLETONS) == "1":
        return
    found = [
        launch
        for launch in launches(environ)
        if launch.mpi != UNKNOWN and launch.launcher != "srun"
    ]
    if any(launch.mpi == mpi for launch in found):
        return
    for launch in found:
        if (
            launch.size > 1 or launch.mpi == OPEN_MPI
        ):  # whose variables MPICH's library does not survive
            raise LauncherError(_mismatch(launch, mpi, short_version(library_version)))


def may_use_several_hosts(environ: Mapping[str, str]) -> bool:
    """Whether a batch system or a host file may place ranks on other hosts."""
    if environ.get("SLURM_JOB_NUM_NODES", "1") != "1":
        return True
    return any(variable in environ for variable in _SEVERAL_HOSTS)


def die_with_parent(environ: Mapping[str, str] = os.environ) -> bool:
    """Let the kernel kill this rank when its launcher ends; return whether that is arranged.

    Returns False in a process that no launcher started (a shell may end before its
    background job) and on systems other than Linux.
    """
    if not is_launched(environ):
        return False
    parent = os.getppid()
    arranged = signal_on_parent_death(signal.SIGKILL)
    if arranged and os.getppid() != parent:  # the launcher ended in between
        os.kill(os.getpid(), signal.SIGKILL)
    return arranged


def signal_on_parent_death(signal_number: int) -> bool:
    """Ask the kernel to send this process a signal when its parent ends; True if it will."""
    return _prctl(_PR_SET_PDEATHSIG, signal_number)


def parent_of(process: int) -> int | None:
    """Return the parent of a process; None if the process has ended or is a zombie."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[1])


def children_of(process: int) -> list[int]:
    """Return the children of a process, zombies included; none if the process is gone.

    The list may miss one while another ends (Linux, ``proc(5)``).
    """
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{process}/task")
    except OSError:
        return found
    for thread in threads:
        # A thread may end before its list is read: the others still count.
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{process}/task/{thread}/children").read_text()
            found += map(int, children.split())
    return found


def adopt_orphans() -> bool:
    """Make this process the parent of orphaned descendants; return whether that worked."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, argument: int) -> bool:
    """Call Linux's ``prctl``; return False if it is missing or fails."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return prctl is not None and prctl(option, ctypes.c_ulong(argument), 0, 0, 0) == 0


def _launch(environ: Mapping[str, str], launcher: str, mpi: str, variable: str) -> Launch | None:
    value = environ.get(variable, "")
    if not value.isdecimal():
        return None
    return Launch(launcher, mpi, int(value), f"{variable}={value}")


def _pmi_launcher(environ: Mapping[str, str]) -> str:
    return "srun" if _slurm_step(environ) else "MPICH's mpiexec"


def _slurm_step(environ: Mapping[str, str]) -> Launch | None:
    """Read the step that ``srun`` started this task in.

    A batch script and a ``salloc`` shell carry SLURM_NTASKS too, although
    they are one process; only a task of a step has these variables.
    """
    step = environ.get("SLURM_STEP_ID", "")
    if not step.isdecimal() or int(step) >= _FIRST_RESERVED_STEP or "SLURM_PROCID" not in environ:
        return None
    return _launch(environ, "srun", UNKNOWN, "SLURM_STEP_NUM_TASKS")


def _mismatch(launch: Launch, mpi: str, library: str) -> str:
    beside = Path(sys.executable).parent / "mpiexec"
    own = f"the mpiexec beside this Python ({beside})" if beside.exists() else f"{mpi}'s mpiexec"
    srun = {
        OPEN_MPI: "`srun --mpi=pmix` with an Open MPI built for your Slurm",
        MPICH: "`srun --mpi=pmi2`",
    }.get(mpi, "the `srun --mpi=...` your site names for it")
    return (
        f"{launch.launcher} started {launch.size} processes ({launch.evidence}), but the MPI "
        f"library in use, {library}, would see one process only, and each would run the whole job; "
        f"launcher and library must belong to the same MPI: use `hpcstream run -n {launch.size} "
        f"script.py`, or {own}, or under Slurm {srun}; "
        f"if {launch.size} jobs of one process each are meant, set {ALLOW_SINGLETONS}=1"
    )
