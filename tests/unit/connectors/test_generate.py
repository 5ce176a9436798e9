import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.connectors.in_process import generators as g
from hpcstream.connectors.in_process.generate import GenerateSource
from hpcstream.errors import ConnectorError
from tests.unit.connectors.source_contract import SourceContract, read_all, sample_table


def rows_of_sample(start, n_rows):
    return sample_table().slice(start, n_rows)


class TestFunction(SourceContract):
    @pytest.fixture
    def source(self):
        return GenerateSource(rows_of_sample, rows=1_000, block_rows=64, splits=5)

    def test_splits_follow_one_another_and_begin_with_a_block(self, source):
        starts = [split.info["start"] for split in source.list_splits()]
        assert starts == [0, 256, 512, 768]

    def test_the_function_is_always_asked_for_the_same_blocks(self):
        asked = set()

        def function(start, n_rows):
            asked.add((start, n_rows))
            return {"i": list(range(start, start + n_rows))}

        source = GenerateSource(function, rows=100, block_rows=30, splits=2)
        asked.clear()
        for split in source.list_splits():
            for position in range(0, split.n_rows, 7):
                source.open(split, position).read(11)
        assert asked == {(0, 30), (30, 30), (60, 30), (90, 10)}


class TestColumns(SourceContract):
    @staticmethod
    def make(**options):
        columns = {
            "time": g.times(per_second=100, unit="ms", disorder="500ms", timestamp=False),
            "key": g.strings(20),
            "value": g.uniform(0, 250),
            "small": g.integers(-2, 3),
        }
        return GenerateSource(columns, event_time="time", unit="ms", seed=5, **options)

    def expected(self):
        source = self.make(rows=1_000, splits=1)
        return pa.Table.from_pylist(read_all(source, 1_000), source.schema)

    @pytest.fixture
    def source(self):
        return self.make(rows=1_000, block_rows=90, splits=4)

    def test_columns_that_are_not_asked_for_are_not_made(self, source, monkeypatch):
        monkeypatch.setattr(g._Uniform, "values", lambda *_: pytest.fail("made a column"))
        assert len(read_all(source.project(["key", "time"]))) == 1_000

    def test_bounds_allow_for_the_disorder(self, source):
        first, second = source.list_splits()[:2]
        assert first.first_time == -500
        assert second.first_time < first.last_time


def drain(readers, max_rows=10):
    rows = []
    for reader in readers:
        while (chunk := reader.read(max_rows)) is not None and chunk.scanned:
            rows += chunk.batch["i"].to_pylist()
    return rows


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def count(start, n_rows):
    return {"i": list(range(start, start + n_rows))}


def live(clock, **options):
    return GenerateSource({"i": g.sequence()}, rate=1_000, clock=clock, **options)


def test_a_live_source_gives_what_is_due_and_never_waits():
    clock = Clock()
    source = live(clock, splits=3, block_rows=7)
    assert not source.bounded
    readers = [source.open(split) for split in source.list_splits()]

    assert drain(readers) == []
    clock.now += 0.010
    assert sorted(drain(readers)) == list(range(10))
    assert drain(readers) == []
    clock.now += 0.040
    assert sorted(drain(readers)) == list(range(10, 50))


def test_a_live_source_with_rows_ends():
    clock = Clock()
    source = live(clock, rows=50, splits=4, block_rows=7)
    readers = [source.open(split) for split in source.list_splits()]
    clock.now += 1.0

    assert sorted(drain(readers)) == list(range(50))
    assert [reader.read(1) for reader in readers] == [None] * 4


def test_a_lane_past_the_last_row_ends_at_once():
    source = live(Clock(), rows=5, splits=8)
    lane = source.open(source.list_splits()[7])
    assert lane.read(9) is None


