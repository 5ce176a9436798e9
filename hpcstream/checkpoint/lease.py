"""A lock on a directory that does not outlive its job.

Rank 0 of a job writes its identity into a lock file and touches the file every two seconds.
A job takes over the lock of a process that is gone, or a lock that was not touched for ten
seconds. So a kill, a lost node or a stopped process never locks a directory for good, and
two living jobs never share one.

**Taking over.** Every process that removes a lock, its owner too, first creates a *guard*: a
file named after the contents of the lock, created exclusively. Under the guard it reads the
lock again, and removes it if it is still the lock that it found. While a lock exists no
process can create another, and only the holder of its guard may remove it: so the removed
lock is the one that was found, in any interleaving of processes. Then all of them compete to
create the next lock, and one succeeds. The guard of a dead process is a lock like any other,
and is removed in the same way.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpcstream.checkpoint.format import CheckpointError
from hpcstream.errors import HpcstreamError

LOCK = "job.lock"
TOUCH_EVERY_S = 2.0
STALE_AFTER_S = 10.0
_LOOK_EVERY_S = 0.05

Owner = dict[str, Any]
Refusal = Callable[[str, Owner], HpcstreamError]
"""Makes the error for a held lock, from its path and its owner."""


@dataclass(frozen=True)
class Found:
    """A lock file as it was read.

    Attributes
    ----------
    path, text : str
    touched : int
        Time of the last touch, by the clock of the file system, in ns.
    """

    path: str
    text: str
    touched: int

    @cached_property
    def owner(self) -> Owner:
        """The identity in the lock; empty if it cannot be read."""
        try:
            value = json.loads(self.text)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


class Lease:
    """The right to run in a directory, kept alive by a thread until `release`."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self._text = text
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="hpcstream-lease", daemon=True)
        self._thread.start()

    @property
    def is_lost(self) -> bool:
        """Whether another job has taken over the directory, because this one looked dead."""
        try:
            text = Path(self.path).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return True
        return text != self._text

    def release(self) -> None:
        """Remove the lock."""
        self._ended.set()
        self._thread.join()
        with suppress(OSError, CheckpointError):  # the lock becomes stale soon
            found = _look(self.path)
            if found is not None and found.text == self._text:
                _set_aside(found)

    def _keep(self) -> None:
        while not self._ended.wait(TOUCH_EVERY_S):
            with suppress(OSError):  # the file system may be unreachable for a while
                if self.is_lost:
                    return
                os.utime(self.path)


def acquire(
    directory: str,
    job: str,
    *,
    say: Callable[[str], None],
    stale_after_s: float = STALE_AFTER_S,
    name: str = LOCK,
    run: str = "",
    refusal: Refusal | None = None,
) -> Lease:
    """Return the lease of a directory; waits while its lock may be that of a dead job.

    Parameters
    ----------
    directory, job : str
    say : callable
        Gets the message that the job waits.
    stale_after_s : float
        A lock that was not touched for so long belongs to a dead job.
    name : str
        Of the lock file.
    run : str
        Identity of what the job continues, if another lease, such as that of its checkpoint
        directory, admits one job to it: a lock of the same run is that of an earlier attempt.
    refusal : callable, optional

    Raises
    ------
    CheckpointError, or what ``refusal`` makes
        Another job runs there.
    """
    path = os.path.join(directory, name)
    text = _own_text(job, run)
    while not _create(path, text):
        found = _look(path)
        if found is not None and not (run and found.owner.get("run") == run):
            found = _wait_until_stale(found, say, stale_after_s, refusal or _refusal)
        if found is not None:
            _set_aside(found)
            time.sleep(0.001)  # the process with the guard is about to remove the lock
    _tidy(path, text)
    return Lease(path, text)


def refuse_while_held(
    path: str,
    *,
    say: Callable[[str], None],
    refusal: Refusal,
    stale_after_s: float = STALE_AFTER_S,
) -> None:
    """Raise the ``refusal`` if a living job holds a lock; remove the lock of a dead job."""
    found = _look(path)
    if found is not None:
        found = _wait_until_stale(found, say, stale_after_s, refusal)
    if found is not None:
        _set_aside(found)


