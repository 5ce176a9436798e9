"""What of a host a job may use, on trees of other hosts."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.exchange.local_ranks import count_local_ranks, parse_tasks_per_node
from hpcstream.launch import mpiexec
from hpcstream.launch import run as launch
from hpcstream.memory.host_share import HostShare, read_host_share
from hpcstream.memory.topology import format_list, parse_list
from tests.unit.topologies.build import build_tree

GIB = 1 << 30
WHOLE_CPU = HostShare(frozenset(range(8)), {})


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def tree(root, machine, core_of, name="thread_siblings_list"):
    """The files of a machine whose CPUs have the core that a function says."""
    system = build_tree(machine, root)
    online = parse_list((system / "cpu" / "online").read_text())
    for cpu in online:
        threads = format_list(other for other in online if core_of(other) == core_of(cpu))
        write(system / "cpu" / f"cpu{cpu}" / "topology" / name, threads)
    return system


@pytest.mark.parametrize(
    ("machine", "core_of", "cores"),
    [
        ("xeon_gold_6148", lambda cpu: cpu % 40, 40),  # 2 threads, the second ones behind
        ("epyc_7742_nps4", lambda cpu: cpu % 128, 128),
        ("power9_ac922", lambda cpu: cpu // 4, 44),  # 4 threads, beside one another
        ("knl_7250_flat", lambda cpu: cpu % 68, 68),  # 4 threads
        ("xeon_e5_2680_smt_off", lambda cpu: cpu, 28),
    ],
)
@pytest.mark.parametrize("name", ["thread_siblings_list", "core_cpus_list"])
def test_hardware_threads_of_a_core_count_once(tmp_path, machine, core_of, cores, name):
    system = tree(tmp_path, machine, core_of, name)

    share = read_host_share(system, tmp_path / "none", tmp_path / "none")

    assert share.cores(share.cpus) == cores
    assert share.has_core_for_each(cores)
    assert not share.has_core_for_each(cores + 1)


def test_a_kernel_that_names_no_siblings_has_a_core_for_each_cpu(tmp_path):
    system = build_tree("xeon_gold_6148", tmp_path)

    share = read_host_share(system, tmp_path / "none", tmp_path / "none")

    assert share.cores(range(80)) == 80


def of_groups(tmp_path, own, files):
    """The share of a process in the control groups given, on a machine of 80 CPUs."""
    write(tmp_path / "cgroup", own)
    for name, text in files.items():
        write(tmp_path / "fs" / name, text)
    system = build_tree("xeon_gold_6148", tmp_path)
    return read_host_share(system, tmp_path / "fs", tmp_path / "cgroup")


SECOND_VERSION = [
    ("0::/", {"cpu.max": "200000 100000"}, 2.0),  # a container that sees its own part only
    ("0::/", {"cpu.max": "max 100000"}, None),
    ("0::/", {}, None),
    ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 1.5),
    ("0::/a/b", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "150000 100000"}, 0.5),
    ("0::/docker/5f", {"cpu.max": "400000 100000"}, 4.0),  # the host's path, seen from inside
    ("0::/../other", {"cpu.max": "300000 100000"}, 3.0),
    ("1:memory:/x\n0::/", {"unified/cpu.max": "100000 50000"}, 2.0),
    ("0::/", {"cpu.max": "nonsense"}, None),
    ("0::/", {"cpu.max": "100000 0"}, None),
]
FIRST_VERSION = [
    (
        "4:cpu,cpuacct:/job",
        {"cpu,cpuacct/job/cpu.cfs_quota_us": "350000", "cpu,cpuacct/job/cpu.cfs_period_us": "1e5"},
        None,
    ),
    (
        "4:cpu,cpuacct:/job",
        {
            "cpu,cpuacct/job/cpu.cfs_quota_us": "350000",
            "cpu,cpuacct/job/cpu.cfs_period_us": "100000",
        },
        3.5,
    ),
    (
        "1:cpu:/docker/5f",
        {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"},
        2.0,
    ),
    ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
]


@pytest.mark.parametrize(("own", "files", "quota"), SECOND_VERSION + FIRST_VERSION)
def test_the_least_quota_of_all_groups_around_a_process_counts(tmp_path, own, files, quota):
    assert of_groups(tmp_path, own, files).quota == quota


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/", {"memory.max": "max"}, None),
        ("0::/a/b", {"a/b/memory.max": 8 * GIB, "a/memory.max": 4 * GIB}, 4 * GIB),
        ("3:memory:/j", {"memory/j/memory.limit_in_bytes": 2 * GIB}, 2 * GIB),
        ("3:memory:/", {"memory/memory.limit_in_bytes": 0x7FFF_FFFF_FFFF_F000}, None),
    ],
)
def test_the_least_memory_limit_of_all_groups_counts(tmp_path, own, files, limit):
    assert of_groups(tmp_path, own, files).memory_bytes == limit


@pytest.mark.parametrize(
    ("own", "files", "cpus"),
    [
        ("0::/s", {"s/cpuset.cpus.effective": "0-3,40-43"}, "0-3,40-43"),
        ("0::/s/t", {"s/cpuset.cpus.effective": "4-7", "s/t/cpuset.cpus.effective": "5"}, "5"),
        ("0::/s/t", {"s/cpuset.cpus.effective": "4-7", "s/t/cpu.max": "max 1"}, "4-7"),
        ("2:cpuset:/slurm/job_1", {"cpuset/slurm/job_1/cpuset.cpus": "10-19"}, "10-19"),
        ("0::/", {}, "0-79"),
        ("0::/", {"cpuset.cpus.effective": "0-1023"}, "0-79"),
    ],
)
def test_cpus_are_those_of_the_group_that_all_ranks_are_in(tmp_path, own, files, cpus):
    assert of_groups(tmp_path, own, files).cpus == parse_list(cpus)


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 8), (0.5, 1), (1.0, 1), (1.5, 2), (2.0, 2), (7.01, 8), (64.0, 8)]
)
def test_a_part_of_a_cpu_in_a_quota_is_one_more_rank(quota, cores):
    assert replace(WHOLE_CPU, quota=quota).cores(range(8)) == cores


def test_slots_of_a_host_are_its_cores_within_the_quota(monkeypatch):
    monkeypatch.setattr(mpiexec.os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(mpiexec, "read_host_share", lambda: replace(WHOLE_CPU, quota=2.5))

    assert mpiexec.count_slots({}) == 3
    assert mpiexec.count_slots({"SLURM_NTASKS": "2"}) == 2
    assert mpiexec.count_slots({"SLURM_NTASKS": "64", "SLURM_JOB_NUM_NODES": "2"}) == 64


STEP = {"SLURM_PROCID": "5", "SLURM_STEP_ID": "0", "SLURM_NODEID": "1"}


@pytest.mark.parametrize(
    ("environ", "here"),
    [
        ({}, 7),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "3"}, 3),
        ({"MPI_LOCALNRANKS": "4"}, 4),
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "4,2,1"}, 2),
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "3(x2),1", "SLURM_NODEID": "2"}, 1),
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "3(x2),1", "SLURM_NODEID": "9"}, 3),
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "7"} | {"SLURM_NODEID": "0"}, 7),
        (STEP | {"SLURM_TASKS_PER_NODE": "5,2"}, 2),
        # The job's list, of which this step has taken a part: it says nothing of the step.
        (STEP | {"SLURM_TASKS_PER_NODE": "64(x2)"}, 7),
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "many"}, 7),
        # A batch script, not a task of a step.
        ({"SLURM_TASKS_PER_NODE": "4,3", "SLURM_NODEID": "0"}, 7),
        (STEP | {"SLURM_STEP_TASKS_PER_NODE": "1(x7)", "MPI_LOCALNRANKS": "7"}, 7),
    ],
)
def test_ranks_of_this_host_are_what_the_launcher_says(environ, here):
    assert count_local_ranks(environ, 7) == here


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60))
def test_a_list_of_tasks_is_read_as_slurm_shortens_it(tasks):
    parts, i = [], 0
    while i < len(tasks):
        same = next((j for j in range(i, len(tasks)) if tasks[j] != tasks[i]), len(tasks)) - i
        parts.append(f"{tasks[i]}(x{same})" if same > 1 else f"{tasks[i]}")
        i += same

    assert parse_tasks_per_node(",".join(parts)) == tasks


@pytest.mark.parametrize(
    ("nodes", "tasks", "shares"),
    [(2, "128(x2)", False), (2, "129,127", True), (1, "128", False), (1, "256", True)],
)
def test_ranks_under_srun_share_cores_only_if_their_host_has_too_few(
    monkeypatch, nodes, tasks, shares
):
    host = HostShare(frozenset(range(128)), {})
    monkeypatch.setattr(launch, "read_host_share", lambda: host)
    step = STEP | {"SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": tasks}
    for name in ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in step.items():
        monkeypatch.setenv(name, value)

    assert launch._shares_cores(sum(parse_tasks_per_node(tasks))) is shares


def test_ranks_within_a_quota_share_its_cores(monkeypatch):
    monkeypatch.setattr(launch, "read_host_share", lambda: replace(WHOLE_CPU, quota=2.0))
    monkeypatch.setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "3")

    assert launch._shares_cores(3)
