"""Where and with what a measurement was made: written at the head of each file of results."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.measure.launch import ROOT, LaunchConfig
from hpcstream.launch import mpiexec
from hpcstream.process.launcher_facts import may_use_several_hosts

_PACKAGES = (
    "hpcstream",
    "numpy",
    "numba",
    "pyarrow",
    "mpi4py",
    "duckdb",
    "polars",
    "bytewax",
    "pyspark",
    "apache-flink",
)


def describe_machine(config: LaunchConfig) -> dict[str, Any]:
    """Return a record of kind ``machine``."""
    return {
        "kind": "machine",
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "cpu": _cpu(),
        "cores": len(config.cores),
        "cores_used": list(config.cores),
        "one_host": config.launcher == "auto" and not may_use_several_hosts(os.environ),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load_average": os.getloadavg()[0],
        "busy_cores": round(busy_cores(config.cores), 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "mpi": mpiexec.library_version().split(",")[0],
        "binding": _binding(config),
        "commit": commit(ROOT),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def busy_cores(cores: Sequence[int], seconds: float = 0.5) -> float:
    """Return how many of the cores others keep busy: looked at for a moment, ourselves asleep.

    Time that a hypervisor gave to other machines counts as busy.
    """
    before = _core_times()
    time.sleep(seconds)
    after = _core_times()
    busy = 0.0
    for core in cores:
        if core in before and core in after:
            idle, total = (b - a for a, b in zip(before[core], after[core], strict=True))
            busy += 1.0 - idle / total if total else 0.0
    return busy


def _core_times() -> dict[int, tuple[int, int]]:
    """Return the ticks that each core was idle, and all its ticks."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    times = {}
    for line in lines:
        name, *values = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(value) for value in values[:8]]  # then come guests, counted already
            times[int(name.removeprefix("cpu"))] = ticks[3] + ticks[4], sum(ticks)
    return times


def commit(folder: Path) -> str:
    """Return the commit that is checked out, with ``+`` if files were changed since."""
    number = _git(folder, "rev-parse", "--short=12", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{number}{'+' if changed else ''}" if number else "unknown"


def _git(folder: Path, *arguments: str) -> str:
    try:
        asked = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True
        )
    except OSError:
        return ""
    return asked.stdout.strip()


def _binding(config: LaunchConfig) -> str:
    """Return how two ranks are placed: what the launcher is told."""
    if config.launcher != "auto":
        return config.launcher
    launcher = mpiexec.find_launcher("auto", mpiexec.library_version(), os.environ)
    command = mpiexec.command(launcher, 2, [], len(config.cores))
    return " ".join([launcher.version, *command[1:-2]])


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "unknown")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return str(sys.modules[name].__version__) if name in sys.modules else ""
