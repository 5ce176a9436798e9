import errno
import pickle
from dataclasses import replace

import pytest

from hpcstream.host.facts import Folder, HostFacts, Places
from hpcstream.host.report import MpiFacts, RankFacts, diagnose, examine_rank, report
from hpcstream.memory.host_share import HostShare
from hpcstream.memory.self_check import Placement
from hpcstream.memory.syscalls import SystemCalls
from hpcstream.memory.topology import parse_list, read_topology
from tests.unit.topologies.build import build_tree

GIB = 1 << 30
OPEN_MPI = MpiFacts("Open MPI v5.0.11", "3.1", "mpiexec", 4)


@pytest.fixture
def host(tmp_path):
    return HostFacts(
        name="n1",
        kernel="6.1.0",
        topology=read_topology(build_tree("xeon_gold_6148", tmp_path), []),
        huge_pages="madvise",
        shared_huge_pages="never",
        numa_balancing=False,
        locked_bytes=None,
        has_fabric=True,
        shared_memory=Folder("/dev/shm", "tmpfs", True, 96 * GIB, 95 * GIB),
        leftovers={},
        numba_cache=Folder("/tmp/numba", "xfs", True, 100 * GIB, 90 * GIB),
        share=HostShare(frozenset(range(80)), {}),
    )


def ranks_on(host, *cpu_lists):
    """Ranks that may run on the CPUs given, with their memory where it should be."""
    ranks = []
    for number, cpus in enumerate(cpu_lists):
        allowed = parse_list(cpus)
        here = replace(host, topology=replace(host.topology, allowed_cpus=allowed))
        home = here.topology.home_node()
        pages = Placement("pool 'probe'", home, {home or 0: 512})
        ranks.append(RankFacts(number, here, min(allowed), pages))
    return ranks


def fixes(mpi, ranks):
    return [finding.what for finding in diagnose(mpi, ranks) if finding.severity == "fix"]


def the_finding(mpi, ranks, words):
    [finding] = [finding for finding in diagnose(mpi, ranks) if words in finding.what]
    return finding


def test_ranks_of_a_host_that_do_not_read_each_others_memory_are_named(host):
    ranks = ranks_on(host, "0", "1", "2")
    near = [frozenset({1}), frozenset({0}), frozenset()]
    apart = [replace(rank, near=seen) for rank, seen in zip(ranks, near, strict=True)]

    finding = the_finding(OPEN_MPI, apart, "read each other's messages")

    assert finding.severity == "consider"
    assert "ranks 0-2 do not all" in finding.what
    assert "PID namespace" in finding.advice


def test_ranks_that_read_each_others_memory_are_no_finding(host):
    ranks = ranks_on(host, "0", "1", "20", "21")
    together = [replace(rank, near=frozenset(range(4)) - {rank.rank}) for rank in ranks]

    assert diagnose(OPEN_MPI, together) == ()


def test_well_started_job_has_nothing_to_fix(host):
    ranks = ranks_on(host, "0", "1", "20", "21")

    assert diagnose(OPEN_MPI, ranks) == ()
    assert "Nothing to fix." in report(OPEN_MPI, ranks)


def test_report_shows_mpi_host_and_ranks(host):
    text = report(OPEN_MPI, ranks_on(host, "0", "1", "20-23", "24-27"))

    assert "Open MPI v5.0.11 (standard 3.1), 4 ranks, started by mpiexec" in text
    assert "node 1           CPUs 20-39,60-79, 94.5 GiB, distances 21 10" in text
    assert "huge pages       madvise; shared memory: never" in text
    assert "   2  1     cpu 20  20-23                lies on node 1" in text


@pytest.mark.parametrize(
    ("library", "launcher", "advice"),
    [
        ("Open MPI v5.0.11", "mpiexec", "--map-by numa --bind-to core"),
        ("MPICH 5.0.2", "mpiexec", "-bind-to core"),
        ("MPICH 5.0.2", "srun", "srun --cpu-bind=cores"),
    ],
)
def test_ranks_that_roam_over_nodes_are_told_how_to_bind(host, library, launcher, advice):
    mpi = MpiFacts(library, "4.0", launcher, 2)

    finding = the_finding(mpi, ranks_on(host, "0-79", "0-79"), "several NUMA nodes")

    assert finding.severity == "fix"
    assert "ranks 0-1" in finding.what
    assert advice in finding.advice


def test_ranks_bound_to_one_cpu_are_found(host):
    assert fixes(OPEN_MPI, ranks_on(host, "0", "20", "0")) == [
        "3 ranks take turns on CPU 0,20, although the host has 80"
    ]
    assert fixes(OPEN_MPI, ranks_on(host, "0", "0", "20", "21-24")) == [
        "ranks 0-1 are all bound to CPU 0"
    ]


def test_more_ranks_than_cpus_is_only_noted(host, tmp_path):
    small = replace(host, topology=read_topology(build_tree("virtual_machine", tmp_path), [0, 1]))

    finding = the_finding(OPEN_MPI, ranks_on(small, *["0-1"] * 4), "4 ranks take turns")

    assert finding.severity == "note"


def test_node_that_no_rank_uses_is_found(host):
    finding = the_finding(OPEN_MPI, ranks_on(host, "0", "1", "2"), "no rank has its home on node 1")

    assert finding.severity == "consider"


def test_nodes_without_memory_need_no_rank(host, tmp_path):
    machine = read_topology(build_tree("threadripper_2990wx", tmp_path), [])
    ranks = ranks_on(replace(host, topology=machine), "0", "1", "8", "9")

    assert diagnose(OPEN_MPI, ranks) == ()


