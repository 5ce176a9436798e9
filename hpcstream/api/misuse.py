"""Hints for unknown options, and for functions or values passed as expressions."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Iterable, Mapping, Sized
from typing import Any

import numpy as np
import pyarrow as pa

from hpcstream.calls import example
from hpcstream.errors import PlanError
from hpcstream.expressions.expression import Expression, col, to_expression
from hpcstream.expressions.zones import moments_taken_as_local
from hpcstream.hints import did_you_mean
from hpcstream.log import launched_rank

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
"""Options of other readers and writers, and their names in hpcstream."""

_HDF5_TABLE = dict.fromkeys(("key", "group", "dataset", "path"), "table")

_NOT_AN_OPTION = {
    **dict.fromkeys(
        ("columns", "usecols", "use_columns", "filters"),
        "only what the job uses is read; .select() and .filter() say what that is",
    ),
    **dict.fromkeys(("nrows", "n_rows", "limit"), "all rows are read; print() shows the first"),
    **dict.fromkeys(("chunksize", "iterator", "low_memory"), "files are read in pieces as it is"),
    **dict.fromkeys(
        ("skiprows", "skip_rows", "comment", "comment_prefix", "skipfooter"),
        "all lines are read; take others out of the file first, as by `grep -v '^#'`",
    ),
    **dict.fromkeys(
        ("decimal", "decimal_comma", "thousands"),
        "read text, then col('x').str.replace(',', '.').cast('float64')",
    ),
    **dict.fromkeys(
        ("index", "index_col", "preserve_index"), "there is no index, but columns; see .drop()"
    ),
    **dict.fromkeys(
        ("partition_by", "partition_cols", "partitioning"),
        "one directory has all rows; filter() into several sinks parts them",
    ),
    **dict.fromkeys(("lines", "orient"), "one object a line is what is read"),
}
"""Options of others that hpcstream does not need, or lacks, and what to do instead."""


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
            hint = _about_option(name, known)
            raise TypeError(f"{what}(): unknown option {name!r}{hint}; see {documented}")


def _about_option(name: str, known: list[str]) -> str:
    for names in (_CALLED, _HDF5_TABLE):
        if names.get(name) in known:
            return f"; it is called {names[name]!r}"
    instead = _NOT_AN_OPTION.get(name)
    return f": {instead}" if instead else did_you_mean(name, known)


def columns_for(what: str, given: Iterable[Any]) -> list[Expression]:
    """Return positional arguments as expressions; refuse values without a column name."""
    return [_column_for(what, argument) for argument in given]


def _column_for(what: str, value: Any) -> Expression:
    if isinstance(value, list | tuple):
        raise TypeError(f"{what}({value!r}): takes columns one by one; write {what}(*{value!r})")
    if isinstance(value, Mapping):
        raise TypeError(f"{what}({dict(value)!r}): takes names as arguments; write {what}(**...)")
    if isinstance(value, str) and what == "select":
        return col(value)
    if isinstance(value, str | int | float):
        raise TypeError(
            f"{what}({value!r}): a constant needs a name, as in {what}(name=hs.lit({value!r}))"
        )
    return expression_for(what, value)


def expression_for(what: str, value: Any) -> Expression:
    """Return an argument of ``what`` as an expression; functions and arrays are refused."""
    if isinstance(value, Expression):
        return value
    if hasattr(value, "__array__") and np.ndim(value):
        home = type(value).__module__.partition(".")[0]
        raise TypeError(
            f"{what} takes an expression such as col('amount') > 5; got values ({home}."
            f"{type(value).__name__}), which belong to no rows of the stream; for columns of a "
            "table use join_table(), for a list in every row hs.lit([...])"
        )
    if isinstance(value, list | tuple) and any(isinstance(item, Expression) for item in value):
        raise TypeError(f"{what}({value!r}): takes one expression; write {example(what)}")
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        raise TypeError(
            f"{what} takes an expression such as col('amount') > 5; got a function "
            f"({value.__name__}); for functions of batches use map_batches"
        )
    return to_expression(value)


def refuse_unless_name(what: str, name: Any) -> None:
    """Raise `TypeError` unless a column is given by its name."""
    if isinstance(name, list | tuple):
        raise TypeError(f"{what}({name!r}): takes columns one by one; write {what}(*{name!r})")
    if not isinstance(name, str):
        raise TypeError(f"{what}({name!r}): takes the name of a column, as text")


def refuse_nothing(what: str, given: Sized, call: str) -> None:
    """Raise `PlanError` where nothing was named: the stream would be the same as before."""
    if not given:
        raise PlanError(f"{what}(): names nothing; write {what}({call})")


def new_names(names: Any, named: Mapping[str, Any]) -> dict[str, str]:
    """Return the arguments of ``rename`` as one mapping from old to new names."""
    if not isinstance(names, Mapping | None):
        raise TypeError(f"rename({names!r}): takes old and new names, as rename({{'old': 'new'}})")
    for name, value in named.items():
        if not isinstance(value, str):
            raise TypeError(f"rename({name}={value!r}): write rename({value!r})")
    return {**(names or {}), **named}


def warn_of_local_moments(what: str, expression: Expression, schema: pa.Schema) -> None:
    """Warn, on rank 0, of constants that are taken as local time of a column's zone."""
    if launched_rank() == 0:
        for text in moments_taken_as_local(expression, schema):
            warnings.warn(f"{what}(): {text}", UserWarning, stacklevel=_level_of_user())


def _level_of_user() -> int:
    """Return the ``stacklevel`` of the first frame outside of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__")).startswith("hpcstream."):
        level, frame = level + 1, frame.f_back
    return level
