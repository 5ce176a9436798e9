"""Where compiled kernels are kept, and when they are compiled."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstream import kernels
from hpcstream.kernels import COSTS, FAMILIES, OTHER_COST
from hpcstream.launch.kernel_cache import balanced_shares, compile_kernels
from hpcstream.testing.simulation import Simulation

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
        "import numba; before = numba.config.CACHE_DIR; import hpcstream.kernels.wire; "
        "print(numba.config.CACHE_DIR == before)"
    )

    assert run(code) == "True"


def test_another_copy_of_the_source_has_another_folder(tmp_path):
    """Numba looks kernels up by the path of their source: it would find none."""
    for path in (PROJECT / "kernels").glob("*.py"):
        shutil.copy2(path, tmp_path)
    code = (
        "from pathlib import Path; from hpcstream.kernels import cache; "
        f"cache._HERE = Path({str(tmp_path)!r}); cache.digest.cache_clear(); print(cache.digest())"
    )
    assert run(code) != run("from hpcstream.kernels import cache; print(cache.digest())")
    before = run(code)

    os.utime(tmp_path / "bitmap.py", (1, 1))

    assert run(code) != before


@pytest.fixture
def compiled(tmp_path):
    """Return a cache in which one family is compiled, and what says which are not."""
    place = tmp_path / "cache"
    run("from hpcstream import kernels; kernels.warm_up(['counters'])", NUMBA_CACHE_DIR=str(place))
    missing = "from hpcstream import kernels; print('counters' in kernels.not_compiled())"
    return place, lambda **environ: run(missing, **{"NUMBA_CACHE_DIR": str(place), **environ})


def test_a_family_is_compiled_once_its_index_is_there(compiled):
    place, is_missing = compiled
    assert is_missing() == "False"

    for index in place.rglob("counters.*.nbi"):
        index.unlink()

    assert is_missing() == "True"


def test_a_cache_that_others_can_write_to_is_not_used(compiled, tmp_path):
    place, is_missing = compiled
    (goal,) = place.iterdir()
    goal.chmod(0o777)

    assert is_missing(XDG_CACHE_HOME=str(tmp_path / "own")) == "True"


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_cache_of_another_user_is_not_used(compiled, tmp_path):
    place, is_missing = compiled
    (goal,) = place.iterdir()
    os.chown(goal, 65534, 65534)

    assert is_missing(XDG_CACHE_HOME=str(tmp_path / "own")) == "True"


def test_a_cache_that_can_only_be_read_is_copied(compiled, tmp_path):
    place, _ = compiled
    own = tmp_path / "own"
    code = f"""
import os
access = os.access
os.access = lambda path, mode: access(path, mode) and not str(path).startswith({str(place)!r})
from hpcstream import kernels
print(kernels.cache.folder().parent == __import__("pathlib").Path({str(own)!r}) / "hpcstream")
print("counters" in kernels.not_compiled())
"""

    assert run(code, NUMBA_CACHE_DIR=str(place), XDG_CACHE_HOME=str(own)) == "True\nFalse"


def test_a_foreseeable_folder_of_others_is_not_used_for_temporary_files(tmp_path):
    foreseen = tmp_path / f"hpcstream-{os.getuid()}"
    foreseen.mkdir()
    foreseen.chmod(0o777)
    code = (
        "from hpcstream.kernels import cache; cache._can_be_written = lambda place: False; "
        "print(cache.folder()); assert cache.folder() == cache.folder()"
    )

    used = Path(run(code, TMPDIR=str(tmp_path)))

    assert used.is_relative_to(tmp_path)
    assert not used.is_relative_to(foreseen)
    assert used.parent.stat().st_mode & 0o077 == 0


def test_folders_that_numba_makes_keep_others_out_whatever_the_mask(tmp_path):
    code = (
        "import os; os.umask(0); from hpcstream.kernels import bitmap, cache; print(cache.folder())"
    )

    goal = Path(run(code, NUMBA_CACHE_DIR=str(tmp_path)))

    assert not any(path.stat().st_mode & 0o022 for path in [goal, *goal.iterdir()])


def test_shares_take_about_as_long_and_have_each_family_once():
    for n_shares in (1, 2, 3, 8, 40):
        shares = balanced_shares(FAMILIES, n_shares)
        loads = [sum(COSTS.get(one, OTHER_COST) for one in share) for share in shares]

        assert sorted(one for share in shares for one in share) == sorted(FAMILIES)
        assert max(loads) - min(loads) <= max(COSTS.values())


def test_the_command_compiles_all_and_says_where(tmp_path):
    code = (
        "import sys; from hpcstream import kernels; kernels.FAMILIES = ('counters', 'dictionary'); "
        "from hpcstream.cli import main; main(sys.argv[1:] or ['compile', '--to', 'CACHE'])"
    ).replace("CACHE", str(tmp_path / "cache"))

    said = run(code, NUMBA_CACHE_DIR=str(tmp_path / "cache"))

    assert said.startswith(str(tmp_path / "cache"))
    assert "2 families of kernels" in said
    assert "compiled in" in said
    assert "all compiled before" in run(code, NUMBA_CACHE_DIR=str(tmp_path / "cache"))


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none"])
def test_a_place_that_cannot_be_written_is_refused_before_compiling(tmp_path, place):
    (tmp_path / "file").write_text("")
    code = (
        "from hpcstream.cli import main; from hpcstream.cli import compile; "
        "compile._compile_into = None; "
        f"print(main(['compile', '--to', {str(tmp_path / place)!r}]))"
    )

    assert run(code, XDG_CACHE_HOME=str(tmp_path / "home")) == "2"


def test_a_folder_in_which_no_file_can_be_made_is_refused_before_compiling(tmp_path):
    code = (
        "import errno, types; from hpcstream.cli import compile, main\n"
        "def full(*args, **options):\n    raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "compile.tempfile = types.SimpleNamespace(TemporaryFile=full)\n"
        "compile._compile_into = None\n"
        f"print(main(['compile', '--to', {str(tmp_path)!r}]))"
    )

    assert run(code) == "2"


STOPPED_WHILE_COMPILING = """
import os, signal, sys, time
import pyarrow as pa
import hpcstream as hs
from hpcstream import kernels

