"""Plans and identities as they were: a change of them is seen, and meant.

``python tests/golden/test_plans.py`` writes the files again. What it changes below
``identities`` costs users their checkpoints.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import hpcstream as hs
from hpcstream.graph.identity import operator_identities, source_identities
from hpcstream.graph.planner import plan

sys.path.insert(0, str(Path(__file__).parent))
from golden_jobs import JOBS

FOLDER = Path(__file__).parent
RANKS = (1, 2, 3)


def planned(build, n_ranks):
    job = hs.Job("golden")
    build(job)
    return plan(job._graph(), n_ranks)


def explained(build):
    return "".join(f"{planned(build, n).explain()}\n\n" for n in RANKS)


def identified(build):
    """Return what a checkpoint knows sources and operators by."""
    graphs = [planned(build, n) for n in RANKS[:2]]
    lines = [f"source {name}" for name in source_identities(graphs[0]).values()]
    for graph in graphs:
        lines += [
            f"{one.role or 'whole'} {one.id}\n    {one.signature}"
            for one in operator_identities(graph)
        ]
    text = "\n".join(lines)
    return text.replace(os.getcwd(), "/here") + "\n"


KINDS = {"plans": explained, "identities": identified}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", JOBS)
def test_plans_are_as_they_were(kind, build):
    kept = (FOLDER / kind / f"{build.__name__}.txt").read_text()
    assert KINDS[kind](build) == kept


if __name__ == "__main__":
    for kind, text_of in KINDS.items():
        for build in JOBS:
            (FOLDER / kind).mkdir(exist_ok=True)
            (FOLDER / kind / f"{build.__name__}.txt").write_text(text_of(build))
