"""Show on a NUMA machine that a rank's memory lies on its own node, and why.

Run under mpiexec, first with ranks bound, then with ``--unbound``. Every rank
looks where its pages lie; rank 0 prints a table and the exit status says
whether all was as the table's last column demands.
"""

import os
import sys
import threading
from dataclasses import dataclass

import numpy as np

from mpi4py import MPI

from hpcstream.host.report import MpiFacts, examine_rank, report
from hpcstream.memory.pool import BufferPool, process_pool
from hpcstream.memory.self_check import Placement, check_array, check_pool
from hpcstream.memory.syscalls import SystemCalls
from hpcstream.memory.topology import Topology, read_topology

SIZES = (300, 70_000, 1_500_000, 9_000_000)
WINDOW_BYTES = 4 << 20


@dataclass(frozen=True)
class Case:
    """One look at one rank's memory: where it should lie, and where it does."""

    what: str
    rank: int
    home: int
    demanded: int
    placement: Placement

    @property
    def holds(self) -> bool:
        return set(self.placement.pages) == {self.demanded}

    def __str__(self) -> str:
        seen = " ".join(f"node{n}:{count}" for n, count in sorted(self.placement.pages.items()))
        verdict = "ok" if self.holds else "WRONG " + self.placement.refused
        return (
            f"{self.rank:>4}  {self.home:>4}  {self.what:<62} {seen or '-':<12} "
            f"{self.demanded:>6}  {verdict}"
        )


def main() -> int:
    comm = MPI.COMM_WORLD
    everything = read_topology(allowed_cpus=range(os.cpu_count() or 1))
    show_doctor(comm)
    look = unbound_cases if "--unbound" in sys.argv else bound_cases
    cases = comm.gather(look(comm, everything), root=0)
    failed = False
    if comm.rank == 0:
        print("rank  home  memory                                                         "
              "pages on     should  verdict")  # fmt: skip
        for what in zip(*cases, strict=True):
            print(*what, sep="\n", flush=True)
        failed = not all(case.holds for of_rank in cases for case in of_rank)
    return int(comm.bcast(failed, root=0))


def show_doctor(comm: MPI.Comm) -> None:
    """Print what `hpcstream doctor` finds on this machine."""
    ranks = comm.gather(examine_rank(comm.rank), root=0)
    if comm.rank == 0:
        library = MPI.Get_library_version().split(",")[0].strip()
        standard = ".".join(map(str, MPI.Get_version()))
        print(report(MpiFacts(library, standard, "mpiexec", comm.size), ranks), flush=True)


def bound_cases(comm: MPI.Comm, host: Topology) -> list[Case]:
    """Ranks bound to cores: what the engine does, and what it protects from."""
    home = read_topology().home_node()
    assert home is not None, "start this with ranks bound to cores"
    away = other_node(host, home)
    pool = process_pool()
    buffers = [fill(pool.take(size)) for size in SIZES]
    window, segment = own_segment(comm)
    fill(segment)
    bound = BufferPool(node=home, name="bound")
    unbound = BufferPool(name="unbound")
    stray_window, stray_segment = own_segment(comm)
    strays = [bound.take(SIZES[-1]), unbound.take(SIZES[-1]), stray_segment]
    write_from(host, away, strays)
    cases = [
        Case("the rank's pool", comm.rank, home, home, check_pool(pool)),
        Case(
            "the rank's segment of a shared window",
            comm.rank, home, home, check_array(segment, home),
        ),
        Case("a bound arena, first written elsewhere", comm.rank, home, home, check_pool(bound)),
        Case(
            "without binding: an arena, first written elsewhere",
            comm.rank, home, away, check_pool(unbound),
        ),
        Case(
            "without care: a window segment, first written elsewhere",
            comm.rank, home, away, check_array(stray_segment, home),
        ),
    ]  # fmt: skip
    del buffers, segment, strays, stray_segment
    window.Free()
    stray_window.Free()
    return cases


def unbound_cases(comm: MPI.Comm, host: Topology) -> list[Case]:
    """Ranks not bound, and moved to the other node after their memory was made."""
    nodes = [node.number for node in host.nodes]
    first = nodes[comm.rank % len(nodes)]
    assert read_topology().home_node() is None, "start this with --bind-to none"
    pool = process_pool()
    os.sched_setaffinity(0, host.node(first).cpus)
    buffers = [fill(pool.take(size)) for size in SIZES]
    window, segment = own_segment(comm)
    fill(segment)
    home = other_node(host, first)
    os.sched_setaffinity(0, host.node(home).cpus)
    _, now = SystemCalls().current_cpu_and_node()
    assert now == home, "the rank has moved"
    cases = [
        Case("ranks not bound, then migrated: the pool", comm.rank, now, first, check_pool(pool)),
        Case(
            "ranks not bound, then migrated: the window segment",
            comm.rank, now, first, check_array(segment, now),
        ),
    ]  # fmt: skip
    del buffers, segment
    window.Free()
    return cases


def own_segment(comm: MPI.Comm) -> tuple[MPI.Win, np.ndarray]:
    """Return a shared window, and this rank's segment of it on pages of its own."""
    info = MPI.Info.Create()
    info["alloc_shared_noncontig"] = "true"
    on_host = comm.Split_type(MPI.COMM_TYPE_SHARED)
    window = MPI.Win.Allocate_shared(WINDOW_BYTES, 1, info, on_host)
    memory, _ = window.Shared_query(on_host.rank)
    return window, np.frombuffer(memory, dtype=np.uint8)


def fill(array: np.ndarray) -> np.ndarray:
    array[:] = 1
    return array


def write_from(host: Topology, node: int, arrays: list[np.ndarray]) -> None:
    """Let a thread that runs on a node be the first to write to some arrays."""

    def write() -> None:
        os.sched_setaffinity(0, host.node(node).cpus)  # of this thread only
        for array in arrays:
            fill(array)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()


def other_node(host: Topology, node: int) -> int:
    return next(other.number for other in host.nodes if other.cpus and other.number != node)


if __name__ == "__main__":
    sys.exit(main())
