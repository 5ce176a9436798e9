"""What the ranks of a job have agreed about an error, kept with it until it leaves the script."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hpcstream.errors import EarlyExit, RemoteError

_KEPT_AS = "__hpcstream_failure__"


@dataclass(frozen=True)
class Failure:
    """What the ranks have agreed about an error.

    Attributes
    ----------
    is_agreed : bool
        All ranks raise an error for this failure, so each ends by itself.
    is_shown : bool
        Another rank shows the error, or no rank needs to.
    """

    is_agreed: bool = False
    is_shown: bool = False


def failure_of(error: BaseException) -> Failure:
    """Return what the ranks have agreed about an error; at first, nothing."""
    found = vars(error).get(_KEPT_AS)
    return found if isinstance(found, Failure) else Failure()


def mark_agreed(error: BaseException) -> None:
    """Record that all ranks raise an error for this failure."""
    vars(error)[_KEPT_AS] = replace(failure_of(error), is_agreed=True)


def mark_shown(error: BaseException) -> None:
    """Record that this rank need not show the error."""
    vars(error)[_KEPT_AS] = replace(failure_of(error), is_shown=True)


def exit_status_of(error: BaseException) -> int:
    """Return the exit status that an error asks for; 1, Python's own, if it asks for none."""
    return error.exit_status if isinstance(error, EarlyExit | RemoteError) else 1
