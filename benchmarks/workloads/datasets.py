"""The input files: Arrow IPC, made once, the same bytes for the same seed on every machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.workloads.json_lines import as_lines
from benchmarks.workloads.workload import Workload
from hpcstream import generators as g

BATCH_ROWS = 262_144
SEED = 7
FLIGHTS = "HPCSTREAM_FLIGHTS"
"""LaunchConfig variable: a Parquet file of flights larger than the one in examples/data."""

_SHIPPED_FLIGHTS = Path(__file__).parents[2] / "examples/data/flights-2001-01.parquet"
_N_ADS, _N_CAMPAIGNS = 1_000, 100

Columns = Mapping[str, g.ColumnGenerator]


def dataset_path(workload: Workload, folder: Path) -> Path:
    """Return the file that a workload reads."""
    name = workload.dataset
    if name == "flights":
        return folder / f"flights-{flights_path().stem}.arrow"
    return folder / f"{name}-{workload.rows}-{workload.per_second}.arrow"


def flights_path() -> Path:
    """Return the Parquet file of flights in use."""
    return Path(os.environ.get(FLIGHTS, _SHIPPED_FLIGHTS))


def build(workload: Workload, folder: Path) -> Path:
    """Return the file that a workload reads, making it if it is not there."""
    path = dataset_path(workload, folder)
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        batches = _BUILDERS[workload.dataset](workload)
        first = next(batches)
        with pa.OSFile(str(unfinished), "wb") as file, pa.ipc.new_file(file, first.schema) as out:
            out.write_batch(first)
            for batch in batches:
                out.write_batch(batch)
        unfinished.rename(path)
    return path


def file_hash(path: Path) -> str:
    """Return the first 16 digits of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def campaigns() -> pa.Table:
    """Return the table of ads: ``ad_id`` and its ``campaign``."""
    ads = _uuids(_N_ADS, "ad")
    campaign = pa.array([f"campaign-{i % _N_CAMPAIGNS:02d}" for i in range(_N_ADS)])
    return pa.table({"ad_id": ads, "campaign": campaign})


def _generated(workload: Workload, columns: Columns) -> Iterator[pa.RecordBatch]:
    """Yield batches of generated columns, after the column ``ts``."""
    times = g.times(per_second=workload.per_second, unit="ms", disorder="500ms", timestamp=False)
    everything = {"ts": times, **columns}
    for start in range(0, workload.rows, BATCH_ROWS):
        n_rows = min(BATCH_ROWS, workload.rows - start)
        arrays = {
            name: column.values(start, n_rows, g.column_seed(SEED, name))
            for name, column in everything.items()
        }
        arrays["ts"] = pa.array(np.maximum(arrays["ts"].to_numpy(), 0))
        yield pa.record_batch(arrays)


def _with_key(key: g.ColumnGenerator) -> Callable[[Workload], Iterator[pa.RecordBatch]]:
    return lambda workload: _generated(workload, {"key": key, "value": g.uniform()})


def _zipf(workload: Workload) -> Iterator[pa.RecordBatch]:
    return _generated(workload, {"key": g.zipf(1.2, 1_000_000), "value": g.uniform()})


def _strings(workload: Workload) -> Iterator[pa.RecordBatch]:
    return _generated(workload, {"key": g.strings(10_000), "value": g.uniform()})


def _ysb(workload: Workload) -> Iterator[pa.RecordBatch]:
    columns = {
        "user_id": g.choice(_uuids(100_000, "user")),
        "page_id": g.choice(_uuids(10_000, "page")),
        "ad_id": g.choice(campaigns()["ad_id"].combine_chunks()),
        "ad_type": g.choice(["banner", "modal", "sponsored-search", "mail", "mobile"]),
        "event_type": g.choice(["view", "click", "purchase"]),
        "ip": g.choice([f"10.0.{i // 256}.{i % 256}" for i in range(4_096)]),
    }
    return _generated(workload, columns)


def _ysb_json(workload: Workload) -> Iterator[pa.RecordBatch]:
    return map(as_lines, _ysb(workload))


def _flights(workload: Workload) -> Iterator[pa.RecordBatch]:
    table = pq.read_table(flights_path(), columns=["date", "delay", "origin", "destination"])
    table = table.sort_by("date") if not _is_sorted(table["date"]) else table
    columns = {
        "ts": table["date"].cast(pa.timestamp("us")).cast(pa.int64()),
        "value": table["delay"].cast(pa.float64()),
        "origin": table["origin"].cast(pa.string()),
        "destination": table["destination"].cast(pa.string()),
    }
    yield from pa.table(columns).combine_chunks().to_batches(max_chunksize=BATCH_ROWS)


def _is_sorted(column: pa.ChunkedArray) -> bool:
    array = column.combine_chunks()
    return bool(pc.all(pc.less_equal(array[:-1], array[1:])).as_py() in (True, None))


def _uuids(n: int, name: str) -> pa.Array:
    """Return distinct random UUIDs as text."""
    high = g.random_bits(0, n, g.column_seed(SEED, name))
    low = g.random_bits(0, n, g.column_seed(SEED + 1, name))
    digits = (f"{a:016x}{b:016x}" for a, b in zip(high.tolist(), low.tolist(), strict=True))
    return pa.array([f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}" for d in digits])


_BUILDERS: Mapping[str, Callable[[Workload], Iterator[pa.RecordBatch]]] = {
    "uniform": _with_key(g.integers(0, 10_000)),
    "wide": _with_key(g.integers(0, 2_000_000)),
    "zipf": _zipf,
    "strings": _strings,
    "ysb": _ysb,
    "ysb-json": _ysb_json,
    "flights": _flights,
}


def count_rows(path: Path) -> int:
    """Return the rows of an Arrow IPC file."""
    with pa.memory_map(str(path)) as file:
        reader = pa.ipc.open_file(file)
        return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))
