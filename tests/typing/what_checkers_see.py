"""What a type checker says of a user's script; ``scripts/lint.sh`` asks mypy.

Each mistake is marked as one: mypy, which is strict here, refuses a mark that is not needed.
"""

from __future__ import annotations

import pyarrow as pa

import hpcstream as hs
from hpcstream import col


def delays(stream: hs.Stream) -> hs.KeyedStream:
    return stream.filter(col("delay") > 0).key_by("origin")


def hourly(keyed: hs.KeyedStream) -> hs.WindowedStream:
    return keyed.window(hs.tumbling("1h"))


def ends(job: hs.Job, source: hs.Source, sink: hs.Sink) -> None:
    job.source(source, event_time="t").sink(sink)


def rows_of(job: hs.Job, collected: hs.Collected) -> int:
    result: hs.JobResult = job.run(checkpoint_dir="saved", batch_rows=10_000, show=False)
    return int(collected.table.num_rows) if result.is_root and result.rank == 0 else 0


def mistakes(job: hs.Job, stream: hs.Stream) -> None:
    stream.filtr(col("x"))  # type: ignore[attr-defined]
    stream.key_by("x").windw(hs.tumbling("1s"))  # type: ignore[attr-defined]
    stream.window_all(hs.tumbling("1s")).sum()  # type: ignore[attr-defined]
    stream["x"]  # type: ignore[index]
    stream.collect().to_pandas()  # type: ignore[attr-defined]
    stream.print(limits=3)  # type: ignore[call-arg]
    job.read_kafka("topic")  # type: ignore[attr-defined]
    job.run(chekpoint_dir="saved")  # type: ignore[arg-type]
    job.run(batch_rows="many")  # type: ignore[arg-type]
    job.run(on_checkpoint_failure="go on")  # type: ignore[arg-type]
    col("x").avg()  # type: ignore[attr-defined]
    col("x").str.upcase()  # type: ignore[attr-defined]
    col("x").dt.floor("1h")  # type: ignore[attr-defined]
    hs.sessions("1s")  # type: ignore[attr-defined]
    hs.tumbling(60)  # type: ignore[arg-type]


table: pa.Table = pa.table({"x": [1]})