@pytest.mark.parametrize("what", [{"i": g.sequence()}, count], ids=["columns", "function"])
def test_lanes_have_the_rows_in_turn(what):
    source = GenerateSource(
        what, rate=1_000, rows=23, splits=3, block_rows=12, start=-1.0, clock=Clock()
    )
    readers = [source.open(split) for split in source.list_splits()]
    assert readers[1].read(3).batch["i"].to_pylist() == [1, 4, 7]
    assert readers[1].read(30).batch["i"].to_pylist() == [10]
    assert readers[1].read(30).batch["i"].to_pylist() == [13, 16, 19, 22]
    assert readers[1].read(30) is None
    assert drain(readers) == [*range(0, 23, 3), *range(2, 23, 3)]


def test_rows_that_nobody_read_in_time_stay_due():
    clock = Clock()
    source = live(clock, splits=2, start=0.0)
    clock.now += 3600.0
    reader = source.open(source.list_splits()[1], 990)
    assert reader.read(2).batch["i"].to_pylist() == [1_981, 1_983]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9), st.integers(0, 8)), max_size=40))
def test_a_live_source_may_be_reopened_at_any_position(steps):
    clock = Clock()
    source = live(clock, splits=3, block_rows=4, start=0.0)
    splits = source.list_splits()
    readers, seen = [source.open(split) for split in splits], []
    for lane, max_rows, pause in steps:
        clock.now += pause / 1_000
        chunk = readers[lane].read(max_rows)
        seen += chunk.batch["i"].to_pylist()
        readers[lane] = source.open(splits[lane], readers[lane].position)
    seen += drain(readers)
    n_due = int(clock.now * 1_000)
    assert sorted(seen) == list(range(n_due))


def test_a_restart_without_a_fixed_start_goes_on_where_it_was():
    clock = Clock()
    first = live(clock, splits=2, block_rows=5)
    readers = [first.open(split) for split in first.list_splits()]
    clock.now += 0.020
    assert sorted(drain(readers)) == list(range(20))

    again = live(clock, splits=2, block_rows=5)
    positions = [reader.position for reader in readers]
    readers = [again.open(s, p) for s, p in zip(again.list_splits(), positions, strict=True)]
    assert drain(readers) == []
    clock.now += 0.005
    assert sorted(drain(readers)) == [20, 21, 22, 23, 24]


def test_a_function_that_gives_the_wrong_number_of_rows_is_named():
    source = GenerateSource(lambda start, n: {"a": [1]}, rows=10)
    with pytest.raises(ConnectorError, match=r"function\(0, 10\) returned 1 rows"):
        read_all(source)


def test_a_function_whose_type_changes_is_named():
    source = GenerateSource(
        lambda start, n: {"a": [1.5 if start else 1] * n}, rows=20, block_rows=10
    )
    with pytest.raises(ConnectorError, match="column 'a' is double, not int64"):
        read_all(source)


@pytest.mark.parametrize(
    "options",
    [{}, {"rows": -1}, {"rate": 0}, {"rows": 5, "splits": 0}, {"rows": 5, "block_rows": 0}],
)
def test_numbers_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match="generate: "):
        GenerateSource({"i": g.sequence()}, **options)


def test_no_rows_are_no_splits():
    assert GenerateSource({"i": g.sequence()}, rows=0).list_splits() == []


GENERATORS = {
    "sequence": g.sequence(5, -3),
    "times": g.times(per_second=30, unit="ms", disorder="1s"),
    "integers": g.integers(-(2**63), 2**63),
    "uniform": g.uniform(-1, 2),
    "normal": g.normal(10, 2),
    "zipf": g.zipf(1.2, 100),
    "choice": g.choice(["a", None, "c"], [1, 0, 3]),
    "strings": g.strings(50),
}


