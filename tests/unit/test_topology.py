import os

import pytest

from hpcstream.memory.topology import format_list, parse_list, read_topology
from tests.unit.topologies.build import MACHINES, build_tree

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path):
    def read(name, allowed="0-1023"):
        return read_topology(build_tree(name, tmp_path), parse_list(allowed))

    return read


def numbers(nodes):
    return [node.number for node in nodes]


@pytest.mark.parametrize("name", MACHINES)
def test_every_online_cpu_belongs_to_one_node(machine, name, tmp_path):
    topology = machine(name)

    cpus = [cpu for node in topology.nodes for cpu in node.cpus]

    online = parse_list((tmp_path / name / "cpu" / "online").read_text())
    assert sorted(cpus) == sorted(online)
    assert not topology.offline_cpus & online


@pytest.mark.parametrize("name", MACHINES)
def test_distances_name_every_node_and_are_least_to_itself(machine, name):
    topology = machine(name)

    for node in topology.nodes:
        assert list(node.distances) == numbers(topology.nodes)
        assert min(node.distances, key=lambda other: node.distances[other]) == node.number


def test_two_sockets_are_two_nodes(machine):
    topology = machine("xeon_gold_6148", allowed="20-23,60-63")

    assert topology.is_numa
    assert topology.home_node() == 1
    assert topology.node(1).distances == {0: 21, 1: 10}
    assert topology.node(0).memory_bytes == 97437244 * 1024


def test_nps4_has_four_nodes_a_socket(machine):
    topology = machine("epyc_7742_nps4", allowed="130")

    assert len(topology.nodes) == 8
    assert topology.node_of_cpu(130) == 0
    assert topology.home_node() == 0


def test_rank_in_a_cgroup_is_at_home_where_its_cpus_are(machine):
    topology = machine("epyc_7742_nps4", allowed="100-103")

    assert topology.allowed_nodes() == (6,)
    assert topology.home_node() == 6


def test_rank_that_may_run_on_two_nodes_has_no_home(machine):
    topology = machine("epyc_7742_nps4", allowed="15-16")

    assert topology.allowed_nodes() == (0, 1)
    assert topology.home_node() is None


def test_memory_only_nodes_are_nobodys_home(machine):
    topology = machine("xeon_cxl", allowed="0-207")

    assert numbers(topology.memory_only) == [2, 3]
    assert topology.allowed_nodes() == (0, 1)
    assert topology.node(3).memory_bytes == 128 * GIB
    assert machine("xeon_cxl", allowed="52").home_node() == 1


def test_high_bandwidth_memory_is_not_taken_unasked(machine):
    topology = machine("knl_7250_flat", allowed="0-67")

    assert topology.is_numa
    assert topology.home_node() == 0


def test_node_numbers_may_have_gaps(machine):
    topology = machine("power9_ac922", allowed="90")

    assert numbers(topology.nodes) == [0, 8, 252, 253, 254, 255]
    assert topology.home_node() == 8
    assert topology.node(252).distances[8] == 80


def test_node_without_memory_uses_the_nearest_that_has_some(machine):
    assert machine("threadripper_2990wx", allowed="16-23").home_node() == 0
    assert machine("threadripper_2990wx", allowed="8").home_node() == 2


def test_offline_cpus_belong_to_no_node(machine):
    topology = machine("xeon_e5_2680_smt_off")

    assert topology.offline_cpus == frozenset(range(28, 56))
    assert topology.node_of_cpu(28) is None
    assert topology.node_of_cpu(27) == 1


def test_one_node_needs_no_placement(machine):
    topology = machine("virtual_machine")

    assert not topology.is_numa
    assert topology.home_node() == 0


def test_kernel_without_numa_is_one_node(tmp_path):
    topology = read_topology(tmp_path, allowed_cpus=[3, 4])

    assert numbers(topology.nodes) == [0]
    assert topology.home_node() == 0
    assert topology.nodes[0].cpus == {3, 4}
    assert topology.nodes[0].memory_bytes > 0


def test_distances_that_do_not_fit_the_nodes_are_not_believed(tmp_path):
    system = build_tree("xeon_gold_6148", tmp_path)
    (system / "node" / "node0" / "distance").write_text("10 21 31\n")

    topology = read_topology(system, [0])

    assert topology.node(0).distances == {0: 10, 1: 255}


def test_this_machine_can_be_read():
    topology = read_topology()

    assert topology.allowed_cpus == os.sched_getaffinity(0)
    assert topology.allowed_nodes()


def test_unknown_node_is_named_with_those_there_are(machine):
    with pytest.raises(KeyError, match=r"node 7.*\[0, 1\]"):
        machine("xeon_gold_6148").node(7)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", set()), ("\n", set()), ("5\n", {5}), ("0-2,7,9-10\n", {0, 1, 2, 7, 9, 10})],
)
def test_kernel_lists_are_read_and_written(text, expected):
    assert parse_list(text) == expected
    assert format_list(expected) == (text.strip() or "none")
