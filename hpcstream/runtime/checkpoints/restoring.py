"""Finds the checkpoint that a run continues from, checks it, and restores state from it.

Every rank checks what it reads before any of it is used. If any rank finds damage, all
ranks return to the checkpoint before, with a message.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from hpcstream.checkpoint.format import (
    Array,
    CheckpointError,
    CheckpointFile,
    DamagedCheckpoint,
    WrittenFile,
)
from hpcstream.checkpoint.increments import OWN, SegmentTable, files_of
from hpcstream.checkpoint.lease import Lease, acquire
from hpcstream.checkpoint.pending import TASKS, CheckpointRun, PlanManifest
from hpcstream.checkpoint.reading import read_state
from hpcstream.checkpoint.storage.directory import CheckpointStore
from hpcstream.checkpoint.storage.manifest import Manifest, StoredOperator, read_manifest
from hpcstream.columns.ownership import Ownership
from hpcstream.config import JobConfig
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.graph.identity import OperatorIdentity
from hpcstream.graph.physical import FINAL, LOCAL, TaskPlan
from hpcstream.log import say, warn
from hpcstream.operators.base import Operator
from hpcstream.runtime.checkpoints.changed_plan import check_plan, is_same
from hpcstream.runtime.checkpoints.same_sources import assigned_sources
from hpcstream.runtime.sources.split_assignment import reassigned_splits
from hpcstream.runtime.sources.split_progress import SplitProgress
from hpcstream.runtime.tasks.source_task import SourceTask
from hpcstream.runtime.tasks.task import Task
from hpcstream.state.table import Part

Facts = dict[str, Any]


@dataclass(frozen=True)
class DirectoryState:
    """What rank 0 found in the checkpoint directory, the same on all ranks."""

    attempt: int
    next_number: int
    candidates: list[str]


class _Found(NamedTuple):
    """What an instance of an operator restores: its own state, whole, or parts of many."""

    whole: dict[str, Array]
    parts: list[Part]


class Restored:
    """A complete checkpoint, from which tasks and operators restore their state.

    Parameters
    ----------
    path : str
    manifest : Manifest
    comm : Communicator
        Of the run that continues from it.
    plan : PlanManifest
        Of that run.

    Attributes
    ----------
    sources : dict of int to str
        Its source that each source of the plan continues, by task.
    same_plan : bool
        The plan and the number of ranks are those of the checkpoint.
    """

    def __init__(
        self, path: str, manifest: Manifest, comm: Communicator, plan: PlanManifest
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.sources = assigned_sources(manifest.sources, plan.sources, plan.origins)
        self.same_plan = (
            manifest.size == plan.size
            and manifest.fingerprint == plan.fingerprint
            and len(self.sources) == len(plan.sources)
        )
        self._plan = plan
        self._comm = comm
        self._stack = ExitStack()
        self._files: dict[int, CheckpointFile] = {}
        self._shared: dict[str, CheckpointFile] = {}
        self._found: dict[tuple[int, int], _Found] = {}
        self._facts: dict[int, Facts] = {}

    def open(self) -> None:
        """Open the files, and check the whole share of this rank. Raises `DamagedCheckpoint`."""
        size, rank = self.manifest.size, self._comm.rank
        for number in [rank] if self.same_plan else range(size):
            written = self.manifest.files[number]
            file = self._opened(os.path.join(self.path, written.name), written)
            self._files[number] = file
            self._facts[number] = json.loads(file.arrays(TASKS)["facts"].tobytes())
        directory = os.path.dirname(self.path)
        for name in self._shared_names():
            file = self._opened(os.path.join(directory, name), self.manifest.shared[name])
            self._shared[name] = file
        for identity in self._plan.operators:
            if rank in identity.ranks:
                self._found[identity.task, identity.index] = self._read(identity)

    def _opened(self, path: str, written: WrittenFile) -> CheckpointFile:
        return self._stack.enter_context(CheckpointFile(path, written))

    def _shared_names(self) -> list[str]:
        """Return the files of other checkpoints that hold segments which this rank may need."""
        tables = (
            table
            for facts in self._facts.values()
            for task in facts.values()
            for value in task["tables"].values()
            for table in map(SegmentTable.from_json, value)
        )
        return files_of(tables)

    def _read(self, identity: OperatorIdentity) -> _Found:
        """Read what this rank's instance of an operator restores."""
        path = f"{identity.task}/{identity.index}"
        unchanged = None if self.same_plan else self._unchanged(identity)
        if self.same_plan or unchanged is not None:
            stored = path if unchanged is None else unchanged.path
            return _Found(self._state(self._comm.rank, stored, None), [])
        owned = Ownership(identity.ranks.index(self._comm.rank), len(identity.ranks))
        without = identity.role == LOCAL
        parts = [
            Part(stored.role == LOCAL, state)
            for role in (FINAL, LOCAL)
            for stored in self.manifest.operators
            if is_same(stored, identity) and (stored.role == LOCAL) == (role == LOCAL)
            for rank in stored.ranks
            if (state := self._state(rank, stored.path, owned.groups, without_ordered=without))
        ]
        return _Found({}, parts)

    def _state(
        self, rank: int, path: str, groups: range | None, *, without_ordered: bool = False
    ) -> dict[str, Array]:
        """Return the state of an operator on a rank: all of it, or that of key groups."""
        task, index = path.split("/")
        stored = self._facts[rank].get(task, {"tables": {}})["tables"].get(index, [])
        tables = [SegmentTable.from_json(value) for value in stored]

        def file_of(name: str) -> CheckpointFile:
            return self._files[rank] if name == OWN else self._shared[name]

        return read_state(path, tables, file_of, groups, without_ordered=without_ordered)

    def close(self) -> None:
        """Close the files."""
        self._stack.close()
        self._found.clear()

    # -- restoring --------------------------------------------------------

    def knows_source(self, task: int) -> bool:
        """Whether the checkpoint has positions of a source. The same on all ranks."""
        return task in self.sources

    def splits(
        self, task: int, ranks: Sequence[int], group_rows: int, *, keep_done: bool
    ) -> list[SplitProgress]:
        """Return this rank's splits of a source that `knows_source`; in groups if reassigned.

        ``keep_done``: finished splits are reassigned, too.
        """
        rank = self._comm.rank
        if self.same_plan:
            return self._own_splits(task)
        parts = self._source_parts(self.sources[task])
        instance = list(ranks).index(rank)
        return reassigned_splits(parts, instance, len(ranks), group_rows, keep_done=keep_done)

    def share_of_splits(self, task: int) -> list[SplitProgress]:
        """Return this rank's share of all splits of a source, finished ones too."""
        if self.same_plan:
            return self._own_splits(task)
        if self._comm.rank:
            return []
        parts = self._source_parts(self.sources[task])
        return [SplitProgress.from_json(split) for facts in parts for split in facts["splits"]]

    def _own_splits(self, task: int) -> list[SplitProgress]:
        facts = self._facts[self._comm.rank].get(str(task))
        splits = [] if facts is None else facts["source"]["splits"]
        return [SplitProgress.from_json(split) for split in splits]

    def sink(self, identity: OperatorIdentity) -> Mapping[str, Any] | None:
        """Return the parts and positions of a sink; None if the checkpoint has none."""
        is_known = any(is_same(stored, identity) for stored in self.manifest.operators)
        record = self.manifest.sinks.get(identity.id) if is_known else None
        return record if record is not None and record["positions"] else None

    def restore(self, task: Task, plan: TaskPlan, identities: Sequence[OperatorIdentity]) -> None:
        """Restore the watermark of a task, the state of its operators, its source's positions."""
        if self.same_plan:
            facts = self._facts[self._comm.rank][str(plan.number)]
            task.restore(facts, self.manifest.round)
        elif isinstance(task, SourceTask) and self.knows_source(plan.number):
            parts = self._source_parts(self.sources[plan.number])
            if parts:
                task.restore_reassigned(parts, plan.ranks.index(self._comm.rank))
        for identity, operator in zip(identities, task.chain.operators, strict=True):
            self._restore_operator(operator, identity)

    def _source_parts(self, source: str) -> list[Facts]:
        """Return the snapshots of a source by all ranks, in the order of ranks."""
        return [
            facts["source"]
            for rank in sorted(self._facts)
            for facts in self._facts[rank].values()
            if "source" in facts and facts["source"]["id"] == source
        ]

    def _restore_operator(self, operator: Operator, identity: OperatorIdentity) -> None:
        found = self._found.pop((identity.task, identity.index), None)
        if found is not None and found.whole:
            operator.restore(found.whole)
        elif found is not None and found.parts:
            share = Ownership(identity.ranks.index(self._comm.rank), len(identity.ranks))
            operator.merge(found.parts, share)

    def _unchanged(self, identity: OperatorIdentity) -> StoredOperator | None:
        """Return the stored operator if all of its stages are on the same ranks as before."""
        before = [stored for stored in self.manifest.operators if is_same(stored, identity)]
        now = [operator for operator in self._plan.operators if operator.id == identity.id]
        stages = {(stored.role, tuple(stored.ranks)) for stored in before}
        same_size = self.manifest.size == self._plan.size
        if not same_size or not stages <= {(stage.role, stage.ranks) for stage in now}:
            return None
        return next((stored for stored in before if stored.role == identity.role), None)


