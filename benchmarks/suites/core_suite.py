"""The core suite: every system on every workload, interleaved, with checked answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.measure.launch import LaunchConfig, TrialError, run_trial
from benchmarks.measure.progress import say
from benchmarks.measure.trial import Trial
from benchmarks.report.results import Record, ResultFile
from benchmarks.suites.reference import Reference
from benchmarks.systems import SYSTEMS, is_installed
from benchmarks.workloads.datasets import build, count_rows, file_hash
from benchmarks.workloads.workload import WORKLOADS


@dataclass(frozen=True)
class Variant:
    """hpcstream once more on one workload, in another way: ranks, or fields of ``JobConfig``."""

    workload: str
    ranks: int
    options: dict[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("tumbling", 2, {"local_aggregation": False}),
    Variant("tumbling", 2, {"checkpoint_interval": "1s"}),
    Variant("tumbling", 8),
)
"""What is measured beside the ranks asked for."""


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes
    ----------
    rows : int, optional
        Of each file that is made up; None: as the workload says.
    seconds : float
        How long a timed part should last.
    passes : int, optional
        How often to read the file in the timed part; None: as ``seconds`` ask.
    weak : bool
        Whether as many rows a rank go through any number of ranks.
    """

    workloads: Sequence[str]
    ranks: Sequence[int]
    peers: Sequence[str]
    variants: Sequence[Variant] = ()
    repeats: int = 5
    seconds: float = 10.0
    rows: int | None = None
    passes: int | None = None
    weak: bool = False


class CoreSuite:
    """Measures a plan and writes records; `faults` has what went wrong."""

    def __init__(self, plan: Plan, config: LaunchConfig, results: ResultFile, data: Path) -> None:
        self._plan, self._config = plan, config
        self._results, self._data = results, data
        self._reference = Reference()
        self._per_rank: int | None = None
        self.faults: list[str] = []

    def run(self) -> None:
        """Measure one workload after the other."""
        for name in self._plan.workloads:
            self._measure(name)

    def _measure(self, name: str) -> None:
        say(f"\n{name}: making its rows")
        trials = [self._sized(trial) for trial in self._trials(name)]
        self._reference, self._per_rank = Reference(), None
        ready = [sized for trial in trials if (sized := self._with_passes(trial))]
        for repetition in range(self._plan.repeats):
            for trial in ready:
                self._once(trial, repetition)

    def _trials(self, name: str) -> list[Trial]:
        """Return what runs on a workload: peers as they are installed, then hpcstream."""
        plan = self._plan
        workload = WORKLOADS[name]
        if plan.rows:
            workload = workload.with_rows(plan.rows)
        path = build(workload, self._data)
        rows = count_rows(path)
        self._results.add(
            {"kind": "input", "workload": name, "rows": rows, "sha256": file_hash(path)}
        )
        base = Trial(name, "hpcstream", str(path), rows, threads=len(self._config.cores))
        trials = []
        for peer in plan.peers:
            why = self._why_absent(peer, name, rows)
            if not why:
                trials.append(replace(base, system=peer))
                continue
            say(f"  {peer}: {why}")
            self._results.add({"kind": "absent", "workload": name, "label": peer, "why": why})
        trials += [replace(base, ranks=ranks, weak=plan.weak) for ranks in plan.ranks]
        return trials + [
            replace(base, ranks=variant.ranks, options=variant.options)
            for variant in plan.variants
            if variant.workload == name
        ]

    @staticmethod
    def _why_absent(peer: str, workload: str, rows: int) -> str:
        """Return why a peer does not run on a file of so many rows, or nothing."""
        entry = SYSTEMS[peer]
        if workload in entry.skips:
            return "not written for it"
        if not is_installed(peer):
            return "not installed"
        if entry.max_rows < rows and WORKLOADS[workload].dataset == "flights":
            return f"too slow for a file of {rows:,} rows, which is not cut"
        return ""

    def _sized(self, trial: Trial) -> Trial:
        """Return the trial over a shorter file if its system is too slow for this one."""
        limit = SYSTEMS[trial.system].max_rows
        if trial.rows <= limit or WORKLOADS[trial.workload].dataset == "flights":
            return trial
        workload = WORKLOADS[trial.workload].with_rows(limit)
        return replace(trial, rows=limit, path=str(build(workload, self._data)))

    def _with_passes(self, trial: Trial) -> Trial | None:
        """Return the trial with as many passes as it needs, found by runs that are not recorded.

        Where each rank is to have as many rows, the first number of ranks says how many.
        """
        passes = self._plan.passes or self._per_rank
        if passes is None:
            passes = self._found_passes(trial)
            if passes is None:
                return None
            if trial.weak:
                self._per_rank = passes = max(1, passes // trial.ranks)
        return replace(trial, passes=passes * trial.ranks if trial.weak else passes)

    def _found_passes(self, trial: Trial) -> int | None:
        """Return how many passes fill the timed part.

        A single pass is mostly start and end where a system is fast, so runs become longer
        until one lasts a third of what is asked for.
        """
        needed = self._plan.seconds * SYSTEMS[trial.system].share
        passes = 1
        while report := self._checked(replace(trial, passes=passes)):
            if report["seconds"] >= needed / 3:
                return max(1, math.ceil(passes * needed / report["seconds"]))
            passes = math.ceil(passes * min(8, 0.5 * needed / report["seconds"]))
        return None

    def _once(self, trial: Trial, repetition: int) -> None:
        report = self._checked(trial)
        if report is not None:
            say(
                f"  {repetition + 1}/{self._plan.repeats} {trial.label:<44} "
                f"{report['rows_per_second'] / 1e6:8.2f} M rows/s in {report['seconds']:5.1f} s"
            )
            self._results.add(record_of(trial, repetition, report))
            if repetition == 0 and trial.workload == "tumbling":
                self._results.add({"kind": "memory", "label": trial.label, **_series(report)})

    def _checked(self, trial: Trial) -> Record | None:
        """Run a trial once and note what is wrong with it; None if it did not run."""
        try:
            report = run_trial(trial, self._config)
        except TrialError as error:
            self._note(trial, str(error))
            return None
        fault = report["fault"] = self._reference.fault(trial, report)
        if fault:
            self._note(trial, fault)
        return report

    def _note(self, trial: Trial, fault: str) -> None:
        self.faults.append(f"{trial.workload}, {trial.label}: {fault}")
        say(f"  {self.faults[-1]}")
        self._results.add(
            {"kind": "fault", "workload": trial.workload, "label": trial.label, "fault": fault}
        )


def record_of(trial: Trial, repetition: int, report: Record) -> Record:
    """Return the record of one repetition."""
    kept = {name: value for name, value in report.items() if name != "memory"}
    return {
        "kind": "trial",
        "workload": trial.workload,
        "system": trial.system,
        "label": trial.label,
        "ranks": trial.ranks,
        "threads": trial.threads,
        "passes": trial.passes,
        "file_rows": trial.rows,
        "options": trial.options,
        "weak": trial.weak,
        "repetition": repetition,
        **kept,
    }


def _series(report: Record) -> Record:
    """Return the memory over time of a run, at most 500 points of it."""
    series = report["memory"]
    return {"series": series[:: max(1, len(series) // 500)]}
