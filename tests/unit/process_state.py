"""What a job may change in a process: taken before and after, in a process of its own."""

from __future__ import annotations

import atexit
import builtins
import ctypes
import gc
import logging
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

NUMBERS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_GET_DEATH_SIGNAL = 2
_LIBC = ctypes.CDLL(None)


def state() -> dict[str, Any]:
    """Return what can be seen of the process, by name."""
    return {
        "sys.exit": sys.exit,
        "exit, quit": (getattr(builtins, "exit", None), getattr(builtins, "quit", None)),
        "sys.excepthook": sys.excepthook,
        "other hooks": (
            sys.unraisablehook,
            threading.excepthook,
            sys.displayhook,
            sys.getprofile(),
        ),
        "builtins": dict(vars(builtins)) | {"exit": None, "quit": None, "_": None},
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "atexit": atexit._ncallbacks(),  # type: ignore[attr-defined]
        "signals": {int(number): signal.getsignal(number) for number in NUMBERS},
        "blocked signals": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "wakeup descriptor": _wakeup(),
        "death signal": _death_signal(),
        "garbage": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), gc.callbacks[:]),
        "scheduling": (os.sched_getscheduler(0), os.sched_getaffinity(0), os.nice(0), _turn_ns()),
        "environment": dict(os.environ),
        "working folder": os.getcwd(),
        "creation mask": _mask(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "process name": Path("/proc/self/comm").read_text(),
        "files": _files(),
        "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text(),
        "warnings": list(warnings.filters),
        "root logger": (logging.getLogger().handlers[:], logging.getLogger().level),
        "logger": (
            logging.getLogger("hpcstream").handlers[:],
            logging.getLogger("hpcstream").level,
        ),
        "import system": (sys.path[:], sys.meta_path[:], sys.path_hooks[:], sys.argv[:]),
        "recursion, interrupts": (sys.getrecursionlimit(), sys.getswitchinterval()),
        "allocator": _parameter_of_arrow(),
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """Return the names of what has changed."""
    return {name for name in before if before[name] != after[name]}


def _wakeup() -> int:
    number = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(number)
    return number


def _death_signal() -> int:
    number = ctypes.c_int(-1)
    _LIBC.prctl(_GET_DEATH_SIGNAL, ctypes.byref(number), 0, 0, 0)
    return number.value


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _turn_ns() -> str:
    lines = Path("/proc/self/sched").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("se.slice")), "")


def _files() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:  # that of the listing itself
            continue
        if not target.startswith("/proc"):
            found.append(f"{entry.name}: {target}")
    return sorted(found)


def _parameter_of_arrow() -> tuple[Any, ...]:
    if "pyarrow" not in sys.modules:
        return ()
    import pyarrow as pa

    return pa.cpu_count(), pa.io_thread_count(), pa.default_memory_pool().backend_name
