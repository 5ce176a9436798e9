"""Tables of results as text, for the terminal and for Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.report.results import Summary

HEADER = (
    "system",
    "M rows/s",
    "spread",
    "of one-pass",
    "memory a process",
    "start",
    "import",
    "compile",
    "answer",
)


def workload_rows(summaries: Sequence[Summary]) -> list[tuple[str, ...]]:
    """Return the cells of one workload's table, below `HEADER`."""
    limit = next((s.median for s in summaries if s.system == "one-pass"), None)
    return [
        (
            s.label,
            f"{s.median / 1e6:.2f}",
            spread_of(s.values),
            f"{s.median / limit:.2f}" if limit else "-",
            f"{s.memory / 1e6:.0f} MB" if s.memory else "-",
            f"{s.startup:.2f} s",
            f"{s.imports:.2f} s",
            f"{s.compile:.2f} s",
            s.faults[0] if s.faults else "checked",
        )
        for s in summaries
    ]


def spread_of(values: Sequence[float]) -> str:
    """Return the range of repetitions as a part of their median; one alone has none."""
    if len(values) == 1:
        return "one run"
    return f"{(max(values) - min(values)) / statistics.median(values):.0%}"


def as_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with aligned columns; the first to the left."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(_aligned(line, widths) for line in lines)


def as_markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    rule = ["---", *("--:" for _ in header[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *rows))


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = [line[0].ljust(widths[0])]
    cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
    return "  ".join(cells).rstrip()
