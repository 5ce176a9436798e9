"""Completes a checkpoint together with the other ranks: write, report, verdict, manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpcstream.checkpoint.pending import CheckpointRun, PendingCheckpoint, PlanManifest, Written
from hpcstream.checkpoint.reports import (
    Report,
    errors_of,
    manifest_of,
    rank_report,
    shared_files,
)
from hpcstream.checkpoint.storage.background import Writer
from hpcstream.checkpoint.storage.directory import Superseded
from hpcstream.checkpoint.writer import RankFileWriter, sink_error
from hpcstream.errors import ConnectorError
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.runtime.checkpoints.sink_commits import SinkCommits, result_of

ABANDONED = "the job failed meanwhile"
_SUPERSEDED = "superseded: "


@dataclass(frozen=True)
class Verdict:
    """What the ranks agreed on for a checkpoint.

    Attributes
    ----------
    failure : str
        What went wrong; empty: the checkpoint is complete.
    written : Written
        This rank's share.
    reports : list of Report
        Of all ranks.
    """

    failure: str
    written: Written
    reports: Sequence[Report]

    @property
    def is_abandoned(self) -> bool:
        """Whether it failed only because the job did."""
        return ABANDONED in self.failure

    def raise_if_superseded(self) -> None:
        """Raise `Superseded` if a newer attempt, or another job's output, forbids checkpoints."""
        if self.failure.startswith(_SUPERSEDED):
            raise Superseded(self.failure.removeprefix(_SUPERSEDED))


@dataclass(frozen=True)
class CheckpointAgreement:
    """Writes this rank's share of checkpoints, and agrees with the others on each.

    Attributes
    ----------
    comm : Communicator
        Private to checkpoints.
    run : CheckpointRun
    plan : PlanManifest
    writer : Writer
    file_writer : RankFileWriter
    commits : SinkCommits
        Holds the parts of checkpoints that failed.
    keep : int
        How many checkpoints are kept.
    clock : callable
        Seconds, monotonic.
    check_outputs : callable
        Raises `ConnectorError` if another job has taken over where the sinks write.
    """

    comm: Communicator
    run: CheckpointRun
    plan: PlanManifest
    writer: Writer
    file_writer: RankFileWriter
    commits: SinkCommits
    keep: int
    clock: Callable[[], float]
    check_outputs: Callable[[], None]

    def reach(self, checkpoint: PendingCheckpoint) -> Procedure[Verdict]:
        """Write a checkpoint whose tasks are copied, and return what all ranks agree on.

        Raises
        ------
        SinkFailed
            A sink of this rank; after the other ranks know.
        """
        written = yield from self._written(checkpoint)
        own = rank_report(checkpoint, written, self.commits.carried)
        texts = yield from gather_bytes(self.comm, json.dumps(own).encode())
        reports = [json.loads(text) for text in texts]
        failure = yield from self._decided(checkpoint, reports)
        failed_sink = sink_error(written)
        if failed_sink is not None:
            raise failed_sink
        return Verdict(failure, written, reports)

    def _written(self, checkpoint: PendingCheckpoint) -> Procedure[Written]:
        if checkpoint.is_abandoned:
            return Written(None, {}, ABANDONED)
        work = self.writer.submit(lambda: self.file_writer.write(checkpoint))
        return (yield from result_of(work))

    def _decided(self, checkpoint: PendingCheckpoint, reports: Sequence[Report]) -> Procedure[str]:
        """Complete the checkpoint on rank 0 if all ranks wrote theirs; return what went wrong."""
        failure = errors_of(reports)
        if self.comm.rank == 0 and not failure:
            work = self.writer.submit(lambda: self._complete(checkpoint, reports))
            failure = yield from result_of(work)
        elif self.comm.rank == 0:
            path = self.run.store.path(checkpoint.number, checkpoint.kind)
            self.writer.submit(lambda: self.run.store.discard(path))
        (first, *_) = yield from gather_bytes(self.comm, failure.encode())
        return first.decode()

    def _complete(self, checkpoint: PendingCheckpoint, reports: Sequence[Report]) -> str:
        """Write the manifest; return what went wrong, or nothing. In the background."""
        store = self.run.store
        missing = store.missing(shared_files(reports))
        if missing is not None:
            return f"{missing}, which it refers to, is gone or not as it was"
        seconds = self.clock() - checkpoint.began_s
        try:
            store.check_attempt(self.run.attempt)  # says more than that an output is gone
            self.check_outputs()
            manifest = manifest_of(checkpoint, self.plan, self.run.attempt, reports, seconds)
            store.complete(store.path(checkpoint.number, checkpoint.kind), manifest)
        except (Superseded, ConnectorError) as error:
            return f"{_SUPERSEDED}{error}"
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        store.prune(self.keep)
        return ""
