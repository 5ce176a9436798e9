"""ShuffleBench: the pipeline on simulated ranks against DuckDB, and its rules."""

from __future__ import annotations

import numpy as np
import pytest

import hpcstream as hs
from benchmarks.nexmark.oracle import answer
from benchmarks.shufflebench.command import _parser, main, source
from benchmarks.shufflebench.pipeline import Matcher, queries
from benchmarks.shufflebench.records import columns
from benchmarks.shufflebench.rules import zipf_rules
from hpcstream.testing import assert_same_rows, run_ranks

OPTIONS = _parser().parse_args(["--records", "20000", "--record-bytes", "64", "--rules", "50"])


@pytest.mark.parametrize("name", ["count", "carry"])
@pytest.mark.parametrize("local", [True, False])
def test_the_pipeline_gives_the_rows_of_duckdb_on_any_number_of_ranks(name, local):
    query = queries(zipf_rules(50, 1.3, 0.8, seed=3), window_ms=5)[name]
    records = source(OPTIONS)

    def build():
        job = hs.Job(name)
        return job, query.build(records.views(job, query)).collect()

    for n_ranks in (1, 2, 3):
        found = run_ranks(n_ranks, build, batch_rows=1_500, local_aggregation=local).table
        expected, _ = answer(query, records.tables(query), found.schema)
        assert expected.num_rows > 100
        assert_same_rows(found, expected)


@pytest.mark.parametrize(("selectivity", "exponent"), [(0.2, 0.0), (3.0, 0.5), (30.0, 0.0)])
def test_rules_match_as_many_records_as_their_selectivity_says(selectivity, exponent):
    rules = zipf_rules(60, selectivity, exponent, seed=1)
    made = columns(seed=1, per_second=1_000, record_bytes=64)
    first, second = (
        made[n].values(0, 50_000, s).to_numpy() for n, s in [("first", 5), ("second", 6)]
    )
    rows, found = Matcher(rules, payload=False)._pairs(first, second)
    assert len(rows) / 50_000 == pytest.approx(selectivity, rel=0.05)
    share = np.bincount(found, minlength=60) / 50_000
    assert share[0] == pytest.approx(rules.widths[0] / 2.0**63, rel=0.25, abs=0.002)


def test_payloads_have_their_size_and_are_the_same_read_in_any_part():
    payload = columns(seed=1, per_second=1_000, record_bytes=1_024)["payload"]
    whole = payload.values(0, 3_000, 0).to_pylist()
    assert {len(value) for value in whole} == {1_008}
    assert payload.values(2_000, 100, 0).to_pylist() == whole[2_000:2_100]
    assert payload.values(3, 20, 0, 16).to_pylist() == whole[3 : 3 + 320 : 16]


def test_the_command_checks_its_answer(tmp_path, capsys):
    arguments = ["--records", "10000", "--repeats", "1", "--every", "5", "--out", str(tmp_path)]
    assert main(arguments) == 0
    assert "checked" in capsys.readouterr().out
