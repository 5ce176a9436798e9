"""A doorbell for ranks of one host: wakes a rank that sleeps, which an MPI message does not.

MPI has no file descriptor to wait on, so a rank that sleeps finds a message only when it
looks. A doorbell is a datagram socket of the rank's own, which it waits on together with the
descriptors of its sources. Its address is a random name in Linux's abstract namespace: it
lies in no file system, and nothing of it stays when the process is gone. A ring carries no
data and may be lost or come twice: it only says "look at MPI now".
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from hpcstream.exchange.communicator import Communicator, gather_bytes

LEFT_OUT_S = 0.020
"""In this time a source is asked without being waited for, as it is in a pause."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NETWORK = "/proc/self/ns/net"


class Doorbell:
    """The bell of this rank, and the bells of the ranks that it reaches.

    Attributes
    ----------
    reaches_all : bool
        Whether every other rank can be rung for. If not, some only find messages by looking.
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
        """Bind the bell; return its address, empty where the system has no such sockets."""
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
        """Say which bells there are besides this one."""
        self._others = list(others)
        self.reaches_all = reaches_all

    def ring(self) -> None:
        """Wake every rank that can be reached. Never waits; a rank that has gone is left out."""
        if self._bell is None:
            return
        for address in self._others:
            with contextlib.suppress(OSError):  # full: it is rung for already
                self._bell.sendto(b"!", address)

    def wait(self, seconds: float, descriptors: Sequence[int] = ()) -> bool:
        """Sleep until somebody rings, a descriptor can be read, or the time is over.

        Returns
        -------
        bool
            Whether something came. A descriptor that could be read is not waited for again
            for `LEFT_OUT_S`: if nothing is read from it, the rank would not sleep.
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
        """Take the bell down."""
        self._watch(set())
        if self._bell is not None:
            self._bell.close()
            self._bell = None


def open_doorbell(comm: Communicator) -> Generator[None, None, Doorbell]:
    """Return this rank's doorbell, connected. Collective; yields while waiting."""
    bell = Doorbell()
    address = bell.open()
    try:
        texts = yield from gather_bytes(comm, _card(address))
    except BaseException:  # the procedure is given up
        bell.close()
        raise
    cards = [json.loads(text) for text in texts]
    host = cards[comm.rank][0]
    near = [
        bytes.fromhex(name)
        for rank, (other, name) in enumerate(cards)
        if rank != comm.rank and other == host and name
    ]
    bell.connect(near, reaches_all=bool(address) and len(near) == comm.size - 1)
    return bell


def _card(address: bytes) -> bytes:
    """Return the host, as far as such addresses reach, and the address."""
    try:
        host = f"{_BOOT.read_text().strip()} {os.readlink(_NETWORK)}"
    except OSError:
        host, address = "", b""
    return json.dumps((host, address.hex())).encode()
