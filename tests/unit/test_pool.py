import gc
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.memory.arena import ArenaMapper
from hpcstream.memory.blocks import SHARED_BLOCK_BYTES, block_bytes
from hpcstream.memory.pool import ARENA_BYTES, BufferPool, process_pool

MIB = 1 << 20


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def arrow_array(buffer):
    return pa.Array.from_buffers(pa.int64(), buffer.size // 8, [None, pa.py_buffer(buffer)])


VIEWS = {
    "slice": lambda a: a[10:20],
    "slice of a slice": lambda a: a[10:200][5:50][::3],
    "reshaped": lambda a: a.reshape(8, -1).T,
    "other dtype": lambda a: a.view(np.int64)[1:],
    "read-only": lambda a: np.asarray(memoryview(a).toreadonly()),
    "memoryview": memoryview,
    "memoryview of a slice": lambda a: memoryview(a[3:9])[2:],
    "frombuffer": lambda a: np.frombuffer(a, np.int32),
    "arrow buffer": pa.py_buffer,
    "arrow buffer sliced": lambda a: pa.py_buffer(a).slice(8, 64),
    "arrow array": arrow_array,
    "arrow slice": lambda a: arrow_array(a).slice(2, 3),
    "batch column to numpy": lambda a: pa.record_batch({"x": arrow_array(a)})["x"].to_numpy(),
    "table": lambda a: pa.table({"x": arrow_array(a)}).slice(1),
}


@pytest.mark.parametrize("view_of", VIEWS.values(), ids=VIEWS.keys())
def test_buffer_comes_back_only_when_its_last_view_died(view_of):
    pool = BufferPool()
    buffer = pool.take(1024)
    address = buffer.ctypes.data

    view = view_of(buffer)
    del buffer
    assert pool.statistics().bytes_in_use == 1024
    assert pool.take(1024).ctypes.data != address
    del view

    assert pool.statistics().bytes_in_use == 0
    assert address in [buffer.ctypes.data for buffer in [pool.take(1024), pool.take(1024)]]


@pytest.mark.parametrize("n_bytes", [0, 1, 64, 65, 100_000, SHARED_BLOCK_BYTES, 5 * MIB + 1])
def test_buffer_is_aligned_writable_and_of_the_size_asked_for(n_bytes):
    buffer = BufferPool().take(n_bytes)

    assert type(buffer) is np.ndarray
    assert buffer.dtype == np.uint8
    assert buffer.shape == (n_bytes,)
    assert buffer.flags.writeable
    assert buffer.flags.c_contiguous
    assert buffer.ctypes.data % 64 == 0
    buffer[:] = 255


@given(st.lists(st.tuples(st.integers(0, 300_000), st.integers(0, 20)), max_size=40))
def test_living_buffers_never_overlap(events):
    pool = BufferPool()
    alive = {}

    for number, (n_bytes, dying) in enumerate(events):
        alive.pop(dying, None)
        alive[number] = pool.take(n_bytes)
        alive[number][:] = number

    for number, buffer in alive.items():
        assert (buffer == number).all()


@given(st.integers(0, 1 << 40))
def test_block_fits_and_wastes_little(n_bytes):
    size = block_bytes(n_bytes)

    assert size >= n_bytes
    assert size % 64 == 0
    most = 1.25 if n_bytes > 64 << 10 else 2
    assert size <= max(n_bytes * most, n_bytes + (64 if n_bytes <= SHARED_BLOCK_BYTES else 2 * MIB))
    assert block_bytes(size) == size


def test_typed_arrays_come_from_the_pool_too():
    pool = BufferPool()

    array = pool.empty(1000, np.int64)
    zeros = pool.zeros(10, "float32")

    assert (array.dtype, array.shape) == (np.int64, (1000,))
    assert zeros.tolist() == [0.0] * 10
    assert pool.statistics().bytes_in_use == block_bytes(8000) + 64
    del array, zeros
    assert pool.statistics().bytes_in_use == 0


def test_zeros_are_zero_in_a_used_buffer():
    pool = BufferPool()
    pool.take(4096).fill(255)

    assert not pool.zeros(512, np.int64).any()


def test_pool_holds_no_python_objects():
    with pytest.raises(TypeError, match="not Python objects"):
        BufferPool().empty(3, object)


@pytest.mark.parametrize("n", [-1, -2, -1000])
def test_negative_size_is_refused(n):
    pool = BufferPool()

    with pytest.raises(ValueError, match=f"cannot have {n} elements"):
        pool.take(n)
    with pytest.raises(ValueError, match=f"cannot have {n} elements"):
        pool.empty(n, np.int64)

    assert pool.statistics().bytes_in_use == 0


def test_type_that_cannot_be_built_loses_no_block():
    pool = BufferPool()

    with pytest.raises((ValueError, TypeError)):
        pool.empty(2.5, np.int64)

    assert pool.statistics().bytes_in_use == 0


def test_buffers_come_back_from_any_thread():
    pool = BufferPool()
    buffers = [pool.take(1000) for _ in range(100)]

    thread = threading.Thread(target=buffers.clear)
    thread.start()
    thread.join()

    assert pool.statistics().bytes_in_use == 0


@pytest.fixture
def eager_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_switching")
def test_threads_that_take_at_once_get_different_buffers():
    pool = BufferPool(spare_bytes=0)
    wrong = []

    def work(number):
        for n_bytes in random.Random(number).choices([100, 5000, 70_000, 3 * MIB], k=3000):
            buffer = pool.take(n_bytes)
            buffer[:64] = number
            if (buffer[:64] != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert pool.statistics().bytes_in_use == 0


def test_view_outlives_its_pool():
    pool = BufferPool()
    buffer = pool.take(3 * MIB)
    buffer[:] = 7
    view = pa.py_buffer(buffer)

    del pool, buffer
    gc.collect()

    assert view.to_pybytes() == b"\7" * (3 * MIB)


def test_memory_goes_with_the_last_view_after_the_pool():
    pool = BufferPool()
    buffer = pool.take(64 * MIB)
    buffer[:] = 1
    del pool
    before = resident_bytes()

    del buffer

    assert resident_bytes() < before - 50 * MIB


def test_exhausted_pool_grows_and_counts_it():
    pool = BufferPool(initial_bytes=MIB)

    buffers = [pool.take(MIB) for _ in range(20)]

    held = pool.statistics()
    assert held.bytes_in_use == 20 * MIB
    assert held.grown >= 2
    assert held.takes == len(buffers)
    assert held.bytes_reserved >= 20 * MIB


def test_trim_gives_memory_back_to_the_system():
    pool = BufferPool()
    kept = pool.take(1000)
    burst = [pool.take(8 * MIB) for _ in range(8)]
    for buffer in burst:
        buffer[:] = 1
    before = resident_bytes()

    del burst, buffer
    pool.trim()

    assert resident_bytes() < before - 50 * MIB
    held = pool.statistics()
    assert (held.arenas, held.bytes_free, held.unmapped) == (1, 0, 8)
    assert kept.size == 1000


def test_memory_of_a_burst_is_given_back_while_the_stream_goes_on():
    pool = BufferPool(spare_bytes=4 * MIB)
    burst = [pool.take(8 * MIB) for _ in range(8)]
    del burst

    for _ in range(10_000):
        pool.take(100_000)

    held = pool.statistics()
    assert held.bytes_reserved <= ARENA_BYTES + 4 * MIB


def test_drifting_sizes_do_not_pile_up_memory():
    pool = BufferPool(spare_bytes=16 * MIB)
    sizes = random.Random(5)
    in_flight = []
    peak = 0

    for step in range(20_000):
        in_flight.append(pool.take(sizes.randint(1, 100_000 + 100 * step)))
        in_flight = in_flight[-6:]
        peak = max(peak, pool.statistics().bytes_reserved) if step % 100 == 0 else peak

    assert peak < 6 * 2.1 * MIB * 1.25 + 16 * MIB + 4 * ARENA_BYTES


def test_pool_without_memory_says_what_it_holds():
    mapper = ArenaMapper()

    def limited(n_bytes):
        return mapper(n_bytes if n_bytes < 100 * MIB else 1 << 50)

    pool = BufferPool(name="state", arena_factory=limited)
    small = pool.take(1000)

    with pytest.raises(MemoryError, match="no room") as caught:
        pool.take(200 * MIB)
    assert "'state': 1,024 bytes in use" in caught.value.__notes__[0]
    assert small.size == 1000


def test_a_finalizer_that_takes_does_not_deadlock():
    pool = BufferPool(initial_bytes=2 * MIB)

    class Taker:
        def __del__(self):
            pool.take(MIB)

    buffers = []
    for _ in range(10):
        cycle = [Taker()]
        cycle.append(cycle)
        del cycle
        buffers.append(pool.take(MIB))
        gc.collect()

    assert pool.statistics().bytes_in_use == 10 * MIB


def test_views_that_live_until_the_interpreter_ends_do_no_harm():
    program = """
import sys, threading, numpy as np, pyarrow as pa
from hpcstream.memory.pool import process_pool, BufferPool
buffers = [process_pool().take(n) for n in (10, 10_000, 5_000_000)]
pa_view = pa.py_buffer(buffers[1])
other = BufferPool(); sys.kept = other.take(100); sys.array = pa.array([1])
cycle = [process_pool().take(100)]; cycle.append(cycle)
threading.Thread(target=lambda: process_pool().take(1 << 20)).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_process_has_one_pool():
    assert process_pool() is process_pool()
    assert process_pool().name == "process"
    assert process_pool().take(10).size == 10