def _own_text(job: str, run: str = "") -> str:
    owner = {
        "job": job,
        "host": socket.gethostname(),
        "place": _pid_namespace(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "run": run,
        "token": uuid.uuid4().hex,  # no two locks are alike
    }
    return json.dumps(owner)


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


def _wait_until_stale(
    found: Found, say: Callable[[str], None], stale_after_s: float, refusal: Refusal
) -> Found | None:
    """Return the lock once it is stale, None if it was removed; raise if a job holds it."""
    if _is_gone(found.owner) or _age(found) > stale_after_s:
        return found
    give_up = time.monotonic() + stale_after_s
    shown = False
    while time.monotonic() < give_up:
        now = _look(found.path)
        if now is None:
            return None
        if now.text != found.text and not found.owner:
            found = now  # it was read half written
        if now.touched != found.touched or now.text != found.text:
            raise refusal(now.path, now.owner)
        if _is_gone(now.owner):
            return now
        if not shown:
            say(f"waiting up to {stale_after_s:.0f} s: {now.path} may have been left by a dead job")
            shown = True
        time.sleep(_LOOK_EVERY_S)
    return found


def _refusal(path: str, owner: Owner) -> CheckpointError:
    return CheckpointError(
        f"another job runs in {os.path.dirname(path)!r}: {described(owner)}; "
        "stop it first, or give this job another checkpoint_dir"
    )


def described(owner: Owner) -> str:
    """Return the owner of a lock in words."""
    return (
        f"{owner.get('job')!r}, process {owner.get('pid')} on {owner.get('host')} "
        f"since {owner.get('since')}"
    )


def _set_aside(found: Found) -> None:
    """Remove a lock if it is still the one that was found; a newer one stays."""
    guard = f"{found.path}.{hashlib.sha256(found.text.encode()).hexdigest()[:16]}"
    text = _own_text("taking over")
    if not _create(guard, text):
        standing = _look(guard)
        if standing is not None and (_is_gone(standing.owner) or _age(standing) > STALE_AFTER_S):
            _set_aside(standing)
        return
    try:
        if _look(found.path) == found:
            _remove(found.path)
    finally:
        now = _look(guard)
        if now is not None and now.text == text:
            _remove(guard)


def _tidy(path: str, text: str) -> None:
    """Remove the guards of earlier locks, which no process can remove any more."""
    own = hashlib.sha256(text.encode()).hexdigest()[:16]
    directory, name = os.path.split(path)
    with suppress(OSError):
        for other in os.listdir(directory):
            if other.startswith(f"{name}.") and not other.startswith(f"{name}.{own}"):
                _remove(os.path.join(directory, other))


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.remove(path)


def _is_gone(owner: Owner) -> bool:
    """Whether the process ran here, where its number can be looked up, and is gone."""
    if "place" in owner:
        is_here = owner["place"] == _pid_namespace()
    else:
        is_here = owner.get("host") == socket.gethostname()
    if not is_here:
        return False
    pid = owner.get("pid")
    return not isinstance(pid, int) or _start_time(pid) != owner.get("started")


def _pid_namespace() -> str:
    """Return the namespace in which a process number is unique: boot and PID namespace.

    Not the name of the host, which containers may share.
    """
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    return f"{boot}/{socket.gethostname()}"


def _start_time(pid: int) -> str | None:
    """Return when a process of this host began, in the kernel's clock ticks (Linux)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _age(found: Found) -> float:
    """Return seconds since the last touch, by the file system's own clock."""
    probe = f"{found.path}.{uuid.uuid4().hex}.now"
    with open(probe, "w") as file:
        now = os.fstat(file.fileno()).st_mtime_ns
    _remove(probe)
    return (now - found.touched) / 1e9


def _look(path: str) -> Found | None:
    """Return the present lock; None without one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # it may be damaged
            return Found(path, file.read(), os.fstat(file.fileno()).st_mtime_ns)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
