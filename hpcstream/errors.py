"""The errors hpcstream raises on purpose.

::

    HpcstreamError
    ├── PlanError (ValueError)      the graph cannot run as described; raised before any row is read
    ├── ConnectorError              a file, table or broker is not what the job was told
    ├── OverflowInAggregate (OverflowError)   an integer sum left int64
    ├── StallError                  no round completed for ``stall_timeout``
    ├── LauncherError               the launcher and the MPI library do not belong together
    ├── EarlyExit                   a function of the job called ``sys.exit()``
    └── RemoteError                 another rank failed; its own error is shown there
    JobStopped (SystemExit)         the job was asked to stop, and did
    RanksEnded (SystemExit)         all simulated ranks were ended

A wrong argument is a plain `TypeError` or `ValueError` at the call.
"""

from __future__ import annotations

from typing import Any


class HpcstreamError(Exception):
    """Base of all errors that hpcstream raises on purpose."""


class PlanError(HpcstreamError, ValueError):
    """The graph cannot run as described. Raised on every rank alike, before any row is read."""


class ConnectorError(HpcstreamError):
    """A source or sink found something else than it was told; names file, row and column."""


class OverflowInAggregate(HpcstreamError, OverflowError):
    """An integer sum left the range of int64."""


class StallError(HpcstreamError):
    """No round completed for ``stall_timeout``; names the ranks that are missing."""


class LauncherError(HpcstreamError):
    """The process was started by one MPI's launcher but loaded another MPI's library."""


class EarlyExit(HpcstreamError):
    """A function of the job called ``sys.exit()``: what the job writes is not complete.

    Attributes
    ----------
    exit_status : int
        That of the process: what the function asked for, but 1 for 0.
    """

    exit_status: int = 1


class RemoteError(HpcstreamError):
    """The job stopped because another rank failed; the message names it.

    Attributes
    ----------
    exit_status : int
        That of the process: as on the rank that failed.
    """

    exit_status: int = 1


class JobStopped(SystemExit):
    """The job was asked to stop, and did.

    Attributes
    ----------
    code : int
        Exit status of the process: 75, start again to go on; 130 after Ctrl-C.
    result : JobResult
        What the job did until then.
    """

    result: Any = None


class RanksEnded(SystemExit):
    """All ranks were ended, where that does not end the process: simulated ones."""
