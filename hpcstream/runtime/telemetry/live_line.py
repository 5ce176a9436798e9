"""The live line of a job: where rank 0 shows its progress."""

from __future__ import annotations

import os
import shutil

from hpcstream.config import JobConfig
from hpcstream.observability.progress import (
    LOG_EVERY_S,
    LOG_FIRST_S,
    ProgressLine,
    terminal_width,
)


def live_line(job: str, config: JobConfig, rank: int) -> ProgressLine | None:
    """Return the live line, on rank 0; in a log it is a line a minute unless more are wanted."""
    if rank or config.progress is False:
        return None
    width = terminal_width(os.environ, shutil.get_terminal_size().columns)
    if config.progress:
        return ProgressLine(job, width)
    return ProgressLine(job, width, every_s=LOG_EVERY_S, first_s=LOG_FIRST_S)
