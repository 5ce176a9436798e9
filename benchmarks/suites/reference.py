"""The right answers of a workload, computed by the one-pass loop."""

from __future__ import annotations

from benchmarks.measure.trial import Trial
from benchmarks.report.results import Record
from benchmarks.systems import SYSTEMS
from benchmarks.workloads.answers import Answer


class Reference:
    """The answers that the one-pass loop gives to a workload; made when first asked for."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], Answer] = {}

    def fault(self, trial: Trial, report: Record) -> str:
        """Return what is wrong with the answers in a report, or nothing."""
        passes = trial.passes if SYSTEMS[trial.system].endless else 1
        for name, n in (("once", 1), ("answer", passes)):
            found = Answer.from_json(report[name])
            difference = found.difference(self._expected(trial, n))
            if difference:
                return f"wrong answer over {n} replays of the file: {difference}"
        return ""

    def _expected(self, trial: Trial, passes: int) -> Answer:
        if (trial.path, passes) not in self._known:
            from benchmarks.systems.one_pass import OnePass

            self._known[trial.path, passes] = OnePass(trial).expected(passes)
        return self._known[trial.path, passes]
