"""The resources of this host that the job may use: cores, a quota of CPU time, memory.

They are less than the kernel's list of CPUs suggests: two hardware threads share a core; a
control group may throttle its processes when their CPU time is used up (``docker --cpus``,
Kubernetes' ``limits.cpu``), on any number of CPUs; and it may kill them when they use too
much memory. Every folder is a parameter, so that tests can simulate other hosts.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcstream.memory.topology import SYSTEM, parse_list

RANK_BYTES = 110 << 20
"""Memory of a rank before it has read a row."""

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUP = Path("/proc/self/cgroup")

_NO_LIMIT = 1 << 60  # version 1 of control groups represents "no limit" by a number near 2**63


@dataclass(frozen=True)
class HostShare:
    """The resources of a host that all processes of a job may use together.

    Attributes
    ----------
    cpus : frozenset of int
        The CPUs of the control group; without one, all that are online.
    siblings : {CPU: CPUs of the same core}
        Of every CPU that is online.
    quota : float or None
        CPUs' worth of time; None without a limit.
    memory_bytes : int or None
        Memory limit of the control group; None without a limit.
    """

    cpus: frozenset[int]
    siblings: Mapping[int, frozenset[int]]
    quota: float | None = None
    memory_bytes: int | None = None

    def core_of(self, cpu: int) -> frozenset[int]:
        """Return the hardware threads of this CPU's core, including the CPU itself."""
        return self.siblings.get(cpu, frozenset([cpu]))

    def cores(self, cpus: Iterable[int]) -> int:
        """Return how many ranks can have a core of their own on these CPUs."""
        cores = len({self.core_of(cpu) for cpu in cpus})
        return max(1, cores if self.quota is None else min(cores, math.ceil(self.quota)))

    def has_core_for_each(self, ranks: int) -> bool:
        """Whether this number of ranks need not share cores, however they are bound."""
        return ranks <= self.cores(self.cpus)


def read_host_share(
    system: Path = SYSTEM, groups: Path = GROUPS, own_group: Path = OWN_GROUP
) -> HostShare:
    """Return the share of this process and the others of its control group."""
    online = parse_list(_read(system / "cpu" / "online")) or os.sched_getaffinity(0)
    return HostShare(
        cpus=_cpus_of_group(groups, own_group) & online or frozenset(online),
        siblings={cpu: _siblings(system, cpu) for cpu in online},
        quota=min(_quotas(groups, own_group), default=None),
        memory_bytes=min(_memory_limits(groups, own_group), default=None),
    )


def _siblings(system: Path, cpu: int) -> frozenset[int]:
    topology = system / "cpu" / f"cpu{cpu}" / "topology"
    text = _read(topology / "core_cpus_list") or _read(topology / "thread_siblings_list")
    return parse_list(text) | {cpu}


def _cpus_of_group(groups: Path, own_group: Path) -> frozenset[int]:
    names = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
    for folder in _folders("cpuset", groups, own_group):
        for name in names:
            if cpus := parse_list(_read(folder / name)):
                return cpus
    return frozenset()


def _quotas(groups: Path, own_group: Path) -> Iterator[float]:
    for folder in _folders("cpu", groups, own_group):
        words = _read(folder / "cpu.max").split()
        if not words:
            words = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):
            yield int(words[0]) / int(words[1])


def _memory_limits(groups: Path, own_group: Path) -> Iterator[int]:
    for folder in _folders("memory", groups, own_group):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _read(folder / name).strip()
            if limit.isdecimal() and int(limit) < _NO_LIMIT:
                yield int(limit)


def _folders(controller: str, groups: Path, own_group: Path) -> Iterator[Path]:
    """Yield the control groups of this process that a controller may limit, innermost first.

    ``/proc`` may show paths of the host, of which a container sees only its own subtree, as
    the root of all groups.
    """
    for line in _read(own_group).splitlines() or ["0::/"]:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        of_controller = (groups / controllers, groups / controller)
        for root in of_controller if controllers else (groups, groups / "unified"):
            inner = root / path.strip("/")
            folder = inner if ".." not in inner.parts and inner.is_dir() else root
            yield folder
            while folder != root:
                folder = folder.parent
                yield folder


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
