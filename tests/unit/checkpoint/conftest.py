"""What the tests of restarts share."""

from __future__ import annotations

import pytest

from hpcstream.runtime import control


@pytest.fixture(autouse=True)
def _control_rounds_are_near(monkeypatch):
    """Let small jobs have many control rounds, and so many checkpoints."""
    monkeypatch.setattr(control, "MOST_ROUNDS", 4)
