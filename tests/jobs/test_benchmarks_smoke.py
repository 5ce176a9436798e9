"""Every benchmark once, tiny: each system gives the same answer, and the commands work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from subprocess import PIPE

import numpy as np
import pytest

from benchmarks.command import main
from benchmarks.guard import Comparison, engine
from benchmarks.guard import _config as guard_config
from benchmarks.measure import launch
from benchmarks.measure.launch import ROOT, LaunchConfig, TrialError, run_trial
from benchmarks.measure.paced import trend_of
from benchmarks.measure.trial import Trial
from benchmarks.micro import command as micro
from benchmarks.report.markdown import write_report
from benchmarks.report.plots import _PLOTS
from benchmarks.report.results import ResultFile, read_results
from benchmarks.report.targets import outcomes
from benchmarks.suites.endurance import growth_of
from benchmarks.suites.sustained import STEP, is_sustained, search
from benchmarks.systems import SYSTEMS, is_installed, make
from benchmarks.systems.one_pass import OnePass
from benchmarks.workloads.answers import Answer
from benchmarks.workloads.datasets import build
from benchmarks.workloads.workload import WORKLOADS

ROWS = 20_000
PASSES = 3


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of input files."""
    return tmp_path_factory.mktemp("benchmarks")


def answer_to(trial):
    if trial.system == "flink":  # leaves pipes of its JVM open, so not in this process
        report = run_trial(replace(trial, passes=PASSES), LaunchConfig())
        return Answer.from_json(report["answer"])
    return make(trial).run(PASSES)[1]


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "one-pass"])
def test_every_system_gives_the_answer_of_the_one_pass_loop(data, workload, system):
    if not is_installed(system):
        pytest.skip(f"{system} is not installed")
    small = WORKLOADS[workload].with_rows(ROWS)
    path = build(small, data)
    rows = 445_000 if small.dataset == "flights" else ROWS
    if workload in SYSTEMS[system].skips:
        pytest.skip(f"{system} has no {workload}")
    if rows > SYSTEMS[system].max_rows:
        pytest.skip(f"{system} is too slow for {rows:,} rows")
    trial = Trial(workload, system, str(path), rows)

    answer = answer_to(trial)

    expected = OnePass(trial).expected(PASSES if SYSTEMS[system].endless else 1)
    assert not answer.difference(expected)


def test_the_first_benchmark_measures_one_and_two_ranks_beside_the_one_pass_loop(data, capsys):
    arguments = ["run", "--suites", "core", "--workloads", "tumbling", "--ranks", "1", "2"]
    arguments += ["--peers", "one-pass"]
    arguments += ["--no-variants", "--rows", str(ROWS), "--passes", "2", "--repeats", "1"]
    arguments += ["--latency-seconds", "2.5", "--rates", "10000", "--long-rows", "100000"]
    arguments += ["--no-sustained"]
    status = main([*arguments, "--out", str(data), "--data", str(data), "--name", "first"])

    records = read_results([data / "first.jsonl"])
    assert status == 0, json.dumps(records, indent=1)
    trials = [record for record in records if record["kind"] == "trial"]
    assert [t["label"] for t in trials] == ["one-pass", "hpcstream, 1 rank", "hpcstream, 2 ranks"]
    assert [len(t["memory_bytes"]) for t in trials[1:]] == [1, 2]
    assert "of one-pass" in capsys.readouterr().out
    keyed, ysb = [record for record in records if record["kind"] == "latency"]
    assert keyed["counted"] == keyed["rows"] == 25_000
    assert 0 < ysb["counted"] < ysb["rows"]
    assert ysb["results"] == 100  # of the window that ends after two seconds
    assert 0 <= keyed["lag_s"] < 2.5
    (long,) = [record for record in records if record["kind"] == "endurance"]
    assert long["rows"] == 100_000
    report = (data / "first" / "report.md").read_text()
    assert "| tumbling |" in report
    assert "10,000 rows/s" in report


