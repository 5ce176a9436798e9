"""A live source made outside of the engine: ids with gaps as text, new splits, acknowledgements.

The broker here drops what is acknowledged. So if a job acknowledged rows before the checkpoint
that has them were durable, they would be lost at a restart.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.checkpoint.format import CheckpointFile
from hpcstream.checkpoint.pending import TASKS
from hpcstream.checkpoint.storage.directory import CheckpointStore
from hpcstream.checkpoint.storage.manifest import read_manifest
from hpcstream.connectors.base import Chunk, Split
from hpcstream.testing import ManualClock, start_ranks

sys.path.insert(0, str(Path(__file__).parent))
from restart import visible

SCHEMA = pa.schema({"t": pa.int64(), "key": pa.int64(), "id": pa.string()})


class Broker:
    """Streams of entries whose ids are text with gaps; it drops what is acknowledged."""

    def __init__(self, run: Path, seed: int) -> None:
        self.run = run
        self.chance = random.Random(seed)
        self.streams: dict[str, list[tuple[str, dict]]] = {}
        self.dropped: dict[str, str] = {}
        self.written: list[dict] = []
        self.n_acks = 0
        self.is_closed = False
        self.ended: set[str] = set()
        self.retired: set[str] = set()

    @property
    def listed(self) -> list[str]:
        """Streams but those that have ended and of which all is acknowledged."""
        return [
            name
            for name, entries in self.streams.items()
            if name not in self.ended or self.dropped.get(name, "") < entries[-1][0]
        ]

    def write(self, stream: str, n_rows: int) -> None:
        entries = self.streams.setdefault(stream, [])
        last = int(entries[-1][0].split("-")[1]) if entries else 0
        for _ in range(n_rows):
            last += self.chance.randint(1, 9)
            name = f"{stream}-{last:06}"
            row = {"t": 10 * len(self.written), "key": last % 5, "id": name}
            entries.append((name, row))
            self.written.append(row)

    def after(self, stream: str, name: str, n_rows: int) -> list[tuple[str, dict]]:
        assert name >= self.dropped.get(stream, ""), "asked for entries that were acknowledged"
        return [one for one in self.streams[stream] if one[0] > name][:n_rows]

    def acknowledge(self, positions: dict[str, str]) -> None:
        stored = stored_positions(self.run)
        for stream, name in positions.items():
            assert name == stored[stream], "acknowledged what no manifest has"
            self.dropped[stream] = name
            self.n_acks += 1
        self.retired |= {name for name in self.ended - stored.keys() if name in self.dropped}


def stored_positions(run: Path) -> dict[str, str]:
    """Return positions by split, as the newest checkpoint with a manifest has them."""
    path = CheckpointStore(str(run)).candidates()[0].path
    manifest, found = read_manifest(path), {}
    for written in manifest.files:
        with CheckpointFile(f"{path}/{written.name}", written) as file:
            facts = json.loads(file.arrays(TASKS)["facts"].tobytes())
        for task in facts.values():
            for one in task.get("source", {"splits": ()})["splits"]:
                found[one["split"]["id"]] = one["position"]
    return found


class BrokerSource:
    """All streams of a broker, a split each."""

    schema = SCHEMA
    bounded = False

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def list_splits(self) -> list[Split]:
        return [Split(name) for name in self.broker.listed]

    def discover(self) -> list[Split] | None:
        return None if self.broker.is_closed else self.list_splits()

    def open(self, split: Split, position: str = "") -> BrokerReader:
        return BrokerReader(self.broker, split.id, position)

    def committed(self, positions: dict[str, str]) -> None:
        self.broker.acknowledge(positions)


class BrokerReader:
    def __init__(self, broker: Broker, stream: str, position: str) -> None:
        self.broker, self.stream, self.position = broker, stream, position

    def read(self, max_rows: int) -> Chunk | None:
        entries = self.broker.after(self.stream, self.position, min(max_rows, 4))
        if not entries and (self.broker.is_closed or self.stream in self.broker.ended):
            return None
        rows = [row for _, row in entries]
        self.position = entries[-1][0] if entries else self.position
        return Chunk(
            pa.RecordBatch.from_pylist(rows, SCHEMA), len(rows), self.position if rows else None
        )


def job_of(broker: Broker, folder: Path) -> hs.Job:
    job = hs.Job("outside")
    rows = job.source(
        BrokerSource(broker),
        event_time="t",
        event_time_unit="ms",
        watermark_delay="1h",
        discover_every="50ms",
    )
    rows.select("id", "key").write_parquet(folder / "rows")
    windows = rows.key_by("key").window(hs.tumbling("100ms"))
    windows.agg(n=hs.count(), last=col("t").max()).write_parquet(folder / "windows")
    return job


def expected_windows(written: list[dict]) -> list[tuple[int, int, int, int]]:
    found: dict[tuple[int, int], list[int]] = {}
    for row in written:
        found.setdefault((row["t"] // 100, row["key"]), []).append(row["t"])
    return sorted((key, slot * 100, len(ts), max(ts)) for (slot, key), ts in found.items())


def run_once(broker: Broker, folder: Path, n_ranks: int, turns: int | None, seed: int) -> None:
    """Run for some turns, while the broker gets rows, then drop all ranks; or to the end."""
    left = [turns]

    def is_over() -> bool:
        left[0] -= 1
        if left[0] % 40 == 0:
            broker.write(broker.chance.choice(sorted(broker.streams.keys() - broker.ended)), 3)
        if left[0] % 200 == 199 and len(broker.streams) < 9:
            broker.write(f"s{len(broker.streams)}", 2)
            broker.ended.add(f"s{len(broker.streams) - 3}")
        return left[0] <= 0

    with start_ranks(
        n_ranks,
        lambda: job_of(broker, folder),
        seed=seed,
        max_delay=2,
        clock=ManualClock(turn_s=0.005),
        checkpoint_dir=str(broker.run),
        checkpoint_interval_s=0.05,
        progress=False,
    ) as ranks:
        if turns is None:
            ranks.finish()
        else:
            assert ranks.until(is_over)


@pytest.mark.parametrize("seed", range(2))
def test_killed_and_restarted_on_other_numbers_of_ranks_it_is_exactly_once(tmp_path, seed):
    broker = Broker(tmp_path / "run", seed)
    broker.write("s0", 5)
    broker.write("s1", 1)
    sizes = broker.chance.sample([1, 2, 3, 4], 3)

    for attempt, n_ranks in enumerate(sizes):
        run_once(
            broker, tmp_path, n_ranks, n_ranks * broker.chance.randint(250, 450), seed + attempt
        )
    broker.is_closed = True
    run_once(broker, tmp_path, sizes[0], None, seed)

    assert len(broker.streams) > 2
    assert broker.n_acks > 0
    assert broker.retired
    ids = visible(tmp_path / "rows").column("id").to_pylist()
    assert ids == sorted(row["id"] for row in broker.written)
    windows = visible(tmp_path / "windows").to_pylist()
    found = sorted((one["key"], one["window_start"], one["n"], one["last"]) for one in windows)
    assert found == expected_windows(broker.written)
