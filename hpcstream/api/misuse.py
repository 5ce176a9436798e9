"""What is said of unknown options, functions for expressions, and jobs nobody runs."""

from __future__ import annotations

import atexit
import os
import sys
import types
import warnings
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from hpcstream.exchange.launcher import launched_rank
from hpcstream.hints import near
from hpcstream.messages import say
from hpcstream.operators.expression_zones import moments_taken_as_local
from hpcstream.operators.expressions import Expression, to_expression

_MOST_NAMED = 3

_CALLED = {
    **dict.fromkeys(("sep", "separator", "delim"), "delimiter"),
    **dict.fromkeys(("dtype", "dtypes", "types", "schema_overrides"), "column_types"),
    **dict.fromkeys(("names", "columns", "new_columns"), "column_names"),
    **dict.fromkeys(("na_values", "nullstr", "null_value"), "null_values"),
    **dict.fromkeys(("has_header", "include_header"), "header"),
    **dict.fromkeys(("timestamp", "time_column", "parse_dates"), "event_time"),
    **dict.fromkeys(("codec", "compression_codec"), "compression"),
    "charset": "encoding",
    "block_size": "block_bytes",
    "max_rows_per_file": "max_rows",
}
"""What options of other readers and writers are called here."""


def refuse_unknown_options(
    what: str, given: Iterable[str], known: Iterable[str], documented: str
) -> None:
    """Raise `TypeError` for the first option that is not known.

    Parameters
    ----------
    what : str
        The call, as in ``"run"``.
    documented : str
        Where the options are described.
    """
    known = list(known)
    for name in given:
        if name not in known:
            called = _CALLED.get(name)
            hint = f"; it is called {called!r}" if called in known else near(name, known)
            raise TypeError(f"{what}(): unknown option {name!r}{hint}; see {documented}")


def expression_for(what: str, value: Any) -> Expression:
    """Return an argument of ``what`` as an expression; a function is refused."""
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        raise TypeError(
            f"{what} takes an expression such as col('amount') > 5; got a function "
            f"({value.__name__}); for functions of batches use map_batches"
        )
    return to_expression(value)


def warn_of_local_moments(what: str, expression: Expression, schema: pa.Schema) -> None:
    """Warn, on rank 0, of constants that are taken as local time of a column's zone."""
    if launched_rank(os.environ) == 0:
        for said in moments_taken_as_local(expression, schema):
            warnings.warn(f"{what}(): {said}", UserWarning, stacklevel=3)


class Reminder:
    """Of a job that has sinks: unless it is run, the end of the script names it.

    It does not keep the job, which may be gone by then.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def set(self) -> None:
        """Name the job at the end."""
        _reminders[self] = os.getpid()

    def clear(self) -> None:
        """Forget it: the job is run, or looked at."""
        _reminders.pop(self, None)


_reminders: dict[Reminder, int] = {}
"""With the process that built the job: its children only have copies."""


@atexit.register
def _remind() -> None:
    """Name the jobs that were never run; not after an error, nor where it may be meant so."""
    failed, interactive = hasattr(sys, "last_type"), hasattr(sys, "ps1")
    if failed or interactive or launched_rank(os.environ) or "pytest" in sys.modules:
        return
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and processes.parent_process() is not None:
        return  # it imported the script for the sake of a function
    names = sorted({one.name for one, process in _reminders.items() if process == os.getpid()})
    if names:
        others = f" and {len(names) - _MOST_NAMED} others" if len(names) > _MOST_NAMED else ""
        shown = ", ".join(map(repr, names[:_MOST_NAMED])) + others
        say(f"the script ended without job.run() of {shown}")
