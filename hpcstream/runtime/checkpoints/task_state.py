"""The state of a task between two rounds, as arrays and JSON, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpcstream.runtime.sources.reader import BoundedReader, LiveReader, SplitProgress
from hpcstream.runtime.sources.runs import dealt_to
from hpcstream.runtime.tasks.task import SourceTask, Task


def task_facts(task: Task) -> dict[str, Any]:
    """Return what a task is at besides the state of its operators, for JSON."""
    facts: dict[str, Any] = {
        "watermark": task.tracker.watermark,
        "watermarks": task.tracker.greatest.copy(),
        "counters": [[one.rows_in, one.rows_out] for one in task.chain.counters],
        "row_bytes": [edge.snapshot() for edge in task.outputs.edges],
    }
    if isinstance(task, SourceTask):
        facts["source"] = source_facts(task)
    return facts


def source_facts(task: SourceTask) -> dict[str, Any]:
    """Return how far a source was read by the rounds that are closed."""
    facts: dict[str, Any] = {"watermark": task.watermark}
    reader = task.reader
    if isinstance(reader, LiveReader):
        assert task.pacer is not None, "a live source is paced"
        splits = [one.to_json() for one in splits_in_rounds(task)]
        return facts | {"rows": task.pacer.mark[0], "splits": splits}
    return facts | {
        "rows": reader.rows_scanned,
        "splits": reader.progress_as_json(),
        "reader": reader.snapshot(),
    }


def splits_in_rounds(task: SourceTask) -> list[SplitProgress]:
    """Return how far each split was read by the rounds that are closed."""
    if task.pacer is None:
        return task.reader.progress
    pairs = zip(task.reader.progress, task.pacer.mark[1], strict=True)
    return [SplitProgress(one.number, one.split, *mark) for one, mark in pairs]


def commit_notice(task: Task) -> Callable[[], None] | None:
    """Return what tells a task's source that it was read so far for good; None: it is not told."""
    if not isinstance(task, SourceTask) or not task.reader.source.hears_commits:
        return None
    source = task.reader.source
    found = {one.split.id: one.resume_at for one in splits_in_rounds(task)}
    positions = {split: at for split, at in found.items() if at is not None}

    def tell() -> None:
        try:
            source.committed(positions)
        except Exception as error:
            error.add_note(f"while {source.describe()} was told of a checkpoint")
            raise

    return tell


def restore_facts(task: Task, facts: Mapping[str, Any], first_round: int) -> None:
    """Go on as the same task of the same plan."""
    task.tracker.restore(facts["watermark"], facts.get("watermarks", ()))
    for counters, (rows_in, rows_out) in zip(task.chain.counters, facts["counters"], strict=True):
        counters.rows_in, counters.rows_out = rows_in, rows_out
    for edge, row_bytes in zip(task.outputs.edges, facts["row_bytes"], strict=True):
        if row_bytes is not None:
            edge.restore(row_bytes, first_round)
    if isinstance(task, SourceTask):
        restore_source(task, facts["source"])


def restore_source(task: SourceTask, facts: Mapping[str, Any]) -> None:
    """Go on reading at the place of a snapshot of the same splits."""
    task.restore_watermark(facts["watermark"])
    task.reader.rows_scanned = facts["rows"]
    if isinstance(task.reader, BoundedReader):
        task.reader.restore(facts["reader"])
    elif task.pacer is not None:
        task.pacer.mark = task.reader.snapshot()


def restore_redealt_source(
    task: SourceTask, parts: Sequence[Mapping[str, Any]], place: int
) -> None:
    """Go on with splits that other ranks read before: no row is before the least watermark."""
    task.restore_watermark(min(facts["watermark"] for facts in parts))
    if place == 0:
        task.reader.rows_scanned = sum(facts["rows"] for facts in parts)
    if task.pacer is not None:
        task.pacer.mark = task.reader.snapshot()  # type: ignore[assignment]


def redealt_splits(
    parts: Sequence[Mapping[str, Any]], place: int, places: int, run_rows: int, *, keep_done: bool
) -> list[SplitProgress]:
    """Deal the splits that are not finished to another number of ranks, in their order.

    ``keep_done``: those that are finished, too, so that they are not taken for new ones.
    """
    splits = [SplitProgress.from_json(one) for facts in parts for one in facts["splits"]]
    wanted = [one for one in splits if keep_done or not one.done]
    unread = sorted(wanted, key=lambda one: one.number)
    rows = [one.rows_left for one in unread]
    return [unread[i] for i in dealt_to(place, places, rows, run_rows)]
