"""What a job changes in its process: the only list, and the code that makes and undoes changes.

docs/process.md shows `EFFECTS`. The import of hpcstream has none of them.
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
    """A change to the process.

    Attributes
    ----------
    what : str
    how : str
        The change, and its purpose.
    where : str
        The file that makes it, below ``hpcstream/``.
    stays : str
        Why it stays after `Job.run`; empty: it is undone.
    """

    what: str
    how: str
    where: str
    stays: str = ""


FROM_THE_FIRST_JOB = (
    Effect(
        "`sys.excepthook`; IPython's handler of errors",
        "tracebacks omit the engine's frames; an error on one rank ends the others. A hook of "
        "other code stays; on several ranks, ours calls it",
        "launch/exit_hooks.py",
        "an error may leave the script after `run()`",
    ),
    Effect(
        "`sys.exit`, `exit`, `quit`, a function at exit; on several ranks only",
        "a rank that leaves the script does not leave the others waiting; as its last step it "
        "renames itself (`/proc/self/comm`), which the others see",
        "launch/exit_hooks.py",
        "the rank may leave the script after `run()`",
    ),
    Effect(
        "a function at exit",
        "warns of jobs with sinks that were never run",
        "launch/exit_hooks.py",
        "the script may end without `run()`",
    ),
    Effect(
        "functions before and after `os.fork`",
        "forked children leave MPI, signals and sinks to the rank",
        "process/family.py",
        "Python cannot unregister them",
    ),
    Effect(
        "handler and level of the logger `hpcstream`",
        "messages without another handler are plain lines on standard error; set by the first "
        "message, unless the program has set its own",
        "log.py",
        "there may be messages after `run()`",
    ),
)

DURING_RUN = (
    Effect(
        "closed standard streams",
        "replaced by `/dev/null`, so that no file of the job gets their descriptors",
        "log.py",
        "other code may use them by now",
    ),
    Effect(
        "glibc's `mallopt`",
        "keeps 128 MiB of freed memory for the next batch, until the end of the run; not with "
        "`MALLOC_..._` or `GLIBC_TUNABLES` in the environment",
        "process/heap.py",
        "glibc does not report the previous setting",
    ),
    Effect(
        "`prctl(PR_SET_PDEATHSIG)`; if a launcher started the process",
        "the kernel kills the rank when its launcher ends",
        "process/launcher_facts.py",
        "nothing else would end the rank without its launcher",
    ),
    Effect(
        "MPI, and mpi4py's `rc`; if a launcher started the process, or with `comm=`",
        "starts MPI, after checking that the launcher belongs to the same MPI",
        "exchange/mpi.py",
        "MPI starts once a process; mpi4py finalizes it at exit",
    ),
    Effect(
        "handlers of `TERM`, `USR2` and `INT`, and Python's wake-up descriptor",
        "ask the job to stop; in the main thread only, and not for ignored signals",
        "process/stop_signals.py",
    ),
    Effect(
        "threads: `hpcstream-grace`, a checkpoint writer, a discoverer of new splits",
        "the first aborts a job that was asked to stop and hangs in a function",
        "process/grace.py, checkpoint/storage/background.py, runtime/sources/discovery.py",
    ),
    Effect(
        "`HPCSTREAM_JOB_PROCESS` in the environment",
        "tells processes spawned by `multiprocessing` that a job runs here",
        "process/spawned.py",
    ),
    Effect(
        "`gc.freeze`",
        "excludes older objects from garbage collection; not if other code has frozen objects",
        "process/effects.py",
    ),
    Effect(
        "`sched_setattr`; if ranks share cores",
        "longer time slices (Linux 6.12)",
        "process/scheduling.py",
    ),
)

EFFECTS = (*FROM_THE_FIRST_JOB, *DURING_RUN)


@contextmanager
def during_run() -> Iterator[ExitStack]:
    """Change the process for a run, except for its rounds, and undo what can be undone.

    Yields a stack of actions for the end of the run, for changes that need the communicator.
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
    """Change the process for the rounds only, after everything is loaded and compiled.

    Parameters
    ----------
    takes_turns : bool
        Whether ranks share cores, and no source is live.
    """
    with ExitStack() as undone:
        undone.enter_context(frozen_modules())
        if takes_turns:
            undone.enter_context(long_turns())
        yield


@contextmanager
def frozen_modules() -> Iterator[None]:
    """Exclude objects older than the job from garbage collection.

    With the compiler and Arrow loaded these are 150,000 objects: a full collection stops a
    rank, and those that wait for it, for 60 ms. Garbage among them stays until the job ends.
    """
    if gc.get_freeze_count():  # other code will unfreeze
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def table(effects: tuple[Effect, ...]) -> str:
    """Return effects as a table of a Markdown page."""
    rows = ["| what | change and purpose | after `run()` |", "|---|---|---|"]
    for effect in effects:
        after = f"stays: {effect.stays}" if effect.stays else "as before"
        rows.append(f"| {effect.what} | {effect.how} | {after} |")
    return "\n".join(rows)
