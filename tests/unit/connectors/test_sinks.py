import io

import pyarrow as pa

from hpcstream.connectors.in_process.sinks import MemorySink, PrintSink

BATCH = pa.record_batch({"key": ["a", "b", None], "n": [1, 2, 3]})


def test_rows_in_memory_appear_with_commit():
    sink = MemorySink()
    sink.begin(BATCH.schema, 0, 1, 0)
    assert sink.table.schema == BATCH.schema
    sink.write(BATCH)
    sink.write(BATCH.slice(0, 0))
    assert sink.table.num_rows == 0
    parts = sink.prepare()
    sink.write(BATCH)
    sink.commit(parts)
    assert sink.batches == [BATCH]
    sink.abort()
    sink.commit(sink.prepare())
    assert sink.batches == [BATCH]


def test_printed_rows_have_a_heading_and_say_their_rank():
    stream = io.StringIO()
    sink = PrintSink(stream=stream)
    sink.begin(BATCH.schema, 1, 2, 0)
    sink.write(BATCH.slice(0, 0))
    sink.write(BATCH)
    sink.write(BATCH.slice(0, 1))
    sink.commit(sink.prepare())
    assert stream.getvalue().splitlines() == [
        "[rank 1/2] key | n",
        "[rank 1/2] a | 1",
        "[rank 1/2] b | 2",
        "[rank 1/2] None | 3",
        "[rank 1/2] a | 1",
    ]


def test_printed_rows_beyond_the_limit_are_counted(capsys):
    sink = PrintSink(limit=2)
    sink.begin(BATCH.schema, 0, 1, 0)
    sink.write(BATCH)
    sink.write(BATCH)
    sink.commit(sink.prepare())
    sink.commit(sink.prepare())
    assert capsys.readouterr().out == "key | n\na | 1\nb | 2\n... and 4 more rows\n"


def printed(batch, **options):
    stream = io.StringIO()
    sink = PrintSink(stream=stream, **options)
    sink.begin(batch.schema, 0, 1, 0)
    sink.write(batch)
    sink.commit(sink.prepare())
    return stream.getvalue().splitlines()


def test_twenty_rows_are_printed_unless_more_are_asked_for():
    rows = pa.record_batch({"n": list(range(1_030))})
    assert printed(rows)[1:] == [
        *map(str, range(20)),
        "... and 1,010 more rows (print(limit=None) shows all)",
    ]
    assert printed(rows.slice(0, 21), limit=20)[-1].startswith("... and 1 more row (")
    assert printed(rows, limit=None)[1:] == list(map(str, range(1_030)))
    assert printed(rows, limit=0) == ["n", "... and 1,030 more rows"]


def test_a_label_stands_before_each_line():
    assert printed(BATCH.slice(0, 1), label="first") == ["first: key | n", "first: a | 1"]
    sink = PrintSink(limit=3, label="first")
    assert sink.describe() == "print(limit=3, label='first')"
    assert sink.numbered(2) is sink


def test_a_number_tells_sinks_without_a_label_but_is_no_part_of_their_description():
    sink = PrintSink().numbered(2)

    assert sink.describe() == PrintSink().describe() == "print()"
    stream = io.StringIO()
    sink = PrintSink(stream=stream).numbered(2)
    sink.begin(BATCH.schema, 0, 1, 0)
    sink.write(BATCH.slice(0, 1))
    assert stream.getvalue() == "print 2: key | n\nprint 2: a | 1\n"


def test_what_an_output_cannot_encode_is_escaped():
    raw = io.BytesIO()
    sink = PrintSink(stream=io.TextIOWrapper(raw, encoding="ascii"))
    batch = pa.record_batch({"größe": ["10 µm"]})
    sink.begin(batch.schema, 0, 1, 0)
    sink.write(batch)

    assert raw.getvalue() == b"gr\\xf6\\xdfe\n10 \\xb5m\n"


def test_a_sink_in_memory_knows_how_far_it_has_come():
    sink, other = MemorySink(), MemorySink(everywhere=True)
    assert not sink.has_begun
    sink.begin(BATCH.schema, 0, 1, 0)
    sink.write(BATCH)
    assert sink.has_begun
    assert not sink.has_committed
    sink.commit(sink.prepare())
    assert sink.has_committed

    other.take_over(sink.committed_rows())

    assert other.has_committed
    assert other.batches == [BATCH]
