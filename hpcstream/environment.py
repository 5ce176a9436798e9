"""The environment variables that hpcstream reads: name, meaning, default.

`VARIABLES` is the table of docs/cli.md. `INTERNAL` are variables that hpcstream sets for its own
processes.
"""

from __future__ import annotations

import os
from typing import NamedTuple

ALLOW_SINGLETONS = "HPCSTREAM_ALLOW_SINGLETONS"
CHECKPOINT_DIR = "HPCSTREAM_CHECKPOINT_DIR"
CHECKPOINT_DIR_FILE = "HPCSTREAM_CHECKPOINT_DIR_FILE"
EXIT_HOOKS = "HPCSTREAM_EXIT_HOOKS"
EXPLAIN = "HPCSTREAM_EXPLAIN"
FULL_TRACEBACK = "HPCSTREAM_FULL_TRACEBACK"
JOB_PROCESS = "HPCSTREAM_JOB_PROCESS"
LAUNCHER = "HPCSTREAM_MPIEXEC"
LOST_HOST = "HPCSTREAM_LOST_HOST"
OVERSUBSCRIBE = "HPCSTREAM_OVERSUBSCRIBE"
SCRATCH_DIR = "HPCSTREAM_SCRATCH_DIR"
STOP_GRACE = "HPCSTREAM_STOP_GRACE"
TERMINAL = "HPCSTREAM_TERMINAL"


class Variable(NamedTuple):
    """An environment variable.

    Attributes
    ----------
    name : str
    value : str
        What to set it to.
    meaning : str
    default : str
        What applies when it is not set.
    """

    name: str
    value: str
    meaning: str
    default: str


VARIABLES = (
    Variable(
        CHECKPOINT_DIR,
        "path",
        "checkpoint directory of jobs that name none; `--checkpoint-dir` sets it",
        "no checkpoints",
    ),
    Variable(
        SCRATCH_DIR,
        "path",
        "scratch directory of jobs that name none; `--scratch` sets it",
        "no scratch directory",
    ),
    Variable(
        STOP_GRACE,
        "seconds",
        "`stop_grace_s` of runs that name none; `--stop-grace` sets it",
        "25",
    ),
    Variable(
        LOST_HOST,
        "seconds",
        "end the job if no rank of a host responds for this long; `--lost-host` sets it",
        "60 with `--restarts`, else never",
    ),
    Variable(
        LAUNCHER,
        "`auto` or a command",
        "launcher of `hpcstream run`, `explain` and `doctor`; `--launcher` overrides it",
        "`auto`",
    ),
    Variable(
        OVERSUBSCRIBE,
        "`1`",
        "start as many ranks as `-n` says, however few cores there are; `--oversubscribe` sets it",
        "ask, or refuse",
    ),
    Variable(
        ALLOW_SINGLETONS,
        "`1`",
        "let a launcher start N independent jobs of one process each",
        "`LauncherError`",
    ),
    Variable(
        EXPLAIN,
        "`1`",
        "`job.run()` prints its plan instead of running; `hpcstream explain` sets it, to a file "
        "that the run creates",
        "run",
    ),
    Variable(
        FULL_TRACEBACK,
        "`1`",
        "tracebacks include the frames of hpcstream",
        "frames of your code and of the libraries it calls",
    ),
    Variable(
        EXIT_HOOKS,
        "`1`",
        "install the exit hooks on `import hpcstream`, not with the first job "
        "([why](process.md#a-rank-that-leaves-the-script-before-it-builds-a-job)); "
        "`hpcstream run` sets it",
        "with the first job",
    ),
    Variable(
        TERMINAL,
        "columns, or 0",
        "width of the terminal, which ranks cannot query; `hpcstream run` sets it",
        "that of standard error",
    ),
)

INTERNAL = (
    Variable(
        CHECKPOINT_DIR_FILE,
        "file",
        "the job writes the path of its checkpoint directory there, for `hpcstream run --restarts`",
        "not written",
    ),
    Variable(
        JOB_PROCESS,
        "process id",
        "the process that runs a job now, for the processes that `multiprocessing` spawns there",
        "none",
    ),
)


def seconds_of(variable: str, default: float) -> float:
    """Return the value of an environment variable that holds seconds.

    Raises
    ------
    ValueError
        The value is not a positive number.
    """
    text = os.environ.get(variable, "")
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not seconds > 0:
        raise ValueError(f"{variable}={text!r}: expected seconds, as 30")
    return seconds


def table() -> str:
    """Return `VARIABLES` as a table of a Markdown page."""
    rows = ["| variable | value | effect | default |", "|---|---|---|---|"]
    rows += [
        f"| `{variable.name}` | {variable.value} | {variable.meaning} | {variable.default} |"
        for variable in VARIABLES
    ]
    return "\n".join(rows)
