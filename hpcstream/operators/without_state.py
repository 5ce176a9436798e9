"""The parts of the `Operator` protocol that say: nothing is kept between batches.

Taken over by assignment in the body of a class, as ``snapshot = empty_snapshot``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpcstream.operators.base import Emitted
    from hpcstream.state.snapshots import Snapshot


def emit_nothing(self: object, watermark: int) -> tuple[Emitted, ...]:
    """Return nothing: no row waits for a watermark."""
    return ()


def empty_snapshot(self: object) -> Snapshot:
    """Return the empty state."""
    return {}


def restore_nothing(self: object, snapshot: Snapshot) -> None:
    """Take over the empty state."""
    assert not snapshot, f"{type(self).__name__} has no state, but a snapshot of {list(snapshot)}"
