"""The checkpoint directory of one run: opened before anything is read, left last."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from hpcstream.checkpoint.lease import Lease
from hpcstream.checkpoint.pending import CheckpointRun, PlanManifest
from hpcstream.checkpoint.storage.staging import Staging
from hpcstream.config import JobConfig
from hpcstream.environment import CHECKPOINT_DIR_FILE
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, Procedure
from hpcstream.log import say
from hpcstream.runtime.checkpoints.restoring import Restored, open_directory


@dataclass(frozen=True)
class RunDirectory:
    """What a run uses of its checkpoint directory, on one rank.

    Attributes
    ----------
    run : CheckpointRun
    plan : PlanManifest
    restored : Restored or None
        The checkpoint that the run continues from.
    lease : Lease or None
        Keeps other jobs out; held by rank 0.
    staging : Staging or None
        Writes files by way of a disk of the node.
    opened_s : float
        When the run began to open it.
    """

    run: CheckpointRun
    plan: PlanManifest
    restored: Restored | None = None
    lease: Lease | None = None
    staging: Staging | None = None
    opened_s: float = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether the restored checkpoint says that the job has nothing left to do."""
        return self.restored is not None and self.restored.manifest.finished

    def close_restored(self) -> None:
        """Close the files of the restored checkpoint."""
        if self.restored is not None:
            self.restored.close()

    def close_staging(self) -> None:
        """Leave nothing on the disk of the node; after the last write."""
        if self.staging is not None:
            self.staging.close()

    def release(self) -> None:
        """Let another job use the directory; last, since until now something was written."""
        if self.lease is not None:
            self.lease.release()


def open_run_directory(
    config: JobConfig, plan: PlanManifest, comm: Communicator, clock: Callable[[], float]
) -> Procedure[RunDirectory]:
    """Begin an attempt in the checkpoint directory of a job. Collective.

    Raises
    ------
    CheckpointError
        The directory, a checkpoint or the scratch directory cannot be used; `RemoteError` on
        ranks where they can.
    PlanError
        The checkpoint has state that the plan has no operator for.
    """
    assert config.checkpoint_dir is not None
    if comm.rank == 0:
        report_checkpoint_dir(config.checkpoint_dir)
    opened_s = clock()
    run, restored, lease = yield from open_directory(config, plan, comm)
    directory, error = RunDirectory(run, plan, restored, lease, opened_s=opened_s), None
    try:
        if config.scratch_dir is not None:
            staging = Staging(config.scratch_dir, run.store.directory, comm.rank, say)
            directory = replace(directory, staging=staging)
    except BaseException as failure:
        error = failure
    try:
        yield from raise_together(error, comm)
    except BaseException:
        directory.close_restored()
        directory.close_staging()
        directory.release()
        raise
    return directory


def report_checkpoint_dir(directory: str) -> None:
    """Write the path of the checkpoint directory for the process that may restart this job."""
    path = os.environ.get(CHECKPOINT_DIR_FILE)
    if path:
        with suppress(OSError):  # of another host
            Path(path).write_text(os.path.abspath(directory))


def restored_text(directory: RunDirectory, config: JobConfig, now_s: float) -> str | None:
    """Return what to say of the restored checkpoint; None: the job starts afresh."""
    restored = directory.restored
    if restored is None:
        return None
    manifest = restored.manifest
    if manifest.finished:
        return (
            f"job {manifest.job!r} in {config.checkpoint_dir!r} is finished already: "
            "nothing was read (restore_from=None would start it afresh)"
        )
    ranks = "" if manifest.size == directory.plan.size else f" of {manifest.size} ranks"
    return (
        f"going on from {restored.path}{ranks}, round {manifest.round}, restored in "
        f"{now_s - directory.opened_s:.2f} s"
    )
