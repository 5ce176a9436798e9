"""What we aim at on two ranks, and what was measured: each target against its own run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report.results import Record, summarize
from benchmarks.report.tables import spread_of

HEADER = ("target", "aim", "measured", "reached")
_TWO = "hpcstream, 2 ranks"
_BYTES = 300e6
_GROWTH = 0.05


@dataclass(frozen=True)
class Outcome:
    """A target and what became of it; ``reached`` is None where nothing was measured."""

    name: str
    aim: str
    measured: str
    reached: bool | None

    def cells(self) -> tuple[str, ...]:
        """Return the cells of its row, below `HEADER`."""
        word = {True: "yes", False: "no", None: "not measured"}[self.reached]
        return self.name, self.aim, self.measured, word


def outcomes(records: Sequence[Record]) -> list[Outcome]:
    """Return every target with what the records say of it."""
    found = _Found(records)
    rows = [found.against(name, factor, peers) for name, factor, peers in _THROUGHPUT]
    rows += [
        found.ratio("tumbling, every row crosses the exchange", 0.5, "local_aggregation=False"),
        found.ratio("a checkpoint each second", 0.95, "checkpoint_interval=1s"),
        found.ratio("8 ranks on the same cores", 0.7, None, other="hpcstream, 8 ranks"),
        found.ratio("one process, no mpirun", 0.5, None, other="hpcstream, 1 rank"),
        found.memory(),
        found.flatness(),
        found.latency("p50_ms", 0.7),
        found.latency("p99_ms", 5.0),
    ]
    return rows


_THROUGHPUT = (
    ("tumbling", 1.6, ("duckdb",)),
    ("sliding", 5.0, ("duckdb",)),
    ("sessions", 10.0, ("duckdb",)),
    ("ysb", 2.0, ("duckdb", "polars")),
    ("skew", 1.3, ("duckdb",)),
    ("wide", 1.0, ("duckdb", "polars")),
    ("strings", 1.0, ("duckdb", "polars")),
    ("flights", 1.0, ("duckdb", "polars")),
    ("routes", 1.0, ("duckdb", "polars")),
)


class _Found:
    def __init__(self, records: Sequence[Record]) -> None:
        self._by_name = {(s.workload, s.label): s for s in summarize(records)}
        self._latency = [
            record
            for record in records
            if record["kind"] == "latency"
            and (record.get("workload", "latency"), record["ranks"]) == ("latency", 2)
        ]
        self._endurance = [record for record in records if record["kind"] == "endurance"]

    def against(self, workload: str, factor: float, peers: Sequence[str]) -> Outcome:
        """Return the outcome of a target that is a multiple of the best peer's throughput."""
        aim = f"{factor:g} x {'DuckDB' if len(peers) == 1 else 'the best of DuckDB and Polars'}"
        ours = self._by_name.get((workload, _TWO))
        found = [self._by_name.get((workload, peer)) for peer in peers]
        theirs = [summary for summary in found if summary and not summary.faults]
        if ours is None or not theirs or ours.faults:
            return Outcome(workload, aim, "-", None)
        best = max(theirs, key=lambda summary: summary.median)
        ratio = ours.median / best.median
        text = (
            f"{ratio:.2f} x {best.label} ({ours.median / 1e6:.1f} and {best.median / 1e6:.1f} "
            f"M rows/s, spread {spread_of(ours.values)} and {spread_of(best.values)})"
        )
        return Outcome(workload, aim, text, ratio >= factor)

    def ratio(self, name: str, least: float, option: str | None, other: str = "") -> Outcome:
        """Return the outcome of a target that is a part of `tumbling` on two ranks."""
        label = other or f"{_TWO}, {option}"
        ours, whole = (self._by_name.get(("tumbling", name)) for name in (label, _TWO))
        aim = f"at least {least:g} x 2 ranks"
        if ours is None or whole is None or ours.faults or whole.faults:
            return Outcome(name, aim, "-", None)
        ratio = ours.median / whole.median
        text = f"{ratio:.2f} x (spread {spread_of(ours.values)} and {spread_of(whole.values)})"
        return Outcome(name, aim, text, ratio >= least)

    def memory(self) -> Outcome:
        """Return the outcome of the bound on the memory of a rank."""
        ours = self._by_name.get(("tumbling", _TWO))
        seen = ours.memory if ours else 0
        measured, reached = (f"{seen / 1e6:.0f} MB", seen < _BYTES) if seen else ("-", None)
        return Outcome("memory of a rank on tumbling", "below 300 MB", measured, reached)

    def flatness(self) -> Outcome:
        """Return the outcome of the bound on how memory grows, by the longest run."""
        name, aim = "memory over a long run", f"grows by less than {_GROWTH:.0%}, 1,000 M rows"
        longest = max(self._endurance, key=lambda record: record["rows"], default=None)
        if longest is None:
            return Outcome(name, aim, "-", None)
        text = f"{longest['growth']:+.1%} over {longest['rows'] / 1e6:,.0f} M rows"
        enough = longest["rows"] >= 1e9 and not longest["fault"]
        return Outcome(name, aim, text, longest["growth"] < _GROWTH if enough else None)

    def latency(self, name: str, most_ms: float) -> Outcome:
        """Return the outcome of a bound on the latency at a million rows a second."""
        values = [record[name] for record in self._latency if record["rate"] == 1_000_000]
        title = f"latency at 1 M rows/s, {name.removesuffix('_ms')}"
        if not values:
            return Outcome(title, f"below {most_ms:g} ms", "-", None)
        median = statistics.median(values)
        text = f"{median:.2f} ms (of {len(values)}: {min(values):.2f} to {max(values):.2f})"
        return Outcome(title, f"below {most_ms:g} ms", text, median < most_ms)
