"""An aggregate that the engine does not know: two inputs, and a word of 4 KiB an entry."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.testing import run_ranks

sys.path.insert(0, str(Path(__file__).parent / "checkpoint"))
from restart import restarted, unfailed, visible

N_BINS = 512
N_KEYS = 7
N_ROWS = 6000


@dataclass(frozen=True)
class BinWeights(hs.Accumulator):
    """The weights of the values of each bin; weights are added up, whatever their order."""

    columns: tuple[str, ...]

    @property
    def words(self):
        return (hs.Word(self.word_name("weights"), "int64", 0, width=N_BINS),)

    def update(self, state, rows):
        values, weights = rows.columns
        np.add.at(state[0], (rows.slots, values % N_BINS), weights)

    def merge(self, state, slots, parts):
        np.add.at(state[0], slots, parts[0])


@dataclass(frozen=True)
class WeightedHistogram(hs.Aggregate):
    """The weights of bins as a list."""

    scale: int = 1
    name: ClassVar[str] = "tests.weighted_histogram"
    n_inputs: ClassVar[int] = 2

    def result_type(self, types):
        return pa.list_(pa.int64(), N_BINS)

    def accumulators(self, inputs):
        return (BinWeights(inputs.names),)

    def finish(self, entries, inputs, output_type):
        weights = self.scale * entries[inputs.word("weights")]
        return pa.FixedSizeListArray.from_arrays(pa.array(weights.reshape(-1)), N_BINS)


HISTOGRAM = WeightedHistogram(scale=3)(col("x"), col("weight") + 1)


def rows(start, n):
    numbers = np.arange(start, start + n)
    keys = [f"key-{i}" if i else None for i in numbers * 7919 % N_KEYS]
    return pa.table(
        {
            "t": numbers,
            "key": pa.array(keys, pa.string()),
            "x": pa.array(numbers * 31 % 1009, mask=numbers % 13 == 5),
            "weight": pa.array(numbers * 17 % 101, pa.int16(), mask=numbers % 17 == 3),
        }
    )


def generated(job):
    return job.generate(
        rows, rows=N_ROWS, splits=5, event_time="t", event_time_unit="ms", watermark_delay="20ms"
    )


def expected(size, slide, keyed):
    """Return the histogram of each key and window, and its rows, by NumPy."""
    table = rows(0, N_ROWS)
    times, keys = np.array(table["t"]), table["key"].to_pylist()
    weights = np.zeros(N_ROWS, dtype=np.int64)
    is_whole = np.array(table["x"].is_valid()) & np.array(table["weight"].is_valid())
    weights[is_whole] = 3 * (np.array(table["weight"].fill_null(0))[is_whole] + 1)
    bins = np.array(table["x"].fill_null(0)) % N_BINS
    found = {}
    for start in range(-size + slide, N_ROWS, slide):
        for key in sorted(set(keys), key=str) if keyed else [None]:
            inside = (times >= start) & (times < start + size)
            if keyed:
                inside &= np.array([each == key for each in keys])
            if inside.any():
                histogram = np.bincount(bins[inside], weights[inside], N_BINS)
                found[key, start] = inside.sum(), histogram.astype(np.int64).tolist()
    return found


def windowed(stream, size, slide, keyed):
    window = hs.tumbling(f"{size}ms") if size == slide else hs.sliding(f"{size}ms", f"{slide}ms")
    windows = stream.key_by("key").window(window) if keyed else stream.window_all(window)
    return windows.agg(rows=hs.count(), histogram=HISTOGRAM, least=col("x").min())


@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "all rows"])
@pytest.mark.parametrize(("size", "slide"), [(700, 700), (900, 300)])
@pytest.mark.parametrize(("n_ranks", "local"), [(1, True), (2, True), (3, True), (3, False)])
def test_its_results_are_those_of_numpy(size, slide, keyed, n_ranks, local):
    def build():
        job = hs.Job("histograms")
        return job, windowed(generated(job), size, slide, keyed).collect()

    table = run_ranks(n_ranks, build, batch_rows=250, local_aggregation=local).table

    assert table.schema.field("histogram").type == pa.list_(pa.int64(), N_BINS)
    got = {
        (row.get("key"), row["window_start"]): (row["rows"], row["histogram"])
        for row in table.to_pylist()
    }
    assert len(got) == table.num_rows
    assert got == expected(size, slide, keyed)


def tumbling(out):
    job = hs.Job("tumbling")
    windowed(generated(job).rebalance(), 700, 700, True).write_parquet(out)
    return job


def sliding(out):
    job = hs.Job("sliding")
    windowed(generated(job), 900, 300, True).write_parquet(out)
    return job


def over_all_rows(out):
    job = hs.Job("all rows")
    windowed(generated(job), 700, 700, False).write_parquet(out)
    return job


@pytest.mark.parametrize("build", [tumbling, sliding, over_all_rows], ids=lambda b: b.__name__)
def test_a_killed_job_gives_the_same_on_any_number_of_ranks(build, tmp_path):
    whole, turns = unfailed(build, tmp_path, 2)
    chance = random.Random(5)

    kills = restarted(build, tmp_path, lambda: chance.randint(1, 4), seed=5, turns=turns // 2)

    assert kills > 0
    assert visible(tmp_path / "out").equals(whole)


def test_another_parameter_is_another_aggregate():
    assert HISTOGRAM.key() != WeightedHistogram(scale=4)(col("x"), col("weight") + 1).key()
    assert WeightedHistogram(scale=3)(col("x"), col("weight") + 1) == HISTOGRAM


def agg(call):
    job = hs.Job("refused")
    return generated(job).window_all(hs.tumbling("1s")).agg(result=call)


def test_an_aggregate_is_called_with_as_many_columns_as_it_reads():
    with pytest.raises(hs.PlanError, match="reads 2 columns; got 1"):
        WeightedHistogram()(col("x"))
    with pytest.raises(hs.PlanError, match="call it with its inputs"):
        agg(WeightedHistogram())


def test_a_name_of_its_own_is_asked_for():
    @dataclass(frozen=True)
    class Nameless(hs.Aggregate):
        def result_type(self, types):
            return types[0]

    @dataclass(frozen=True)
    class Taken(Nameless):
        name: ClassVar[str] = "sum"

    with pytest.raises(hs.PlanError, match="Nameless: give the class a name"):
        agg(Nameless()(col("x")))
    with pytest.raises(hs.PlanError, match="'sum' is the name of a built-in"):
        agg(Taken()(col("x")))
