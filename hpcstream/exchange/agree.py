"""Makes all ranks raise when one of them fails."""

from __future__ import annotations

import json
from typing import Any

from hpcstream.errors import RemoteError
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.process.early_exit import as_error
from hpcstream.process.failure import exit_status_of, failure_of, mark_agreed, mark_shown

_MOST_OTHERS = 4
"""Errors of other ranks that a traceback names."""


def raise_together(error: BaseException | None, comm: Communicator) -> Procedure[None]:
    """Raise on every rank if any rank has an error. Collective.

    The ranks that failed raise their own error; the others raise a `RemoteError` that names
    it. All errors are marked as agreed, so the excepthook ends only its own process. It
    prints a traceback only on a rank that failed, and only once if several have the same.
    """
    if error is not None:
        error = as_error(error)
    own = _report(error)
    texts = yield from gather_bytes(comm, own)
    failed = {rank: json.loads(text) for rank, text in enumerate(texts) if text}
    if not failed:
        return
    if error is None:
        error = _of_another_rank(failed)
        mark_shown(error)
    elif texts.index(own) < comm.rank:
        mark_shown(error)  # by the rank that has the same
    mark_agreed(error)
    raise error


def _report(error: BaseException | None) -> bytes:
    if error is None:
        return b""
    report: dict[str, Any] = {"text": f"{type(error).__name__}: {error}"}
    report["status"] = exit_status_of(error)
    if isinstance(error, SystemExit):
        report["code"] = error.code
    return json.dumps(report).encode()


def _of_another_rank(failed: dict[int, dict[str, Any]]) -> BaseException:
    first = failed[min(failed)]
    if "code" in first:
        return SystemExit(first["code"])
    texts = [f"rank {rank}: {report['text']}" for rank, report in failed.items()]
    error = RemoteError("stopped because another rank failed\n  " + "\n  ".join(texts))
    error.exit_status = first["status"]
    return error


def let_one_speak(error: BaseException, comm: Communicator) -> Procedure[None]:
    """Let one rank show its traceback, with notes on the errors of the others. Collective.

    Ranks that fail on different rows have different errors, which mostly have one cause.
    ``error`` is what `raise_together` raised on this rank.
    """
    is_silent = failure_of(error).is_shown or not isinstance(error, Exception)
    own = "" if is_silent else f"{type(error).__name__}: {error}".splitlines()[0]
    texts = yield from gather_bytes(comm, own.encode(errors="backslashreplace"))
    failed = [rank for rank, text in enumerate(texts) if text]
    if not own:
        return
    if comm.rank != failed[0]:
        mark_shown(error)  # by that rank
        return
    for rank in failed[1 : 1 + _MOST_OTHERS]:
        error.add_note(f"also failed on rank {rank}: {texts[rank].decode()}")
    if len(failed) > 1 + _MOST_OTHERS:
        error.add_note(f"also failed on {len(failed) - 1 - _MOST_OTHERS} more ranks")
