"""hpcstream: a stream processing engine for HPC, on MPI.

The public names. The import starts no MPI, compiles nothing, and changes nothing in the process,
unless HPCSTREAM_EXIT_HOOKS=1; each name is loaded at its first use, so that the command line
starts quickly.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from hpcstream._version import __version__
from hpcstream.environment import EXIT_HOOKS

if TYPE_CHECKING:
    from hpcstream.aggregates.accumulator import Accumulator, InputRows
    from hpcstream.aggregates.base import Aggregate, AggregateCall, Inputs
    from hpcstream.aggregates.families.counts_sums import count
    from hpcstream.api.branches import split_dead_letters
    from hpcstream.api.collected import Collected
    from hpcstream.api.job import Job
    from hpcstream.api.stream import KeyedStream, Stream, WindowedStream
    from hpcstream.api.windows import cumulate, hopping, session, sliding, tumbling
    from hpcstream.connectors.base import Chunk, Sink, Source, Split, SplitReader
    from hpcstream.connectors.dead_letters import MessageRows
    from hpcstream.connectors.formats.csv.decoder import CsvDecoder
    from hpcstream.connectors.formats.json.decoder import JsonDecoder
    from hpcstream.connectors.in_process import generators
    from hpcstream.connectors.polling import Poller
    from hpcstream.errors import (
        ConnectorError,
        EarlyExit,
        HpcstreamError,
        JobStopped,
        LauncherError,
        OverflowInAggregate,
        PlanError,
        RemoteError,
        StallError,
    )
    from hpcstream.expressions.expression import Expression, col, lit, when
    from hpcstream.observability.result import JobResult
    from hpcstream.state.arrays import Word

_HOMES = {
    "hpcstream.api.collected": ("Collected",),
    "hpcstream.api.job": ("Job",),
    "hpcstream.api.stream": ("KeyedStream", "Stream", "WindowedStream"),
    "hpcstream.api.windows": ("cumulate", "hopping", "session", "sliding", "tumbling"),
    "hpcstream.connectors.in_process": ("generators",),
    "hpcstream.connectors.base": ("Chunk", "Sink", "Source", "Split", "SplitReader"),
    "hpcstream.connectors.dead_letters": ("MessageRows",),
    "hpcstream.connectors.formats.csv.decoder": ("CsvDecoder",),
    "hpcstream.connectors.formats.json.decoder": ("JsonDecoder",),
    "hpcstream.connectors.polling": ("Poller",),
    "hpcstream.api.branches": ("split_dead_letters",),
    "hpcstream.errors": (
        "ConnectorError",
        "EarlyExit",
        "HpcstreamError",
        "JobStopped",
        "LauncherError",
        "OverflowInAggregate",
        "PlanError",
        "RemoteError",
        "StallError",
    ),
    "hpcstream.observability.result": ("JobResult",),
    "hpcstream.aggregates.accumulator": ("Accumulator", "InputRows"),
    "hpcstream.aggregates.base": ("Aggregate", "AggregateCall", "Inputs"),
    "hpcstream.aggregates.families.counts_sums": ("count",),
    "hpcstream.state.arrays": ("Word",),
    "hpcstream.expressions.expression": ("Expression", "col", "lit", "when"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Accumulator",
    "Aggregate",
    "AggregateCall",
    "Chunk",
    "Collected",
    "ConnectorError",
    "CsvDecoder",
    "EarlyExit",
    "Expression",
    "HpcstreamError",
    "InputRows",
    "Inputs",
    "Job",
    "JobResult",
    "JobStopped",
    "JsonDecoder",
    "KeyedStream",
    "LauncherError",
    "MessageRows",
    "OverflowInAggregate",
    "PlanError",
    "Poller",
    "RemoteError",
    "Sink",
    "Source",
    "Split",
    "SplitReader",
    "StallError",
    "Stream",
    "WindowedStream",
    "Word",
    "__version__",
    "col",
    "cumulate",
    "count",
    "generators",
    "hopping",
    "lit",
    "session",
    "sliding",
    "split_dead_letters",
    "tumbling",
    "when",
]


if os.environ.get(EXIT_HOOKS) == "1":  # `hpcstream run` sets it for its ranks
    from hpcstream.launch.exit_hooks import install

    install()


if not TYPE_CHECKING:  # else type checkers would accept every name

    def __getattr__(name: str) -> Any:
        home = _HOME_OF.get(name)
        if home is None:
            if name.startswith("_"):
                raise AttributeError(f"module 'hpcstream' has no attribute {name!r}")
            from hpcstream.hints import missing_attribute

            raise missing_attribute("hpcstream", name, __all__)
        if name == "generators":
            value: Any = importlib.import_module(f"{home}.{name}")
        else:
            value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
