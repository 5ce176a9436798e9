"""hpcstream: a stream processing engine for HPC, on MPI.

The public names. Importing this starts no MPI and compiles nothing; each name is
loaded when it is first used, so that the command line starts at once.
"""

import importlib
from typing import TYPE_CHECKING, Any

from hpcstream._version import __version__
from hpcstream.exchange.leaving import watch_exit
from hpcstream.exchange.tracebacks import install_excepthook

if TYPE_CHECKING:
    from hpcstream.api.collected import Collected
    from hpcstream.api.job import Job
    from hpcstream.api.stream import Stream
    from hpcstream.api.windowed import KeyedStream, WindowedStream
    from hpcstream.api.windows import hopping, sliding, tumbling
    from hpcstream.connectors import generators
    from hpcstream.connectors.base import Sink, Source
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
    from hpcstream.observability.metrics import JobResult
    from hpcstream.operators.aggregate_call import AggregateCall, count
    from hpcstream.operators.expressions import Expression, col, lit, when

_HOMES = {
    "hpcstream.api.collected": ("Collected",),
    "hpcstream.api.job": ("Job",),
    "hpcstream.api.stream": ("Stream",),
    "hpcstream.api.windowed": ("KeyedStream", "WindowedStream"),
    "hpcstream.api.windows": ("hopping", "sliding", "tumbling"),
    "hpcstream.connectors": ("generators",),
    "hpcstream.connectors.base": ("Sink", "Source"),
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
    "hpcstream.observability.metrics": ("JobResult",),
    "hpcstream.operators.aggregate_call": ("AggregateCall", "count"),
    "hpcstream.operators.expressions": ("Expression", "col", "lit", "when"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AggregateCall",
    "Collected",
    "ConnectorError",
    "EarlyExit",
    "Expression",
    "HpcstreamError",
    "Job",
    "JobResult",
    "JobStopped",
    "KeyedStream",
    "LauncherError",
    "OverflowInAggregate",
    "PlanError",
    "RemoteError",
    "Sink",
    "Source",
    "StallError",
    "Stream",
    "WindowedStream",
    "__version__",
    "col",
    "count",
    "generators",
    "hopping",
    "lit",
    "sliding",
    "tumbling",
    "when",
]

watch_exit()
install_excepthook()


if not TYPE_CHECKING:  # or every name would be one, of any type

    def __getattr__(name: str) -> Any:
        home = _HOME_OF.get(name)
        if home is None:
            if name.startswith("_"):
                raise AttributeError(f"module 'hpcstream' has no attribute {name!r}")
            from hpcstream.hints import absent

            raise AttributeError(absent("hpcstream", name, __all__))
        if name == "generators":
            value: Any = importlib.import_module(f"{home}.{name}")
        else:
            value = getattr(importlib.import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