@pytest.mark.parametrize("name", GENERATORS)
@given(start=st.integers(0, 2**40), cut=st.integers(0, 50), seed=st.integers(0, 2**64 - 1))
def test_a_value_depends_on_seed_and_row_number_alone(name, start, cut, seed):
    generator = GENERATORS[name]
    whole = generator.values(start, 50, seed)
    parts = [generator.values(start, cut, seed), generator.values(start + cut, 50 - cut, seed)]
    assert whole.type == generator.type
    assert pa.concat_arrays(parts).equals(whole)
    every_third = generator.values(start, 17, seed, 3)
    assert every_third.equals(whole.take(pa.array(range(0, 50, 3))))


def test_another_seed_or_column_name_gives_other_values():
    def first(name, seed):
        source = GenerateSource({name: g.integers(0, 2**60)}, rows=4, seed=seed)
        return [row[name] for row in read_all(source)]

    drawn = [first("a", 0), first("b", 0), first("a", 1), first("ab", 0)]
    assert len({tuple(values) for values in drawn}) == 4
    assert first("a", 0) == drawn[0]


def test_integers_are_uniform_over_the_whole_range():
    values = g.integers(-3, 4).values(0, 70_000, 1).to_numpy()
    counts = np.bincount(values + 3, minlength=7)
    assert counts.min() > 9_500
    assert counts.max() < 10_500
    wide = g.integers(0, 3 * 2**40).values(0, 1_000, 1).to_numpy()
    assert 0 <= wide.min() < wide.max() < 3 * 2**40


def test_floats_have_the_distribution_asked_for():
    uniform = g.uniform(2.0, 4.0).values(0, 50_000, 7).to_numpy()
    assert 2.0 <= uniform.min() < uniform.max() < 4.0
    assert uniform.mean() == pytest.approx(3.0, abs=0.01)
    normal = g.normal(10.0, 2.0).values(0, 50_000, 7).to_numpy()
    assert normal.mean() == pytest.approx(10.0, abs=0.05)
    assert normal.std() == pytest.approx(2.0, abs=0.05)


def test_zipf_falls_with_the_exponent():
    counts = np.bincount(g.zipf(1.2, 1_000).values(0, 100_000, 3).to_numpy(), minlength=1_000)
    assert counts[0] / counts[1] == pytest.approx(2**1.2, rel=0.1)
    assert len(counts) == 1_000


def test_choices_of_weight_zero_never_come():
    values = g.choice(["a", "b", "c"], [1, 3, 0]).values(0, 10_000, 3)
    counts = {v["values"]: v["counts"] for v in pc.value_counts(values).to_pylist()}
    assert counts.keys() == {"a", "b"}
    assert counts["b"] / counts["a"] == pytest.approx(3, rel=0.1)


def test_strings_are_distinct_and_of_the_lengths_asked_for():
    values = g.strings(1_000, min_bytes=8, max_bytes=24).choices.to_pylist()
    assert len(set(values)) == 1_000
    assert {len(v) for v in values} == set(range(8, 25))


def test_times_go_forward_at_the_rate_and_lag_by_the_disorder_at_most():
    generator = g.times(per_second=1_000_000, unit="ms", start=7, disorder="500ms")
    times = generator.values(0, 2_000_000, 1).cast(pa.int64()).to_numpy()
    due = 7 + np.arange(2_000_000) // 1_000
    assert ((due - times) >= 0).all()
    assert (due - times).max() == 500
    assert generator.bounds(1_000_000, 2_000_000) == (7 + 1_000 - 500, 7 + 1_999)


@pytest.mark.parametrize(
    "make",
    [
        lambda: g.integers(5, 5),
        lambda: g.zipf(1.0, 0),
        lambda: g.choice([]),
        lambda: g.choice(["a"], [0]),
        lambda: g.strings(1, min_bytes=3, max_bytes=2),
        lambda: g.times(per_second=0),
        lambda: g.times(per_second=1, disorder="-1s"),
    ],
    ids=["range", "zipf", "no values", "no weight", "lengths", "rate", "disorder"],
)
def test_generators_refuse_what_makes_no_sense(make):
    with pytest.raises(ValueError, match=r".+"):
        make()
