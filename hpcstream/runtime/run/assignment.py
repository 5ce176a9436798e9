"""Assigns the splits of a source to ranks, and limits what one round scans.

A rank gets groups of neighbouring splits, each of about one round, and the ranks take
turns::

    rank 0    0 1 2 3 |                   | 12 13 14 15 |
    rank 1            | 4 5 6 7 |         |             | 16 17 ...
    rank 2                      | 8 9 10 11 |

Neighbours hold rows of the same windows. The fewer ranks have rows of a window, the
fewer partial results of it are sent and merged.
"""

from __future__ import annotations

import json

from hpcstream.config import JobConfig, RoundLimits
from hpcstream.connectors.base import Source, Split
from hpcstream.connectors.files.source import FileSource
from hpcstream.errors import PlanError
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.graph.physical import PhysicalGraph, TaskPlan
from hpcstream.runtime.checkpoints.restoring import Restored
from hpcstream.runtime.checkpoints.same_sources import found_again, relocated
from hpcstream.runtime.sources.split_assignment import assigned_to
from hpcstream.runtime.sources.split_progress import SplitProgress

Assigned = dict[int, list[SplitProgress]]
"""Splits of this rank, by number of the source task."""


def round_limits(graph: PhysicalGraph, config: JobConfig) -> RoundLimits:
    """Return how much a source of the job scans for one round."""
    sources = [plan.source.source for plan in graph.tasks if plan.source is not None]
    return config.round_limits(
        has_live_source=not all(source.bounded for source in sources),
        is_reduced=not (graph.runs_user_code or graph.moves_rows),
        overlaps=graph.overlaps,
    )


def assign_splits(
    graph: PhysicalGraph, config: JobConfig, comm: Communicator, restored: Restored | None = None
) -> Procedure[Assigned]:
    """List the splits of every source on rank 0 and assign them in groups. Collective.

    Splits of a checkpoint continue from where they were read to.

    Raises
    ------
    ConnectorError
        On the rank that listed; `RemoteError` elsewhere.
    """
    assigned: Assigned = {}
    group_rows = round_limits(graph, config).rows
    for task in graph.tasks:
        if task.source is None:
            continue
        source = task.source.source
        of_a_group = group_rows if source.bounded else 0
        per_rank = source.per_rank
        if restored is not None and restored.knows_source(task.number):
            if per_rank and not restored.same_plan:
                raise PlanError(
                    f"{source.describe()} is given by each rank, so its splits cannot be "
                    f"assigned again: go on with {restored.manifest.size} ranks and the same plan"
                )
            if comm.rank in task.ranks:
                assigned[task.number] = restored.splits(
                    task.number, task.ranks, of_a_group, keep_done=source.discovers
                )
            if isinstance(source, FileSource):
                share = restored.share_of_splits(task.number)
                found = yield from found_again(source, share, restored.manifest, comm)
                for progress in assigned.get(task.number, ()):
                    progress.relocate(relocated(progress.split, found))
            continue
        identified = config.checkpoint_dir is not None
        text = yield from _listed(source, comm, on_all=per_rank, identified=identified)
        if per_rank:
            own = [Split.from_json(value) for value in json.loads(text)]
            assigned[task.number] = [
                SplitProgress(i * comm.size + comm.rank, split) for i, split in enumerate(own)
            ]
        else:
            assigned[task.number] = yield from _assign(task, text, comm, of_a_group)
    return assigned


def _listed(
    source: Source, comm: Communicator, *, on_all: bool, identified: bool
) -> Procedure[str]:
    """Return the splits of a source as JSON, on rank 0 or on every rank; "" elsewhere.

    ``identified``: with the facts that identify their files in a restart.
    """
    text, error = "", None
    if comm.rank == 0 or on_all:
        try:
            splits = source.list_splits()
            if identified and isinstance(source, FileSource):
                splits = source.identified(splits)
            text = json.dumps([split.to_json() for split in splits])
        except BaseException as failure:
            failure.add_note(f"while listing the splits of {source.describe()}")
            error = failure
    yield from raise_together(error, comm)
    return text


def _assign(
    task: TaskPlan, text: str, comm: Communicator, group_rows: int
) -> Procedure[list[SplitProgress]]:
    (first, *_) = yield from gather_bytes(comm, text.encode())
    if comm.rank not in task.ranks:
        return []
    splits = json.loads(first)
    rows = [split["n_rows"] for split in splits]
    mine = assigned_to(task.ranks.index(comm.rank), len(task.ranks), rows, group_rows)
    return [SplitProgress(i, Split.from_json(splits[i])) for i in mine]
