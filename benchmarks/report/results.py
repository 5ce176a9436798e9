"""Records of measurements: JSON lines on disk, medians in memory."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class ResultFile:
    """Appends records to a file as they come, so that a stopped run is not lost."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, record: Record) -> None:
        """Append one record."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def read_results(paths: Iterable[Path]) -> list[Record]:
    """Return the records of files, in order."""
    return [
        json.loads(line)
        for path in paths
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    ]


@dataclass(frozen=True)
class Summary:
    """The repetitions of one system on one workload.

    Attributes
    ----------
    values : tuple of float
        Rows a second, one for each repetition.
    memory : int
        Greatest memory of any of its processes, in bytes; 0: not seen, as of ranks on other hosts.
    startup, imports, compile : float
        Medians, in seconds.
    faults : tuple of str
        What was wrong with its answers.
    weak : bool
        Whether each rank had as many rows, whatever their number.
    """

    workload: str
    label: str
    system: str
    ranks: int
    values: tuple[float, ...]
    memory: int
    startup: float
    imports: float
    compile: float
    seconds: float
    faults: tuple[str, ...]
    weak: bool

    @property
    def median(self) -> float:
        """Rows a second."""
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Greatest less least, as a part of the median."""
        return (max(self.values) - min(self.values)) / self.median


def summarize(records: Sequence[Record]) -> list[Summary]:
    """Return a summary of each system on each workload, in the order of the records."""
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record["kind"] == "trial":
            groups[record["workload"], record["label"]].append(record)
    return [_summary(group) for group in groups.values()]


def _summary(group: list[Record]) -> Summary:
    first = group[0]
    return Summary(
        first["workload"],
        first["label"],
        first["system"],
        first["ranks"],
        tuple(record["rows_per_second"] for record in group),
        max(max(record["memory_bytes"], default=0) for record in group),
        *(_median(group, name) for name in ("startup_s", "import_s", "compile_s", "seconds")),
        faults=tuple(record["fault"] for record in group if record["fault"]),
        weak=first.get("weak", False),
    )


def _median(group: list[Record], name: str) -> float:
    return statistics.median(record[name] for record in group)
