"""All ranks, as far as leaving them and ending them goes; `hpcstream.exchange.mpi` has them."""

from __future__ import annotations

import sys
from typing import Protocol


class World(Protocol):
    """All ranks, as far as leaving goes."""

    rank: int
    size: int

    def tell(self, status: int) -> None:
        """Tell the other ranks that this one leaves, with this exit status."""

    def who_left(self) -> dict[int, int] | None:
        """Return the ranks that have said that they leave, with what status.

        None if ranks cannot tell each other.
        """

    def abort(self, code: int) -> None:
        """End all ranks. Does not return."""


def mpi_has_started() -> bool:
    """Whether MPI has started in this process, and not ended."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized()