# -- opening -------------------------------------------------------------------------------


def open_directory(
    config: JobConfig, plan: PlanManifest, comm: Communicator
) -> Procedure[tuple[CheckpointRun, Restored | None, Lease | None]]:
    """Begin an attempt in the checkpoint directory and choose a checkpoint. Collective.

    Raises
    ------
    CheckpointError
        The directory cannot be used, another job runs there, or no checkpoint is whole.
    PlanError
        The checkpoint has state that the plan has no operator for.
    """
    assert config.checkpoint_dir is not None
    store = CheckpointStore(config.checkpoint_dir)
    lease, opening, error = None, None, None
    if comm.rank == 0:
        try:
            lease, opening = _begin(store, config, plan.job)
        except Exception as failure:
            error = failure
    try:
        yield from raise_together(error, comm)
        text = json.dumps(vars(opening)) if opening is not None else ""
        (first, *_) = yield from gather_bytes(comm, text.encode())
        opening = DirectoryState(**json.loads(first))
        restored = yield from _choose(opening, config, plan, comm)
        yield from _mark(store, opening, restored, comm)
    except BaseException:
        if lease is not None:
            lease.release()
        raise
    first_round = 0 if restored is None else restored.manifest.round
    run = CheckpointRun(store, opening.attempt, opening.next_number, first_round)
    return run, restored, lease


