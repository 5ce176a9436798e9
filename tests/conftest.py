"""What every test shares: which folder runs where, hypothesis, and starting ranks."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hpcstream.launch import mpiexec
from hpcstream.launch.quirks.openmpi import quick_start, remove_session
from hpcstream.launch.supervise import kill_tree

UNDER_MPIEXEC = "HPCSTREAM_TEST_RANKS" in os.environ

collect_ignore = ["test_mpi.py"] if UNDER_MPIEXEC else ["mpi"]

# The first call of a kernel compiles it; that must not count as a slow example. Ranks that run
# the same test must draw the same examples, and not write to one database.
settings.register_profile("hpcstream", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ranks", settings.get_profile("hpcstream"), derandomize=True, database=None
)
settings.load_profile("ranks" if UNDER_MPIEXEC else "hpcstream")

if not UNDER_MPIEXEC:
    os.environ.update(quick_start(os.environ))  # a job on one rank starts MPI in this process

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores it for what it starts in the background; tests send it to themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHARED_MEMORY = Path("/dev/shm")
RunRanks = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def launcher() -> mpiexec.Launcher:
    """The mpiexec that `hpcstream run` would take, or the one that HPCSTREAM_MPIEXEC names."""
    wanted = os.environ.get("HPCSTREAM_MPIEXEC", "auto")
    return mpiexec.find_launcher(wanted, mpiexec.library_version(), os.environ)


@pytest.fixture
def run_ranks(launcher: mpiexec.Launcher) -> Iterator[RunRanks]:
    """Run Python on a number of ranks: ``run_ranks(3, [script, ...], timeout=60, env={})``.

    Returns the completed process, standard error and output in one text. Ranks are
    not bound, so that tests may run beside others; none outlives the call.
    """
    before = set(SHARED_MEMORY.glob("*"))

    def run(
        ranks: int,
        arguments: Sequence[str | Path],
        *,
        timeout: float = 120,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, *map(str, arguments)]
        command = mpiexec.command(launcher, ranks, program, slots=0)
        environ = mpiexec.environment(launcher, {**os.environ, **(env or {})})
        return run_to_end(command, environ, timeout)

    yield run
    remove_shared_memory(before)


def run_to_end(
    command: Sequence[str], environ: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a command; fail the test, with the output, if it takes longer than it may."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=lambda: remove_session(os.getpid(), environ),
        )
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill_tree(process.pid)
            process.wait()  # else its end is an error of the next test
            output.seek(0)
            pytest.fail(
                f"{shlex.join(command)}\nstill ran after {timeout} s; its output:\n{output.read()}",
                pytrace=False,
            )
        output.seek(0)
        return subprocess.CompletedProcess(command, process.wait(), stdout=output.read())


def remove_shared_memory(before: set[Path]) -> None:
    """Remove what killed ranks left in /dev/shm: new, ours, an MPI's, and used by no process."""
    names = ("sm_segment.", "vader_segment.", "mpich_shm_", "psm_shm", "ucx_shm")
    left = [
        path
        for path in set(SHARED_MEMORY.glob("*")) - before
        if path.name.startswith(names) and is_ours(path)
    ]
    if left:
        time.sleep(0.1)  # a rank may be about to map what it has just made
        in_use = mapped_files()
        for path in left:
            if str(path) not in in_use:
                path.unlink(missing_ok=True)


def is_ours(path: Path) -> bool:
    """Return whether a file is there and this user's; ranks of other tests remove theirs."""
    try:
        return path.stat().st_uid == os.getuid()
    except FileNotFoundError:
        return False


def mapped_files() -> set[str]:
    """Return the files in shared memory that some process maps."""
    mapped = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            lines = maps.read_text().splitlines()
        except OSError:  # it ended, or is not ours to read
            continue
        mapped |= {line.split(maxsplit=5)[-1] for line in lines if str(SHARED_MEMORY) in line}
    return mapped