def test_one_command_runs_the_other_suites_and_puts_them_into_the_same_report(tmp_path):
    arguments = ["run", "--quick", "--repeats", "1", "--suites", "shufflebench", "sprobench"]
    status = main(
        [*arguments, "--ranks", "1", "--rows", "5000", "--out", str(tmp_path), "--name", "suites"]
    )

    records = read_results([tmp_path / "suites.jsonl"])
    assert status == 0, json.dumps(records, indent=1)
    queries = [record["query"] for record in records if record["kind"] == "query"]
    assert queries == ["count", "p0", "p1", "p2"]
    report = (tmp_path / "suites" / "report.md").read_text()
    assert "## ShuffleBench" in report
    assert "## SProBench" in report
    assert report.count("load average was") == 1


def query_record(suite, query, *seconds):
    record = {"kind": "query", "suite": suite, "query": query, "title": "Asks", "differs": ""}
    record |= {"label": "hpcstream, 2 ranks", "rows": 100, "rows_in": 92, "rows_out": 7}
    record |= {"windows": 3, "late_rows": 0, "all_seconds": seconds, "seconds": seconds[0]}
    record |= {"rows_per_second": 100 / seconds[0], "answer": {"mix": "00ff"}, "fault": ""}
    return record | {"duckdb_s": 1.0, "duckdb_rows_per_second": 1e6, "input": {"bid": "abc"}}


def test_the_report_says_which_queries_wait_and_which_figures_are_of_one_run(tmp_path):
    missing = {"kind": "missing", "suite": "nexmark", "query": "q4", "title": "Price"}
    records = [missing | {"needs": "a join"}, query_record("nexmark", "q0", 1.0)]
    records += [query_record("nexmark", "q5", 1.0, 1.5)]
    results = ResultFile(tmp_path / "r.jsonl")
    for record in [*records, *trial_records("tumbling", "hpcstream, 2 ranks", 1e6)]:
        results.add(record)

    report = write_report([results.path], tmp_path / "report").read_text()

    assert "`q4` Price: needs a join" in report
    assert "| q0 | 0.00 | one run |" in report
    assert "| q5 | 0.00 | 40% |" in report
    assert "One repetition each: no median" in report
    assert "Hashes of inputs and results are published" in report


def test_job_scripts_for_a_cluster_ask_for_as_many_ranks_as_they_measure(tmp_path, capsys):
    arguments = ["run", "--slurm", "00:30:00", "--ranks", "64", "128", "--out", str(tmp_path)]
    arguments += ["--rows", "1000", "--weak"]
    assert main(arguments) == 2  # each job would find another number of rows
    arguments += ["--passes", "3"]

    assert main(arguments) == 0

    script = (tmp_path / "weak-128.sbatch").read_text()
    assert "#SBATCH --ntasks=128" in script
    assert "--launcher auto --ranks 128" in script
    assert "--latency-ranks 128" in script
    assert "--rows 1000 " in script
    assert "--weak" in script
    assert subprocess.run(["bash", "-n", tmp_path / "weak-128.sbatch"]).returncode == 0
    assert f"sbatch {tmp_path}/weak-64.sbatch" in capsys.readouterr().out

    assert main([*arguments[:-3], "--launcher", "srun --mpi=pmi2 -n"]) == 0
    assert (
        "--launcher 'srun --mpi=pmi2 -n' --ranks 64" in (tmp_path / "ranks-64.sbatch").read_text()
    )


