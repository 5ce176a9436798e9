"""Test jobs and operators without MPI: deterministic, step by step, with faults.

``run_ranks`` runs a whole job on simulated ranks in this thread, ``start_ranks``
lets a test feed it round by round, ``run_operator`` runs one operator alone.
"""

from hpcstream.testing.clock import ManualClock
from hpcstream.testing.comparing import assert_same_rows
from hpcstream.testing.faults import Fail, InjectedFailure, Kill, RankKilled, Stall
from hpcstream.testing.harness import run_dealt, run_events, run_operator
from hpcstream.testing.ranks import Ranks, RanksRun, run_ranks, start_ranks
from hpcstream.testing.simulation import Deadlock, Simulation
from hpcstream.testing.sinks import ListSink
from hpcstream.testing.sources import ListSource, StepSource

__all__ = [
    "Deadlock",
    "Fail",
    "InjectedFailure",
    "Kill",
    "ListSink",
    "ListSource",
    "ManualClock",
    "RankKilled",
    "Ranks",
    "RanksRun",
    "Simulation",
    "Stall",
    "StepSource",
    "assert_same_rows",
    "run_dealt",
    "run_events",
    "run_operator",
    "run_ranks",
    "start_ranks",
]
