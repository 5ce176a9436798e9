"""Who reads which splits of a source, and how much of them in one round.

A rank gets runs of neighbouring splits, each about what it scans in one round, and the
ranks take turns::

    rank 0    0 1 2 3 |                   | 12 13 14 15 |
    rank 1            | 4 5 6 7 |         |             | 16 17 ...
    rank 2                      | 8 9 10 11 |

Neighbours hold rows of the same windows. The fewer ranks have rows of a window, the
fewer partial results of it there are to send and to merge.
"""

from __future__ import annotations

import json
from collections.abc import Generator

from hpcstream.config import JobConfig, RoundLimits
from hpcstream.connectors.base import Source, Split
from hpcstream.connectors.files.source import FileSource
from hpcstream.errors import PlanError
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, gather_bytes
from hpcstream.graph.physical import PhysicalGraph, TaskPlan
from hpcstream.runtime.checkpoints.restoring import Restored
from hpcstream.runtime.checkpoints.same_sources import found_again, relocate
from hpcstream.runtime.sources.reader import SplitProgress
from hpcstream.runtime.sources.runs import dealt_to

Dealt = dict[int, list[SplitProgress]]
"""Splits of this rank, by number of the source task."""


def round_limits(graph: PhysicalGraph, config: JobConfig) -> RoundLimits:
    """Return what a source of the job scans for one round."""
    sources = [plan.source.source for plan in graph.tasks if plan.source is not None]
    return config.round_limits(
        has_live_source=not all(source.bounded for source in sources),
        is_reduced=not (graph.runs_user_code or graph.moves_rows),
        overlaps=graph.overlaps,
    )


def deal_splits(
    graph: PhysicalGraph, config: JobConfig, comm: Communicator, restored: Restored | None = None
) -> Generator[None, None, Dealt]:
    """List the splits of every source on rank 0 and deal them in runs. Collective.

    Those of a checkpoint are dealt as they were there, from where they were read to.

    Raises
    ------
    ConnectorError
        On the rank that listed; `RemoteError` elsewhere.
    """
    dealt: Dealt = {}
    run_rows = round_limits(graph, config).rows
    for task in graph.tasks:
        if task.source is None:
            continue
        source = task.source.source
        of_a_run = run_rows if source.bounded else 0
        per_rank = source.per_rank
        if restored is not None and restored.knows_source(task.number):
            if per_rank and not restored.same_plan:
                raise PlanError(
                    f"{source.describe()} is given by each rank, so its splits cannot "
                    f"be dealt again: go on with {restored.manifest.size} ranks and the same plan"
                )
            if comm.rank in task.ranks:
                dealt[task.number] = restored.splits(
                    task.number, task.ranks, of_a_run, keep_done=source.discovers
                )
            if isinstance(source, FileSource):
                share = restored.share_of_splits(task.number)
                found = yield from found_again(source, share, restored.manifest, comm)
                for progress in dealt.get(task.number, ()):
                    relocate(progress, found)
            continue
        identified = config.checkpoint_dir is not None
        text = yield from _listed(source, comm, by_all=per_rank, identified=identified)
        if per_rank:
            own = [Split.from_json(value) for value in json.loads(text)]
            dealt[task.number] = [
                SplitProgress(i * comm.size + comm.rank, split) for i, split in enumerate(own)
            ]
        else:
            dealt[task.number] = yield from _deal(task, text, comm, of_a_run)
    return dealt


def _listed(
    source: Source, comm: Communicator, *, by_all: bool, identified: bool
) -> Generator[None, None, str]:
    """Return the splits of a source as JSON, on rank 0 or on every rank; "" elsewhere.

    ``identified``: with what their files are known by, for a restart.
    """
    text, error = "", None
    if comm.rank == 0 or by_all:
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


def _deal(
    task: TaskPlan, text: str, comm: Communicator, run_rows: int
) -> Generator[None, None, list[SplitProgress]]:
    (first, *_) = yield from gather_bytes(comm, text.encode())
    if comm.rank not in task.ranks:
        return []
    splits = json.loads(first)
    rows = [split["n_rows"] for split in splits]
    mine = dealt_to(task.ranks.index(comm.rank), len(task.ranks), rows, run_rows)
    return [SplitProgress(i, Split.from_json(splits[i])) for i in mine]