def test_a_job_script_runs_where_the_batch_system_names_no_user(tmp_path):
    arguments = ["run", "--slurm", "00:10:00", "--ranks", "1", "--suites", "core", "--workloads"]
    arguments += ["tumbling", "--rows", "1000", "--passes", "1", "--repeats", "1"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0

    environ = {name: value for name, value in os.environ.items() if name != "USER"}
    subprocess.run(["bash", tmp_path / "ranks-1.sbatch"], env=environ, check=True)

    assert "hpcstream, 1 rank" in (tmp_path / "ranks-1" / "report.md").read_text()


def test_memory_of_ranks_that_are_not_seen_is_not_given(tmp_path):
    results = ResultFile(tmp_path / "r.jsonl")
    (record,) = trial_records("tumbling", "hpcstream, 2 ranks", 1e6)
    results.add(record | {"memory_bytes": []})
    results.add({"kind": "memory", "label": record["label"], "series": []})

    report = write_report([results.path], tmp_path / "report").read_text()

    assert "| hpcstream, 2 ranks | 1.00 | one run | - | - |" in report
    assert "| memory of a rank on tumbling | below 300 MB | - |" in report


def test_a_trial_that_takes_too_long_leaves_nothing_behind():
    process = launch._start(
        ["sleep", "1000"], Trial("sleep", "hpcstream", "", 0), LaunchConfig(), PIPE
    )

    with pytest.raises(TrialError, match="did not end within 0 s"):
        launch._ended(process, 0.1)

    assert process.returncode == -signal.SIGKILL
    assert process.stdout.closed


def trial_records(workload, label, *values):
    system = label.split(",")[0]
    common = {"kind": "trial", "workload": workload, "label": label, "system": system}
    common |= {"ranks": 2, "memory_bytes": [1_000_000], "fault": "", "seconds": 1.0}
    common |= {"startup_s": 0.1, "import_s": 0.1, "compile_s": 0.1}
    common |= {"once": {"rows": 1, "mix": "00"}}
    return [common | {"rows_per_second": value} for value in values]


@pytest.mark.parametrize("limit", [12_345, 1_000_000, 7_654_321])
def test_the_sustained_rate_lies_between_one_kept_up_with_and_one_not(limit):
    low, high = search(lambda rate: rate <= limit)

    assert low <= limit < high <= low * STEP


def test_no_rate_is_sustained_if_none_is_kept_up_with():
    assert search(lambda rate: False)[0] == 0


def offered(rate, growth):
    common = {"kind": "offered", "workload": "latency", "ranks": 2, "late_rows": 0}
    common |= {"p50_ms": 1.0, "p99_ms": 2.0, "lag_s": 0.003}
    record = common | {"rate": rate, "lag_growth": growth}
    return record | {"sustained": is_sustained(record)}


def test_the_report_shows_the_sustained_rate_and_by_what_it_was_judged(tmp_path):
    results = ResultFile(tmp_path / "r.jsonl")
    for run in (offered(100, 0.0), offered(400, 0.5), offered(200, 0.3), offered(200, 0.001)):
        results.add(run)

    path = write_report([results.path], tmp_path / "report")

    assert (
        "| latency, 2 ranks | 200 rows/s | 400 rows/s | 3.00 ms | +1.0 ms/s |" in path.read_text()
    )
    assert "20 ms for each second" in path.read_text()
    assert (path.parent / "sustained.png").exists()


def test_lag_grows_by_its_trend_and_not_by_a_stall():
    seconds = np.arange(0, 10, 0.01)
    stalled = np.where((seconds > 8) & (seconds < 8.5), 0.4, 0.001)

    falls_behind, _ = trend_of(np.column_stack([seconds, 0.1 * seconds]))
    keeps_up, lag = trend_of(np.column_stack([seconds, stalled]))

    assert falls_behind == pytest.approx(0.1, rel=0.05)
    assert abs(keeps_up) < 1e-9
    assert lag == pytest.approx(0.001)
    assert trend_of(np.empty((0, 2))) == (0.0, 0.0)


def test_many_looks_for_rows_that_are_not_due_do_not_hide_lag():
    behind = np.array([(at, 0.3) for at in np.arange(0, 10, 0.09)])
    looks = np.array([(at, 0.0) for at in np.arange(0, 10, 0.0001)])

    assert trend_of(np.concatenate([behind, looks]))[1] == pytest.approx(0.3)


def test_results_of_several_jobs_are_taken_together_with_weak_scaling_beside_strong(tmp_path):
    for ranks in (1, 2, 4):
        results = ResultFile(tmp_path / f"ranks-{ranks}.jsonl")
        for weak in (False, True):
            label = f"hpcstream, {ranks} ranks{', weak' if weak else ''}"
            for record in trial_records("tumbling", label, ranks * 0.9e6):
                results.add(record | {"ranks": ranks, "weak": weak})

    path = write_report(sorted(tmp_path.glob("ranks-*.jsonl")), tmp_path / "report")

    assert path.read_text().count("| hpcstream, 4 ranks") == 2
    records = read_results(tmp_path.glob("ranks-*.jsonl"))
    shown = [axis for axis in _PLOTS["scaling"](records).axes if axis.lines]
    assert [axis.get_title() for axis in shown] == ["strong scaling", "weak scaling"]
    for axis in shown:
        assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "2", "4"]


