"""Real ranks that leave their script once MPI has started: before a job, between two, after.

Before a rank has built a job it is only watched where `HPCSTREAM_EXIT_HOOKS` is set.
"""

from __future__ import annotations

import pytest

SCRIPT = """
import sys
from mpi4py import MPI
import hpcstream as hs

def leave(place):
    if place == sys.argv[1] and str(MPI.COMM_WORLD.rank) in sys.argv[2]:
        exec(sys.argv[3])

def run(name):
    job = hs.Job(name)
    job.generate(lambda start, n: {"t": range(n)}, rows=9).collect()
    leave(f"built {name}")
    job.run(show=False)

leave("before")
run("one")
leave("between")
run("two")
leave("after")
"""

ERROR = "raise ValueError('no such setting')"
CASES = [
    ("before", "0", ERROR, 1, "no such setting"),
    ("before", "1", "sys.exit(4)", 4, "rank 1 left the script with status 4"),
    ("built one", "1", ERROR, 1, "no such setting"),
    ("built one", "0", "sys.exit(4)", 4, "rank 0 left the script with status 4"),
    ("between", "0", "sys.exit(0)", 1, "rank 1 waits in job.run(), but rank 0 has left"),
    ("between", "1", "sys.exit(4)", 4, "rank 1 left the script with status 4"),
    ("between", "01", "sys.exit('no rows')", 1, "no rows"),
    ("between", "01", "raise KeyboardInterrupt", 130, "KeyboardInterrupt"),
    ("after", "0", ERROR, 1, "no such setting"),
]


@pytest.mark.parametrize(
    ("place", "ranks", "statement", "status", "said"),
    CASES,
    ids=[f"{place} {ranks} {statement}" for place, ranks, statement, *_ in CASES],
)
def test_a_rank_that_leaves_ends_the_others_with_its_status(
    place, ranks, statement, status, said, run_ranks, tmp_path
):
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)

    environ = {"HPCSTREAM_EXIT_HOOKS": "1"} if place == "before" else {}

    run = run_ranks(2, [script, place, ranks, statement], timeout=60, env=environ)

    assert run.returncode == status, run.stdout
    assert said in run.stdout
    assert run.stdout.count("Traceback") == int("raise" in statement)
