"""Turns ``sys.exit()`` in a function of the job into an error that names the function."""

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
    """Return an exit from a function of the job as `EarlyExit`, other errors unchanged."""
    if not isinstance(error, SystemExit) or isinstance(error, JobStopped | RanksEnded):
        return error
    code = "" if error.code is None else repr(error.code)
    early = EarlyExit(
        f"{_caller(error.__traceback__)} called sys.exit({code}) before the end of the job: its "
        "output is incomplete; raise an error to end a job, return no rows to drop them"
    )
    early.exit_status = exit_number(error.code) or 1
    for note in getattr(error, "__notes__", ()):
        early.add_note(note)
    return early.with_traceback(error.__traceback__)


@contextmanager
def exits_are_errors() -> Iterator[None]:
    """Raise `EarlyExit` if the code inside calls ``sys.exit()``."""
    try:
        yield
    except SystemExit as error:
        raise as_error(error) from None


def _caller(trace: TracebackType | None) -> str:
    """Return the function that called ``sys.exit()``: ``f (job.py, line 7)``."""
    of_user: list[str] = []
    of_libraries: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if not code.co_filename.startswith(_PACKAGE):
            file = os.path.basename(code.co_filename)
            caller = f"{code.co_qualname} ({file}, line {trace.tb_lineno})"
            is_library = code.co_filename.startswith(_LIBRARIES)
            (of_libraries if is_library else of_user).append(caller)
        trace = trace.tb_next
    return (of_user or of_libraries or ["a function of the job"])[-1]
