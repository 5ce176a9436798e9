"""Wakes sleeping ranks of the same host, which an MPI message does not.

MPI has no file descriptor to wait on, so a sleeping rank notices a message only when it
polls. A doorbell is a datagram socket of the rank, which it waits on together with the
descriptors of its sources. Its address is a random name in Linux's abstract namespace,
which is in no file system and disappears with the process. A ring carries no data and may
be lost or duplicated: it only means "poll MPI now".
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes

LEFT_OUT_S = 0.020
"""For this time a readable descriptor is not waited for: its source is polled anyway."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NETWORK = "/proc/self/ns/net"


class Doorbell:
    """The doorbell of this rank, and the addresses of the ranks that it can wake.

    Attributes
    ----------
    reaches_all : bool
        Whether it can wake every other rank. The others notice messages only by polling.
    """

    def __init__(self) -> None:
        self.reaches_all = True
        self._bell: socket.socket | None = None
        self._others: list[bytes] = []
        self._useless: set[int] = set()
        self._useless_until_s = 0.0
        self._poll = select.poll()
        self._watched: set[int] = set()

    def open(self) -> bytes:
        """Bind the socket; return its address, empty if the system has no such sockets."""
        address = b"\0hpcstream-" + secrets.token_hex(16).encode()
        try:
            bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            bell.bind(address)
        except (AttributeError, OSError):
            return b""
        self._bell = bell
        self._watch({bell.fileno()})
        return address

    def connect(self, others: Iterable[bytes], *, reaches_all: bool) -> None:
        """Set the addresses of the other ranks."""
        self._others = list(others)
        self.reaches_all = reaches_all

    def ring(self) -> None:
        """Wake every reachable rank. Never waits; ranks that have ended are skipped."""
        if self._bell is None:
            return
        for address in self._others:
            with contextlib.suppress(OSError):  # full: a ring is pending already
                self._bell.sendto(b"!", address)

    def wait(self, seconds: float, descriptors: Sequence[int] = ()) -> bool:
        """Sleep until a ring arrives, a descriptor is readable, or the time is over.

        Returns
        -------
        bool
            Whether something arrived. A readable descriptor is then not waited for during
            `LEFT_OUT_S`: if nothing read from it, the rank would never sleep.
        """
        if self._useless:
            left_s = self._useless_until_s - time.monotonic()
            if left_s <= 0:
                self._useless.clear()
            else:
                seconds = min(seconds, left_s)
        bell = self._bell.fileno() if self._bell is not None else -1
        wanted = set(descriptors) - self._useless
        self._watch(wanted | ({bell} if bell >= 0 else set()))
        came = [number for number, _ in self._poll.poll(max(0.0, 1000 * seconds))]
        if bell in came:
            self._hear()
        useless = {number for number in came if number != bell}
        if useless:
            self._useless |= useless
            self._useless_until_s = time.monotonic() + LEFT_OUT_S
        return bool(came)

    def _watch(self, wanted: set[int]) -> None:
        if wanted == self._watched:
            return
        for number in self._watched - wanted:
            self._poll.unregister(number)
        for number in wanted - self._watched:
            self._poll.register(number, select.POLLIN)
        self._watched = wanted

    def _hear(self) -> None:
        assert self._bell is not None
        with contextlib.suppress(BlockingIOError):
            while self._bell.recv(16):
                pass

    def close(self) -> None:
        """Close the socket."""
        self._watch(set())
        if self._bell is not None:
            self._bell.close()
            self._bell = None


def open_doorbell(comm: Communicator) -> Procedure[Doorbell]:
    """Return this rank's doorbell, connected. Collective; yields while waiting."""
    bell = Doorbell()
    address = bell.open()
    try:
        texts = yield from gather_bytes(comm, _card(address))
    except BaseException:  # also GeneratorExit
        bell.close()
        raise
    locators = [json.loads(text) for text in texts]
    host = locators[comm.rank][0]
    near = [
        bytes.fromhex(name)
        for rank, (other, name) in enumerate(locators)
        if rank != comm.rank and other == host and name
    ]
    bell.connect(near, reaches_all=bool(address) and len(near) == comm.size - 1)
    return bell


def _card(address: bytes) -> bytes:
    """Return the address, and the host and network namespace in which it is valid."""
    try:
        host = f"{_BOOT.read_text().strip()} {os.readlink(_NETWORK)}"
    except OSError:
        host, address = "", b""
    return json.dumps((host, address.hex())).encode()
