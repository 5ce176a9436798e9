"""What a rank can see of its host that decides how fast and how safely it runs.

Reads only; every folder is a parameter, so that tests can show other hosts. The
facts can be pickled: each rank collects its own, one rank reports them all.
"""

import os
import platform
import resource
import shutil
import socket
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hpcstream.memory.arena import ArenaMapper
from hpcstream.memory.host_share import GROUPS, HostShare, read_host_share
from hpcstream.memory.pool import BufferPool
from hpcstream.memory.self_check import Placement, check_pool
from hpcstream.memory.syscalls import SystemCalls
from hpcstream.memory.topology import Topology, read_topology

_PROBE_BYTES = 4 << 20
_MPI_LEFTOVERS = ("sm_segment.*", "mpich_shm_*", "mpich_shar_tmp*", "vader_segment.*", "psm*_shm.*")


@dataclass(frozen=True)
class Places:
    """Where to look. Tests give folders of their own."""

    devices: Path = Path("/sys/devices/system")
    kernel_memory: Path = Path("/sys/kernel/mm")
    proc: Path = Path("/proc")
    fabrics: Path = Path("/sys/class/infiniband")
    shared_memory: Path = Path("/dev/shm")
    numba_cache: Path | None = None
    groups: Path = GROUPS


@dataclass(frozen=True)
class Folder:
    """A folder and the file system it is on; sizes in bytes."""

    path: str
    file_system: str
    is_writable: bool
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class HostFacts:
    """One host, as one of its ranks sees it.

    Attributes
    ----------
    huge_pages, shared_huge_pages : str
        The mode that is on: ``always``, ``madvise``, ``never``; empty if unknown.
    locked_bytes : int or None
        How much a process may lock; None for any amount.
    share : HostShare
        Cores, and what the control group lets its processes have together.
    leftovers : dict of str to int
        Files of MPI libraries in shared memory, of running jobs or of dead ones: how many
        have a name of each pattern.
    """

    name: str
    kernel: str
    topology: Topology
    huge_pages: str
    shared_huge_pages: str
    numa_balancing: bool
    locked_bytes: int | None
    has_fabric: bool
    shared_memory: Folder
    leftovers: dict[str, int]
    numba_cache: Folder
    share: HostShare


@dataclass(frozen=True)
class RankFacts:
    """One rank: where it may run, where it runs, where its memory comes from.

    Attributes
    ----------
    near : frozenset of int or None
        The ranks that read its messages where they lie; None if that was not tried.
    """

    rank: int
    host: HostFacts
    cpu: int | None
    placement: Placement
    notes: tuple[str, ...] = field(default=())
    near: frozenset[int] | None = None

    @property
    def cpus(self) -> frozenset[int]:
        """CPUs it may run on."""
        return self.host.topology.allowed_cpus

    @property
    def home_node(self) -> int | None:
        """Node of its memory; None if it may run on several."""
        return self.host.topology.home_node()


def examine_rank(
    rank: int = 0, *, places: Places | None = None, calls: SystemCalls | None = None
) -> RankFacts:
    """Return what this process sees; for that it writes 4 MiB and looks where they lie."""
    places = places or Places()
    calls = calls or SystemCalls()
    host = examine_host(places)
    placement, notes = _probe(host.topology, calls)
    return RankFacts(rank, host, _current_cpu(calls), placement, notes)


def examine_host(places: Places) -> HostFacts:
    """Return what this process sees of its host."""
    huge_pages = places.kernel_memory / "transparent_hugepage"
    mounts = _read(places.proc / "self" / "mounts")
    return HostFacts(
        name=socket.gethostname(),
        kernel=platform.release(),
        topology=read_topology(places.devices),
        huge_pages=_selected(_read(huge_pages / "enabled")),
        shared_huge_pages=_selected(_read(huge_pages / "shmem_enabled")),
        numa_balancing=_read(places.proc / "sys/kernel/numa_balancing").strip() not in ("", "0"),
        locked_bytes=_locked_bytes(),
        has_fabric=places.fabrics.is_dir() and any(places.fabrics.iterdir()),
        shared_memory=_folder(places.shared_memory, mounts),
        leftovers=_leftovers(places.shared_memory),
        numba_cache=_folder(places.numba_cache or numba_cache_folder(), mounts),
        share=read_host_share(places.devices, places.groups, places.proc / "self" / "cgroup"),
    )


def _leftovers(folder: Path) -> dict[str, int]:
    counts = {name: len(list(folder.glob(name))) for name in _MPI_LEFTOVERS}
    return {name: count for name, count in counts.items() if count}


def numba_cache_folder() -> Path:
    """Return the folder that compiled kernels are kept in (or a folder of it)."""
    from hpcstream.kernels.cache import folder

    return folder().parent


def _probe(topology: Topology, calls: SystemCalls) -> tuple[Placement, tuple[str, ...]]:
    node = topology.home_node() if topology.is_numa else None
    mapper = ArenaMapper(node, calls)
    pool = BufferPool(node=node, name="probe", initial_bytes=_PROBE_BYTES, arena_factory=mapper)
    probe = pool.zeros(_PROBE_BYTES // 2, np.uint8)
    placement = check_pool(pool, calls)
    del probe
    return placement, pool.notes


def _current_cpu(calls: SystemCalls) -> int | None:
    try:
        return calls.current_cpu_and_node()[0]
    except OSError:
        return None


def _locked_bytes() -> int | None:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY else soft


def _folder(path: Path, mounts: str) -> Folder:
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    usage = shutil.disk_usage(existing)
    return Folder(
        str(path),
        _file_system(existing.resolve(), mounts),
        os.access(existing, os.W_OK),
        usage.total,
        usage.free,
    )


def _file_system(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds a path, such as ``ext4`` or ``lustre``."""
    kind, depth = "unknown", 0
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        mounted = Path(fields[1].replace("\\040", " "))
        if path.is_relative_to(mounted) and len(mounted.parts) >= depth:
            kind, depth = fields[2], len(mounted.parts)
    return kind


def _selected(text: str) -> str:
    """Return the word in brackets of a kernel switch such as ``always [madvise] never``."""
    return next((word.strip("[]") for word in text.split() if word.startswith("[")), "")


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
