"""Refuses more ranks on a host than it can hold, unless the user confirms."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from hpcstream.environment import OVERSUBSCRIBE
from hpcstream.errors import LauncherError
from hpcstream.log import ERR
from hpcstream.memory.host_share import RANK_BYTES

RANKS_A_CORE = 8

_CGROUPS = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_OWN_GROUP = Path("/proc/self/cgroup")
_MIB = 1 << 20


def refuse_crowding(
    ranks: int, cores: int, free_bytes: int | None, ask: Callable[[str], bool]
) -> None:
    """Refuse more ranks than a host can hold, unless the user confirms.

    Raises
    ------
    LauncherError
        There are too many, and the user does not confirm.
    """
    reason = why_too_many(ranks, cores, free_bytes)
    if reason and not ask(reason):
        raise LauncherError(
            f"-n {ranks}: {reason}; --oversubscribe, or {OVERSUBSCRIBE}=1, starts them anyway"
        )


def why_too_many(ranks: int, cores: int, free_bytes: int | None) -> str | None:
    """Return why a host cannot hold so many ranks; None if it can."""
    if ranks > RANKS_A_CORE * cores:
        return (
            f"{ranks} ranks on {cores} core{'s' if cores > 1 else ''} are more than "
            f"{RANKS_A_CORE} a core: each would be slower than one of {RANKS_A_CORE * cores}"
        )
    if free_bytes is not None and ranks * RANK_BYTES > free_bytes:
        return (
            f"{ranks} ranks need {ranks * RANK_BYTES // _MIB:,} MiB of memory "
            f"({RANK_BYTES // _MIB} MiB each) before they read a row, and {free_bytes // _MIB:,} "
            "MiB are free"
        )
    return None


def ask_at_terminal(reason: str) -> bool:
    """Ask for confirmation at a terminal; without one, return False."""
    if sys.stdin is None or not sys.stdin.isatty() or not ERR.isatty():
        return False
    ERR.write(f"hpcstream: {reason}. Start them anyway? [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def free_memory(
    meminfo: Path = _MEMINFO, groups: Path = _CGROUPS, own_group: Path = _OWN_GROUP
) -> int | None:
    """Return the free memory in bytes, of the machine and of this control group."""
    found = [_available(meminfo), *_left_in_groups(groups, own_group)]
    return min((limit for limit in found if limit is not None), default=None)


def _available(meminfo: Path) -> int | None:
    for line in _read(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return None


def _left_in_groups(groups: Path, own_group: Path) -> list[int | None]:
    """Return the memory left in the control group of this process, and in its parents."""
    name = _read(own_group).strip().rpartition("::")[2].lstrip("/")
    folder = groups / name if (groups / name).is_dir() else groups
    left: list[int | None] = []
    while folder == groups or groups in folder.parents:
        left.append(_left(folder, "memory.max", "memory.current", "inactive_file"))
        folder = folder.parent
    old = groups / "memory"  # cgroup v1
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    return [*left, _left(old, *names)]


def _left(folder: Path, limit: str, used: str, cache: str) -> int | None:
    most, now = _read(folder / limit).strip(), _read(folder / used).strip()
    if not most.isdecimal() or not now.isdecimal():
        return None
    rows = [line.split() for line in _read(folder / "memory.stat").splitlines()]
    given_back = sum(int(row[1]) for row in rows if row[0] == cache)
    return max(0, int(most) - int(now) + given_back)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
