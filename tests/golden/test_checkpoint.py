"""A checkpoint that an earlier commit wrote is found, and its job goes on to the same rows.

``python tests/golden/test_checkpoint.py`` writes it again, as a new format of checkpoints
asks for.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.checkpoint.storage.directory import CheckpointStore
from hpcstream.testing import ManualClock, assert_same_rows, run_ranks, start_ranks

sys.path.insert(0, str(Path(__file__).parent))
from golden_jobs import generated

KEPT = Path(__file__).parent / "checkpoint"


def build():
    job = hs.Job("golden")
    rows = generated(job, watermark_delay="20ms").filter(col("x") > 0.2)
    sums = rows.key_by("key").window(hs.sliding("1s", "250ms"))
    totals = sums.agg(rows=hs.count(), total=col("x").sum(), last=col("n").last())
    medians = rows.key_by("n").window(hs.tumbling("2s")).agg(median=col("x").median())
    return job, {"totals": totals.collect(), "medians": medians.collect()}


def options(folder):
    return {
        "checkpoint_dir": str(folder),
        "clock": ManualClock(turn_s=0.01),
        "batch_rows": 80,
        "checkpoint_interval_s": 1e-6,
        "keep": 1,
    }


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_a_checkpoint_of_an_earlier_commit_is_found_and_gone_on_from(n_ranks, tmp_path, capsys):
    expected = run_ranks(1, build).handles[0]
    shutil.copytree(KEPT, tmp_path / "run")

    with start_ranks(n_ranks, build, **options(tmp_path / "run")) as ranks:
        found = ranks.finish().handles[0]

    assert "going on from" in capsys.readouterr().err
    for name in ("totals", "medians"):
        assert_same_rows(found[name].table, expected[name].table, rtol=1e-12)


def write() -> None:
    shutil.rmtree(KEPT, ignore_errors=True)
    with start_ranks(2, build, **options(KEPT)) as ranks:
        store = CheckpointStore(str(KEPT))
        ranks.until(lambda: KEPT.exists() and store.next_number() > 3)
    newest = max(KEPT.glob("ckpt-*/manifest.json")).parent
    for path in KEPT.glob("ckpt-*"):
        if path > newest:  # under way when the job was killed
            shutil.rmtree(path)


if __name__ == "__main__":
    write()
