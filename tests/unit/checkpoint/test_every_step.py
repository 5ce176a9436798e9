"""Whatever step on a file a job dies at, also if the disk loses its cache: the same rows.

A step is a file that is made, renamed or removed. Without the cache, as after a power cut,
every file that was not made durable is empty. HPCSTREAM_STEP_RUNS says how many deaths are
tried, evenly over all steps; with 0 it is all of them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from restart import run_until_killed, sliding, unfailed, visible

RUNS = int(os.environ.get("HPCSTREAM_STEP_RUNS", "12"))
STEPS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
DIED = 9
N_RANKS = 2


class Death:
    """Ends the process just before a step; counts them until then."""

    def __init__(self, folder: Path, at: int | None, *, cache_lost: bool) -> None:
        self.folder, self.at, self.cache_lost = folder, at, cache_lost
        self.steps = 0
        self._durable: set[int] = set()
        self._is_dying = False

    def watch(self) -> None:
        """From now on; it cannot be undone, so in a process of its own."""
        fsync = os.fsync

        def noted(descriptor: int) -> None:
            fsync(descriptor)
            self._durable.add(os.fstat(descriptor).st_ino)

        os.fsync = noted
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple) -> None:
        if self._is_dying or not self._is_step(event, arguments):
            return
        self.steps += 1
        if self.steps == self.at:
            self._is_dying = True
            if self.cache_lost:
                self._lose_cache()
            os._exit(DIED)

    def _is_step(self, event: str, arguments: tuple) -> bool:
        is_made = event == "open" and arguments[2] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
        return bool(is_made or event in STEPS) and str(arguments[0]).startswith(str(self.folder))

    def _lose_cache(self) -> None:
        for path in self.folder.rglob("*"):
            if path.is_file() and path.stat().st_ino not in self._durable:
                os.truncate(path, 0)


def in_child(work) -> int:
    """Do work in a process of its own; return its exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        os._exit(work())
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)


def die(folder: Path, at: int | None, *, cache_lost: bool) -> int:
    """Run the job in a process that dies at a step; without one, return how many there are."""
    count = folder.with_suffix(".steps")

    def work() -> int:
        death = Death(folder, at, cache_lost=cache_lost)
        death.watch()
        run_until_killed(sliding, folder, N_RANKS, 2**31, seed=0)
        count.write_text(str(death.steps))
        return 0

    status = in_child(work)
    if at is None:
        assert status == 0
        return int(count.read_text())
    return status


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("steps")


@pytest.fixture(scope="module")
def expected(base):
    return unfailed(sliding, base, N_RANKS)[0]


@pytest.fixture(scope="module")
def n_steps(base, expected):
    return die(base / "counted", None, cache_lost=False)


def places(n_steps: int) -> list[int]:
    if RUNS == 0:
        return list(range(1, n_steps + 1))
    return [1 + i * n_steps // RUNS + i % 7 for i in range(RUNS)]


def leave_long_ago(folder: Path) -> None:
    """Age all locks, so that nobody waits for one that says nothing of its owner."""
    for lock in folder.rglob("*.lock"):
        os.utime(lock, (0, 0))


@pytest.mark.parametrize("cache_lost", [False, True])
def test_a_job_that_died_at_any_step_goes_on_to_the_same_rows(cache_lost, base, expected, n_steps):
    for at in places(n_steps):
        folder = base / f"died-{at}-{cache_lost}"
        assert die(folder, at, cache_lost=cache_lost) in (DIED, 0), at

        leave_long_ago(folder)
        run_until_killed(sliding, folder, N_RANKS, 2**31, seed=1)

        assert visible(folder / "out").equals(expected), f"died at step {at} of {n_steps}"
