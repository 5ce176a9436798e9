"""The number of ranks on this host, from the environment that launchers set."""

from __future__ import annotations

import re
from collections.abc import Mapping

_OF_LAUNCHERS = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
_OF_SLURM = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE")
_TASKS = re.compile(r"(\d+)(?:\(x(\d+)\))?")


def count_local_ranks(environ: Mapping[str, str], size: int) -> int:
    """Return how many of ``size`` ranks are on this host; ``size`` if that is unknown.

    The launchers of Open MPI and MPICH set the number. ``srun`` sets the tasks of each node
    of the step, such as ``2(x3),1``, and the number of this node.
    """
    for name in _OF_LAUNCHERS:
        if environ.get(name, "").isdecimal():
            return int(environ[name])
    if "SLURM_PROCID" not in environ:
        return size
    for name in _OF_SLURM:
        tasks = parse_tasks_per_node(environ.get(name, ""))
        if sum(tasks) == size:  # otherwise it is of the whole job, or of another step
            node = environ.get("SLURM_NODEID", "")
            return tasks[int(node)] if node.isdecimal() and int(node) < len(tasks) else max(tasks)
    return size


def parse_tasks_per_node(text: str) -> list[int]:
    """Return the tasks of each node from Slurm's list, ``2(x3),1``; empty if it is malformed."""
    tasks: list[int] = []
    for part in filter(None, text.strip().split(",")):
        found = _TASKS.fullmatch(part)
        if found is None:
            return []
        tasks += [int(found[1])] * int(found[2] or 1)
    return tasks
