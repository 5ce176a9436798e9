"""Restarts a job that died, from its newest checkpoint, until it is finished.

The checkpoint directory tells whether a job is finished, never the exit status of a launcher: some
return 0 after a host was lost.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from hpcstream.checkpoint.format import CheckpointError
from hpcstream.checkpoint.storage.directory import SAVEPOINT, CheckpointStore
from hpcstream.checkpoint.storage.manifest import Manifest, read_manifest
from hpcstream.launch.supervise import Ended
from hpcstream.log import complain, say, warn
from hpcstream.process.stop_signals import TRY_AGAIN

DEATHS_WITHOUT_PROGRESS = 3
"""How often a job may die without a new checkpoint in between."""
ERRORS_WITHOUT_PROGRESS = 2
"""The same for errors of the job, which will occur again."""

_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_ERROR = 1
_ASKED_TO_STOP = (TRY_AGAIN, 129, 130, 143)
_WARNED = 128 + signal.SIGUSR2
"""The batch system warned of the limit before the ranks could take a checkpoint."""

StartOnce = Callable[[int], Ended]


@dataclass(frozen=True)
class Policy:
    """How to restart a job.

    Attributes
    ----------
    restarts : int
        Most restarts.
    shrink : bool
        One rank less each time: for a machine that loses nodes.
    """

    restarts: int
    shrink: bool = False


def run_to_the_end(
    start: StartOnce,
    directory: str | Callable[[], str | None],
    ranks: int,
    policy: Policy,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run a job until it is finished, with restarts; return its exit status.

    Parameters
    ----------
    start : callable
        ``start(ranks)`` runs the job once and returns how it ended.
    directory : str or callable
        The checkpoint directory of the job, or a function that returns it: the script may name
        the directory; None until then.
    """
    store = _Checkpoints(directory)
    deaths, without_progress, began = 0, 0, time.monotonic()
    while True:
        attempts, before = store.attempts(), store.newest()
        ended = start(ranks)
        status = ended.status
        newest = store.newest()
        if status == 0 and store.is_over(newest, attempts):
            if deaths:
                say(f"finished after {deaths} restarts, {time.monotonic() - began:.1f} s in all")
            return 0
        if status in _ASKED_TO_STOP or (newest is not None and newest.finished):
            return status
        if ended.asked or status == _WARNED:
            return _cut_short(status, newest, before)
        without_progress = without_progress + 1 if _number(newest) == _number(before) else 1
        why = _why_not(status, without_progress, newest, deaths, policy)
        if why:
            complain(f"giving up: {why}; the last exit status was {status}")
            return status or 1
        deaths += 1
        ranks = max(1, ranks - 1) if policy.shrink else ranks
        wait_s = min(_FIRST_WAIT_S * 2 ** (without_progress - 1), _LONGEST_WAIT_S)
        warn(
            f"the job ended with status {status}, unfinished; restart {deaths} of "
            f"{policy.restarts} on {ranks} rank{'s' if ranks > 1 else ''} from "
            f"{_shown(newest)} in {wait_s:g} s"
        )
        sleep(wait_s)


def _cut_short(status: int, newest: Manifest | None, before: Manifest | None) -> int:
    """Return the status of a job that was asked to stop and died before its last checkpoint.

    At a time limit the launcher is signalled as well, and returns 1 as after an error of the job.
    An error would occur again, so a job that has made progress is worth another start.
    """
    if status == _ERROR and _number(newest) == _number(before):
        return status
    say(f"asked to stop, the job ended before a last checkpoint; it resumes from {_shown(newest)}")
    return TRY_AGAIN


def _why_not(
    status: int, without_progress: int, newest: Manifest | None, deaths: int, policy: Policy
) -> str | None:
    if status == _ERROR and without_progress >= ERRORS_WITHOUT_PROGRESS:
        return f"the job failed again without a new checkpoint after {_shown(newest)}, see above"
    if without_progress >= DEATHS_WITHOUT_PROGRESS:
        return (
            f"the job died {without_progress} times without a new checkpoint after {_shown(newest)}"
        )
    if deaths >= policy.restarts:
        return f"{deaths} restarts were allowed (--restarts)"
    return None


class _Checkpoints:
    """The contents of a checkpoint directory that may not be known yet."""

    def __init__(self, directory: str | Callable[[], str | None]) -> None:
        self._where = directory if callable(directory) else lambda: directory

    def attempts(self) -> int:
        """Return the number of the last attempt; 0 before the first."""
        store = self._store()
        return 0 if store is None else max(store.attempts(), default=0)

    def newest(self) -> Manifest | None:
        """Return the newest readable checkpoint."""
        store = self._store()
        for candidate in [] if store is None else store.candidates():
            try:
                return read_manifest(candidate.path)
            except CheckpointError:
                continue
        return None

    def is_over(self, newest: Manifest | None, attempts_before: int) -> bool:
        """Whether a job that returned 0 is finished, has stopped, or takes no checkpoints."""
        if newest is not None and (newest.finished or newest.kind == SAVEPOINT):
            return True
        return self.attempts() == attempts_before

    def _store(self) -> CheckpointStore | None:
        directory = self._where()
        if directory is None or not os.path.isdir(directory):
            return None
        return CheckpointStore(directory)


def _number(manifest: Manifest | None) -> int:
    return 0 if manifest is None else manifest.number


def _shown(manifest: Manifest | None) -> str:
    return "the beginning" if manifest is None else f"checkpoint {manifest.number}"
