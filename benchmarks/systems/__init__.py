"""The systems that are measured, each behind one small interface.

A module here is imported only in the process that runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

from benchmarks.measure.trial import Trial
from benchmarks.workloads.answers import Answer


class System(Protocol):
    """What a module of this package gives as ``make(trial)``, its input ready to be read."""

    def run(self, passes: int) -> tuple[float, Answer]:
        """Read the file ``passes`` times; return seconds and the answer.

        hpcstream and the one-pass loop read one endless stream of shifted replays; the
        others answer the query over the file again and again, and give the last answer.
        """


@dataclass(frozen=True)
class Entry:
    """A system by name.

    Attributes
    ----------
    module : str
        In `benchmarks.systems`.
    needs : str
        The package to import.
    endless : bool
        Whether it reads the passes as one stream.
    share : float
        Which part of the passes it gets, where it is too slow for all.
    max_rows : int
        The longest file that it can be given, where even one pass takes too long.
    skips : tuple of str
        Workloads that its module does not say.
    """

    module: str
    needs: str
    endless: bool = False
    share: float = 1.0
    max_rows: int = 2**62
    skips: tuple[str, ...] = ()


_OTHERS = ("ysb-json", "sessions")

SYSTEMS = {
    "hpcstream": Entry("engine", "hpcstream", endless=True),
    "one-pass": Entry("one_pass", "numba", endless=True),
    "duckdb": Entry("duckdb_peer", "duckdb", share=0.5),
    "polars": Entry("polars_peer", "polars", share=0.5),
    "spark": Entry("spark_peer", "pyspark", share=0.2, max_rows=3_000_000, skips=_OTHERS),
    "flink": Entry("flink_peer", "pyflink", share=0.2, max_rows=2_000_000, skips=_OTHERS),
    "bytewax-batches": Entry("bytewax_batches_peer", "bytewax", share=0.5, skips=("sessions",)),
    "bytewax": Entry("bytewax_peer", "bytewax", share=0.2, max_rows=50_000, skips=_OTHERS),
}


def is_installed(name: str) -> bool:
    """Return whether a system can be imported here."""
    return find_spec(SYSTEMS[name].needs) is not None


def make(trial: Trial) -> System:
    """Import a system and get it ready."""
    system: System = import_module(f"benchmarks.systems.{SYSTEMS[trial.system].module}").make(trial)
    return system
