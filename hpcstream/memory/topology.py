"""The NUMA nodes of the host, their CPUs and memory.

Read from ``/sys/devices/system`` (a parameter, so that tests can use trees of other
machines) and from the set of CPUs on which this process may run. A kernel without NUMA has
no ``node`` folder, which is treated as one node with all CPUs.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

SYSTEM = Path("/sys/devices/system")

_NODE_FOLDER = re.compile(r"node(\d+)")
_MEMORY_TOTAL = re.compile(r"MemTotal:\s+(\d+) kB")
_LOCAL_DISTANCE = 10


@dataclass(frozen=True)
class NumaNode:
    """One NUMA node.

    Attributes
    ----------
    number : int
        The kernel's number; numbers may have gaps.
    cpus : frozenset of int
        CPUs that are online; empty for a node that is memory only (CXL, HBM).
    memory_bytes : int
        0 for a node without memory of its own.
    distances : {node number: distance}
        10 is the node itself, 20 twice as far.
    """

    number: int
    cpus: frozenset[int]
    memory_bytes: int
    distances: Mapping[int, int]


@dataclass(frozen=True)
class Topology:
    """The NUMA nodes of a host, and the CPUs that this process may use."""

    nodes: tuple[NumaNode, ...]
    allowed_cpus: frozenset[int]
    offline_cpus: frozenset[int]

    @property
    def is_numa(self) -> bool:
        """Whether more than one node has memory, so that placement matters."""
        return sum(node.memory_bytes > 0 for node in self.nodes) > 1

    @property
    def memory_only(self) -> tuple[NumaNode, ...]:
        """Nodes without CPUs, which are the home node of no rank."""
        return tuple(node for node in self.nodes if not node.cpus)

    def node(self, number: int) -> NumaNode:
        """Return a node by the kernel's number."""
        for node in self.nodes:
            if node.number == number:
                return node
        raise KeyError(f"node {number}: this host has {[node.number for node in self.nodes]}")

    def node_of_cpu(self, cpu: int) -> int | None:
        """Return the node of a CPU; None if it is offline or unknown."""
        return next((node.number for node in self.nodes if cpu in node.cpus), None)

    def allowed_nodes(self) -> tuple[int, ...]:
        """Return the nodes whose CPUs this process may run on."""
        return tuple(node.number for node in self.nodes if node.cpus & self.allowed_cpus)

    def home_node(self) -> int | None:
        """Return the node on which memory of this process should be.

        None if the process may run on CPUs of several nodes: it may migrate at any time.
        """
        nodes = self.allowed_nodes()
        return self.nearest_memory(nodes[0]) if len(nodes) == 1 else None

    def nearest_memory(self, number: int) -> int:
        """Return the node itself if it has memory, otherwise the nearest node with memory.

        Nodes with CPUs are preferred: memory-only nodes are slower (CXL) or small (HBM).
        """
        node = self.node(number)
        if node.memory_bytes:
            return number
        with_memory = [other for other in self.nodes if other.memory_bytes]
        if not with_memory:
            return number
        nearest = min(
            with_memory,
            key=lambda other: (
                not other.cpus,
                node.distances.get(other.number, _FAR),
                other.number,
            ),
        )
        return nearest.number


_FAR = 255


def read_topology(system: Path = SYSTEM, allowed_cpus: Iterable[int] | None = None) -> Topology:
    """Return the topology of this host.

    Parameters
    ----------
    system : Path
        Folder that holds ``node`` and ``cpu``.
    allowed_cpus : iterable of int
        CPUs on which this process may run; by default queried from the kernel. Batch systems
        and cgroups restrict them.
    """
    allowed = os.sched_getaffinity(0) if allowed_cpus is None else allowed_cpus
    nodes = _read_nodes(system / "node") or (_whole_machine(system, allowed),)
    offline = parse_list(_read(system / "cpu" / "offline"))
    return Topology(nodes, frozenset(allowed), offline)


def parse_list(text: str) -> frozenset[int]:
    """Return the numbers of a kernel list such as ``0-3,8,10-11``."""
    numbers: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return frozenset(numbers)


def format_list(numbers: Iterable[int]) -> str:
    """Return numbers as the kernel writes them: ``0-3,8``; ``none`` for no number."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs) or "none"


def _read_nodes(folder: Path) -> tuple[NumaNode, ...]:
    if not folder.is_dir():
        return ()
    found = [
        (match, path) for path in folder.iterdir() if (match := _NODE_FOLDER.fullmatch(path.name))
    ]
    numbered = sorted((int(match[1]), path) for match, path in found)
    numbers = [number for number, _ in numbered]
    return tuple(_read_node(number, path, numbers) for number, path in numbered)


def _read_node(number: int, path: Path, numbers: list[int]) -> NumaNode:
    total = _MEMORY_TOTAL.search(_read(path / "meminfo"))
    distances = [int(distance) for distance in _read(path / "distance").split()]
    if len(distances) != len(numbers):  # a node was added or removed meanwhile
        distances = [_LOCAL_DISTANCE if other == number else _FAR for other in numbers]
    return NumaNode(
        number,
        parse_list(_read(path / "cpulist")),
        int(total[1]) * 1024 if total else 0,
        dict(zip(numbers, distances, strict=True)),
    )


def _whole_machine(system: Path, allowed: Iterable[int]) -> NumaNode:
    online = parse_list(_read(system / "cpu" / "online")) or frozenset(allowed)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return NumaNode(0, online, memory, {0: _LOCAL_DISTANCE})


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
