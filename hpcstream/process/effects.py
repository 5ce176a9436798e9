"""What a job changes in its process: the one list, and the one place where it is done and undone.

`EFFECTS` is what docs/process.md shows. Importing hpcstream has none of them.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from hpcstream.log import occupy_closed_streams
from hpcstream.process.heap import give_back_freed_memory, keep_freed_memory
from hpcstream.process.scheduling import long_turns


@dataclass(frozen=True)
class Effect:
    """Something that is changed in the process.

    Attributes
    ----------
    what : str
    how : str
        What it is changed to, and what for.
    where : str
        The file that does it, below ``hpcstream/``.
    stays : str
        Why it stays when `Job.run` has returned; empty: it is undone then.
    """

    what: str
    how: str
    where: str
    stays: str = ""


FROM_THE_FIRST_JOB = (
    Effect(
        "`sys.excepthook`; IPython's handler of errors",
        "errors are shown without the engine's frames; one on a single rank ends the others. A "
        "hook of somebody else's stays, and is called by ours on several ranks",
        "launch/exit_hooks.py",
        "an error may leave the script after `run()`",
    ),
    Effect(
        "`sys.exit`, `exit`, `quit`, a function at exit; on several ranks only",
        "a rank that leaves the script does not leave the others waiting; the last thing that "
        "it does is to rename itself (`/proc/self/comm`), for the others to see",
        "launch/exit_hooks.py",
        "the script may be left after `run()`",
    ),
    Effect(
        "a function at exit",
        "a job with sinks that was never run is named",
        "launch/exit_hooks.py",
        "the script may end without `run()`",
    ),
    Effect(
        "functions before and after `os.fork`",
        "children of a rank leave MPI, signals and sinks to it",
        "process/family.py",
        "Python cannot take them back",
    ),
    Effect(
        "handler and level of the logger `hpcstream`",
        "messages nobody takes are plain lines on standard error; set by the first message, "
        "unless the program has set its own",
        "log.py",
        "there may be messages after `run()`",
    ),
)

DURING_RUN = (
    Effect(
        "standard streams that are closed",
        "`/dev/null` is opened in their place, so that no file of the job gets their numbers",
        "log.py",
        "somebody may have them by now",
    ),
    Effect(
        "glibc's `mallopt`",
        "128 MiB of freed memory stay, for the next batch; at the end of each run they go. "
        "`MALLOC_..._` or `GLIBC_TUNABLES` in the environment leave it alone",
        "process/heap.py",
        "glibc does not tell what was set before",
    ),
    Effect(
        "`prctl(PR_SET_PDEATHSIG)`; where a launcher has started the process",
        "the kernel kills the rank when its launcher is gone",
        "process/launcher_facts.py",
        "nobody could end the rank without its launcher",
    ),
    Effect(
        "MPI, and mpi4py's `rc`; where a launcher has started the process, or with `comm=`",
        "MPI is started, once it is known that the launcher is of the same MPI",
        "exchange/mpi.py",
        "MPI starts once a process; mpi4py ends it at exit",
    ),
    Effect(
        "handlers of `TERM`, `USR2` and `INT`, and Python's wake-up descriptor",
        "they ask the job to stop; in the main thread only, and not where they were ignored",
        "process/stop_signals.py",
    ),
    Effect(
        "threads: `hpcstream-grace`, one that writes checkpoints, one that looks for new splits",
        "the first ends a job that was asked to stop and whose function hangs",
        "process/grace.py, checkpoint/storage/background.py, runtime/sources/discovery.py",
    ),
    Effect(
        "`HPCSTREAM_JOB_PROCESS` in the environment",
        "processes that `multiprocessing` spawns know that a job runs here",
        "process/spawned.py",
    ),
    Effect(
        "`gc.freeze`",
        "what was there before the job is left out of Python's search for garbage; not where "
        "somebody else has frozen something",
        "process/effects.py",
    ),
    Effect(
        "`sched_setattr`; where ranks share cores",
        "turns on a core are longer (Linux 6.12)",
        "process/scheduling.py",
    ),
)

EFFECTS = (*FROM_THE_FIRST_JOB, *DURING_RUN)


@contextmanager
def during_run() -> Iterator[ExitStack]:
    """Do what a run does to its process, but for its rounds, and undo what can be undone.

    Yields what is undone at the end, the last thing first: for what needs the communicator.
    """
    occupy_closed_streams()
    keep_freed_memory()
    try:
        with ExitStack() as undone:
            yield undone
    finally:
        give_back_freed_memory()


@contextmanager
def during_rounds(*, takes_turns: bool) -> Iterator[None]:
    """Do what is for the rounds only; after everything is loaded and compiled.

    Parameters
    ----------
    takes_turns : bool
        Whether ranks share cores, and no row waits for a turn.
    """
    with ExitStack() as undone:
        undone.enter_context(frozen_modules())
        if takes_turns:
            undone.enter_context(long_turns())
        yield


@contextmanager
def frozen_modules() -> Iterator[None]:
    """Leave what is there before a job out of Python's search for garbage.

    With the compiler and Arrow loaded that is 150,000 objects: looking through them stops
    a rank, and those that wait for it, for 60 ms. Garbage that is among them stays until
    the job ends.
    """
    if gc.get_freeze_count():  # somebody else's to end
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def table(effects: tuple[Effect, ...]) -> str:
    """Return effects as a table of a Markdown page."""
    rows = ["| what | how, and what for | after `run()` |", "|---|---|---|"]
    for effect in effects:
        after = f"stays: {effect.stays}" if effect.stays else "as before"
        rows.append(f"| {effect.what} | {effect.how} | {after} |")
    return "\n".join(rows)
