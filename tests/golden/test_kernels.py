"""Operators name the kernel families on demand that they load, to be compiled before round 0."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstream import kernels

FOLDER = Path(__file__).parent

# A process of its own for each job, begun before any kernel is loaded.
LOADED_AND_NAMED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import h5py, numba, pyarrow.compute, pyarrow.dataset, pyarrow.parquet  # once, for all
import hpcstream as hs
import hpcstream.launch.run
import golden_jobs
from golden_jobs import JOBS, columns

def generated(job, **options):
    given = dict(rows=150, splits=3, event_time="t", event_time_unit="ms")
    return job.generate(columns, **given, **options)

golden_jobs.generated = generated  # fewer rows: kernels are slow without the compiler
for build in JOBS:
    for reproducible in (False, True):
        sys.stdout.flush()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            continue
        job = hs.Job("golden")
        build(job)
        named = job._graph().kernels(reproducible=reproducible)
        try:
            job.run(show=False, reproducible=reproducible)
        except hs.HpcstreamError as error:
            loaded = ["refused"] if "reproducible" in str(error) else [str(error)]
        else:
            families = [name.split(".") for name in sys.modules]
            loaded = [f[2] for f in families if f[:2] == ["hpcstream", "kernels"] and len(f) == 3]
        print(build.__name__, reproducible, ",".join(named), ",".join(loaded), file=sys.stderr)
        sys.stderr.flush()
        os._exit(0)
"""


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Return {(job, reproducible): (families named, families loaded)}."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED_AND_NAMED, str(FOLDER)],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        cwd=tmp_path_factory.mktemp("jobs"),
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    lines = [line.split(" ") for line in done.stderr.splitlines() if line.count(" ") == 3]
    return {
        (name, reproducible == "True"): (set(named.split(",")), set(loaded.split(",")))
        for name, reproducible, named, loaded in lines
    }


def test_what_is_loaded_on_demand_is_named(families):
    unnamed = {
        run: (loaded & kernels.ON_DEMAND) - named
        for run, (named, loaded) in families.items()
        if (loaded & kernels.ON_DEMAND) - named
    }
    assert len(families) >= 30
    assert unnamed == {}


def test_what_is_named_is_loaded_by_some_job(families):
    named = set().union(*(named for named, _ in families.values())) - {""}
    loaded = set().union(*(loaded for _, loaded in families.values()))
    assert named <= kernels.ON_DEMAND <= set(kernels.FAMILIES)
    assert named <= loaded


def test_a_job_of_plain_windows_names_none(families):
    named, _ = families["keyed", False]
    assert named == {""}
