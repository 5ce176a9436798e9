import errno
import mmap
from pathlib import Path

import numpy as np
import pytest

from hpcstream.memory.arena import HUGE_PAGE, Arena, ArenaMapper
from hpcstream.memory.syscalls import SystemCalls


def refusing(number_of_error):
    """System calls that always fail, and how often they were tried."""
    tried = []

    def invoke(number, *arguments):
        tried.append(number)
        raise OSError(number_of_error, "refused")

    return SystemCalls(invoke, "x86_64"), tried


def block(arena, n_bytes):
    return np.frombuffer(arena.memory, np.uint8, n_bytes, arena.cut(n_bytes))


def huge_page_kib(address):
    """KiB in huge pages of the mapping at an address, as the kernel counts them."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            start, end = (int(part, 16) for part in first.split("-"))
            inside = start <= address < end
        elif inside and first == "AnonHugePages:":
            return int(line.split()[1])
    raise AssertionError("no mapping there")


def test_arena_is_aligned_to_huge_pages_and_large_enough():
    arena = ArenaMapper()(3_000_000)

    assert arena.address % HUGE_PAGE == 0
    assert arena.n_bytes == 2 * HUGE_PAGE
    assert block(arena, arena.n_bytes).ctypes.data == arena.address


def test_arena_lies_on_huge_pages_where_the_system_has_them():
    mode = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    if "[never]" in mode:
        pytest.skip("transparent huge pages are off")
    arena = ArenaMapper()(4 * HUGE_PAGE)

    block(arena, arena.n_bytes)[:] = 1

    assert huge_page_kib(arena.address) > 0


def test_blocks_are_cut_one_after_another():
    arena = ArenaMapper()(HUGE_PAGE)

    first, second = block(arena, 4096), block(arena, 64)

    assert second.ctypes.data == first.ctypes.data + 4096
    assert arena.room == HUGE_PAGE - 4096 - 64
    assert arena.n_blocks == 2


def test_a_block_is_never_cut_beyond_the_end():
    arena = ArenaMapper()(HUGE_PAGE)

    with pytest.raises(AssertionError, match="no room"):
        arena.cut(HUGE_PAGE + 1)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EINVAL])
def test_refused_binding_is_said_once_and_not_tried_again(number):
    calls, tried = refusing(number)
    mapper = ArenaMapper(node=1, calls=calls)

    arenas = [mapper(HUGE_PAGE) for _ in range(3)]

    assert len(tried) == 1
    assert len(mapper.notes) == 1
    assert "node 1" in mapper.notes[0]
    assert "first touch" in mapper.notes[0]
    assert all(arena.touch for arena in arenas)


def test_container_that_forbids_binding_is_told_what_to_allow():
    calls, _ = refusing(errno.EPERM)
    mapper = ArenaMapper(node=0, calls=calls)

    mapper(HUGE_PAGE)

    assert "SYS_NICE" in mapper.notes[0]


def test_block_that_cannot_be_bound_is_touched_by_its_owner():
    calls, _ = refusing(errno.EPERM)
    arena = ArenaMapper(node=0, calls=calls)(HUGE_PAGE)
    memory = np.frombuffer(arena.memory, np.uint8)
    memory[arena.start] = 7

    arena.cut(8192)

    assert memory[arena.start] == 0


def test_no_node_means_no_binding():
    calls, tried = refusing(errno.EPERM)

    arena = ArenaMapper(calls=calls)(HUGE_PAGE)

    assert not tried
    assert not arena.touch


def test_huge_pages_that_are_refused_are_said_once(monkeypatch):
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345)  # no such advice: the kernel answers EINVAL
    mapper = ArenaMapper()

    arenas = [mapper(HUGE_PAGE) for _ in range(2)]

    assert len(mapper.notes) == 1
    assert "4 KiB pages" in mapper.notes[0]
    assert all(isinstance(arena, Arena) for arena in arenas)


def test_no_room_is_a_memory_error_that_says_how_much():
    with pytest.raises(MemoryError, match=r"1,125,899,906,842,624 bytes"):
        ArenaMapper()(1 << 50)
