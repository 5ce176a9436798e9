"""``hpcstream doctor``: what the engine finds on its hosts, and what to change.

Every rank collects `RankFacts` with `examine_rank`; one of them calls `report`
with the facts of all and those of MPI, which only the exchange layer knows.
"""

from collections.abc import Iterator, Sequence

from hpcstream.host.diagnosis import (
    Finding,
    MpiFacts,
    by_host,
    diagnose,
)
from hpcstream.host.facts import HostFacts, RankFacts, examine_rank
from hpcstream.memory.host_share import HostShare
from hpcstream.memory.topology import format_list
from hpcstream.quantities import format_bytes

__all__ = ["Finding", "MpiFacts", "RankFacts", "diagnose", "examine_rank", "report"]


def report(mpi: MpiFacts, ranks: Sequence[RankFacts]) -> str:
    """Return the whole report as text for a terminal."""
    lines = ["hpcstream doctor", "", *_describe_mpi(mpi)]
    for host, on_host in by_host(ranks).items():
        lines += ["", *_describe_host(host, on_host[0].host), *_describe_ranks(on_host)]
    return "\n".join([*lines, "", *_describe_findings(diagnose(mpi, ranks))]) + "\n"


def _describe_mpi(mpi: MpiFacts) -> list[str]:
    started = f"started by {mpi.launcher}" if mpi.launcher else "started without a launcher"
    n_ranks = "1 rank" if mpi.n_ranks == 1 else f"{mpi.n_ranks} ranks"
    return [f"MPI   {mpi.library} (standard {mpi.standard}), {n_ranks}, {started}"]


def _describe_host(name: str, host: HostFacts) -> Iterator[str]:
    topology = host.topology
    online = sum(len(node.cpus) for node in topology.nodes)
    offline = f", offline {format_list(topology.offline_cpus)}" if topology.offline_cpus else ""
    yield f"Host  {name}: Linux {host.kernel}, {online} CPUs online{offline}{_cores(host)}"
    yield from _describe_limits(host.share)
    for node in topology.nodes:
        distances = " ".join(f"{distance}" for distance in node.distances.values())
        cpus = f"CPUs {format_list(node.cpus)}" if node.cpus else "memory only"
        size = format_bytes(node.memory_bytes)
        yield f"  node {node.number:<11} {cpus}, {size}, distances {distances}"
    shared = f"; shared memory: {host.shared_huge_pages}" if host.shared_huge_pages else ""
    yield f"  huge pages       {host.huge_pages or 'not in this kernel'}{shared}"
    locked = "any amount" if host.locked_bytes is None else format_bytes(host.locked_bytes)
    yield f"  may be locked    {locked}"
    memory, cache = host.shared_memory, host.numba_cache
    yield (
        f"  shared memory    {memory.path}: {format_bytes(memory.free_bytes)} free of "
        f"{format_bytes(memory.total_bytes)}"
    )
    writable = "" if cache.is_writable else ", not writable"
    yield f"  compiled kernels {cache.path} ({cache.file_system}{writable})"


def _cores(host: HostFacts) -> str:
    cores = len(set(host.share.siblings.values()))
    return f", {cores} cores" if 0 < cores < len(host.share.siblings) else ""


def _describe_limits(share: HostShare) -> Iterator[str]:
    limits = [] if share.quota is None else [f"CPU time for {share.quota:g}"]
    limits += [] if share.memory_bytes is None else [f"memory {format_bytes(share.memory_bytes)}"]
    if limits:
        yield f"  control group    {', '.join(limits)}"


def _describe_ranks(ranks: list[RankFacts]) -> Iterator[str]:
    yield f"  {'rank':>4}  {'home':<5} {'now on':<7} {'may run on':<20} memory probe"
    for rank in ranks:
        home = "any" if rank.home_node is None else f"{rank.home_node}"
        now = "?" if rank.cpu is None else f"cpu {rank.cpu}"
        pages = ", ".join(f"node {node}" for node in sorted(rank.placement.pages))
        yield (
            f"  {rank.rank:>4}  {home:<5} {now:<7} {format_list(rank.cpus):<20} "
            f"{f'lies on {pages}' if pages else 'not known'}"
        )


def _describe_findings(findings: Sequence[Finding]) -> Iterator[str]:
    if not any(finding.severity == "fix" for finding in findings):
        yield "Nothing to fix."
    for finding in findings:
        yield f"{finding.severity:>8}  {finding.what}"
        if finding.advice:
            yield f"{'':>8}  -> {finding.advice}"
