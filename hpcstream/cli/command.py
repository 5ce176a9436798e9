"""The command line: its arguments, and the function of each command."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import TypeAlias

from hpcstream._version import __version__
from hpcstream.cli.bench import bench
from hpcstream.cli.checkpoints import checkpoints, savepoint
from hpcstream.cli.compile import compile_all
from hpcstream.cli.doctor import doctor
from hpcstream.cli.home import home_for_ranks
from hpcstream.cli.run import explain, run
from hpcstream.environment import LAUNCHER
from hpcstream.errors import HpcstreamError
from hpcstream.log import complain, drop_output, occupy_closed_streams, write_out_output

"""What ``--launcher`` is where it is not given."""

_PIPE_CLOSED = 128 + signal.SIGPIPE

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_RUN = """\
Run a script on N ranks with the mpiexec that fits the MPI library of this Python: the one beside
the interpreter first, then those on PATH. One rank needs no mpiexec. Works as root in a container
and with more ranks than cores. The exit code is the job's.

Ctrl-C, TERM and USR2 ask the job to stop; it then writes a last checkpoint if it has a
checkpoint directory (exit code 75: start again to go on; 130 after Ctrl-C). A second Ctrl-C ends
it at once; a job whose function hangs ends after --stop-grace seconds."""

_EXPLAIN = """\
Print the plan of the script's jobs instead of running them: operators, rewrites, placement. The
script itself runs up to each job.run()."""

_CHECKPOINTS = """\
Read the checkpoints of a job, without MPI and without its script. ls: one line each, newest first.
show: operators with the size of their state, sinks, how far each source was read. verify: read
every byte and compare checksums (exit code 1 if anything is damaged). rm: remove one."""

_SAVEPOINT = """\
Ask a running job for a savepoint, a checkpoint that is kept until it is removed by hand; print its
path, for job.run(restore_from=PATH). With --stop the job ends with it (exit code 0)."""

_DOCTOR = """\
Print what this machine gives to a job (MPI, binding, NUMA nodes, huge pages) and what to change."""

_COMPILE = """\
Compile the kernels for this machine now, on all its cores, instead of before the first job: for
container images, shared installations and nodes of a cluster. They are kept beside the package or,
where that cannot be written, in ~/.cache/hpcstream. Who may only read them there copies them."""

_BENCH = """\
Run the benchmarks of the checkout: `hpcstream bench run --quick` measures the workloads beside the
peers that are installed, compares their answers and writes a report with plots. `hpcstream bench
run --help` says more."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status; 2 for an error in how it was called.

    Where whoever reads its output has gone, as ``head`` does, it ends quietly, with the status
    that a shell gives to what a closed pipe has ended.
    """
    occupy_closed_streams()
    try:
        try:
            return _answered(arguments)
        finally:
            write_out_output()
    except BrokenPipeError:
        drop_output()
        return _PIPE_CLOSED


def _answered(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    if given and given[0].endswith(".py"):
        parser.error(f"{given[0]!r} is a script, not a command; write hpcstream run {given[0]}")
    options = parser.parse_args(given)
    try:
        with home_for_ranks(getattr(options, "ranks", 1)):
            status: int = options.answer(options)
    except HpcstreamError as error:
        complain(f"error: {error}")
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hpcstream",
        description="Stream processing on MPI. `hpcstream COMMAND --help` says more.",
    )
    parser.add_argument("--version", action="version", version=f"hpcstream {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_scripts(commands)
    _add_checkpoint_tools(commands)

    command = _add(commands, "doctor", "look at MPI, binding, NUMA and huge pages", _DOCTOR)
    _add_ranks(command)
    command.set_defaults(answer=doctor)

    command = _add(commands, "compile", "compile the kernels before the first job", _COMPILE)
    command.add_argument(
        "--to", metavar="DIR", help="keep them in DIR, for jobs with NUMBA_CACHE_DIR=DIR"
    )
    command.set_defaults(answer=compile_all)

    command = _add(commands, "bench", "measure throughput and latency beside peers", _BENCH)
    command.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    command.set_defaults(answer=bench)
    return parser


def _add_scripts(commands: _Commands) -> None:
    for name, answer, summary, text in (
        ("run", run, "run a script on N ranks", _RUN),
        ("explain", explain, "print the plan of a script's jobs", _EXPLAIN),
    ):
        command = _add(commands, name, summary, text)
        _add_ranks(command)
        if answer is run:
            _add_checkpoints(command)
            _add_limits(command)
        command.add_argument("script", metavar="script.py", help="the Python script")
        command.add_argument(
            "arguments", nargs=argparse.REMAINDER, metavar="...", help="arguments of the script"
        )
        command.set_defaults(answer=answer)


def _add_checkpoint_tools(commands: _Commands) -> None:
    command = _add(commands, "checkpoints", "look at a checkpoint directory", _CHECKPOINTS)
    command.add_argument("action", choices=("ls", "show", "verify", "rm"))
    command.add_argument("directory", metavar="DIR")
    command.add_argument("number", type=int, nargs="?", help="of one checkpoint")
    command.set_defaults(answer=checkpoints)

    command = _add(commands, "savepoint", "ask a running job for a savepoint", _SAVEPOINT)
    command.add_argument("directory", metavar="DIR", help="the job's checkpoint directory")
    command.add_argument("--stop", action="store_true", help="and stop the job with it")
    command.add_argument("--timeout", type=float, default=60.0, metavar="S", help="seconds to wait")
    command.set_defaults(answer=savepoint)


def _add(
    commands: _Commands,
    name: str,
    summary: str,
    text: str,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_ranks(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-n",
        "--ranks",
        type=_positive,
        default=1,
        metavar="N",
        help="how many ranks; with 1, the default, the script runs without mpiexec",
    )
    command.add_argument(
        "--launcher",
        default=os.environ.get(LAUNCHER, "auto"),
        metavar="auto|mpiexec",
        help="another mpiexec, with options if quoted: --launcher 'mpiexec --bind-to core'; "
        f"default: ${LAUNCHER}, else auto",
    )


def _add_checkpoints(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--checkpoint-dir",
        metavar="DIR",
        help="directory of the checkpoints; the job resumes from the newest, if any",
    )
    command.add_argument(
        "--scratch",
        metavar="DIR",
        help="a local disk: checkpoint files are written there, then copied",
    )
    command.add_argument(
        "--restarts",
        type=int,
        default=0,
        metavar="N",
        help="restart the job, at most N times, if it dies before it is finished",
    )
    command.add_argument(
        "--lost-host",
        type=_seconds,
        metavar="S",
        help="end the job if for so long nothing moves and no rank of some host responds "
        "(default: 60 with --restarts, else never)",
    )
    command.add_argument(
        "--shrink", action="store_true", help="restart with one rank less each time"
    )


def _add_limits(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--oversubscribe",
        action="store_true",
        help="start more than 8 ranks a core, or more than memory holds, without a question",
    )
    command.add_argument(
        "--stop-grace",
        type=_seconds,
        metavar="S",
        help="after a request to stop: how long a function of the job may still take before the "
        "job is aborted (default: 25)",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"expected seconds, more than 0; got {text!r}")
    return seconds


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a number of ranks, 1 or more; got {text!r}")
    return int(text)
