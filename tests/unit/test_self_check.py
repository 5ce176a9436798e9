import errno

import numpy as np
import pytest

from hpcstream.memory.pool import BufferPool
from hpcstream.memory.self_check import SAMPLED_PAGES, Placement, check_array, check_pool
from hpcstream.memory.syscalls import SystemCalls


class Kernel(SystemCalls):
    """Answers with a node for every page, and remembers what it was asked."""

    def __init__(self, nodes):
        super().__init__()
        self.nodes = nodes
        self.asked = np.empty(0, dtype=np.uint64)

    def nodes_of_pages(self, addresses):
        self.asked = addresses
        return np.resize(np.array(self.nodes, dtype=np.int32), addresses.size)


def refusing(number):
    def invoke(*arguments):
        raise OSError(number, "refused")

    return SystemCalls(invoke, "x86_64")


def test_pages_on_another_node_are_found():
    kernel = Kernel([0, 0, 0, 1])

    placement = check_array(np.zeros(1 << 20, np.uint8), 0, name="state", calls=kernel)

    assert not placement.is_as_expected
    assert placement.fraction_as_expected == pytest.approx(0.75, abs=0.01)
    assert "state: of" in str(placement)
    assert "on node 1; expected node 0" in str(placement)


def test_large_memory_is_sampled_evenly():
    kernel = Kernel([0])
    array = np.zeros(64 << 20, np.uint8)

    placement = check_array(array, 0, calls=kernel)

    assert placement.is_as_expected
    assert SAMPLED_PAGES / 2 < kernel.asked.size <= SAMPLED_PAGES
    assert len(set(np.diff(kernel.asked.astype(np.int64)))) == 1
    assert array.ctypes.data - 4096 < kernel.asked[0] <= array.ctypes.data
    assert kernel.asked[-1] < array.ctypes.data + array.nbytes


def test_untouched_pages_are_counted_apart():
    placement = check_array(np.zeros(8192, np.uint8), 0, calls=Kernel([-errno.ENOENT]))

    assert placement.pages == {}
    assert placement.untouched >= 2
    assert placement.is_as_expected
    assert placement.fraction_as_expected == 1
    assert str(placement) == "array: no page touched yet"


def test_empty_array_and_new_pool_have_no_pages():
    assert check_array(np.empty(0), 0).pages == {}
    assert check_pool(BufferPool()).pages == {}


@pytest.mark.parametrize(("number", "why"), [(errno.EPERM, "SYS_NICE"), (errno.ENOSYS, "tell")])
def test_kernel_that_does_not_answer_is_no_error(number, why):
    placement = check_array(np.zeros(8192, np.uint8), 0, calls=refusing(number))

    assert why in placement.refused
    assert why in str(placement)
    assert placement.is_as_expected


def test_pool_is_looked_at_as_far_as_it_is_cut():
    kernel = Kernel([3])
    pool = BufferPool(name="mine")
    buffers = [pool.take(100_000), pool.take(5 << 20)]

    placement = check_pool(pool, kernel)

    assert set(placement.pages) == {3}
    assert "pool 'mine'" in str(placement)
    for buffer in buffers:
        inside = (kernel.asked >= buffer.ctypes.data) & (
            kernel.asked < buffer.ctypes.data + buffer.size
        )
        assert inside.any()


def test_real_pages_of_a_pool_are_on_a_real_node():
    pool = BufferPool()
    buffer = pool.take(1 << 20)
    buffer[:] = 1

    placement = check_pool(pool)

    assert placement.refused or sum(placement.pages.values()) > 100


def test_nothing_planned_is_said():
    assert (
        str(Placement("x", None, {0: 2})) == "x: of 2 sampled pages 2 on node 0; no node asked for"
    )
