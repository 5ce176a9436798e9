"""hpcstream: a stream processing engine for HPC, on MPI.

The public names. Importing this starts no MPI and compiles nothing.
"""

from hpcstream._version import __version__
from hpcstream.api.job import Job
from hpcstream.api.windows import hopping, sliding, tumbling
from hpcstream.connectors import generators
from hpcstream.errors import (
    ConnectorError,
    HpcstreamError,
    JobStopped,
    LauncherError,
    OverflowInAggregate,
    PlanError,
    RemoteError,
    StallError,
)
from hpcstream.operators.aggregate_call import AggregateCall, count
from hpcstream.operators.expressions import Expression, col, lit, when

__all__ = [
    "AggregateCall",
    "ConnectorError",
    "Expression",
    "HpcstreamError",
    "Job",
    "JobStopped",
    "LauncherError",
    "OverflowInAggregate",
    "PlanError",
    "RemoteError",
    "StallError",
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
