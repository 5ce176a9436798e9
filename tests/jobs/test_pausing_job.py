"""A live job whose source pauses: it sleeps, and wakes when rows come."""

from __future__ import annotations

import pytest

import hpcstream as hs
from tests.jobs.pausing_source import PausingSource, noted_sleeps


@pytest.fixture
def waits(monkeypatch):
    """Return what every sleep ended with: True if something came."""
    return noted_sleeps(monkeypatch)


def counts_of(source):
    job = hs.Job("pausing")
    stream = job.source(source, event_time="t", event_time_unit="ms")
    counts = stream.key_by("key").window(hs.tumbling("1h")).agg(n=hs.count()).collect()
    job.run(progress=False, show=False)
    return dict(zip(*counts.table.select(["key", "n"]).to_pydict().values(), strict=True))


def test_a_source_that_pauses_is_asked_now_and_then(waits):
    source = PausingSource(2, pause_s=0.7, has_descriptor=False)

    assert counts_of(source) == {0: 1, 1: 1}

    assert source.n_reads < 2000  # tens of thousands if it were asked in each turn
    assert not any(waits)


def test_rows_after_a_pause_wake_the_job_through_the_descriptor(waits):
    source = PausingSource(2, pause_s=0.7, has_descriptor=True)

    assert counts_of(source) == {0: 1, 1: 1}

    assert sum(waits) >= 2