def _begin(store: CheckpointStore, config: JobConfig, job: str) -> tuple[Lease, DirectoryState]:
    """Take the lease and a number for this attempt, and exclude earlier ones. On rank 0."""
    store.make()
    lease = acquire(store.directory, job, say=say)
    try:
        _check_job(store, config.restore_from, job)  # first: a refused start leaves no mark
        attempt = store.new_attempt(fresh=config.restore_from is None)
        candidates = _candidates(store, config.restore_from)
        number = store.next_number()  # also above what is removed now: its writer may still live
        store.remove_unfinished()
        return lease, DirectoryState(attempt, number, candidates)
    except BaseException:
        lease.release()
        raise


def _check_job(store: CheckpointStore, restore_from: str | None, job: str) -> None:
    """Raise if a checkpoint that this start would use, or make void, is another job's."""
    if restore_from is None:
        return
    if restore_from not in ("auto", "latest"):
        _check_name([os.path.abspath(os.path.expanduser(restore_from))], job)
    _check_name([stored.path for stored in store.candidates()], job)


def _check_name(paths: Sequence[str], job: str) -> None:
    """Raise if the first readable checkpoint is that of a job of another name."""
    found = ""
    for path in paths:
        with suppress(CheckpointError):  # damage is reported when it is restored
            found = read_manifest(path).job
            break
    if found not in ("", job):
        raise CheckpointError(
            f"checkpoint directory {os.path.dirname(path)!r} belongs to job {found!r}, this is "
            f"{job!r}: use another directory, or give the job its old name"
        )


