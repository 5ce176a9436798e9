"""Messages for calls with too many, too few or unknown arguments.

Python's own message counts ``self`` and names the class that defines the method. Here the message
names the call as users write it, with a correct example::

    filter(predicate): too many positional arguments; write filter((col('a') > 0) & (col('b') < 5))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any, NoReturn, ParamSpec, TypeVar

from hpcstream.hints import did_you_mean

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_MOST_OPTIONS = 3

_EXAMPLES = {
    "Job": "hs.Job('name')",
    "agg": "agg(n=hs.count(), total=col('x').sum())",
    "alias": "col('x').alias('name')",
    "cast": "col('x').cast('float64')",
    "col": "col('a') for each column",
    "collect": "rows = stream.collect(); rows.table has them after job.run()",
    "contains": "col('x').str.contains('text')",
    "count": "hs.count() for rows, col('x').count() for values that are not null",
    "deduplicate": "key_by('key').deduplicate('1h')",
    "drop": "drop('a', 'b')",
    "fill_null": "col('x').fill_null(0)",
    "filter": "filter((col('a') > 0) & (col('b') < 5))",
    "from_batches": "job.from_batches(table)",
    "generate": "job.generate(function, rows=1000)",
    "is_between": "col('x').is_between(0, 9)",
    "is_in": "col('x').is_in([1, 2, 3])",
    "join_table": "join_table(table, on='key')",
    "key_by": "key_by('a', 'b')",
    "lit": "hs.lit(5), or hs.lit(5, 'float32')",
    "map_batches": "map_batches(function)",
    "on": "on(ranks=[0, 1])",
    "otherwise": "when(condition).then(value).otherwise(other)",
    "quantile": "col('x').quantile(0.9)",
    "rate_limit": "key_by('key').rate_limit(10, per='1min')",
    "rename": "rename({'old': 'new'})",
    "replace": "col('x').str.replace('old', 'new')",
    "run": "job.run(checkpoint_dir='path')",
    "select": "select('a', total=col('a') + col('b'))",
    "sink": "sink(function)",
    "sliding": "hs.sliding('10m', '1m')",
    "then": "when(condition).then(value).otherwise(other)",
    "tumbling": "hs.tumbling('10s')",
    "union": "one.union(other, another)",
    "when": "when(condition).then(value).otherwise(other)",
    "window": "window(hs.tumbling('10s'))",
    "window_all": "window_all(hs.tumbling('10s'))",
    "with_columns": "with_columns(total=col('a') + col('b'))",
    "with_event_time": "with_event_time('column')",
    **{
        name: f"job.{name}('folder'), or a list of files"
        for name in ("read_csv", "read_parquet", "read_json", "read_ipc", "read_hdf5")
    },
    **{
        name: f"{name}('folder')"
        for name in ("write_csv", "write_parquet", "write_ipc", "write_hdf5")
    },
}
"""A correct call, by the name of the function."""


def answers_wrong_calls(cls: type[T]) -> type[T]:
    """Wrap the public methods of a class in `answers_wrong_call`."""
    for name, value in list(vars(cls).items()):
        if isinstance(value, FunctionType) and not name.startswith("_"):
            setattr(cls, name, answers_wrong_call(value))
    return cls


def answers_wrong_call(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that explains its parameters when it is called with wrong arguments."""

    @wraps(function)
    def call(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return function(*arguments, **named)
        except TypeError as error:
            trace = error.__traceback__
            if trace is None or trace.tb_next is not None:  # raised inside the function
                raise
            text = _wrong_call(function, arguments, named)
        raise TypeError(text)

    return call


def refuse_format(what: object) -> NoReturn:
    """Raise `TypeError` for an expression in an f-string or in ``format()``."""
    raise TypeError(
        f"{what!r} has no value to format before it sees rows; join strings by +, as in 'id-' "
        "+ col('x').cast('string'); format times by .dt.strftime(); repr() shows the expression"
    )


def example(name: str) -> str:
    """Return a correct call of a function; empty if none is known."""
    return _EXAMPLES.get(name, "")


def _wrong_call(function: Callable[..., Any], arguments: Any, named: dict[str, Any]) -> str:
    owner, _, name = function.__qualname__.rpartition(".")
    name = owner if name == "__init__" else name
    signature = inspect.signature(function)
    parameters = [
        parameter for parameter in signature.parameters.values() if parameter.name != "self"
    ]
    try:
        signature.bind(*arguments, **named)
        why = "wrong arguments"
    except TypeError as error:
        why = str(error)
    unknown = [key for key in named if key not in signature.parameters]
    hint = did_you_mean(unknown[0], [parameter.name for parameter in parameters]) if unknown else ""
    instead = f"; write {_EXAMPLES[name]}" if name in _EXAMPLES else ""
    return f"{name}({_shown(parameters)}): {why}{hint or instead}"


def _shown(parameters: list[inspect.Parameter]) -> str:
    """Return parameters without types; many options are shortened to ``...``."""
    options = [
        parameter for parameter in parameters if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    shown = []
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            shown.append(f"*{parameter.name}")
        elif parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            shown.append(_with_default(parameter))
    if len(options) > _MOST_OPTIONS:
        return ", ".join([*shown, "..."])
    if options and not any(parameter.startswith("*") for parameter in shown):
        shown.append("*")
    return ", ".join([*shown, *map(_with_default, options)])


def _with_default(parameter: inspect.Parameter) -> str:
    has_none = parameter.default is inspect.Parameter.empty
    return parameter.name if has_none else f"{parameter.name}={parameter.default!r}"
