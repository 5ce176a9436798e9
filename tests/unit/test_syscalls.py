import errno
import mmap

import numpy as np
import pytest

from hpcstream.memory.syscalls import PREFERRED, SystemCalls
from hpcstream.memory.topology import read_topology


def recorder(calls):
    def invoke(number, *arguments):
        calls.append((number, [getattr(argument, "value", argument) for argument in arguments]))
        return 0

    return invoke


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 237), ("aarch64", 235)])
def test_mbind_gets_a_mask_with_the_bit_of_the_node(machine, number):
    seen = []

    SystemCalls(recorder(seen), machine).bind_preferred(1 << 21, 4096, node=65)

    [(called, (address, n_bytes, mode, mask, n_bits, flags))] = seen
    assert (called, address, n_bytes, mode, flags) == (number, 1 << 21, 4096, PREFERRED, 0)
    assert [index for index, word in enumerate(mask) if word] == [1]
    assert mask[1] == 2
    assert n_bits > 65


def test_refusal_names_the_call():
    def invoke(number, *arguments):
        raise OSError(errno.EPERM, "no")

    with pytest.raises(OSError, match="mbind: Operation not permitted") as caught:
        SystemCalls(invoke).bind_preferred(0, 4096, 0)
    assert caught.value.errno == errno.EPERM


def test_processor_without_known_numbers_answers_enosys():
    with pytest.raises(OSError, match="getcpu") as caught:
        SystemCalls(machine="pdp11").current_cpu_and_node()
    assert caught.value.errno == errno.ENOSYS


def test_real_kernel_says_where_a_thread_runs():
    cpu, node = SystemCalls().current_cpu_and_node()

    topology = read_topology()
    assert cpu in topology.allowed_cpus
    assert topology.node_of_cpu(cpu) == node


def test_real_kernel_tells_touched_from_untouched_pages():
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(memory, np.uint8)
    array[0] = 1
    addresses = array.ctypes.data + np.array([0, mmap.PAGESIZE], dtype=np.uint64)

    try:
        status = SystemCalls().nodes_of_pages(addresses)
    except OSError as error:
        pytest.skip(f"not allowed here: {error}")

    assert status[0] >= 0
    assert status[1] == -errno.ENOENT


def test_real_kernel_keeps_the_policy_it_was_given():
    memory = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = np.frombuffer(memory, np.uint8).ctypes.data
    calls = SystemCalls()
    _, node = calls.current_cpu_and_node()

    try:
        calls.bind_preferred(address, mmap.PAGESIZE, node)
        policy = calls.policy_of(address)
    except OSError as error:
        pytest.skip(f"not allowed here: {error}")

    assert policy.mode == PREFERRED
    assert policy.nodes == {node}
