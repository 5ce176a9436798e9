"""What the loop of a rank serves beside its rounds."""

from __future__ import annotations

from dataclasses import dataclass, field

from hpcstream.process.stop_signals import AskedToStop, StopRequest
from hpcstream.runtime.checkpoints.coordinator import CheckpointCoordinator
from hpcstream.runtime.sources.discovery import Discovery
from hpcstream.runtime.telemetry.telemetry import Telemetry


@dataclass(frozen=True)
class Services:
    """What the loop of a rank serves beside its rounds; None: the job does without.

    Attributes
    ----------
    telemetry : Telemetry or None
    checkpoints : CheckpointCoordinator or None
    discovery : Discovery or None
        Finds new splits of live sources.
    stop : StopRequest
        Asks this rank to stop.
    """

    telemetry: Telemetry | None = None
    checkpoints: CheckpointCoordinator | None = None
    discovery: Discovery | None = None
    stop: StopRequest = field(default_factory=AskedToStop)
