"""What a run is given beside its graph, and where it begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hpcstream.checkpoint.storage.background import BackgroundWriter, Writer
from hpcstream.config import JobConfig
from hpcstream.exchange.communicator import Communicator
from hpcstream.process.stop_signals import AskedToStop, StopRequest
from hpcstream.runtime.checkpoints.restoring import Restored
from hpcstream.runtime.checkpoints.run_directory import RunDirectory
from hpcstream.runtime.loop.worker import Clock
from hpcstream.runtime.sources.discovery import Begin, in_thread


@dataclass(frozen=True)
class RunContext:
    """What a run of one rank is given beside its graph.

    Attributes
    ----------
    config : JobConfig
    comm : Communicator
        Private to this run.
    clock : callable
        Seconds, monotonic.
    stop : StopRequest
        Asks this rank to stop.
    writer : Writer
        Writes checkpoints.
    begin_discovery : callable
        Begins to ask a source for new splits.
    time_of_day : callable
        Seconds since the epoch.
    """

    config: JobConfig
    comm: Communicator
    clock: Clock = time.monotonic
    stop: StopRequest = field(default_factory=AskedToStop)
    writer: Writer = field(default_factory=BackgroundWriter)
    begin_discovery: Begin = in_thread
    time_of_day: Clock = time.time


@dataclass(frozen=True)
class RunStart:
    """Where a run begins.

    Attributes
    ----------
    directory : RunDirectory or None
        None: the job takes no checkpoints.
    check_outputs : callable
        Raises `ConnectorError` if another job has taken over where the sinks write.
    """

    directory: RunDirectory | None
    check_outputs: Callable[[], None]

    @property
    def attempt(self) -> int:
        """Number of this run in the checkpoint directory; 0 without one."""
        return 0 if self.directory is None else self.directory.run.attempt

    @property
    def restored(self) -> Restored | None:
        """The checkpoint to continue from."""
        return None if self.directory is None else self.directory.restored

    @property
    def is_finished(self) -> bool:
        """Whether an earlier run has finished the job, so that this one has nothing to do."""
        return self.directory is not None and self.directory.is_finished
