"""Every NEXMark query on simulated ranks, against DuckDB; and what the events are like."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import hpcstream as hs
from benchmarks.nexmark import texts
from benchmarks.nexmark.command import main
from benchmarks.nexmark.config import FIRST_ID, KINDS, NexmarkConfig
from benchmarks.nexmark.digest import digest
from benchmarks.nexmark.events import TIME, columns, stream, table
from benchmarks.nexmark.oracle import answer
from benchmarks.nexmark.queries import MISSING, QUERIES
from benchmarks.report.results import read_results
from hpcstream.testing import assert_same_rows, run_ranks

EVENTS = 6_000
CONFIG = NexmarkConfig(events_per_second=100)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_gives_the_rows_of_duckdb_on_any_number_of_ranks(name):
    query = QUERIES[name]
    views = {k: table(k, CONFIG, EVENTS, list(names)) for k, names in query.reads.items()}

    def build():
        job = hs.Job(name)
        streams = {k: stream(job, k, CONFIG, events=EVENTS) for k in query.reads}
        return job, query.build(streams).collect()

    for n_ranks in (1, 2, 3):
        found = run_ranks(n_ranks, build, seed=n_ranks, batch_rows=700).table
        expected, _ = answer(query, views, found.schema)
        assert expected.num_rows > 0
        assert_same_rows(found, expected, rtol=1e-9)


def test_queries_that_run_and_queries_that_wait_are_all_of_them():
    assert sorted([*QUERIES, *MISSING]) == sorted(f"q{i}" for i in range(23))


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_events_out_of_order_within_their_delay_are_never_late(n_ranks):
    config = NexmarkConfig(events_per_second=100, out_of_order_group=200)
    query = QUERIES["q12"]

    def build():
        job = hs.Job("q12")
        return job, query.build({"bid": stream(job, "bid", config, events=EVENTS)}).collect()

    run = run_ranks(n_ranks, build, batch_rows=100)
    views = {"bid": table("bid", config, EVENTS, ["bidder", TIME])}
    assert np.any(np.diff(views["bid"][TIME].cast(pa.int64()).to_numpy()) < 0)
    assert run.result.late_rows == 0
    assert_same_rows(run.table, answer(query, views, run.table.schema)[0])


def test_kinds_come_one_to_three_to_forty_six():
    events = 12_345
    made = {kind: table(kind, CONFIG, events, ["event"])["event"].to_pylist() for kind in KINDS}
    assert sorted(event for numbers in made.values() for event in numbers) == list(range(events))
    assert {kind: len(table(kind, CONFIG, 5_000, ["event"])) for kind in KINDS} == {
        "person": 100,
        "auction": 300,
        "bid": 4_600,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_any_part_of_a_stream_is_the_same_as_in_the_whole(kind):
    for name, column in columns(kind, CONFIG).items():
        whole = column.values(0, 3_000, 0)
        assert column.type == whole.type, name
        assert column.values(1_234, 500, 0).to_pylist() == whole.slice(1_234, 500).to_pylist()
        strided = column.values(7, 100, 0, 16).to_pylist()
        assert strided == whole.to_pylist()[7 : 7 + 1_600 : 16], name


def test_another_seed_gives_other_values():
    first, second = (
        table("bid", NexmarkConfig(seed=seed), 1_000, ["auction", "price", "extra", "url"])
        for seed in (1, 2)
    )
    for name in first.column_names:
        assert first[name].to_pylist() != second[name].to_pylist()


def test_hot_keys_come_as_often_as_published():
    config = NexmarkConfig()
    bids = table("bid", config, 200_000, ["event", "auction", "bidder", "price", "channel"])
    epoch = bids["event"].to_numpy() // 50
    auction, bidder = (bids[name].to_numpy() - FIRST_ID for name in ("auction", "bidder"))
    hot_auction = (epoch * 3 + 2) // 100 * 100
    # Some that are not hot fall on the hot one by chance: one in about 100, one in 1,000.
    assert np.mean(auction == hot_auction) == pytest.approx(1 / 2, abs=0.01)
    assert np.mean(bidder == epoch // 100 * 100 + 1) == pytest.approx(3 / 4, abs=0.01)
    assert np.mean(np.log10(bids["price"].to_numpy())) == pytest.approx(5, abs=0.02)
    hot_channel = pc.is_in(bids["channel"].cast(pa.string()), pa.array(texts.HOT_CHANNELS))
    assert pc.mean(hot_channel.cast(pa.int8())).as_py() == pytest.approx(1 / 2, abs=0.01)
    sellers = table("auction", config, 200_000, ["event", "seller"])
    hot_seller = sellers["event"].to_numpy() // 50 // 100 * 100
    hot = np.mean(sellers["seller"].to_numpy() - FIRST_ID == hot_seller)
    assert hot == pytest.approx(3 / 4, abs=0.02)


def test_bids_name_auctions_and_people_that_are_or_soon_will_be():
    bids = table("bid", NexmarkConfig(), 500_000, ["event", "auction", "bidder"])
    epoch = bids["event"].to_numpy() // 50
    auction, bidder = (bids[name].to_numpy() - FIRST_ID for name in ("auction", "bidder"))
    last = epoch * 3 + 2
    assert np.all((auction >= 0) & (auction >= last - 199) & (auction <= last + 10))
    assert np.all((bidder >= 0) & (bidder >= epoch - 999) & (bidder <= epoch + 10))


def test_texts_fill_events_up_to_their_average_size():
    extra = table("bid", NexmarkConfig(), 100_000, ["extra"])["extra"]
    lengths = pc.binary_length(extra)
    assert pc.min_max(lengths).as_py() == {"min": 54, "max": 81}
    assert pc.mean(lengths).as_py() == pytest.approx(67.5, abs=0.1)
    assert pc.count_distinct(extra).as_py() > 0.99 * len(extra)
    extra.validate(full=True)


def test_the_digest_of_rows_does_not_know_their_order_but_their_values():
    rows = table("bid", CONFIG, 1_000, ["auction", "price", "channel", "extra", TIME])
    right = digest(rows.to_batches())
    backwards = rows.take(pa.array(range(len(rows))[::-1]))
    assert digest(backwards.to_batches(max_chunksize=99)).difference(right) == ""
    prices = rows["price"].to_pylist()
    prices[3], prices[4] = prices[4], prices[3]
    swapped = rows.set_column(1, "price", pa.array(prices))
    assert "hash" in digest(swapped.to_batches()).difference(right)
    assert "rows" in digest(rows.slice(1).to_batches()).difference(right)


@pytest.mark.parametrize("source", ["generate", "ipc"])
def test_the_command_checks_and_prints_what_it_ran(source, tmp_path, capsys):
    arguments = ["--queries", "q2", "q12", "q10", "--events", "5000", "--repeats", "1"]
    arguments += ["--input", source, "--out", str(tmp_path), "--json", str(tmp_path / "r.jsonl")]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.count("checked") == 3
    kinds = [record["kind"] for record in read_results([tmp_path / "r.jsonl"])]
    assert kinds == ["machine", *["missing"] * len(MISSING), *["query"] * 3]


def test_the_command_says_how_fast_events_are_made(capsys):
    assert main(["--driver", "--events", "20000"]) == 0
    assert "M events/s a core" in capsys.readouterr().out


def test_the_command_lists_what_is_missing(capsys):
    assert main(["--list"]) == 0
    assert "q19" in capsys.readouterr().out
