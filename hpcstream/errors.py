"""The exceptions that hpcstream raises on purpose.

::

    HpcstreamError
    ├── PlanError (ValueError)      the graph cannot run as described; raised before any row is read
    ├── ConnectorError              a file, table or broker is not as declared
    ├── OverflowInAggregate (OverflowError)   an integer sum exceeds int64
    ├── StallError                  no round completed for ``stall_timeout``
    ├── LauncherError               launcher and MPI library belong to different MPIs
    ├── EarlyExit                   a function of the job called ``sys.exit()``
    └── RemoteError                 another rank failed; its own error is shown there
    JobStopped (SystemExit)         the job stopped on request
    RanksEnded (SystemExit)         all simulated ranks were aborted

A wrong argument is a plain `TypeError` or `ValueError` at the call.
"""

from __future__ import annotations

from typing import Any


class HpcstreamError(Exception):
    """Base of the exceptions that hpcstream raises on purpose."""


class PlanError(HpcstreamError, ValueError):
    """The graph cannot run as described. Raised on every rank alike, before any row is read."""


class ConnectorError(HpcstreamError):
    """The data of a source or sink is not as declared; names file, row and column."""


class OverflowInAggregate(HpcstreamError, OverflowError):
    """The sum of integers exceeds int64."""


class StallError(HpcstreamError):
    """No round completed for ``stall_timeout``; names the ranks that did not respond."""


class LauncherError(HpcstreamError):
    """The launcher of one MPI started the process, which loaded the library of another."""


class EarlyExit(HpcstreamError):
    """A function of the job called ``sys.exit()``: the output of the job is incomplete.

    Attributes
    ----------
    exit_status : int
        Exit status of the process: the argument of ``sys.exit()``, but 1 instead of 0.
    """

    exit_status: int = 1


class RemoteError(HpcstreamError):
    """The job stopped because another rank failed; the message names it.

    Attributes
    ----------
    exit_status : int
        Exit status of the process: that of the rank that failed.
    """

    exit_status: int = 1


class JobStopped(SystemExit):
    """The job stopped on request.

    Attributes
    ----------
    code : int
        Exit status of the process: 75, start the job again to continue; 130 after Ctrl-C.
    result : JobResult
        The figures of the job until then.
    """

    def __init__(self, code: int, result: Any = None) -> None:
        super().__init__(code)
        self.result = result


class RanksEnded(SystemExit):
    """All simulated ranks were aborted, which does not end the process."""
