import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hpcstream.connectors.base import Chunk, Split
from hpcstream.connectors.defaults import as_sink, as_source
from hpcstream.connectors.in_process.batches import BatchesSource
from hpcstream.connectors.in_process.sinks import MemorySink
from tests.unit.connectors.source_contract import SourceContract, sample_table


class SmallReader:
    """The least that a reader is."""

    def __init__(self, table, position):
        self.table, self.position = table, position

    def read(self, max_rows):
        rows = self.table.slice(self.position, max_rows).combine_chunks()
        if self.table is None or rows.num_rows == 0:
            return None
        self.position += rows.num_rows
        return Chunk(rows.to_batches()[0], rows.num_rows)

    def close(self):
        self.table = sample_table(0)


class SmallSource:
    """The least that a source is."""

    schema = sample_table().schema

    def list_splits(self):
        return [Split("first", {"start": 0, "n": 600}), Split("second", {"start": 600, "n": 400})]

    def open(self, split, position=0):
        return SmallReader(sample_table().slice(split.info["start"], split.info["n"]), position)


class TestSmallSource(SourceContract):
    @pytest.fixture
    def source(self):
        return as_source(SmallSource())


def test_a_small_source_is_bounded_and_is_called_by_its_class():
    source = as_source(SmallSource())
    assert source.bounded
    assert source.describe() == "SmallSource"
    assert source.filter(pc.field("small") > 0) is None


def test_what_a_small_source_does_say_is_taken():
    class Live(SmallSource):
        bounded = False
        per_rank = True

        def describe(self):
            return "ticks"

    source = as_source(Live())
    assert (source.bounded, source.per_rank) == (False, True)
    assert source.project(["key"]).describe() == "ticks, columns=[key]"


def test_a_whole_source_stays_itself():
    source = BatchesSource(sample_table())
    assert as_source(source) is source


def test_what_is_no_source_says_what_it_lacks():
    with pytest.raises(TypeError, match="source list has no schema, list_splits, open; "):
        as_source([])


def test_a_function_is_a_sink():
    seen = []
    sink = as_sink(seen.append)
    batch = pa.record_batch({"a": [1]})
    sink.begin(batch.schema, 0, 1, 0)
    sink.write(batch)
    sink.commit(sink.prepare())
    sink.abort()
    assert seen == [batch]


def test_an_object_with_write_is_a_sink_and_its_other_methods_are_called():
    class Sink:
        def __init__(self):
            self.calls = []

        def write(self, batch):
            self.calls.append("write")

        def prepare(self):
            self.calls.append("prepare")
            return [{"name": "x"}]

        def commit(self, parts):
            self.calls.append(("commit", list(parts)))

    own = Sink()
    sink = as_sink(own)
    sink.begin(pa.schema({}), 0, 1, 0)
    sink.write(pa.record_batch({"a": [1]}))
    sink.commit(sink.prepare())
    sink.abort()
    assert own.calls == ["write", "prepare", ("commit", [{"name": "x"}])]


def test_a_whole_sink_stays_itself():
    sink = MemorySink()
    assert as_sink(sink) is sink


def test_what_is_no_sink_is_refused():
    with pytest.raises(TypeError, match=r"no write\(batch\)"):
        as_sink(5)


def test_a_small_sink_is_heard_in_every_method_that_it_has():
    class Small:
        target = "there"

        def __init__(self):
            self.calls = []

        def write(self, batch):
            self.calls.append("write")

        def cut(self):
            return lambda: [{"name": "cut"}]

        def position(self):
            return 7

        def resume(self, schema, rank, size, attempt, stored):
            self.calls.append(("resume", stored["parts"]))

        def superseded(self, listed):
            self.calls.append(("superseded", listed))

    sink = as_sink(Small())
    sink.resume(pa.schema({}), 0, 1, 1, {"parts": [], "positions": []})
    sink.superseded([{"name": "x"}])

    assert sink.commits_in_background
    assert (sink.target, sink.position(), sink.cut()()) == ("there", 7, [{"name": "cut"}])
    assert sink._sink.calls == [("resume", []), ("superseded", [{"name": "x"}])]
    assert (sink.describe(), sink.snapshot()) == ("Small", {})


def test_a_sink_without_a_cut_prepares_and_one_without_resume_begins_and_commits():
    class Plain:
        def __init__(self):
            self.calls = []

        def write(self, batch):
            """Rows are not looked at."""

        def begin(self, schema, rank, size, attempt):
            self.calls.append(("begin", attempt))

        def prepare(self):
            self.calls.append("prepare")
            return [{"name": "a"}]

        def commit(self, parts):
            self.calls.append(("commit", parts))

    sink = as_sink(Plain())
    sink.resume(pa.schema({}), 0, 1, 3, {"parts": [{"name": "b"}], "positions": [None]})

    assert (sink.commits_in_background, sink.position()) == (False, None)
    assert sink.cut()() == [{"name": "a"}]
    assert sink._sink.calls == [("begin", 3), ("commit", [{"name": "b"}]), "prepare"]
