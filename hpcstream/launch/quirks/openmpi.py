"""Faults of Open MPI: a launcher that hangs, one that leaves files, and a slow start."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
import time
from collections.abc import Callable, Mapping

from hpcstream.launch.quirks.quirk import ANY_MPI, Quirk
from hpcstream.process.launcher_facts import OPEN_MPI, may_use_several_hosts

LAUNCHER_HANGS = Quirk(
    vendor=ANY_MPI,
    seen="Open MPI 5.0.11",
    symptom="if one rank fails while another connects to the launcher, the launcher uses a "
    "destroyed lock, and aborts or, rarely, waits on it for ever; a launcher whose other hosts are "
    "lost waits, too",
    remedy="`hpcstream run` kills a launcher whose ranks have all ended "
    "(launch/quirks/openmpi.py: StuckLauncher)",
    remove_when="launchers end when all their ranks have ended or are lost",
)

SESSION_IS_LEFT = Quirk(
    vendor=OPEN_MPI,
    seen="5.0.11",
    symptom='a launcher does not start if another with its process id was killed: "The '
    "PMIx server's listener thread failed to start\", exit status 213",
    remedy="`hpcstream run` removes the session folder of such a launcher in TMPDIR "
    "(launch/quirks/openmpi.py: remove_session)",
    remove_when="prterun removes, or ignores, the folder of another process",
)

SLOW_START = Quirk(
    vendor=OPEN_MPI,
    seen="5.0 from PyPI",
    symptom="the OFI component sleeps a second at start, and one-sided UCX warns",
    remedy="both are disabled on a single host (launch/quirks/openmpi.py: quick_start)",
    remove_when="the wheel starts in 0.1 s without these settings",
)

MIXED_DUPLICATES = Quirk(
    vendor=OPEN_MPI,
    seen="5.0",
    symptom="messages of an Idup are matched with those of concurrent collectives on the same "
    "communicator: truncated messages, ranks that wait for ever",
    remedy="communicators are duplicated from one that carries no other traffic "
    "(exchange/renewal.py: the seed)",
    remove_when="MPI_Comm_idup has a context of its own",
)

SHORT_TAGS = Quirk(
    vendor=ANY_MPI,
    seen="all versions",
    symptom="some transports count nonblocking collectives in 24 bits of the tag: after 2**24 "
    "calls on one communicator, messages of two calls could be confused",
    remedy="communicators are renewed every 2**22 calls (exchange/renewal.py)",
    remove_when="every supported transport counts calls in 32 bits",
)

QUIRKS = (LAUNCHER_HANGS, SESSION_IS_LEFT, SLOW_START, MIXED_DUPLICATES, SHORT_TAGS)

STUCK_AFTER_S = 10.0
"""How long a launcher may run after its ranks have ended, before it is killed."""

_QUICK_ON_ONE_HOST = {
    "OMPI_MCA_btl": "^ofi",
    "OMPI_MCA_mtl": "^ofi",
    "OMPI_MCA_osc": "^ucx",
}


def quick_start(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings with which PyPI's Open MPI starts in 0.1 s instead of 1.2 s on one host.

    Only those that ``environ`` does not set; none if ranks may be on several hosts, as these
    settings disable the transports of a fabric, and none for another MPI.
    They take effect in processes that start MPI later.
    """
    if may_use_several_hosts(environ) or not has_open_mpi_wheel():
        return {}
    return {name: value for name, value in _QUICK_ON_ONE_HOST.items() if name not in environ}


def has_open_mpi_wheel() -> bool:
    """Return whether the MPI library may be the wheel from PyPI."""
    return any(importlib.metadata.distributions(name="openmpi"))


class StuckLauncher:
    """Detects a launcher that runs on after all its ranks have ended.

    A launcher that delegates to daemons (``srun``) may never have a child here.

    Parameters
    ----------
    has_descendants, has_ranks : callable
        Return whether a descendant of the launcher lives, and whether a rank lives.
    """

    def __init__(self, has_descendants: Callable[[], bool], has_ranks: Callable[[], bool]) -> None:
        self._has_descendants, self._has_ranks = has_descendants, has_ranks
        self._begun_s = self._looked_s = self._seen_s = self._ranks_s = time.monotonic()
        self._seen = self._had_ranks = False

    def _starts(self) -> bool:
        return not self._seen and time.monotonic() - self._begun_s < 2.0

    def look_every_s(self) -> float:
        """Return the seconds until the next look; ranks that fail may live for only 0.1 s."""
        return 0.05 if self._starts() else 0.5

    def is_stuck(self) -> bool:
        """Return whether there were ranks, and none for longer than a launcher needs to exit."""
        now = time.monotonic()
        if not self._starts() and now - self._looked_s < STUCK_AFTER_S / 5:
            return False  # scanning /proc is expensive
        self._looked_s = now
        if self._has_descendants():
            self._seen, self._seen_s = True, now
        if self._has_ranks():
            self._had_ranks, self._ranks_s = True, now
        # Other descendants may be connections to hosts that are no longer reachable.
        are_gone = self._had_ranks and now - self._ranks_s > 1.5 * STUCK_AFTER_S
        return are_gone or (self._seen and now - self._seen_s > STUCK_AFTER_S)


def remove_session(launcher: int, environ: Mapping[str, str]) -> None:
    """Remove the session folder of a killed launcher with this process id."""
    folder = next(filter(None, map(environ.get, ("TMPDIR", "TEMP", "TMP"))), "/tmp")
    session = os.path.join(folder, f"ompi.{launcher}")
    with contextlib.suppress(OSError):
        if os.lstat(session).st_uid == os.geteuid():
            shutil.rmtree(session, ignore_errors=True)
