"""``hpcstream run`` and ``hpcstream explain``: start a script, on one rank or on many."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcstream.cli import mpiexec
from hpcstream.cli.restarts import Policy, run_to_the_end
from hpcstream.cli.supervise import Ended, supervise
from hpcstream.config import CHECKPOINT_DIR, EXPLAIN, SCRATCH_DIR, STOP_GRACE
from hpcstream.errors import LauncherError
from hpcstream.exchange.launcher import OPEN_MPI, launches
from hpcstream.messages import ERR, flush, say
from hpcstream.observability.progress import TERMINAL


def run(options: argparse.Namespace) -> int:
    """Run the script and return its exit status."""
    _hint_at_misplaced_ranks(options)
    program = [sys.executable, str(_script(options.script)), *options.arguments]
    extra = {}
    if options.scratch is not None:
        extra[SCRATCH_DIR] = os.path.abspath(os.path.expanduser(options.scratch))
    if options.stop_grace is not None:
        extra[STOP_GRACE] = f"{options.stop_grace:g}"
    if options.checkpoint_dir is None:
        if options.restarts or options.shrink:
            raise LauncherError("--restarts and --shrink go on from checkpoints: --checkpoint-dir")
        return start(program, options.ranks, options.launcher, extra)
    directory = os.path.abspath(os.path.expanduser(options.checkpoint_dir))
    extra[CHECKPOINT_DIR] = directory
    if not options.restarts:
        return start(program, options.ranks, options.launcher, extra)

    def start_once(ranks: int) -> Ended:
        return _supervised(program, ranks, options.launcher, {**os.environ, **extra})

    policy = Policy(options.restarts, options.shrink)
    return run_to_the_end(start_once, directory, options.ranks, policy)


def explain(options: argparse.Namespace) -> int:
    """Run the script so that each of its jobs prints its plan and returns."""
    program = [sys.executable, str(_script(options.script)), *options.arguments]
    return start(program, options.ranks, options.launcher, {EXPLAIN: "1"})


def _hint_at_misplaced_ranks(options: argparse.Namespace) -> None:
    """Say where ``-n 2`` goes if it stands behind the script; the script may mean it so."""
    option, number = (*options.arguments, "", "")[:2]
    if options.ranks == 1 and option in ("-n", "--ranks") and number.isdecimal():
        given = f"{option} {number}"
        say(
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
        os.execve(program[0], list(program), environ)
    return _supervised(program, ranks, launcher, environ).status


def _supervised(
    program: Sequence[str], ranks: int, launcher: str, environ: dict[str, str]
) -> Ended:
    if ranks == 1:
        return supervise(program, environ, OPEN_MPI)
    _refuse_nesting(ranks, environ)
    return _launch(program, ranks, launcher, environ)


def _launch(program: Sequence[str], ranks: int, wanted: str, environ: dict[str, str]) -> Ended:
    launcher = mpiexec.find_launcher(wanted, mpiexec.library_version(), environ)
    slots = mpiexec.count_slots(environ)
    crowded = f", {ranks} ranks on {slots} cores" if ranks > slots else ""
    say(f"{ranks} ranks by {launcher.path} ({launcher.version}{crowded})")
    environ.setdefault(TERMINAL, str(_terminal_width()))
    # A launcher may give ranks a terminal; colours of compiler errors would then end up in files.
    environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    return supervise(
        mpiexec.command(launcher, ranks, program, slots),
        mpiexec.environment(launcher, environ),
        launcher.mpi,
    )


def _script(name: str) -> Path:
    path = Path(name)
    if path.is_file():
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
    """Return the width of our standard error, which the ranks cannot see; 0: not a terminal.

    A launcher puts a pipe, or a terminal of its own, between a rank and this one.
    """
    if not ERR.isatty():
        return 0
    return shutil.get_terminal_size().columns
