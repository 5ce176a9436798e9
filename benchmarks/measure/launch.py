"""Launches one trial, samples its memory, and parses the report it prints."""

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

from benchmarks.measure.memory import MemorySampler
from benchmarks.measure.trial import Trial
from benchmarks.measure.trial_process import MARK
from hpcstream.launch import mpiexec
from hpcstream.launch.quirks.openmpi import remove_session
from hpcstream.launch.supervise import kill_tree
from hpcstream.process.launcher_facts import may_use_several_hosts

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 1800.0


class TrialError(Exception):
    """A trial ended without a result; the message contains its output."""


@dataclass(frozen=True)
class LaunchConfig:
    """How trials are launched, and where.

    Attributes
    ----------
    launcher : str
        ``auto``: the mpiexec that ``hpcstream run`` would choose; else a command
        that takes the number of ranks last, such as ``srun --cpu-bind=cores -n``.
    cores : tuple of int
        CPU affinity of every process of a trial.
    path : tuple of str
        PYTHONPATH: the folders of ``benchmarks`` and ``hpcstream``.
    folder : Path
        The working directory.
    """

    launcher: str = "auto"
    cores: tuple[int, ...] = field(default_factory=lambda: tuple(sorted(os.sched_getaffinity(0))))
    path: tuple[str, ...] = (str(ROOT),)
    folder: Path = ROOT

    def environ(self, trial: Trial) -> dict[str, str]:
        """Return the config of a trial: one core for each rank, all for a peer."""
        inherited = os.environ.get("PYTHONPATH", "")
        path = [*self.path, *filter(None, [inherited])]
        one_thread = {} if trial.system != "hpcstream" else {"OMP_NUM_THREADS": "1"}
        return {**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join(path)}


def run_module(
    module: str,
    arguments: Sequence[str],
    trial: Trial,
    config: LaunchConfig,
    *,
    sample_every_s: float = 0.05,
) -> tuple[dict[str, Any], MemorySampler]:
    """Run a benchmark module on the trial's ranks; return its report and its memory samples.

    A sample takes 2 ms of a core that the ranks need, too; hence ``sample_every_s``.

    Raises
    ------
    TrialError
        It failed, printed no result, or took longer than `TIMEOUT_S`.
    """
    program = [sys.executable, "-m", module, *arguments, repr(time.monotonic())]
    process = _start(program, trial, config, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    sampler = MemorySampler(process.pid, interval_s=sample_every_s)
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
    module: str, arguments: Sequence[str], ranks: int, config: LaunchConfig, timeout_s: float
) -> int:
    """Run a benchmark command on ``ranks`` ranks, show its output, and return its exit status.

    Raises
    ------
    TrialError
        It took longer than ``timeout_s``.
    """
    trial = Trial(module, "hpcstream", "", 0, ranks=ranks)
    process = _start([sys.executable, "-m", module, *arguments], trial, config)
    _ended(process, timeout_s)
    return int(process.returncode)


def _start(
    program: list[str],
    trial: Trial,
    config: LaunchConfig,
    stdout: int | None = None,
    stderr: int | None = None,
) -> subprocess.Popen[str]:
    command, environ = _command(program, trial, config)
    return subprocess.Popen(
        command,
        env=environ,
        cwd=config.folder,
        stdout=stdout,
        stderr=stderr,
        text=True,
        preexec_fn=lambda: _before_start(config, environ),
    )


def _before_start(config: LaunchConfig, environ: Mapping[str, str]) -> None:
    """Set the affinity, and remove the session folder that a killed process of this pid left."""
    os.sched_setaffinity(0, config.cores)
    remove_session(os.getpid(), environ)


def _ended(process: subprocess.Popen[str], timeout_s: float) -> str:
    """Wait for a process and return its output; kill its process tree on a timeout or an error."""
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


def run_trial(trial: Trial, config: LaunchConfig) -> dict[str, Any]:
    """Return the record of one trial."""
    report, sampler = run_module(
        "benchmarks.measure.trial_process", [trial.to_json()], trial, config
    )
    return {**report, "memory_bytes": sorted(sampler.peaks.values()), "memory": sampler.series}


def _command(
    program: list[str], trial: Trial, config: LaunchConfig
) -> tuple[list[str], dict[str, str]]:
    environ = config.environ(trial)
    if config.launcher != "auto":
        return [*shlex.split(config.launcher), str(trial.ranks), *program], environ
    if trial.ranks == 1:
        return program, environ
    launcher = mpiexec.find_launcher("auto", mpiexec.library_version(), environ)
    slots = mpiexec.count_slots(environ)
    if not may_use_several_hosts(environ):
        slots = min(slots, len(config.cores))
    return (
        mpiexec.command(launcher, trial.ranks, program, slots),
        mpiexec.environment(launcher, environ),
    )