@pytest.mark.parametrize(("one_host", "most"), [(True, 2), (False, 8)])
def test_ranks_that_share_cores_are_not_expected_to_be_faster(one_host, most):
    records = [{"kind": "machine", "cores": 2, "one_host": one_host}]
    for ranks in (1, 2, 8):
        label = f"hpcstream, {ranks} ranks"
        found = trial_records("tumbling", label, min(ranks, 2) * 0.9e6)
        records += [one | {"ranks": ranks, "weak": False} for one in found]

    (axis,) = [axis for axis in _PLOTS["scaling"](records).axes if axis.lines]

    assert list(axis.lines[-1].get_ydata()) == [1, 2, most]


def test_a_target_is_reached_by_the_ratio_of_medians():
    records = trial_records("tumbling", "hpcstream, 2 ranks", 16e6, 17e6, 90e6)
    records += trial_records("tumbling", "duckdb", 10e6, 10e6, 10e6)
    records += trial_records("sliding", "hpcstream, 2 ranks", 10e6)
    records += trial_records("sliding", "duckdb", 10e6)

    found = {outcome.name: outcome.reached for outcome in outcomes(records)}

    assert found["tumbling"]
    assert found["sliding"] is False
    assert found["skew"] is None


def test_a_target_does_not_count_a_peer_whose_answer_was_wrong():
    records = trial_records("tumbling", "hpcstream, 2 ranks", 16e6)
    records += [r | {"fault": "wrong"} for r in trial_records("tumbling", "duckdb", 1e6)]

    found = {outcome.name: outcome.reached for outcome in outcomes(records)}

    assert found["tumbling"] is None


def test_memory_grows_by_what_the_last_third_has_more_than_the_first():
    series = [(float(at), 50 if at < 10 else 100 + at) for at in range(41)]

    assert growth_of(series, 30.0) == pytest.approx(135.5 / 114.5 - 1.0)


def test_the_guard_judges_by_the_median_of_ratios():
    trial = Trial("tumbling", "hpcstream", "rows.arrow", 1)

    slower = Comparison(trial, ((10.0, 8.0), (10.0, 8.5), (10.0, 30.0)))

    assert slower.ratio == 0.85
    assert slower.cells(0.9)[-1] == "SLOWER"
    assert not slower.cells(0.8)[-1]


def test_the_guard_finds_the_engine_of_a_commit_and_the_benchmarks_of_this_checkout():
    show = "import importlib.util as u; print(*(u.find_spec(n).origin for n in NAMES), sep='\\n')"
    with engine("HEAD") as folder:
        config = guard_config(folder)
        names = "('hpcstream', 'hpcstream.kernels', 'benchmarks')"
        program = [sys.executable, "-c", show.replace("NAMES", names)]
        environ = config.environ(Trial("tumbling", "hpcstream", "", 1))
        found = subprocess.run(
            program, env=environ, cwd=config.folder, capture_output=True, text=True, check=True
        )
        package, kernels, benchmarks = found.stdout.splitlines()
        assert package.startswith(f"{folder}/")
        assert kernels.startswith(f"{folder}/")
        assert benchmarks.startswith(f"{ROOT}/")
    assert not folder.exists()


def test_the_small_parts_are_measured_against_the_machine(tmp_path, capsys):
    arguments = ["--quick", "--budget-s", "0.01", "--repeats", "1", "--rows", "0", "500"]

    assert micro.main([*arguments, "--ranks", "2", "--out", str(tmp_path), "--name", "micro"]) == 0

    records = read_results([tmp_path / "micro.jsonl"])
    assert [r["rows"] for r in records if r["kind"] == "exchange"] == [0, 500]
    assert all(r["bytes_per_second"] > 0 for r in records if r["kind"] == "kernel")
    printed = capsys.readouterr().out
    assert "hash, partition and pack" in printed
    assert "2 ranks, 12,000 B" in printed
