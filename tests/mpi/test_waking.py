"""Ranks of one host wake each other out of their sleep: real processes."""

from __future__ import annotations

import pytest

import hpcstream as hs
from tests.jobs.pausing_source import PausingSource, noted_sleeps


@pytest.fixture
def rings(monkeypatch):
    """Return what every sleep of this rank ended with: True if something came."""
    return noted_sleeps(monkeypatch)


def test_rows_on_one_rank_after_a_pause_wake_the_others(comm, rings):
    job = hs.Job("pausing")
    source = PausingSource(2, pause_s=0.7, has_descriptor=True)
    stream = job.source(source, event_time="t", event_time_unit="ms")
    stream.key_by("key").window(hs.tumbling("1h")).agg(n=hs.count()).collect()

    result = job.run(progress=False, show=False)

    assert result.rows_in == 2
    assert any(rings)
