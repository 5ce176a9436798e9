"""Importing changes nothing in the process, and a run leaves only what is listed."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstream.process.effects import DURING_RUN, EFFECTS, FROM_THE_FIRST_JOB, table
from tests.unit.source_tree import package_files

PROJECT = Path(__file__).parents[2]
LAUNCHED = {
    "alone": {},
    "MPICH": {"PMI_SIZE": "2", "PMI_RANK": "1", "PMI_FD": "999"},
    "Open MPI": {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
}

IMPORT = """
import json, sys
from tests.unit.process_state import changed, state
before = state()
import hpcstream
print(json.dumps(sorted(changed(before, state()))))
import hpcstream.launch.exit_hooks, hpcstream.process.effects, hpcstream.cli.command
import hpcstream.testing
print(json.dumps(sorted(changed(before, state()))))
"""

RUN = """
import json, sys
import pyarrow as pa
import numba
from tests.unit.process_state import changed, state
import hpcstream as hs
import hpcstream.launch.run

def run(name):
    job = hs.Job(name)
    rows = job.from_batches([pa.record_batch({"k": [i % 3], "t": [i]}) for i in range(20)],
                            event_time="t", event_time_unit="s")
    rows.key_by("k").window(hs.tumbling("5s")).agg(n=hs.count()).write_parquet(sys.argv[1],
                                                                             mode="append")
    return job.run(checkpoint_dir=sys.argv[1] + name, checkpoint_interval="1ms")

before = state()
run("first")
between = state()
print(json.dumps(sorted(changed(before, between))))
run("second")
print(json.dumps(sorted(changed(between, state()))))
try:
    job = hs.Job("failing")
    rows = job.from_batches(pa.table({"x": [1]}))
    rows.map_batches(lambda batch: 1 / 0, schema=rows.schema).collect()
    job.run()
except ZeroDivisionError:
    pass
print(json.dumps(sorted(changed(between, state()))))
"""

SEEN_OF_A_RUN_ALONE = {"sys.excepthook", "atexit", "logger"}
"""What stays of one in a process that no launcher has started: all in `FROM_THE_FIRST_JOB`."""


def lines_of(program, *arguments, **environ):
    run = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environ},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    return [set(json.loads(line)) for line in run.stdout.splitlines()]


@pytest.mark.parametrize("environ", LAUNCHED.values(), ids=LAUNCHED)
def test_importing_changes_nothing_in_the_process(environ):
    own, others = lines_of(IMPORT, **environ, HPCSTREAM_ALLOW_SINGLETONS="1")

    assert own - {"import system"} == set()
    of_libraries = {"atexit", "import system", "files", "threads", "warnings", "allocator"}
    assert others <= of_libraries


def test_only_what_is_listed_stays_of_a_run(tmp_path):
    first, second, failed = lines_of(RUN, tmp_path / "out")

    assert first == SEEN_OF_A_RUN_ALONE
    assert second == failed == set()


ON_RANKS = """
import json, sys
import pyarrow as pa
import numba
from tests.unit.process_state import changed, state
import hpcstream as hs
import hpcstream.launch.run
from hpcstream.exchange import mpi

def run():
    job = hs.Job("job")
    job.from_batches([pa.record_batch({"k": [i]}) for i in range(9)]).rebalance().collect()
    job.run(show=False)

before = state()
run()
between = state()
run()
own = json.dumps([sorted(changed(before, between)), sorted(changed(between, state()))])
everyone = mpi.MPI.COMM_WORLD.gather(own)
if everyone:
    print("\\n".join(everyone))
"""

SEEN_ON_RANKS = SEEN_OF_A_RUN_ALONE - {"logger"} | {"sys.exit", "exit, quit", "death signal"}


def test_only_what_is_listed_stays_of_a_run_on_several_ranks(run_ranks):
    run = run_ranks(2, ["-c", ON_RANKS], env={"PYTHONPATH": str(PROJECT)})

    assert run.returncode == 0, run.stdout
    lines = [line for line in run.stdout.splitlines() if line.startswith("[[")]
    assert len(lines) == 2
    for line in lines:
        first, second = map(set, json.loads(line))
        assert first - {"files"} == SEEN_ON_RANKS, "files: MPI connects to ranks when it must"
        assert second - {"files"} == set()


def test_what_stays_has_a_reason_and_every_file_is_there():
    files = {file.shown.removeprefix("hpcstream/") for file in package_files()}
    for one in EFFECTS:
        assert set(one.where.split(", ")) <= files, one.what
    assert all(one.stays for one in FROM_THE_FIRST_JOB)


def test_the_page_lists_all_effects():
    page = (PROJECT / "docs" / "process.md").read_text("utf-8")

    assert table(FROM_THE_FIRST_JOB) in page
    assert table(DURING_RUN) in page


CHANGING = (
    "atexit.register",
    "os.register_at_fork",
    "signal.signal",
    "signal.set_wakeup_fd",
    "gc.freeze",
    "gc.disable",
    "os.putenv",
    "faulthandler.enable",
    "locale.setlocale",
    "logging.basicConfig",
)


def test_no_module_changes_the_process_when_it_is_imported():
    effects = [
        f"{file.shown}:{node.lineno} {ast.unparse(node)}"
        for file in package_files()
        for statement in file.tree.body
        for node in at_import(statement)
        if is_effect(node)
    ]
    assert not effects


def at_import(statement):
    """Yield what is done when a module is imported: not what stands in functions."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        for decorator in statement.decorator_list:
            yield from ast.walk(decorator)
        return
    yield statement
    for child in ast.iter_child_nodes(statement):
        yield from at_import(child)


def is_effect(node):
    if isinstance(node, ast.Assign):
        targets = [ast.unparse(target) for target in node.targets]
        return any(one.startswith(("sys.", "os.environ", "builtins.")) for one in targets)
    return isinstance(node, ast.Attribute) and ast.unparse(node) in CHANGING