def test_launcher_of_another_mpi_is_found(host):
    mpi = MpiFacts("Open MPI v5.0.11", "3.1", "mpiexec of MPICH", 1, started_ranks=4)

    assert fixes(mpi, ranks_on(host, "0")) == [
        "the launcher started 4 ranks, but MPI sees a world of 1: "
        "launcher and library do not belong together"
    ]


def test_memory_elsewhere_is_found(host):
    [rank] = ranks_on(host, "0")
    stray = replace(rank, placement=Placement("pool 'probe'", 0, {0: 1, 1: 511}))

    [what] = fixes(OPEN_MPI, [stray])

    assert "memory of rank 0 is not where it should be" in what
    assert "511 on node 1; expected node 0" in what


HOST_FAULTS = [
    ({"huge_pages": "never"}, "consider", "huge pages are off", "echo madvise"),
    ({"numa_balancing": True}, "note", "NUMA balancing", "at some cost"),
    ({"locked_bytes": 8 << 20}, "fix", "only 8 MiB may be locked", "ulimit -l"),
    (
        {"shared_memory": Folder("/dev/shm", "tmpfs", True, 64 << 20, 64 << 20)},
        "fix",
        "/dev/shm has 64 MiB free; MPI needs about 128 MiB for 2 ranks",
        "--shm-size",
    ),
    (
        {"numba_cache": Folder("/opt/k", "ext4", False, GIB, GIB)},
        "fix",
        "cannot be kept in /opt/k",
        "NUMBA_CACHE_DIR",
    ),
]


@pytest.mark.parametrize(("fault", "severity", "what", "advice"), HOST_FAULTS)
def test_fault_of_a_host_is_found_with_advice(host, fault, severity, what, advice):
    finding = the_finding(OPEN_MPI, ranks_on(replace(host, **fault), "0", "20"), what)

    assert finding.severity == severity
    assert advice in finding.advice
    assert finding.what in report(OPEN_MPI, ranks_on(replace(host, **fault), "0", "20"))


def test_small_lock_limit_matters_only_with_a_fabric(host):
    plain = replace(host, locked_bytes=8 << 20, has_fabric=False)

    assert diagnose(OPEN_MPI, ranks_on(plain, "0", "20")) == ()


def test_kernels_on_a_shared_disk_matter_only_with_several_hosts(host):
    shared = replace(host, numba_cache=Folder("/home/u/k", "nfs4", True, GIB, GIB))
    here = ranks_on(shared, "0", "20")
    there = ranks_on(replace(shared, name="n2"), "0", "20")

    assert diagnose(OPEN_MPI, here) == ()
    finding = the_finding(OPEN_MPI, here + there, "on n2: compiled kernels")
    assert finding.severity == "consider"


def test_worst_findings_come_first(host):
    bad = replace(host, huge_pages="never", locked_bytes=0, numa_balancing=True)

    found = [finding.severity for finding in diagnose(OPEN_MPI, ranks_on(bad, "0", "20"))]

    assert found == ["fix", "consider", "note"]


def test_this_machine_can_be_examined_and_sent():
    facts = pickle.loads(pickle.dumps(examine_rank(3)))

    assert facts.rank == 3
    assert "rank" in report(MpiFacts("MPI", "4.0", "", 1), [facts])


def refuse(*arguments):
    raise OSError(errno.EPERM, "no")


def test_container_that_answers_eperm_is_examined_all_the_same():
    facts = examine_rank(calls=SystemCalls(refuse, "x86_64"))

    findings = diagnose(OPEN_MPI, [facts])

    assert facts.cpu is None
    assert [f.what for f in findings if "cannot be checked" in f.what]
    assert "not known" in report(OPEN_MPI, [facts])


def test_numa_container_that_answers_eperm_says_once_that_memory_is_not_bound(tmp_path):
    everywhere = range(1024)
    tree = build_tree("xeon_gold_6148", tmp_path)
    (tree / "node" / "node0" / "cpulist").write_text("0-1023\n")
    (tree / "node" / "node1" / "cpulist").write_text("1024-2047\n")
    assert read_topology(tree, everywhere).home_node() == 0

    places = Places(devices=tree)
    calls = SystemCalls(refuse, "x86_64")
    ranks = [examine_rank(number, places=places, calls=calls) for number in range(2)]

    finding = the_finding(OPEN_MPI, ranks, "memory cannot be bound to node 0")
    assert finding.severity == "consider"


def test_places_that_do_not_exist_are_no_error(tmp_path):
    nowhere = tmp_path / "nowhere"
    places = Places(nowhere, nowhere, nowhere, nowhere, nowhere, nowhere)

    facts = examine_rank(places=places)

    assert facts.host.huge_pages == ""
    assert facts.host.numba_cache.file_system == "unknown"
    assert "not in this kernel" in report(OPEN_MPI, [facts])


def test_file_system_of_a_folder_is_the_innermost_mount(tmp_path):
    cache = tmp_path / "a b" / "cache"
    cache.mkdir(parents=True)
    mounts = tmp_path / "self" / "mounts"
    mounts.parent.mkdir()
    escaped = str(tmp_path / "a b").replace(" ", "\\040")
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nhome:/x {escaped} nfs4 rw 0 0\nbroken\n")

    facts = examine_rank(places=Places(proc=tmp_path, numba_cache=cache))

    assert facts.host.numba_cache.file_system == "nfs4"
