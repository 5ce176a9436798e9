"""Every benchmark once, tiny: each system gives the same answer, and the commands work."""

from __future__ import annotations

import json

import pytest

from benchmarks.command import main
from benchmarks.datasets import build
from benchmarks.results import read_results
from benchmarks.systems import SYSTEMS, is_installed, make
from benchmarks.systems.one_pass import OnePass
from benchmarks.trial import Trial
from benchmarks.workloads import WORKLOADS

ROWS = 20_000
PASSES = 3


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of input files."""
    return tmp_path_factory.mktemp("benchmarks")


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "one-pass"])
def test_every_system_gives_the_answer_of_the_one_pass_loop(data, workload, system):
    if not is_installed(system):
        pytest.skip(f"{system} is not installed")
    small = WORKLOADS[workload].with_rows(ROWS)
    path = build(small, data)
    rows = 445_000 if small.dataset == "flights" else ROWS
    trial = Trial(workload, system, str(path), rows)

    _, answer = make(trial).run(PASSES)

    expected = OnePass(trial).expected(PASSES if SYSTEMS[system].endless else 1)
    assert not answer.difference(expected)


def test_the_first_benchmark_measures_one_and_two_ranks_beside_the_one_pass_loop(data, capsys):
    arguments = ["run", "--workloads", "tumbling", "--ranks", "1", "2", "--peers", "one-pass"]
    arguments += ["--no-variants", "--rows", str(ROWS), "--passes", "2", "--repeats", "1"]
    status = main([*arguments, "--out", str(data), "--data", str(data), "--name", "first"])

    records = read_results([data / "first.jsonl"])
    assert status == 0, json.dumps(records, indent=1)
    trials = [record for record in records if record["kind"] == "trial"]
    assert [t["label"] for t in trials] == ["one-pass", "hpcstream, 1 rank", "hpcstream, 2 ranks"]
    assert [len(t["memory_bytes"]) for t in trials[1:]] == [1, 2]
    assert "of one-pass" in capsys.readouterr().out
