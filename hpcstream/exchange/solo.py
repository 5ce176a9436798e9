"""`Communicator` of one rank, without MPI, for a plain ``python job.py``."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from hpcstream.exchange.communicator import Communicator, Request


class _Done:
    """A request that is complete."""

    def test(self) -> bool:
        return True


_DONE = _Done()


class SoloCommunicator:
    """The group of this process alone; every collective is a copy."""

    rank = 0
    size = 1

    def all_to_all(self, send: np.ndarray, receive: np.ndarray) -> Request:
        receive[:] = send
        return _DONE

    def all_to_all_v(
        self,
        send: np.ndarray,
        send_counts: np.ndarray,
        send_displacements: np.ndarray,
        receive: np.ndarray,
        receive_counts: np.ndarray,
        receive_displacements: np.ndarray,
    ) -> Request:
        n_bytes, start, goal = send_counts[0], send_displacements[0], receive_displacements[0]
        receive[goal : goal + n_bytes] = send[start : start + n_bytes]
        return _DONE

    def all_reduce(self, send: np.ndarray, receive: np.ndarray, op: str) -> Request:
        receive[:] = send
        return _DONE

    def all_gather(self, send: np.ndarray, receive: np.ndarray) -> Request:
        receive[:] = send
        return _DONE

    def duplicate(self) -> Communicator:
        return SoloCommunicator()

    def begin_duplicate(self) -> tuple[Request, Communicator]:
        return _DONE, SoloCommunicator()

    def subset(self, ranks: Sequence[int]) -> Communicator | None:
        return SoloCommunicator() if 0 in ranks else None

    def neighborhood(self, neighbors: Sequence[int]) -> Communicator:
        return SoloCommunicator()

    def send_wake(self, rank: int) -> None:
        raise ValueError(f"there is no rank {rank} to wake in a job of one rank")

    def take_wake(self) -> bool:
        return False

    def send_note(self, rank: int, note: bytes) -> None:
        raise ValueError(f"there is no rank {rank} to write to in a job of one rank")

    def take_notes(self) -> list[tuple[int, bytes]]:
        return []

    def free(self) -> None:
        """Do nothing."""

    def abort(self, code: int) -> None:
        os._exit(code)
