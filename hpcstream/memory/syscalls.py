"""System calls that Python does not wrap: memory placement and scheduling.

`SystemCalls` wraps one function, ``invoke(number, *arguments)``, which raises `OSError` if
the kernel refuses. Tests pass one that always refuses. To the callers a restricted
container, an old kernel and a machine without NUMA look the same: an `OSError` with an
``errno``.
"""

import ctypes
import errno
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Invoke = Callable[..., int]

PREFERRED = 1
"""Memory policy: this node if it has room, else the next one (MPOL_PREFERRED)."""

_POLICY_OF_ADDRESS = 2  # MPOL_F_ADDR
_MASK_BITS = 1024  # most nodes that the kernel can be built for
_MASK_LENGTH = _MASK_BITS + 1  # the kernel uses one bit less than the given length
_WORD_BITS = 8 * ctypes.sizeof(ctypes.c_ulong)

_GENERIC = {
    "mbind": 235, "get_mempolicy": 236, "move_pages": 239, "getcpu": 168,
    "sched_setattr": 274, "sched_getattr": 275,
}  # fmt: skip
_NUMBERS: Mapping[str, Mapping[str, int]] = {
    "x86_64": {
        "mbind": 237, "get_mempolicy": 239, "move_pages": 279, "getcpu": 309,
        "sched_setattr": 314, "sched_getattr": 315,
    },
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
}  # fmt: skip


class Scheduling(ctypes.Structure):
    """Scheduling of a thread: the kernel's ``struct sched_attr``; ``runtime`` in ns."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


@dataclass(frozen=True)
class Policy:
    """The memory policy of an address."""

    mode: int
    nodes: frozenset[int]


class SystemCalls:
    """Queries and sets memory placement and scheduling.

    Parameters
    ----------
    invoke : (number, *arguments) -> int
        Makes the call and raises `OSError` if the kernel refuses; by default the real one.
    machine : str
        Processor family as `platform.machine` names it; all calls fail with ENOSYS if their
        numbers are unknown for it.
    """

    def __init__(self, invoke: Invoke | None = None, machine: str | None = None) -> None:
        self._invoke = invoke or _real_invoke()
        self._numbers = _NUMBERS.get(machine or platform.machine(), {})

    def bind_preferred(self, address: int, n_bytes: int, node: int) -> None:
        """Bind a range to ``node``: its pages are placed there when they are first touched.

        ``address`` is page aligned. Existing pages do not move.
        """
        mask = _mask_of(node)
        self._call("mbind", _pointer(address), n_bytes, PREFERRED, mask, _MASK_LENGTH, 0)

    def nodes_of_pages(self, addresses: NDArray[np.uint64]) -> NDArray[np.int32]:
        """Return the node of the page at each address, or a negative errno.

        ``-ENOENT`` is a page that was never touched. No page moves.
        """
        pages = np.ascontiguousarray(addresses, dtype=np.uint64)
        status = np.full(pages.size, -errno.ENOENT, dtype=np.int32)
        self._call(
            "move_pages", 0, pages.size, _pointer(pages.ctypes.data), None,
            _pointer(status.ctypes.data), 0,
        )  # fmt: skip
        return status

    def policy_of(self, address: int) -> Policy:
        """Return the memory policy of an address."""
        mode = ctypes.c_int(-1)
        mask = (ctypes.c_ulong * (_MASK_BITS // _WORD_BITS))()
        self._call(
            "get_mempolicy", ctypes.byref(mode), mask, _MASK_LENGTH, _pointer(address),
            _POLICY_OF_ADDRESS,
        )  # fmt: skip
        nodes = frozenset(
            word * _WORD_BITS + bit
            for word, bits in enumerate(mask)
            for bit in range(_WORD_BITS)
            if bits >> bit & 1
        )
        return Policy(mode.value, nodes)

    def current_cpu_and_node(self) -> tuple[int, int]:
        """Return the current CPU of this thread, and the node of that CPU."""
        cpu, node = ctypes.c_uint(), ctypes.c_uint()
        self._call("getcpu", ctypes.byref(cpu), ctypes.byref(node), None)
        return cpu.value, node.value

    def scheduling(self) -> Scheduling:
        """Return the scheduling of this thread."""
        found = Scheduling(size=ctypes.sizeof(Scheduling))
        self._call("sched_getattr", 0, ctypes.byref(found), ctypes.sizeof(found), 0)
        found.size = ctypes.sizeof(found)
        return found

    def set_scheduling(self, how: Scheduling) -> None:
        """Set the scheduling of this thread."""
        self._call("sched_setattr", 0, ctypes.byref(how), 0)

    def _call(self, name: str, *arguments: Any) -> int:  # ctypes values of several kinds
        number = self._numbers.get(name)
        if number is None:
            raise OSError(errno.ENOSYS, f"{name}: no call number known for this processor")
        whole = [_long(value) if isinstance(value, int) else value for value in arguments]
        try:
            return self._invoke(number, *whole)
        except OSError as error:
            raise OSError(error.errno, f"{name}: {os.strerror(error.errno or 0)}") from None


def _real_invoke() -> Invoke:
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long

    def invoke(number: int, *arguments: Any) -> int:
        result: int = syscall(_long(number), *arguments)
        if result < 0:
            number_of_error = ctypes.get_errno()
            raise OSError(number_of_error, os.strerror(number_of_error))
        return result

    return invoke


def _mask_of(node: int) -> "ctypes.Array[ctypes.c_ulong]":
    mask = (ctypes.c_ulong * (_MASK_BITS // _WORD_BITS))()
    mask[node // _WORD_BITS] = 1 << node % _WORD_BITS
    return mask


def _long(value: int) -> ctypes.c_ulong:
    return ctypes.c_ulong(value)


def _pointer(address: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(address)
