"""Failing together."""

from __future__ import annotations

from collections.abc import Generator

from hpcstream.errors import RemoteError
from hpcstream.exchange.communicator import Communicator, gather_bytes


def raise_together(error: BaseException | None, comm: Communicator) -> Generator[None, None, None]:
    """Raise on every rank if any rank brings an error. Collective.

    The ranks that failed raise their own error; the others raise `RemoteError`
    naming it. Both kinds are marked, so that the process's excepthook ends its
    own rank only, and shows a traceback only where the error was: once, if several
    ranks bring the same.
    """
    text = "" if error is None else f"{type(error).__name__}: {error}"
    reports = yield from gather_bytes(comm, text.encode(errors="replace"))
    failed = [f"rank {rank}: {report.decode()}" for rank, report in enumerate(reports) if report]
    if not failed:
        return
    if error is None:
        error = RemoteError("stopped because another rank failed\n  " + "\n  ".join(failed))
        error.shown_by_hpcstream = True  # type: ignore[attr-defined]
    elif reports.index(text.encode(errors="replace")) < comm.rank:
        error.shown_by_hpcstream = True  # type: ignore[attr-defined]  # by that rank
    error.agreed_by_all_ranks = True  # type: ignore[attr-defined]
    raise error
