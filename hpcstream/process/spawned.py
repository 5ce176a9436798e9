"""Refuses jobs in processes that `multiprocessing` spawns and that import the script.

A script without ``if __name__ == "__main__":`` would run its job again in every such process, and a
pool would replace each process that fails, for ever. So the process reports why and ends the job
that started it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from hpcstream.environment import JOB_PROCESS
from hpcstream.errors import PlanError
from hpcstream.log import complain, flush
from hpcstream.process.launcher_facts import parent_of

_APART_S = 0.3
_WHY = (
    "a process started by multiprocessing (spawn, forkserver) imported the script and reached "
    "job.run(), which would run the job again; write `if __name__ == '__main__':` above "
    "job.run()"
)


@contextmanager
def known_to_children() -> Iterator[None]:
    """Let processes started inside know that a job runs here."""
    before = os.environ.get(JOB_PROCESS)
    os.environ[JOB_PROCESS] = str(os.getpid())
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(JOB_PROCESS, None)
        else:
            os.environ[JOB_PROCESS] = before


def refuse_second_run_of_script() -> None:
    """Refuse to run a job while a spawned process imports the script.

    Raises
    ------
    PlanError
        No job runs in the process that started this one. Otherwise that job and this
        process are ended.
    """
    if not _imports_script(sys._getframe(1)):
        return
    starter = _starter()
    if os.environ.get(JOB_PROCESS) != str(starter):
        raise PlanError(_WHY)
    complain(f"{_WHY}; the job is ended")
    flush()
    for _ in range(2):  # the second signal ends it at once
        os.kill(starter, signal.SIGTERM)
        time.sleep(_APART_S)
    os._exit(1)


def _starter() -> int:
    """Return the process that started this one, perhaps through a fork server.

    `multiprocessing.parent_process` does not know it before the script is imported.
    """
    parent = os.getppid()
    with suppress(OSError):
        if b"multiprocessing.forkserver" in Path(f"/proc/{parent}/cmdline").read_bytes():
            return parent_of(parent) or parent
    return parent


def _imports_script(frame: FrameType | None) -> bool:
    """Whether a frame below is the script, under the name that multiprocessing gives it."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals["__name__"] == "__mp_main__":
            return True
        frame = frame.f_back
    return False
