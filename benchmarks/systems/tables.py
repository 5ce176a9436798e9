"""What the batch engines share: the file as a table that is not copied, and a loop of queries."""

from __future__ import annotations

import time
from collections.abc import Callable

import pyarrow as pa

from benchmarks.measure.trial import Trial
from benchmarks.workloads.answers import Answer, answer_of


class Repeated:
    """`System` that answers the query over the file once for each pass.

    Parameters
    ----------
    answer : callable
        Returns the result rows as a table.
    """

    def __init__(self, trial: Trial, answer: Callable[[], pa.Table]) -> None:
        self._workload = trial.query
        self._answer = answer

    def run(self, passes: int) -> tuple[float, Answer]:
        """Answer ``passes`` times; the rows are summed up outside the timed part."""
        start = time.perf_counter()
        for _ in range(passes):
            table = self._answer()
        return time.perf_counter() - start, answer_of(table, self._workload)


def mapped(trial: Trial) -> pa.Table:
    """Return the input file as a table over the mapped file."""
    return pa.ipc.open_file(pa.memory_map(trial.path)).read_all()
