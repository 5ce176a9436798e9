"""The other ranks of this host, observed through ``/proc``."""

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


def count_left_siblings() -> int:
    """Return how many other ranks of this host have left their script, but not ended."""
    return sum(_has_left(sibling) for sibling in _siblings())


def siblings_here() -> list[Path]:
    """Return the ``/proc`` folders of the other ranks of this host that have not left."""
    return [sibling for sibling in _siblings() if not _has_left(sibling)]


def has_ended_sibling(local_size: int) -> bool:
    """Return whether a rank of this host has ended; False if that is not known.

    The ``/proc`` entry of a process vanishes before the names that it holds are free.
    """
    return _launcher_is_parent() and len(_siblings()) < local_size - 1


def _has_left(process: Path) -> bool:
    return _read(process / "comm").strip() == _LEFT


def _siblings() -> list[Path]:
    """Return the ``/proc`` folders of the other ranks of this host.

    Empty if the parent of this process is no launcher, but a shell or a rank.
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
    """Whether a child of a launcher is a rank: others connect it to other hosts."""
    variables = _read(process / "environ").split("\0")
    return any(variable.startswith(_RANK_VARIABLES) for variable in variables)


def is_in_mpi(process: Path) -> bool:
    """Whether a process has loaded mpi4py's MPI."""
    return _MPI in _read(process / "maps")


def _read(path: Path) -> str:
    """Return the text of a file; empty if its process is gone or belongs to another user."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
