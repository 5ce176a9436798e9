import io

import pyarrow as pa

from hpcstream.connectors.sinks import MemorySink, PrintSink

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
    assert capsys.readouterr().out == "key | n\na | 1\nb | 2\n... and 4 more rows\n"
