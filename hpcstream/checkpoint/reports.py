"""What a rank reports of a checkpoint, and the manifest made of all reports. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcstream.checkpoint.format import WrittenFile
from hpcstream.checkpoint.pending import PendingCheckpoint, PlanManifest, Written
from hpcstream.checkpoint.storage.manifest import Manifest, StoredOperator
from hpcstream.connectors.base import OutputPart

Report = dict[str, Any]


def rank_report(
    checkpoint: PendingCheckpoint, written: Written, carried: Mapping[int, Sequence[OutputPart]]
) -> Report:
    """Return this rank's report; ``carried`` are the parts of checkpoints that failed."""
    parts = {n: [*carried.get(n, ()), *new] for n, new in written.parts.items()}
    tasks = checkpoint.tasks.values()
    return {
        "error": written.error,
        "file": None if written.file is None else written.file.to_json(),
        "shared": {path: file.to_json() for path, file in checkpoint.shared.items()},
        "parts": parts,
        "positions": checkpoint.positions,
        "state_bytes": checkpoint.state_bytes,
        "rows": sum(task["source"]["rows"] for task in tasks if "source" in task),
        "watermark": _least(task.get("source", task)["watermark"] for task in tasks),
        "pause_s": checkpoint.pause_s,
        "pause_cpu_s": checkpoint.pause_cpu_s,
        "copied_bytes": checkpoint.copied_bytes,
    }


def errors_of(reports: Sequence[Report]) -> str:
    """Return what failed on any rank; empty: nothing."""
    failed = [(rank, report["error"]) for rank, report in enumerate(reports) if report["error"]]
    return "; ".join(f"rank {rank}: {error}" for rank, error in failed)


def shared_files(reports: Sequence[Report]) -> dict[str, WrittenFile]:
    """Return the files of earlier checkpoints that any rank refers to, by path."""
    return {
        path: WrittenFile.from_json(file)
        for report in reports
        for path, file in report["shared"].items()
    }


def manifest_of(
    checkpoint: PendingCheckpoint,
    plan: PlanManifest,
    attempt: int,
    reports: Sequence[Report],
    seconds: float,
) -> Manifest:
    """Return the manifest of a checkpoint that all ranks have written."""
    return Manifest(
        number=checkpoint.number,
        attempt=attempt,
        round=checkpoint.round,
        size=plan.size,
        job=plan.job,
        fingerprint=plan.fingerprint,
        kind=checkpoint.kind,
        finished=checkpoint.is_last,
        files=[WrittenFile.from_json(report["file"]) for report in reports],
        shared=shared_files(reports),
        operators=_operators(plan, reports),
        sources={name: plan.origins[number] for number, name in plan.sources.items()},
        sinks={name: _sink_record(number, reports) for number, name in plan.sinks.items()},
        facts={
            "created": time.strftime("%Y-%m-%d %H:%M:%S"),
            "seconds": seconds,
            "pause_s": max(report["pause_s"] for report in reports),
            "pause_cpu_s": max(report["pause_cpu_s"] for report in reports),
            "copied_bytes": max(report["copied_bytes"] for report in reports),
            "rows_in": sum(report["rows"] for report in reports),
            "watermark": _least(report["watermark"] for report in reports),
            "bytes": sum(report["file"]["bytes"] for report in reports),
        },
    )


def parts_of(number: int, reports: Sequence[Report]) -> list[OutputPart]:
    """Return the parts of a sink that all ranks have made durable."""
    return [part for report in reports for part in report["parts"].get(str(number), ())]


def _operators(plan: PlanManifest, reports: Sequence[Report]) -> list[StoredOperator]:
    found = []
    for operator in plan.operators:
        path = f"{operator.task}/{operator.index}"
        sizes = [report["state_bytes"].get(path) for report in reports]
        if any(size is not None for size in sizes):
            stored = StoredOperator(
                operator.task,
                operator.index,
                operator.id,
                operator.role,
                operator.signature,
                operator.label,
                operator.ranks,
                sum(size or 0 for size in sizes),
            )
            found.append(stored)
    return found


def _sink_record(number: int, reports: Sequence[Report]) -> dict[str, Any]:
    """Return what a manifest holds of a sink; positions in the order of its instances."""
    key = str(number)
    positions = [report["positions"][key] for report in reports if key in report["positions"]]
    return {"parts": parts_of(number, reports), "positions": positions}


def _least(marks: Iterable[int | None]) -> int | None:
    return min((mark for mark in marks if mark is not None), default=None)
