"""The result of a job as a table, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from hpcstream.metric import BYTES, Measurement
from hpcstream.observability.metrics import JobFigures, RankReport
from hpcstream.observability.time_doubts import doubts
from hpcstream.quantities import format_bytes, format_count, format_span

WIDTH = 100

_MOST_RANKS = 32
_MOST_SPLITS = 4
_SKEW = 1.3
_SKEW_S = 0.5


def summary(result: JobFigures) -> str:
    """Return the table that `job.run` shows at the end of a job."""
    if result.was_finished:
        return f"{result.name}: was finished already; nothing to do"
    ranks = f"{result.ranks} rank{'s' if result.ranks > 1 else ''}"
    lines = [
        f"{result.name}: {result.status} on {ranks} in {result.seconds:.3f} s, "
        f"{format_count(result.rows_per_second)} rows/s",
        f"rows in {result.rows_in:,}{_before(result)}   rows out {result.rows_out:,}   "
        f"late {result.late_rows:,}   rounds {result.rounds:,}",
    ]
    if result.operators:
        lines += ["", *_operators(result)]
    if result.per_rank:
        lines += ["", *_per_rank(result)]
    notes = [line for note in notes_of(result) for line in _wrapped(note)]
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def in_short(result: JobFigures) -> str:
    """Return one line about the result of a job."""
    done = "was finished already" if result.was_finished else result.status
    ranks = f"{result.ranks} rank{'s' if result.ranks > 1 else ''}"
    return (
        f"{result.name!r} {done} on {ranks} in {result.seconds:.3f} s: {result.rows_in:,} rows in, "
        f"{result.rows_out:,} out, {result.late_rows:,} late"
    )


def _before(result: JobFigures) -> str:
    return f" ({result.rows_before:,} before this start)" if result.rows_before else ""


def _operators(result: JobFigures) -> list[str]:
    others = _names(report.metrics for report in result.operators)
    rows = [
        (
            f"{report.task}: {report.label}",
            f"{report.rows_in:,}",
            f"{report.rows_out:,}",
            f"{report.late_rows:,}" if report.late_rows else "",
            format_bytes(report.state_bytes) if report.state_bytes else "",
            *_cells(report.metrics, others),
        )
        for report in result.operators
    ]
    return _table([("operator", "rows in", "rows out", "late", "state", *others), *rows])


def _names(declared: Iterable[Mapping[str, Measurement]]) -> list[str]:
    """Return the names of metrics with a value other than 0, in order of declaration."""
    return list(
        dict.fromkeys(name for all_ in declared for name, metric in all_.items() if metric.value)
    )


def _cells(metrics: Mapping[str, Measurement], names: Sequence[str]) -> list[str]:
    found = [metrics.get(name, Measurement(0)) for name in names]
    shown = [format_bytes(m.value) if m.unit == BYTES else f"{m.value:,}" for m in found]
    return [text if metric.value else "" for text, metric in zip(shown, found, strict=True)]


def _per_rank(result: JobFigures) -> list[str]:
    shown = _ranks_to_show(result.per_rank)
    others = _names(report.metrics for report in shown)
    rows = [
        (
            str(report.rank),
            f"{report.rows_in:,}",
            f"{report.busy_s:.3f}",
            f"{report.waiting_s:.3f}",
            f"{report.exchange_s:.3f}",
            format_bytes(report.bytes_sent),
            format_bytes(report.peak_bytes),
            *_cells(report.metrics, others),
        )
        for report in shown
    ]
    head = ("rank", "rows in", "busy s", "waiting s", "exchange s", "sent", "peak memory")
    lines = _table([(*head, *others), *rows])
    if len(shown) < len(result.per_rank):
        lines.append(f"(the {len(shown)} busiest of {len(result.per_rank)} ranks)")
    return lines


def _ranks_to_show(reports: list[RankReport]) -> list[RankReport]:
    """Return all ranks, or the busiest if there are many; in order of rank."""
    if len(reports) <= _MOST_RANKS:
        return reports
    busiest = sorted(reports, key=lambda report: report.busy_s, reverse=True)[:_MOST_RANKS]
    return sorted(busiest, key=lambda report: report.rank)


def notes_of(result: JobFigures) -> list[str]:
    """Return remarks on the figures, with what to do; a sentence each."""
    return [*filter(None, [_skew(result.per_rank)]), *doubts_of(result)]


def doubts_of(result: JobFigures) -> list[str]:
    """Return remarks on what may make the result wrong; a sentence each."""
    notes = [*_late(result), _idle(result)]
    notes += [doubt for times in result.event_times for doubt in doubts(times)]
    if result.watermark_stall is not None:
        notes.append(str(result.watermark_stall))
    return [note for note in notes if note]


def _skew(reports: list[RankReport]) -> str:
    if len(reports) < 2:
        return ""
    busiest = max(reports, key=lambda report: report.busy_s)
    mean_s = sum(report.busy_s for report in reports) / len(reports)
    apart_s = busiest.busy_s - mean_s
    if busiest.busy_s < _SKEW * mean_s or apart_s < max(_SKEW_S, 0.1 * busiest.seconds):
        return ""
    return (
        f"rank {busiest.rank} was busy {busiest.busy_s / mean_s:.1f} times as long as the mean, "
        f"and the others waited for it; {_reason(busiest, reports)}"
    )


def _reason(busiest: RankReport, reports: list[RankReport]) -> str:
    """Return a likely reason why a rank is slower than the others, judged by its rows."""
    mean_read = sum(report.rows_in for report in reports) / len(reports)
    mean_taken = sum(map(_rows_taken, reports)) / len(reports)
    if busiest.rows_in > _SKEW * mean_read:
        return "it reads more rows: more and smaller splits, or rebalance(), would spread them"
    if _rows_taken(busiest) > _SKEW * mean_taken:
        return "it receives more rows than the others: do most of them have one key?"
    return "it has no more rows: is its core slower, or a function slow on its rows?"


def _rows_taken(report: RankReport) -> int:
    return sum(operator.rows_in for operator in report.operators)


def _late(result: JobFigures) -> list[str]:
    if not result.late_rows:
        return []
    notes = []
    if not result.reads_late_rows:
        notes.append(
            "late rows arrived after their windows had fired; a larger watermark_delay= or "
            ".allowed_lateness() includes them, .late() returns them"
        )
    if result.watermark_jump is not None:
        notes.append(str(result.watermark_jump))
    return notes


def _idle(result: JobFigures) -> str:
    if not result.idle_splits:
        return ""
    longest = sorted(result.idle_splits.items(), key=lambda item: -item[1])
    named = [f"{split} ({format_span(seconds)})" for split, seconds in longest[:_MOST_SPLITS]]
    if len(longest) > _MOST_SPLITS:
        named.append(f"{len(longest) - _MOST_SPLITS} more")
    return (
        f"splits without rows for longer than idle_timeout, which the watermark ignored: "
        f"{', '.join(named)}"
    )


def _wrapped(note: str) -> list[str]:
    return textwrap.wrap(note, WIDTH, initial_indent="* ", subsequent_indent="  ")


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows as aligned lines; the first column is shortened to fit."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    widths[0] = min(widths[0], WIDTH - sum(widths[1:]) - 2 * len(widths[1:]))
    lines = []
    for row in rows:
        cells = [_shortened(row[0], widths[0]).ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _shortened(label: str, width: int) -> str:
    return label if len(label) <= width else label[: width - 3] + "..."