def _candidates(store: CheckpointStore, restore_from: str | None) -> list[str]:
    if restore_from is None:
        return []
    found = [stored.path for stored in store.candidates()]
    left_behind = [stored.path for stored in store.left_behind()]
    if restore_from in ("auto", "latest"):
        if not found and left_behind:
            raise CheckpointError(
                f"an earlier start in {store.directory!r} went on from a checkpoint that is not "
                f"there, so {os.path.basename(left_behind[0])} no longer fits the output; give "
                "restore_from=PATH of that checkpoint, or start afresh with restore_from=None"
            )
        if not found and restore_from == "latest":
            raise CheckpointError(
                f"restore_from='latest': there is no checkpoint in {store.directory!r}"
            )
        return found
    path = os.path.abspath(os.path.expanduser(restore_from))
    if not os.path.isdir(path):
        raise CheckpointError(f"restore_from={restore_from!r}: there is no such checkpoint")
    if os.path.realpath(path) in map(os.path.realpath, left_behind):
        raise CheckpointError(
            f"restore_from={restore_from!r}: a later start went on from an earlier checkpoint and "
            "removed the rows that were committed after it, so this one no longer fits the output; "
            "`hpcstream checkpoints ls` marks those that count"
        )
    return [path]


def _mark(
    store: CheckpointStore, opening: DirectoryState, restored: Restored | None, comm: Communicator
) -> Procedure[None]:
    """Write down what this attempt goes on from; no rank touches a sink before. Collective."""
    error = None
    if comm.rank == 0:
        try:
            path = None if restored is None else restored.path
            store.continues_from(opening.attempt, path)
        except OSError as failure:
            error = CheckpointError(f"cannot write to {store.directory!r}: {failure.strerror}")
    yield from _raise_or_go_on(error, restored, comm)


def _raise_or_go_on(
    error: Exception | None, restored: Restored | None, comm: Communicator
) -> Procedure[None]:
    """Raise an error of any rank on all, with nothing left open. Collective."""
    try:
        yield from raise_together(error, comm)
    except BaseException:
        if restored is not None:
            restored.close()
        raise


def _choose(
    opening: DirectoryState, config: JobConfig, plan: PlanManifest, comm: Communicator
) -> Procedure[Restored | None]:
    for path in opening.candidates:
        restored, damage, error = None, "", None
        try:
            restored = _open(path, config, plan, comm)
        except DamagedCheckpoint as failure:
            damage = str(failure)
        except Exception as failure:
            error = failure
        yield from _raise_or_go_on(error, restored, comm)
        texts = yield from gather_bytes(comm, damage.encode())
        found = [text.decode() for text in texts if text]
        if not found:
            assert restored is not None
            return restored
        if restored is not None:
            restored.close()
        if comm.rank == 0:
            warn(f"checkpoint damaged: {found[0]}; going back to the one before")
    if opening.candidates:
        error = CheckpointError(
            f"no checkpoint of {config.checkpoint_dir!r} is whole (see above); restore one by hand "
            "with restore_from=PATH, or start afresh with restore_from=None"
        )
        yield from raise_together(error, comm)
    return None


def _open(path: str, config: JobConfig, plan: PlanManifest, comm: Communicator) -> Restored:
    manifest = read_manifest(path)
    restored = Restored(path, manifest, comm, plan)
    if not restored.same_plan:
        allowed = config.allow_dropped_state
        check_plan(path, manifest, plan, restored.sources, allow_dropped_state=allowed)
    try:
        restored.open()
    except BaseException:
        restored.close()
        raise
    return restored
