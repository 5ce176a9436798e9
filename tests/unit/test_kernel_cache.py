"""Where compiled kernels are kept, and when they are compiled."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def run(code, **environ):
    plain = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=plain | {"PYTHONPATH": str(PROJECT)} | environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout.strip()


FOLDER = "from hpcstream.kernels import cache; print(cache.folder())"


def test_the_folder_is_where_the_user_says(tmp_path):
    assert Path(run(FOLDER, NUMBA_CACHE_DIR=str(tmp_path))).parent == tmp_path


def test_without_a_place_that_can_be_written_kernels_are_temporary(tmp_path):
    code = (
        "from hpcstream.kernels import cache; cache._can_be_written = lambda place: False; "
        "print(cache.folder())"
    )

    assert Path(run(code, TMPDIR=str(tmp_path))).is_relative_to(tmp_path)


def test_a_change_of_any_kernel_source_changes_the_folder(tmp_path):
    for path in (PROJECT / "kernels").glob("*.py"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    code = (
        "from pathlib import Path; from hpcstream.kernels import cache; "
        f"cache._HERE = Path({str(tmp_path)!r}); cache.digest.cache_clear(); print(cache.digest())"
    )
    before = run(code)

    with (tmp_path / "bitmap.py").open("a") as file:
        file.write("# changed\n")

    assert run(code) != before


def test_other_functions_of_the_process_are_cached_where_they_were():
    code = (
        "import numba; before = numba.config.CACHE_DIR; import hpcstream.kernels; "
        "print(numba.config.CACHE_DIR == before)"
    )

    assert run(code) == "True"


def test_a_job_says_once_that_it_compiles_and_compiles_each_family_on_one_rank(tmp_path):
    code = """
from hpcstream import kernels
from hpcstream.runtime.kernel_cache import compile_kernels
from hpcstream.testing.simulation import Simulation

compiled = []
kernels.not_compiled = lambda: ["b", "a", "c"]
kernels.warm_up = compiled.append
world = Simulation(2)
world.run([compile_kernels(world.communicator(rank)) for rank in range(2)])
print(sorted(compiled))
"""

    assert run(code) == "[['a', 'c'], ['b']]"
