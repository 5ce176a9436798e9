"""The page on the format of checkpoints against the files of three jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.checkpoint.format import unescaped
from hpcstream.testing import ManualClock, start_ranks

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "checkpoint-format.md").read_text()
GOLDEN = PROJECT / "tests" / "golden" / "checkpoint"


def all_rows():
    def make(start: int, n: int) -> pa.RecordBatch:
        numbers = np.arange(start, start + n)
        return pa.record_batch({"t": numbers, "x": numbers * 0.5})

    job = hs.Job("all rows")
    rows = job.generate(make, rows=4000, splits=8, event_time="t", event_time_unit="ms")
    windows = rows.window_all(hs.tumbling("500ms")).allowed_lateness("1s")
    windows.agg(n=hs.count(), total=col("x").sum()).collect()
    return job


def rows_by_key():
    def make(start: int, n: int) -> pa.RecordBatch:
        numbers = np.arange(start, start + n)
        keys = pa.array([f"key-{number % 7}" for number in numbers])
        return pa.record_batch({"t": numbers ^ 3, "key": keys, "x": numbers * 0.5})

    job = hs.Job("rows by key")
    rows = job.generate(make, rows=4000, splits=8, event_time="t", event_time_unit="ms")
    columns = rows.key_by("key").with_columns(total=col("x").cum_sum(), before=col("x").shift(2))
    columns.key_by("key").deduplicate("50ms").collect()
    return job


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return the files of a checkpoint of each job."""
    written = list(GOLDEN.glob("ckpt-*/*.h5"))
    for build in (all_rows, rows_by_key):
        folder = tmp_path_factory.mktemp("format") / "run"
        options: dict[str, Any] = {"clock": ManualClock(turn_s=0.01), "batch_rows": 80}
        options |= {"checkpoint_dir": str(folder), "checkpoint_interval_s": 1e-6}
        with start_ranks(2, build, **options) as ranks:
            ranks.until(lambda folder=folder: any(folder.glob("ckpt-*/manifest.json")))
        written += folder.glob("ckpt-*/*.h5")
    return written


def described() -> dict[str, re.Pattern[str]]:
    """Return the names in the tables of arrays, and what each matches."""
    section = PAGE.split("\n## State of ", 1)[1]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    names = [name for cell in cells for name in re.findall("`([^`]+)`", cell)]
    return {name: re.compile(pattern(name)) for name in names}


def pattern(name: str) -> str:
    return re.sub(r"<\w+>", ".+", re.escape(name).replace(r"\.\.\.", ".+"))


def arrays(files: list[Path]) -> Iterator[tuple[str, Any]]:
    """Yield path and dataset of each array."""
    for path in files:
        with h5py.File(path) as file:
            assert list(file.attrs) == ["hpcstream_format"]
            found: list[tuple[str, Any]] = []
            file.visititems(lambda name, item, found=found: found.append((name, item)))
            for name, item in found:
                if isinstance(item, h5py.Dataset):
                    yield name, item
                else:
                    assert re.fullmatch(r"tasks|\d+(/\d+)?", name), name
                    assert not item.attrs


def test_each_array_in_a_file_is_described(files):
    names = described()
    assert "`hpcstream_format`" in PAGE
    for path, dataset in arrays(files):
        assert list(dataset.attrs) == ["crc32"]
        name = unescaped(path.rsplit("/", 1)[1])
        known = path == "tasks/facts" or any(one.fullmatch(name) for one in names.values())
        assert known, f"{path} is not described"


def test_each_array_that_is_described_exists(files):
    found = {unescaped(path.rsplit("/", 1)[1]) for path, _ in arrays(files)}
    missing = [n for n, one in described().items() if not any(map(one.fullmatch, found))]
    assert not missing
