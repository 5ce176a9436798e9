import ctypes
import subprocess
import sys

import pytest

from hpcstream.process import heap

ROUNDS = """
import resource, sys
import numpy as np
from hpcstream.process import heap
if sys.argv[1] == "kept":
    assert heap.keep_freed_memory({})

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        columns = [np.ones(60_000) for _ in range(30)]
        del columns
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults()
print(page_faults())
"""

needs_glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="another C library"
)


@needs_glibc
def test_columns_of_the_next_round_take_the_pages_of_the_last():
    def faults(how):
        command = [sys.executable, "-c", ROUNDS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("kept") < 100 < faults("as it is")


@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_a_user_who_has_told_the_library_is_left_alone(name):
    assert not heap.keep_freed_memory({name: "1"})


def test_giving_back_is_harmless():
    heap.give_back_freed_memory()
