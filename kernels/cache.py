"""Where compiled kernels are kept: a folder of their own for each state of the source.

Numba's cache notices a change of a function's own file only. A caller in another
file keeps the inlined old code of what it calls, and an index that names a type
which is gone cannot even be read. So the folder's name is a digest of all kernel
sources: after any change, other folders are simply not looked at.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import llvmlite.binding as llvm
import numba

_HERE = Path(__file__).parent
_PREFIX = "hpcstream-kernels-"


@functools.cache
def digest() -> str:
    """Return 16 digits that change with any kernel source, with Numba and with the processor."""
    state = hashlib.sha256(f"{numba.__version__} {llvm.get_host_cpu_name()}".encode())
    for path in sorted(_HERE.glob("*.py")):
        state.update(path.name.encode())
        state.update(path.read_bytes())
    return state.hexdigest()[:16]


def folder() -> Path:
    """Return this state's folder: in ``NUMBA_CACHE_DIR``, beside the source, or the user's.

    The first of these that can be written, and else one for temporary files.
    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "hpcstream"
    places = [Path(given)] if given else [_HERE / "__pycache__", home]
    temporary = Path(tempfile.gettempdir()) / f"hpcstream-{os.getuid()}"
    place = next(filter(_can_be_written, places), temporary)
    return place / (_PREFIX + digest())


def _can_be_written(place: Path) -> bool:
    while not place.exists():
        place = place.parent
    return os.access(place, os.W_OK)


@contextlib.contextmanager
def own_cache() -> Iterator[None]:
    """Have the kernels decorated inside this block cached in `folder`; others are not touched."""
    goal = folder()
    if not goal.is_dir():
        _drop_others(goal)
    settings = vars(numba.config)
    before = settings["CACHE_DIR"]
    settings["CACHE_DIR"] = str(goal)
    try:
        yield
    finally:
        settings["CACHE_DIR"] = before


def _drop_others(goal: Path) -> None:
    """Remove what earlier states of this very checkout or installation left beside the source."""
    if goal.parent == _HERE / "__pycache__":
        for old in goal.parent.glob(f"{_PREFIX}*"):
            shutil.rmtree(old, ignore_errors=True)
