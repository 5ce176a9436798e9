"""One trial: which system runs which workload, and how. Passed to a process of its own as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.workloads.workload import WORKLOADS, Workload


@dataclass(frozen=True)
class Trial:
    """What one process, or the ranks of one job, measure once.

    Attributes
    ----------
    workload : str
        A name in `WORKLOADS`.
    system : str
        A name in `benchmarks.systems.SYSTEMS`.
    path : str
        The input file.
    rows : int
        Rows in the file.
    passes : int
        How many times the file is read in the timed part.
    ranks : int
        Of hpcstream; 1 starts no MPI.
    threads : int
        Cores that the system may use.
    options : dict
        Fields of ``JobConfig`` for hpcstream.
    weak : bool
        Whether each rank has as many rows, whatever their number.
    """

    workload: str
    system: str
    path: str
    rows: int
    passes: int = 1
    ranks: int = 1
    threads: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    weak: bool = False

    def lasting(self, seconds: float, rate: float, *, least: int = 1) -> Trial:
        """Return the trial with passes for so many seconds at ``rate`` rows a second."""
        return replace(self, passes=max(least, round(rate * seconds / self.rows)))

    @property
    def query(self) -> Workload:
        """The workload over a file of ``rows`` rows."""
        return WORKLOADS[self.workload].with_rows(self.rows)

    @property
    def file(self) -> Path:
        """The input file."""
        return Path(self.path)

    @property
    def label(self) -> str:
        """Name of the system with its ranks and options, as tables show it."""
        if self.system != "hpcstream":
            return self.system
        words = [f"hpcstream, {self.ranks} rank{'s' if self.ranks > 1 else ''}"]
        words += [f"{name}={value}" for name, value in sorted(self.options.items())]
        return ", ".join([*words, "weak"] if self.weak else words)

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Trial:
        """Return the trial that `to_json` wrote."""
        return cls(**json.loads(text))
