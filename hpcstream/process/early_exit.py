"""``sys.exit()`` in a function of the job: an error that names the function, never a success."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from hpcstream.errors import EarlyExit, JobStopped, RanksEnded
from hpcstream.process.family import exit_number

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_LIBRARIES = tuple(
    f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def as_error(error: BaseException) -> BaseException:
    """Return an error as it is, and an exit from a function of the job as an error."""
    if not isinstance(error, SystemExit) or isinstance(error, JobStopped | RanksEnded):
        return error
    code = "" if error.code is None else repr(error.code)
    early = EarlyExit(
        f"{_place(error.__traceback__)} called sys.exit({code}) before the job was done: its "
        "output is not complete; raise an error to end a job, return without rows to leave them out"
    )
    early.exit_status = exit_number(error.code) or 1
    for note in getattr(error, "__notes__", ()):
        early.add_note(note)
    return early.with_traceback(error.__traceback__)


@contextmanager
def exits_are_errors() -> Iterator[None]:
    """Raise `EarlyExit` where what is called inside leaves by ``sys.exit()``."""
    try:
        yield
    except SystemExit as error:
        raise as_error(error) from None


def _place(trace: TracebackType | None) -> str:
    """Return in which function an exit was called: ``f (job.py, line 7)``."""
    places: list[str] = []
    inside: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            file = os.path.basename(code.co_filename)
            place = f"{code.co_qualname} ({file}, line {trace.tb_lineno})"
            (inside if code.co_filename.startswith(_LIBRARIES) else places).append(place)
        trace = trace.tb_next
    return (places or inside or ["a function of the job"])[-1]