def compile_slowly(families):
    os.kill(os.getpid(), signal.{name})
    time.sleep(60)

kernels.not_compiled = lambda: ["a", "b"]
kernels.warm_up = compile_slowly
os.sched_getaffinity = lambda process: {{0}}
job = hs.Job("stopped")
job.from_batches(pa.table({{"x": [1]}})).print()
job.run()
"""


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_job_that_is_asked_to_stop_while_it_compiles_stops_at_once(tmp_path, name, status):
    environ = {k: v for k, v in os.environ.items() if k != "NUMBA_DISABLE_JIT"}
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_WHILE_COMPILING.format(name=name)],
        env=environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert done.returncode == status
    assert "stopped before the first round; nothing was read" in done.stderr
    assert done.stdout == ""


def test_a_job_compiles_each_family_on_one_rank(tmp_path):
    code = """
import os
from hpcstream import kernels
from hpcstream.launch.kernel_cache import compile_kernels
from hpcstream.testing.simulation import Simulation

compiled = []
os.sched_getaffinity = lambda process: {0}
kernels.not_compiled = lambda: ["b", "a", "c"]
kernels.warm_up = compiled.extend
world = Simulation(2)
world.run([compile_kernels(world.communicator(rank), ()) for rank in range(2)])
print(sorted(compiled))
"""

    assert run(code) == "['a', 'b', 'c']"


@pytest.fixture
def cold(monkeypatch):
    """Return the families that were compiled here, on two cores without compiled ones."""
    compiled = []
    monkeypatch.delenv("NUMBA_DISABLE_JIT", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(kernels, "not_compiled", lambda: ["b", "a", "c"])
    monkeypatch.setattr(kernels, "warm_up", compiled.extend)
    return compiled


def compile_on(n_ranks):
    """Return what compiling raises on each rank; none waits for another for ever."""
    world, raised = Simulation(n_ranks), {}

    def rank_of(number):
        try:
            yield from compile_kernels(world.communicator(number), ())
        except Exception as error:
            raised[number] = error

    world.run([rank_of(number) for number in range(n_ranks)])
    return raised


@pytest.mark.parametrize("failing", ["not_compiled", "warm_up"])
def test_a_rank_that_cannot_compile_does_not_leave_the_others_waiting(cold, monkeypatch, failing):
    calls = []

    def fail_once(*families):
        calls.append(families)
        if len(calls) == 1:
            raise OSError("no space left")
        return ["a"]

    monkeypatch.setattr(kernels, failing, fail_once)

    raised = compile_on(3 if failing == "not_compiled" else 2)

    kinds = sorted(type(error).__name__ for error in raised.values())
    assert kinds == ["OSError", *["RemoteError"] * (len(raised) - 1)]
    assert len(raised) > 1


def test_where_no_process_can_be_started_all_is_compiled_here(cold, monkeypatch):
    def refuse(*args, **options):
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.Popen", refuse)

    assert compile_on(1) == {}
    assert sorted(cold) == ["a", "b", "c"]
