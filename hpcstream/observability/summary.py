"""A job's result as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcstream.observability.metrics import JobResult

_WIDEST_LABEL = 60


def summary(result: JobResult) -> str:
    """Return the table that `job.run` shows when a job has ended."""
    ranks = f"{result.ranks} rank{'s' if result.ranks > 1 else ''}"
    lines = [
        f"{result.name}: {result.status} on {ranks} in {result.seconds:.3f} s, "
        f"{_rate(result.rows_per_second)} rows/s",
        f"rows in {result.rows_in:,}   rows out {result.rows_out:,}   "
        f"late {result.late_rows:,}   rounds {result.rounds:,}",
    ]
    if result.late_rows:
        lines.append(
            "late rows came after their windows had closed; a larger watermark_delay= or "
            ".allowed_lateness() keeps them, .late() shows them"
        )
    lines += ["", *_operators(result), "", *_per_rank(result)]
    return "\n".join(lines)


def _operators(result: JobResult) -> list[str]:
    rows = [("operator", "rows in", "rows out", "late", "state")]
    for one in result.operators:
        rows.append(
            (
                f"{one.task}: {_shortened(one.label)}",
                f"{one.rows_in:,}",
                f"{one.rows_out:,}",
                f"{one.late_rows:,}",
                _bytes(one.state_bytes),
            )
        )
    return _table(rows)


def _per_rank(result: JobResult) -> list[str]:
    rows = [("rank", "rows in", "busy s", "exchange s", "waiting s", "sent", "peak memory")]
    for one in result.per_rank:
        rows.append(
            (
                str(one.rank),
                f"{one.rows_in:,}",
                f"{one.busy_s:.3f}",
                f"{one.exchange_s:.3f}",
                f"{one.waiting_s:.3f}",
                _bytes(one.bytes_sent),
                _bytes(one.peak_bytes),
            )
        )
    return _table(rows)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _shortened(label: str) -> str:
    return label if len(label) <= _WIDEST_LABEL else label[: _WIDEST_LABEL - 3] + "..."


def _rate(value: float) -> str:
    for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value:.0f}"


def _bytes(value: int) -> str:
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError("unreachable")
