"""What to change on the hosts of a job, judged from what its ranks saw."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from hpcstream.environment import LAUNCHER
from hpcstream.host.facts import HostFacts, RankFacts
from hpcstream.memory.host_share import RANK_BYTES
from hpcstream.memory.topology import format_list
from hpcstream.quantities import format_bytes

Severity = Literal["fix", "consider", "note"]

_MIB = 1 << 20
_SHARED_BYTES_A_RANK = 64 * _MIB
_LOCKED_BYTES_ENOUGH = 1 << 30
_NETWORK_FILE_SYSTEMS = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "panfs", "fuse", "9p")


@dataclass(frozen=True)
class MpiFacts:
    """What the exchange layer knows of MPI.

    Attributes
    ----------
    library : str
        Name and version, as the library gives them.
    standard : str
        Version of the MPI standard, as in ``"4.0"``.
    launcher : str
        What started the ranks; empty for none (``python job.py``).
    n_ranks : int
        Size of the world.
    started_ranks : int or None
        How many ranks the launcher says it started; None if it does not say.
    """

    library: str
    standard: str
    launcher: str
    n_ranks: int
    started_ranks: int | None = None


@dataclass(frozen=True)
class Finding:
    """Something to know, and what to do about it.

    Attributes
    ----------
    severity : "fix", "consider" or "note"
        Wrong or slow as it is; could be better; only to know.
    """

    severity: Severity
    what: str
    advice: str = ""


def diagnose(mpi: MpiFacts, ranks: Sequence[RankFacts]) -> tuple[Finding, ...]:
    """Return what was found, the worst first. Nothing to fix: no finding says ``fix``."""
    findings = list(_of_mpi(mpi))
    hosts = by_host(ranks)
    for name, on_host in hosts.items():
        where = f"on {name}: " if len(hosts) > 1 else ""
        findings += [
            Finding(finding.severity, where + finding.what, finding.advice)
            for finding in _of_host(on_host, mpi, n_hosts=len(hosts))
        ]
    order = ("fix", "consider", "note")
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))


def _of_mpi(mpi: MpiFacts) -> Iterator[Finding]:
    if mpi.started_ranks not in (None, mpi.n_ranks):
        yield Finding(
            "fix",
            f"the launcher started {mpi.started_ranks} ranks, but MPI sees a world of "
            f"{mpi.n_ranks}: launcher and library do not belong together",
            "use the mpiexec that stands beside this Python, as `hpcstream run` does",
        )
    if not mpi.launcher and mpi.n_ranks == 1:
        yield Finding(
            "note",
            "one process, started without a launcher",
            "see ranks as a job has them: mpiexec -n 4 hpcstream doctor, or srun hpcstream doctor",
        )


def _of_host(ranks: list[RankFacts], mpi: MpiFacts, n_hosts: int) -> Iterator[Finding]:
    host = ranks[0].host
    yield from _of_binding(ranks, mpi)
    yield from _of_limits(ranks)
    yield from _of_placement(ranks)
    yield from _of_kernel(host)
    yield from _of_shared_memory(host, len(ranks))
    yield from _of_nearness(ranks)
    yield from _of_numba_cache(host, n_hosts)


def _of_binding(ranks: list[RankFacts], mpi: MpiFacts) -> Iterator[Finding]:
    topology = ranks[0].host.topology
    cpus = frozenset[int]().union(*(rank.cpus for rank in ranks))
    if len(ranks) > len(cpus):
        yield _too_few_cpus(ranks, cpus)
        return
    cores = {ranks[0].host.share.core_of(cpu) for cpu in cpus}
    if len(ranks) > len(cores):
        yield Finding(
            "note",
            f"{len(ranks)} ranks on {len(cores)} cores, whose hardware threads they share",
            "for speed at most one rank a core",
        )
    roaming = [rank.rank for rank in ranks if rank.home_node is None]
    if topology.is_numa and roaming:
        yield Finding(
            "fix",
            f"ranks {format_list(roaming)} may run on several NUMA nodes, so their memory "
            "can end up far from them",
            f"bind ranks to cores: {_how_to_bind(mpi)}",
        )
    elif len(ranks) > 1 and all(rank.cpus == cpus for rank in ranks):
        yield Finding(
            "consider",
            "ranks are not bound: each may run on every CPU of the others",
            f"steadier times with ranks bound to cores: {_how_to_bind(mpi)}",
        )
    yield from _of_shared_cpus(ranks)
    yield from _of_balance(ranks)


def _too_few_cpus(ranks: list[RankFacts], cpus: frozenset[int]) -> Finding:
    online = sum(len(node.cpus) for node in ranks[0].host.topology.nodes)
    what = f"{len(ranks)} ranks take turns on CPU {format_list(cpus)}"
    if online > len(cpus):
        return Finding(
            "fix",
            f"{what}, although the host has {online}",
            "ask for a CPU a rank (Slurm: -n RANKS -c 1), or start with --bind-to none",
        )
    return Finding("note", what, "good for trying things out; for speed at most one rank a CPU")


def _of_shared_cpus(ranks: list[RankFacts]) -> Iterator[Finding]:
    share = ranks[0].host.share
    bound, threads = defaultdict(list), defaultdict(list)
    for rank in ranks:
        core = share.core_of(min(rank.cpus, default=0))
        if len(rank.cpus) == 1:
            bound[min(rank.cpus)].append(rank.rank)
        if rank.cpus <= core:
            threads[core].append(rank)
    for core, on_core in threads.items():
        if len({rank.cpus for rank in on_core}) > 1:
            yield _one_core(core, on_core, has_others=share.has_core_for_each(len(ranks)))
    for cpu, crowded in bound.items():
        if len(crowded) > 1:
            yield Finding(
                "fix",
                f"ranks {format_list(crowded)} are all bound to CPU {cpu}",
                "give the launcher one CPU a rank; two launchers at once bind to the same ones",
            )


def _one_core(core: frozenset[int], ranks: list[RankFacts], *, has_others: bool) -> Finding:
    return Finding(
        "fix" if has_others else "note",
        f"ranks {format_list(rank.rank for rank in ranks)} share one core: CPU {format_list(core)} "
        "are its hardware threads",
        "one rank a core: srun --hint=nomultithread, mpiexec --bind-to core",
    )


def _of_limits(ranks: list[RankFacts]) -> Iterator[Finding]:
    share = ranks[0].host.share
    if share.quota is not None and len(ranks) > math.ceil(share.quota):
        yield Finding(
            "fix",
            f"{len(ranks)} ranks have CPU time for {share.quota:g} (quota of the control group): "
            "all are stopped for a part of each period",
            "no more ranks than that, or more for the container: docker run --cpus, limits.cpu",
        )
    needed = len(ranks) * RANK_BYTES
    if share.memory_bytes is not None and needed > share.memory_bytes:
        yield Finding(
            "fix",
            f"{len(ranks)} ranks need {format_bytes(needed)} before they read a row; the control "
            f"group may hold {format_bytes(share.memory_bytes)}",
            "fewer ranks, or more memory: docker run -m, limits.memory, Slurm --mem",
        )


def _of_balance(ranks: list[RankFacts]) -> Iterator[Finding]:
    topology = ranks[0].host.topology
    homes = Counter(rank.home_node for rank in ranks if rank.home_node is not None)
    whole = [node.number for node in topology.nodes if node.cpus and node.memory_bytes]
    empty = [node for node in whole if not homes[node]]
    if empty and len(ranks) >= len(whole) > 1 and homes:
        yield Finding(
            "consider",
            f"no rank has its home on node {format_list(empty)}, so its memory bandwidth is unused",
            "if the job may use it: mpiexec --map-by numa (Open MPI), srun -m block:cyclic",
        )


def _how_to_bind(mpi: MpiFacts) -> str:
    if "srun" in mpi.launcher or "slurm" in mpi.launcher.lower():
        return "srun --cpu-bind=cores"
    launcher = "mpiexec -bind-to core"
    if "open mpi" in mpi.library.lower():
        launcher = "mpiexec --map-by numa --bind-to core"
    return f"{launcher} (hpcstream run takes it as {LAUNCHER}='{launcher}')"


def _of_placement(ranks: list[RankFacts]) -> Iterator[Finding]:
    for note in dict.fromkeys(note for rank in ranks for note in rank.notes):
        yield Finding("consider", note)
    for reason in dict.fromkeys(rank.placement.refused for rank in ranks if rank.placement.refused):
        yield Finding("note", f"where memory lies cannot be checked: {reason}")
    for rank in ranks:
        if not rank.placement.is_as_expected:
            yield Finding(
                "fix",
                f"memory of rank {rank.rank} is not where it should be: {rank.placement}",
                "is its node full? `numactl -H` shows what is free; use fewer ranks on the node",
            )


def _of_kernel(host: HostFacts) -> Iterator[Finding]:
    if host.huge_pages == "never":
        yield Finding(
            "consider",
            "transparent huge pages are off: large state costs more address translation",
            "as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        )
    if host.topology.is_numa and host.numa_balancing:
        yield Finding(
            "note",
            "automatic NUMA balancing is on; it leaves bound memory alone",
            "with ranks that cannot be bound, it moves pages after them at some cost",
        )
    lockable = host.locked_bytes
    if host.has_fabric and lockable is not None and lockable < _LOCKED_BYTES_ENOUGH:
        yield Finding(
            "fix",
            f"only {format_bytes(lockable)} may be locked, and the fabric pins its buffers",
            "ulimit -l unlimited (limits.conf; Slurm: PropagateResourceLimitsExcept=MEMLOCK)",
        )


def _of_shared_memory(host: HostFacts, n_ranks: int) -> Iterator[Finding]:
    free, needed = host.shared_memory.free_bytes, n_ranks * _SHARED_BYTES_A_RANK
    if free < needed:
        yield Finding(
            "fix",
            f"{host.shared_memory.path} has {format_bytes(free)} free; MPI needs about "
            f"{format_bytes(needed)} for {n_ranks} ranks",
            "docker run --shm-size=1g, or as root: mount -o remount,size=50% /dev/shm",
        )
    if host.leftovers and n_ranks == 1:
        yield Finding(
            "note",
            f"{sum(host.leftovers.values())} files of MPI in {host.shared_memory.path}",
            "if no other job runs here, killed ones left them: "
            + " ".join(["rm", *(f"{host.shared_memory.path}/{name}" for name in host.leftovers)]),
        )


def _of_nearness(ranks: list[RankFacts]) -> Iterator[Finding]:
    together = {rank.rank for rank in ranks}
    apart = [r.rank for r in ranks if r.near is not None and together - r.near - {r.rank}]
    if apart:
        yield Finding(
            "consider",
            f"ranks {format_list(apart)} do not all read each other's messages where they lie, "
            "although they are on one host: MPI copies them",
            "start the ranks of a host as one user and in one PID namespace (one container a "
            "host, not one a rank), on a kernel with memfd_create",
        )


def _of_numba_cache(host: HostFacts, n_hosts: int) -> Iterator[Finding]:
    cache = host.numba_cache
    if not cache.is_writable:
        yield Finding(
            "fix",
            f"compiled kernels cannot be kept in {cache.path}: every start compiles again",
            "set NUMBA_CACHE_DIR to a folder that can be written, such as /tmp/$USER/numba",
        )
    elif cache.file_system.startswith(_NETWORK_FILE_SYSTEMS) and n_hosts > 1:
        yield Finding(
            "consider",
            f"compiled kernels are in {cache.path} on {cache.file_system}, which all hosts share",
            "start faster with NUMBA_CACHE_DIR on a disk of the host, such as /tmp/$USER/numba",
        )


def by_host(ranks: Sequence[RankFacts]) -> dict[str, list[RankFacts]]:
    """Return the ranks of each host, by its name."""
    hosts: defaultdict[str, list[RankFacts]] = defaultdict(list)
    for rank in ranks:
        hosts[rank.host.name].append(rank)
    return dict(hosts)
