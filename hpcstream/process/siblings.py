"""The other ranks of this host, by what the system tells of their processes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_LAUNCHERS = ("hydra_pmi_proxy", "prterun", "prted", "mpirun", "mpiexec", "slurmstepd")
_RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK=", "PMI_RANK=")
_MPI = "/mpi4py/MPI"
_LEFT = "hpcstream-left"


def mark_as_left() -> None:
    """Let the other ranks of this host see that this one has left its script."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(_LEFT)


def others_who_left() -> int:
    """Return how many of the other ranks of this host have left, and still are there."""
    return sum(_has_left(sibling) for sibling in _siblings())


def others_here() -> list[Path]:
    """Return where the system tells of the other ranks of this host that have not left."""
    return [sibling for sibling in _siblings() if not _has_left(sibling)]


def one_is_gone(local_size: int) -> bool:
    """Return whether a process of one of this host's ranks has ended; False if that is not known.

    What the system tells of a process goes before the names that it holds are free.
    """
    return _launcher_is_parent() and len(_siblings()) < local_size - 1


def _has_left(process: Path) -> bool:
    return _read(process / "comm").strip() == _LEFT


def _siblings() -> list[Path]:
    """Return where the system tells of the other ranks of this host.

    None if this process was not started by a launcher itself, but by a shell, or by a rank.
    """
    parent = os.getppid()
    if not _launcher_is_parent():
        return []
    found = _read(Path(f"/proc/{parent}/task/{parent}/children")).split()
    return [
        process
        for pid in found
        if int(pid) != os.getpid() and is_rank(process := Path("/proc", pid))
    ]


def _launcher_is_parent() -> bool:
    return _read(Path(f"/proc/{os.getppid()}/comm")).strip() in _LAUNCHERS


def is_rank(process: Path) -> bool:
    """Whether a child of a launcher is a rank: it may have others, to reach other hosts."""
    variables = _read(process / "environ").split("\0")
    return any(variable.startswith(_RANK_VARIABLES) for variable in variables)


def is_in_mpi(process: Path) -> bool:
    """Whether a process has loaded mpi4py's MPI."""
    return _MPI in _read(process / "maps")


def _read(path: Path) -> str:
    """Return what a file says, or nothing if its process is gone or another user's."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
