"""How kernels are compiled."""

from collections.abc import Callable
from typing import Any

from numba import njit

_LEAN: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False}


def lean_njit(**options: Any) -> Callable[..., Any]:
    """Return a decorator: as `numba.njit`, without Numba's own reference counts.

    Numba counts the references to an array where it is passed on or renamed, by atomic
    instructions, and cannot always see that they cancel out: to enter a key took
    177 ns with them, of which 160 were theirs, and 14 without. The arrays of a kernel
    belong to its caller, so nothing needs to be counted; but nothing can be allocated either:
    scratch memory is a parameter. Functions called from a loop must be compiled so, too.
    """
    decorator: Callable[..., Any] = njit(**_LEAN, **options)
    return decorator
