"""Checks whether a changed plan has an operator for all state of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from hpcstream.checkpoint.pending import PlanManifest
from hpcstream.checkpoint.storage.manifest import Manifest, StoredOperator
from hpcstream.errors import PlanError
from hpcstream.graph.identity import OperatorIdentity


def is_same(stored: StoredOperator, identity: OperatorIdentity) -> bool:
    """Whether an operator, or a stage of it, can take over the state of a stored one."""
    return (stored.id, stored.signature) == (identity.id, identity.signature)


def check_plan(
    path: str,
    manifest: Manifest,
    plan: PlanManifest,
    sources: Mapping[int, str],
    *,
    allow_dropped_state: bool,
) -> None:
    """Raise if a plan cannot continue from a checkpoint.

    Parameters
    ----------
    path : str
        Of the checkpoint.
    sources : mapping of int to str
        The source of the checkpoint that each source of the plan continues, by task.

    Raises
    ------
    PlanError
    """
    if manifest.finished:
        _check_finished(path, manifest, plan, sources)
        return
    gone = sorted(set(manifest.sources) - set(sources.values()))
    new = sorted(name for task, name in plan.sources.items() if task not in sources)
    if gone and new:
        raise PlanError(_exchanged(manifest, plan, gone, new))
    if allow_dropped_state:
        return
    operators = _changed_operators(manifest, plan)
    if gone:
        raise PlanError(_source_gone(manifest, gone))
    if operators:
        raise PlanError(
            f"checkpoint {manifest.number} of job {manifest.job!r} has state of what the plan does "
            f"not have: {', '.join(operators)}; was the job changed? Name operators with .named() "
            "so that they are found again, give allow_dropped_state=True to go on without that "
            "state, or restore_from=None to start afresh"
        )


def _exchanged(manifest: Manifest, plan: PlanManifest, gone: list[str], new: list[str]) -> str:
    origins = {name: plan.origins[task] for task, name in plan.sources.items()}
    before = [_called(name, manifest.sources[name]) for name in gone]
    now = [_called(name, origins[name]) for name in new]
    return (
        f"checkpoint {manifest.number} of job {manifest.job!r} has the position of "
        f"{', '.join(before)}, which the plan does not have; it has {', '.join(now)} instead. That "
        "would be read from its beginning, while windows and outputs keep what came from the "
        "other: rows would count twice. Give the job the source that it had (files may have moved, "
        "and sources with .named() are told apart by name), or start afresh with restore_from=None"
    )


def _called(name: str, origin: str) -> str:
    """Return a source's name, and what it reads unless the name says that."""
    return name if name.startswith(origin) else f"{name!r} ({origin})"


def _source_gone(manifest: Manifest, gone: list[str]) -> str:
    return (
        f"checkpoint {manifest.number} of job {manifest.job!r} has the position of "
        f"{', '.join(gone)}, which the plan does not have: was the job changed? "
        "allow_dropped_state=True goes on without it, and keeps what windows hold of its rows; "
        "restore_from=None starts afresh"
    )


def _check_finished(
    path: str, manifest: Manifest, plan: PlanManifest, sources: Mapping[int, str]
) -> None:
    """Raise if the plan of a finished job has more, or other things, to do."""
    gone = set(manifest.sources) - set(sources.values())
    new = {name for task, name in plan.sources.items() if task not in sources}
    sinks = set(plan.sinks.values()) - set(manifest.sinks)
    found = _changed_operators(manifest, plan) + [repr(name) for name in sorted(gone | new | sinks)]
    if found:
        raise PlanError(
            f"job {manifest.job!r} was finished with {path}, by a plan that differs in "
            f"{', '.join(found)}; there is nothing left to read for this one: start it afresh with "
            "restore_from=None, or use another checkpoint directory"
        )


def _changed_operators(manifest: Manifest, plan: PlanManifest) -> list[str]:
    """Return the operators of a checkpoint that the plan lacks or has changed."""
    now = {operator.id: operator for operator in plan.operators}
    before = {operator.id: operator for operator in manifest.operators}
    gone = sorted(before[name].label for name in before.keys() - now.keys())
    changed = [
        (before[name].label, now[name].label)
        for name in sorted(before.keys() & now.keys())
        if before[name].signature != now[name].signature
    ]
    found = [f"'{label}'" for label in gone]
    return found + [f"'{was}' (which is now '{label}')" for was, label in changed]
