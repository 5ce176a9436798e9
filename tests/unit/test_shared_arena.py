import mmap
import os

import numpy as np
import pytest

from hpcstream.memory.arena import HUGE_PAGE
from hpcstream.memory.pool import BufferPool
from hpcstream.memory.shared_arena import (
    Extent,
    SharedArena,
    SharedArenaMapper,
    SharedFile,
    map_extent,
)


def pages_of(file):
    """Return the bytes of the file that are in memory."""
    return 512 * os.fstat(file.number).st_blocks


@pytest.mark.parametrize("extent", [(0, HUGE_PAGE), (2**45, 3 * HUGE_PAGE), (HUGE_PAGE, 2**40)])
def test_an_extent_is_a_number_and_back(extent):
    assert Extent.of_word(Extent(*extent).word) == extent
    assert 0 < Extent(*extent).word < 2**63


def test_extents_follow_the_head_and_do_not_overlap():
    file = SharedFile()

    first, second = file.extent(HUGE_PAGE), file.extent(3 * HUGE_PAGE)

    assert first == (HUGE_PAGE, HUGE_PAGE)
    assert second == (2 * HUGE_PAGE, 3 * HUGE_PAGE)


def test_what_is_written_to_an_arena_is_in_the_file():
    arena = SharedArenaMapper(SharedFile())(100_000)
    block = np.frombuffer(arena.memory, np.uint8, 4096, arena.cut(4096))

    block[:] = 9

    assert arena.n_bytes == HUGE_PAGE
    assert os.pread(arena.file.number, 4096, arena.extent.start) == bytes([9] * 4096)


def test_memory_goes_back_to_the_system_with_the_arena_and_its_place_is_used_again():
    file = SharedFile()
    before = pages_of(file)
    arena = SharedArena(file, HUGE_PAGE)
    np.frombuffer(arena.memory, np.uint8, HUGE_PAGE)[:] = 1
    place = arena.extent
    assert pages_of(file) == before + HUGE_PAGE

    del arena

    assert pages_of(file) == before
    assert file.extent(HUGE_PAGE) == place
    assert file.extent(HUGE_PAGE) != place


def test_a_pool_on_a_file_gives_arenas_back_as_any_pool():
    file = SharedFile()
    pool = BufferPool(arena_factory=SharedArenaMapper(file), spare_bytes=0)
    buffers = [pool.take(3 << 20) for _ in range(4)]
    for buffer in buffers:
        buffer[:] = 1
    in_use = pages_of(file)

    del buffers, buffer
    pool.trim()

    assert in_use >= 12 << 20
    assert pages_of(file) < 1 << 20


def test_mappings_keep_no_descriptors():
    file = SharedFile()
    before = len(os.listdir("/proc/self/fd"))

    mappings = [file.map(file.extent(HUGE_PAGE)) for _ in range(20)]

    assert len(os.listdir("/proc/self/fd")) == before
    assert len({mapping.write(b"x") for mapping in mappings}) == 1


def test_what_cannot_be_mapped_is_an_error():
    file = SharedFile()
    number = os.open(f"/proc/self/fd/{file.number}", os.O_RDONLY)
    try:
        with pytest.raises(PermissionError):
            map_extent(number, Extent(0, HUGE_PAGE), mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(number)


def test_the_file_is_closed_with_its_owner():
    file = SharedFile()
    number = file.number

    del file

    with pytest.raises(OSError, match="Bad file"):
        os.fstat(number)
