"""What a rank reports of a cut, and the manifest that all reports together make. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcstream.checkpoint.format import WrittenFile
from hpcstream.checkpoint.pending import Cut, Plan, Written
from hpcstream.checkpoint.storage.manifest import Manifest, StoredOperator
from hpcstream.connectors.base import OutputPart

Report = dict[str, Any]


def report(cut: Cut, written: Written, carried: Mapping[int, Sequence[OutputPart]]) -> Report:
    """Return what this rank says of a cut; ``carried`` are parts of cuts that failed."""
    parts = {n: [*carried.get(n, ()), *new] for n, new in written.parts.items()}
    return {
        "error": written.error,
        "file": None if written.file is None else written.file.to_json(),
        "shared": {place: file.to_json() for place, file in cut.shared.items()},
        "parts": parts,
        "positions": cut.positions,
        "state_bytes": cut.state_bytes,
        "rows": sum(facts["source"]["rows"] for facts in cut.tasks.values() if "source" in facts),
        "watermark": _least(
            facts.get("source", facts)["watermark"] for facts in cut.tasks.values()
        ),
        "copy_s": cut.copy_s,
        "copy_cpu_s": cut.copy_cpu_s,
        "copied_bytes": cut.copied_bytes,
    }


def errors_of(reports: Sequence[Report]) -> str:
    """Return what failed on any rank; empty: nothing."""
    return "; ".join(f"rank {r}: {one['error']}" for r, one in enumerate(reports) if one["error"])


def shared_files(reports: Sequence[Report]) -> dict[str, WrittenFile]:
    """Return the files of earlier checkpoints that any rank refers to."""
    return {
        place: WrittenFile.from_json(file)
        for one in reports
        for place, file in one["shared"].items()
    }


def manifest(
    cut: Cut, plan: Plan, attempt: int, reports: Sequence[Report], seconds: float
) -> Manifest:
    """Return the manifest of a cut that all ranks have written."""
    return Manifest(
        number=cut.number,
        attempt=attempt,
        round=cut.round,
        size=plan.size,
        job=plan.job,
        fingerprint=plan.fingerprint,
        kind=cut.kind,
        finished=cut.finished,
        files=[WrittenFile.from_json(one["file"]) for one in reports],
        shared=shared_files(reports),
        operators=_operators(plan, reports),
        sources={name: plan.origins[number] for number, name in plan.sources.items()},
        sinks={name: _sink_record(number, reports) for number, name in plan.sinks.items()},
        facts={
            "created": time.strftime("%Y-%m-%d %H:%M:%S"),
            "seconds": seconds,
            "pause_s": max(one["copy_s"] for one in reports),
            "pause_cpu_s": max(one["copy_cpu_s"] for one in reports),
            "copied_bytes": max(one["copied_bytes"] for one in reports),
            "rows_in": sum(one["rows"] for one in reports),
            "watermark": _least(one["watermark"] for one in reports),
            "bytes": sum(one["file"]["bytes"] for one in reports),
        },
    )


def parts_of(number: int, reports: Sequence[Report]) -> list[OutputPart]:
    """Return the parts of a sink that all ranks have made durable."""
    return [part for one in reports for part in one["parts"].get(str(number), ())]


def _operators(plan: Plan, reports: Sequence[Report]) -> list[StoredOperator]:
    found = []
    for identity in plan.operators:
        sizes = [
            report["state_bytes"].get(f"{identity.task}/{identity.index}") for report in reports
        ]
        if any(size is not None for size in sizes):
            n_bytes = sum(size or 0 for size in sizes)
            stored = StoredOperator(
                identity.task,
                identity.index,
                identity.id,
                identity.role,
                identity.signature,
                identity.label,
                identity.ranks,
                n_bytes,
            )
            found.append(stored)
    return found


def _sink_record(number: int, reports: Sequence[Report]) -> dict[str, Any]:
    """Return what a manifest holds of a sink; positions in the order of its instances."""
    found = [one["positions"][str(number)] for one in reports if str(number) in one["positions"]]
    return {"parts": parts_of(number, reports), "positions": found}


def _least(marks: Iterable[int | None]) -> int | None:
    return min((mark for mark in marks if mark is not None), default=None)
