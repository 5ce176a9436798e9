"""Starts one trial, watches its memory, and reads what it prints."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contestant import MARK
from benchmarks.memory import MemorySampler
from benchmarks.trial import Trial
from hpcstream.launch import mpiexec
from hpcstream.launch.quirks.openmpi import remove_session
from hpcstream.launch.supervise import kill_tree
from hpcstream.process.launcher_facts import may_use_several_hosts

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 1800.0


class TrialError(Exception):
    """A trial ended without a result; the message has what it printed."""


@dataclass(frozen=True)
class Place:
    """Where trials run.

    Attributes
    ----------
    launcher : str
        ``auto``: the mpiexec that ``hpcstream run`` would take; else a command
        to which the number of ranks is added, as ``srun --cpu-bind=cores -n``.
    cores : tuple of int
        All processes of a trial are kept on these.
    path : tuple of str
        For PYTHONPATH: where ``benchmarks`` and ``hpcstream`` are imported from.
    folder : Path
        The working directory.
    """

    launcher: str = "auto"
    cores: tuple[int, ...] = field(default_factory=lambda: tuple(sorted(os.sched_getaffinity(0))))
    path: tuple[str, ...] = (str(ROOT),)
    folder: Path = ROOT

    def environ(self, trial: Trial) -> dict[str, str]:
        """Return the environment of a trial: one core for each rank, all for a peer."""
        inherited = os.environ.get("PYTHONPATH", "")
        path = [*self.path, *filter(None, [inherited])]
        one_thread = {} if trial.system != "hpcstream" else {"OMP_NUM_THREADS": "1"}
        return {**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(path)}


def run_module(
    module: str, arguments: Sequence[str], trial: Trial, place: Place, *, look_every_s: float = 0.05
) -> tuple[dict[str, Any], MemorySampler]:
    """Run a module of ours on the trial's ranks; return what it reports, and its memory.

    Looking at memory takes 2 ms of a core that the ranks want, too: ``look_every_s``.

    Raises
    ------
    TrialError
        It failed, printed no result, or took longer than `TIMEOUT_S`.
    """
    program = [sys.executable, "-m", module, *arguments, repr(time.monotonic())]
    process = _start(program, trial, place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    sampler = MemorySampler(process.pid, interval_s=look_every_s)
    try:
        output = _ended(process, TIMEOUT_S)
    finally:
        sampler.stop()
    marked = [line for line in output.splitlines() if line.startswith(MARK)]
    if process.returncode != 0 or not marked:
        raise TrialError(
            f"{shlex.join(process.args)}\nended with {process.returncode}; it printed:\n{output}"
        )
    report: dict[str, Any] = json.loads(marked[-1].removeprefix(MARK))
    return report, sampler


def run_command(
    module: str, arguments: Sequence[str], ranks: int, place: Place, timeout_s: float
) -> int:
    """Run a command of ours on so many ranks, its output shown; return its exit status.

    Raises
    ------
    TrialError
        It took longer than ``timeout_s``.
    """
    trial = Trial(module, "hpcstream", "", 0, ranks=ranks)
    process = _start([sys.executable, "-m", module, *arguments], trial, place)
    _ended(process, timeout_s)
    return int(process.returncode)


def _start(
    program: list[str],
    trial: Trial,
    place: Place,
    stdout: int | None = None,
    stderr: int | None = None,
) -> subprocess.Popen[str]:
    command, environ = _command(program, trial, place)
    return subprocess.Popen(
        command,
        env=environ,
        cwd=place.folder,
        stdout=stdout,
        stderr=stderr,
        text=True,
        preexec_fn=lambda: _before_start(place, environ),
    )


def _before_start(place: Place, environ: Mapping[str, str]) -> None:
    """Run in the process before it starts: its cores, and nothing of a killed one of its number."""
    os.sched_setaffinity(0, place.cores)
    remove_session(os.getpid(), environ)


def _ended(process: subprocess.Popen[str], timeout_s: float) -> str:
    """Wait for a process and return its output; whatever happens, none of it stays."""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        raise TrialError(
            f"{shlex.join(process.args)}\ndid not end within {timeout_s:.0f} s"
        ) from None
    except BaseException:
        _kill(process)
        raise
    return output or ""


def _kill(process: subprocess.Popen[str]) -> None:
    kill_tree(process.pid)
    process.wait()
    if process.stdout:
        process.stdout.close()


def run_trial(trial: Trial, place: Place) -> dict[str, Any]:
    """Return the record of one trial."""
    report, sampler = run_module("benchmarks.contestant", [trial.to_json()], trial, place)
    return {**report, "memory_bytes": sorted(sampler.peaks.values()), "memory": sampler.series}


def _command(program: list[str], trial: Trial, place: Place) -> tuple[list[str], dict[str, str]]:
    environ = place.environ(trial)
    if place.launcher != "auto":
        return [*shlex.split(place.launcher), str(trial.ranks), *program], environ
    if trial.ranks == 1:
        return program, environ
    launcher = mpiexec.find_launcher("auto", mpiexec.library_version(), environ)
    slots = mpiexec.count_slots(environ)
    if not may_use_several_hosts(environ):
        slots = min(slots, len(place.cores))
    return (
        mpiexec.command(launcher, trial.ranks, program, slots),
        mpiexec.environment(launcher, environ),
    )
