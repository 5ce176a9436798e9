"""Who runs in a checkpoint directory: a lock that a dead job does not leave behind.

The job's rank 0 writes its host and process into ``job.lock`` and touches the file
every two seconds. A job that finds the file of a process that is gone, or one that
nobody touched for ten seconds, takes it over. So a kill, a lost node or a stopped
process never locks a directory, and two living jobs never share one.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcstream.checkpoint.format import CheckpointError

LOCK = "job.lock"
TOUCH_EVERY_S = 2.0
STALE_AFTER_S = 10.0


class Lease:
    """The right to run in a directory, kept alive by a thread until `release`."""

    def __init__(self, path: str, text: str) -> None:
        self._path = path
        self._text = text
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="hpcstream-lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Let the next job in."""
        self._ended.set()
        self._thread.join()
        if _read(self._path) == self._text:
            with suppress(OSError):
                os.remove(self._path)

    def _keep(self) -> None:
        while not self._ended.wait(TOUCH_EVERY_S):
            if _read(self._path) != self._text:
                return  # taken over: we looked dead
            with suppress(OSError):
                os.utime(self._path)


def acquire(
    directory: str, job: str, *, say: Callable[[str], None], stale_after_s: float = STALE_AFTER_S
) -> Lease:
    """Return the lease of a directory; waits for one that may have been left behind.

    Raises
    ------
    CheckpointError
        Another job runs there.
    """
    path = os.path.join(directory, LOCK)
    owner = {
        "job": job,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    text = json.dumps(owner)
    while not _create(path, text):
        _wait_until_stale(path, say, stale_after_s)
        _set_aside(path)
    return Lease(path, text)


def _create(path: str, text: str) -> bool:
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    return True


def _wait_until_stale(path: str, say: Callable[[str], None], stale_after_s: float) -> None:
    """Return once nobody holds the lock; raise if somebody does."""
    owner = _owner(path)
    if owner is None or _is_gone(owner):
        return
    touched = _touched(path)
    give_up = time.monotonic() + stale_after_s
    shown = False
    while time.monotonic() < give_up:
        if _touched(path) != touched:
            raise CheckpointError(_refusal(path, owner))
        if _touched(path) is None or _age(path) > stale_after_s or _is_gone(owner):
            return
        if not shown:
            say(f"waiting up to {stale_after_s:.0f} s: {path} may have been left by a dead job")
            shown = True
        time.sleep(0.05)


def _refusal(path: str, owner: dict[str, Any]) -> str:
    return (
        f"another job runs in {os.path.dirname(path)!r}: {owner.get('job')!r}, process "
        f"{owner.get('pid')} on {owner.get('host')} since {owner.get('since')}; "
        "stop it first, or give this job another checkpoint_dir"
    )


def _set_aside(path: str) -> None:
    with suppress(FileNotFoundError):
        os.remove(path)


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether the process ran on this host and is no more."""
    if owner.get("host") != socket.gethostname():
        return False
    pid = owner.get("pid")
    return not isinstance(pid, int) or _start_time(pid) != owner.get("started")


def _start_time(pid: int) -> str | None:
    """Return when a process of this host began, in the kernel's own count (Linux)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _touched(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


def _age(path: str) -> float:
    """Return seconds since the last touch, by the file system's own clock."""
    touched = _touched(path)
    if touched is None:
        return float("inf")
    probe = f"{path}.{os.getpid()}.now"
    with open(probe, "w"):
        now = os.stat(probe).st_mtime_ns
    os.remove(probe)
    return (now - touched) / 1e9


def _owner(path: str) -> dict[str, Any] | None:
    text = _read(path)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")  # it may be damaged
    except OSError:
        return None
