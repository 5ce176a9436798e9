"""A job's result as a table for people, at most 100 columns wide."""

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
    """Return the table that `job.run` shows when a job has ended."""
    if result.was_finished:
        return f"{result.name}: was finished already, nothing was read"
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
    """Return a line about a job that has ended."""
    done = "was finished already" if result.was_finished else result.status
    ranks = f"{result.ranks} rank{'s' if result.ranks > 1 else ''}"
    return (
        f"{result.name!r} {done} on {ranks} in {result.seconds:.3f} s: {result.rows_in:,} rows in, "
        f"{result.rows_out:,} out, {result.late_rows:,} late"
    )


def _before(result: JobFigures) -> str:
    return f" ({result.rows_before:,} before this start)" if result.rows_before else ""


def _operators(result: JobFigures) -> list[str]:
    others = _names(one.metrics for one in result.operators)
    rows = [
        (
            f"{one.task}: {one.label}",
            f"{one.rows_in:,}",
            f"{one.rows_out:,}",
            f"{one.late_rows:,}" if one.late_rows else "",
            format_bytes(one.state_bytes) if one.state_bytes else "",
            *_cells(one.metrics, others),
        )
        for one in result.operators
    ]
    return _table([("operator", "rows in", "rows out", "late", "state", *others), *rows])


def _names(declared: Iterable[Mapping[str, Measurement]]) -> list[str]:
    """Return the names of metrics that have counted anything, in the order they come in."""
    return list(dict.fromkeys(name for all_ in declared for name, one in all_.items() if one.value))


def _cells(metrics: Mapping[str, Measurement], names: Sequence[str]) -> list[str]:
    found = [metrics.get(name, Measurement(0)) for name in names]
    shown = [format_bytes(m.value) if m.unit == BYTES else f"{m.value:,}" for m in found]
    return [text if one.value else "" for text, one in zip(shown, found, strict=True)]


def _per_rank(result: JobFigures) -> list[str]:
    shown = _ranks_to_show(result.per_rank)
    others = _names(one.metrics for one in shown)
    rows = [
        (
            str(one.rank),
            f"{one.rows_in:,}",
            f"{one.busy_s:.3f}",
            f"{one.waiting_s:.3f}",
            f"{one.exchange_s:.3f}",
            format_bytes(one.bytes_sent),
            format_bytes(one.peak_bytes),
            *_cells(one.metrics, others),
        )
        for one in shown
    ]
    head = ("rank", "rows in", "busy s", "waiting s", "exchange s", "sent", "peak memory")
    lines = _table([(*head, *others), *rows])
    if len(shown) < len(result.per_rank):
        lines.append(f"(the {len(shown)} busiest of {len(result.per_rank)} ranks)")
    return lines


def _ranks_to_show(reports: list[RankReport]) -> list[RankReport]:
    """Return all ranks; of very many the busiest, in order of rank."""
    if len(reports) <= _MOST_RANKS:
        return reports
    busiest = sorted(reports, key=lambda one: one.busy_s, reverse=True)[:_MOST_RANKS]
    return sorted(busiest, key=lambda one: one.rank)


def notes_of(result: JobFigures) -> list[str]:
    """Return what the numbers mean and what could be done, a sentence each."""
    return [*filter(None, [_skew(result.per_rank)]), *doubts_of(result)]


def doubts_of(result: JobFigures) -> list[str]:
    """Return what may make the rows of the result others than were meant, a sentence each."""
    notes = [*_late(result), _idle(result)]
    notes += [doubt for times in result.event_times for doubt in doubts(times)]
    if result.watermark_holder is not None:
        notes.append(str(result.watermark_holder))
    return [note for note in notes if note]


def _skew(reports: list[RankReport]) -> str:
    if len(reports) < 2:
        return ""
    busiest = max(reports, key=lambda one: one.busy_s)
    mean_s = sum(one.busy_s for one in reports) / len(reports)
    apart_s = busiest.busy_s - mean_s
    if busiest.busy_s < _SKEW * mean_s or apart_s < max(_SKEW_S, 0.1 * busiest.seconds):
        return ""
    return (
        f"rank {busiest.rank} was busy {busiest.busy_s / mean_s:.1f} times as long as the mean, "
        f"and the others waited for it; {_reason(busiest, reports)}"
    )


def _reason(busiest: RankReport, reports: list[RankReport]) -> str:
    """Return what may make a rank slower than the others, from the rows it had."""
    mean_read = sum(one.rows_in for one in reports) / len(reports)
    mean_taken = sum(map(_rows_taken, reports)) / len(reports)
    if busiest.rows_in > _SKEW * mean_read:
        return "it reads more rows: more and smaller splits, or rebalance(), would spread them"
    if _rows_taken(busiest) > _SKEW * mean_taken:
        return "it gets more rows than the others: is one key in most of them?"
    return "its rows are not more: a slower core, or a function that takes longer on them?"


def _rows_taken(report: RankReport) -> int:
    return sum(operator.rows_in for operator in report.operators)


def _late(result: JobFigures) -> list[str]:
    if not result.late_rows:
        return []
    notes = []
    if not result.reads_late_rows:
        notes.append(
            "late rows came after their windows had closed; a larger watermark_delay= or "
            ".allowed_lateness() keeps them, .late() shows them"
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
        f"splits without rows for longer than idle_timeout, so that time went on without them: "
        f"{', '.join(named)}"
    )


def _wrapped(note: str) -> list[str]:
    return textwrap.wrap(note, WIDTH, initial_indent="* ", subsequent_indent="  ")


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows as aligned lines; the first column gives way so that they fit."""
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
