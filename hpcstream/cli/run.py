"""``hpcstream run`` and ``hpcstream explain``: start a script, on one rank or on many."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hpcstream.environment import (
    CHECKPOINT_DIR,
    CHECKPOINT_DIR_FILE,
    EXIT_HOOKS,
    EXPLAIN,
    LOST_HOST,
    OVERSUBSCRIBE,
    SCRATCH_DIR,
    STOP_GRACE,
    TERMINAL,
)
from hpcstream.errors import LauncherError
from hpcstream.launch import crowding, mpiexec
from hpcstream.launch.early_signals import restore_default_signals, stopped_by_signals
from hpcstream.launch.restarts import Policy, run_to_the_end
from hpcstream.launch.supervise import Ended, supervise
from hpcstream.log import ERR, flush, say, warn
from hpcstream.process.launcher_facts import OPEN_MPI, launches
from hpcstream.process.stop_signals import TRY_AGAIN

LOST_HOST_S = 60.0
"""Environment variable: start as many ranks as are asked for, whatever the host holds."""


def run(options: argparse.Namespace) -> int:
    """Run the script and return its exit status."""
    _hint_at_misplaced_ranks(options)
    program = [sys.executable, str(_script(options.script)), *options.arguments]
    extra = {}
    if options.scratch is not None:
        extra[SCRATCH_DIR] = os.path.abspath(os.path.expanduser(options.scratch))
    if options.lost_host is not None:
        extra[LOST_HOST] = f"{options.lost_host:g}"
    if options.oversubscribe:
        os.environ[OVERSUBSCRIBE] = "1"
    if options.stop_grace is not None:
        extra[STOP_GRACE] = f"{options.stop_grace:g}"
    directory = options.checkpoint_dir or os.environ.get(CHECKPOINT_DIR)
    if directory:
        directory = os.path.abspath(os.path.expanduser(directory))
        extra[CHECKPOINT_DIR] = directory
    status = 0
    with (
        stopped_by_signals(has_checkpoints=bool(directory)) as early,
        _for_all_ranks(program, options.ranks) as program,
    ):
        if options.restarts or options.shrink:
            status = _restarted(program, options, directory, extra)
        else:
            status = start(program, options.ranks, options.launcher, extra)
    return early.status or status


def _restarted(
    program: Sequence[str],
    options: argparse.Namespace,
    directory: str | None,
    extra: dict[str, str],
) -> int:
    """Run a job to its end, with restarts."""
    # A host that does not respond ends the job where a restart is allowed.
    extra.setdefault(LOST_HOST, os.environ.get(LOST_HOST, f"{LOST_HOST_S:g}"))
    with tempfile.TemporaryDirectory(prefix="hpcstream-") as folder:
        path = Path(folder, "checkpoint_dir")
        extra[CHECKPOINT_DIR_FILE] = str(path)

        def start_once(ranks: int) -> Ended:
            return _supervised(program, ranks, options.launcher, {**os.environ, **extra})

        def where() -> str | None:
            return directory or (path.read_text() if path.exists() else None)

        policy = Policy(options.restarts, options.shrink)
        return run_to_the_end(start_once, where, options.ranks, policy)


def _try_again(ended: Ended) -> int:
    """Return the status of a job with checkpoints: 75 if asked to stop before it took one."""
    asked = (128 + number for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP))
    return TRY_AGAIN if ended.asked and ended.status in asked else ended.status


def explain(options: argparse.Namespace) -> int:
    """Run the script so that each of its jobs prints its plan and returns."""
    program = [sys.executable, str(_script(options.script)), *options.arguments]
    with tempfile.TemporaryDirectory(prefix="hpcstream-") as folder:
        explained = Path(folder, "explained")
        environ = {**os.environ, EXPLAIN: str(explained)}
        status = _supervised(program, options.ranks, options.launcher, environ).status
        if status == 0 and not explained.exists():
            raise LauncherError(
                f"script {options.script!r} ended without a job.run(): there is no plan to print; "
                "the script runs up to job.run() as with `hpcstream run`, with the same arguments "
                "and __name__ == '__main__'"
            )
        return status


def _hint_at_misplaced_ranks(options: argparse.Namespace) -> None:
    """Hint that ``-n 2`` after the script goes to the script, which may be intended."""
    option, number = (*options.arguments, "", "")[:2]
    if options.ranks == 1 and option in ("-n", "--ranks") and number.isdecimal():
        given = f"{option} {number}"
        warn(
            f"{given} goes to the script; to start ranks write "
            f"hpcstream run {given} {options.script}"
        )


def start(
    program: Sequence[str], ranks: int, launcher: str, extra: Mapping[str, str] | None = None
) -> int:
    """Run a program on a number of ranks and return its exit status.

    One rank takes the place of this process (so this does not return); more are
    started by a launcher that this process supervises.
    """
    environ = {**os.environ, **(extra or {})}
    if ranks == 1:
        flush()
        restore_default_signals()
        os.execve(program[0], list(program), environ)
    ended = _supervised(program, ranks, launcher, environ)
    return _try_again(ended) if environ.get(CHECKPOINT_DIR) else ended.status


def _supervised(
    program: Sequence[str], ranks: int, launcher: str, environ: dict[str, str]
) -> Ended:
    if ranks == 1:
        return supervise(program, environ, OPEN_MPI, is_launcher=False)
    _refuse_nesting(ranks, environ)
    return _launch(program, ranks, launcher, environ)


def _launch(program: Sequence[str], ranks: int, wanted: str, environ: dict[str, str]) -> Ended:
    launcher = mpiexec.find_launcher(wanted, mpiexec.library_version(), environ)
    slots = mpiexec.count_slots(environ)
    several = mpiexec.uses_several_hosts(launcher, environ)
    if not several and not environ.get(OVERSUBSCRIBE):
        cores = mpiexec.count_cores()
        crowding.refuse_crowding(ranks, cores, crowding.free_memory(), crowding.ask_at_terminal)
        os.environ[OVERSUBSCRIBE] = "1"  # a restart does not ask again
    if mpiexec.names_hosts(launcher):
        slots = max(slots, ranks)  # the cores of other hosts are not known
    crowded = f", {ranks} ranks on {slots} cores" if ranks > slots else ""
    say(f"{ranks} ranks by {launcher.path} ({launcher.version}{crowded})")
    environ.setdefault(EXIT_HOOKS, "1")
    environ.setdefault(TERMINAL, str(_terminal_width()))
    # A launcher may give ranks a terminal; colours of compiler errors would then end up in files.
    environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    return supervise(
        mpiexec.command(launcher, ranks, program, slots, mpiexec.passed_on(launcher, environ)),
        mpiexec.environment(launcher, environ),
        launcher.mpi,
    )


@contextmanager
def _for_all_ranks(program: Sequence[str], ranks: int) -> Iterator[list[str]]:
    """Copy a script that comes through a pipe, which only one rank could read."""
    python, script, *arguments = program
    if ranks == 1 or not script.startswith(("/dev/", "/proc/")):
        yield list(program)
        return
    with tempfile.TemporaryDirectory(prefix="hpcstream-") as folder:
        copy = Path(folder, "script.py")
        copy.write_bytes(Path(script).read_bytes())
        yield [python, str(copy), *arguments]


def _script(name: str) -> Path:
    path = Path(name)
    if path.is_file() or path.is_fifo():
        return path
    found = "a folder" if path.is_dir() else "no such file"
    raise LauncherError(f"script {name!r}: {found} (looked in {Path.cwd()})")


def _refuse_nesting(ranks: int, environ: Mapping[str, str]) -> None:
    for launch in launches(environ):
        if launch.size > 1:
            raise LauncherError(
                f"-n {ranks}: this process is already one of {launch.size} that {launch.launcher} "
                f"started ({launch.evidence}), so each would start {ranks} ranks of its own; "
                "leave out -n, or start hpcstream without that launcher"
            )


def _terminal_width() -> int:
    """Return the width of this terminal, which the ranks cannot query; 0: not a terminal.

    A launcher puts a pipe, or a terminal of its own, between a rank and this one.
    """
    if not ERR.isatty():
        return 0
    return shutil.get_terminal_size().columns
