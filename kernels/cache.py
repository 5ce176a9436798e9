"""Where compiled kernels are kept: a folder of their own for each state of the source.

Numba's cache notices a change of a function's own file only. A caller in another
file keeps the inlined old code of what it calls, and an index that names a type
which is gone cannot even be read. So the folder's name is a digest of all kernel
sources, and of everything else that Numba looks its kernels up by: after any change,
and for any other installation, other folders are simply not looked at.

Numba unpickles what it finds. So a folder is used only if it belongs to this user, to root
or to whoever owns the kernels' source, and if nobody else can write to it. One that only
can be read, as an administrator or an image has it, is copied to where this user can write.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import llvmlite.binding as llvm
import numba

_HERE = Path(__file__).parent
_PREFIX = "hpcstream-kernels-"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@functools.cache
def digest() -> str:
    """Return 16 digits that change with any kernel source and whatever else Numba looks at.

    That is Numba's version, Python's, the processor and its features, and of each source
    the path and the time at which it was written.
    """
    features = llvm.get_host_cpu_features().flatten()
    parts = (numba.__version__, sys.version, llvm.get_host_cpu_name(), features, _HERE.resolve())
    state = hashlib.sha256("\n".join(map(str, parts)).encode(errors="surrogateescape"))
    for path in sorted(_HERE.glob("*.py")):
        state.update(f"{path.name} {path.stat().st_mtime_ns}".encode())
        state.update(path.read_bytes())
    return state.hexdigest()[:16]


def folder() -> Path:
    """Return this state's folder: in ``NUMBA_CACHE_DIR``, beside the source, or the user's.

    The first of these that can be written and that nobody else writes to, and else one for
    temporary files.
    """
    name = _PREFIX + digest()
    for place in _places():
        if _can_be_written(place) and _is_ours_alone(place / name):
            return place / name
    return _temporary() / name


def _places() -> list[Path]:
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "hpcstream"
    given = os.environ.get("NUMBA_CACHE_DIR")
    return [Path(given) if given else _HERE / "__pycache__", home]


def _can_be_written(place: Path) -> bool:
    while not place.exists():
        place = place.parent
    return place.is_dir() and os.access(place, os.W_OK)


def _is_ours_alone(path: Path) -> bool:
    """Whether nobody whom the user does not trust can have put something there."""
    try:
        return all(_is_safe(one.lstat()) for one in (path, *_subfolders(path)))
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _is_safe(found: os.stat_result) -> bool:
    trusted = {os.getuid(), 0, _HERE.stat().st_uid}
    shared = found.st_mode & _OTHERS_WRITE
    return stat.S_ISDIR(found.st_mode) and found.st_uid in trusted and not shared


def _subfolders(path: Path) -> list[Path]:
    return [one for one in path.iterdir() if one.is_dir()]


def _temporary() -> Path:
    """Return a folder of this user's among the temporary files; it is made if need be."""
    place = Path(tempfile.gettempdir()) / f"hpcstream-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    return place if _is_ours_alone(place) else _private()


@functools.cache
def _private() -> Path:
    return Path(tempfile.mkdtemp(prefix="hpcstream-"))


@contextlib.contextmanager
def own_cache() -> Iterator[None]:
    """Have the kernels decorated inside this block cached in `folder`; others are not touched."""
    goal = folder()
    if not goal.is_dir():
        _make(goal)
    settings = vars(numba.config)
    before = settings["CACHE_DIR"]
    settings["CACHE_DIR"] = str(goal)
    try:
        yield
    finally:
        settings["CACHE_DIR"] = before
        _keep_to_the_owner(goal)


def _keep_to_the_owner(goal: Path) -> None:
    """Take from others what the user's mask lets them do in Numba's own folders."""
    with contextlib.suppress(OSError):
        for one in _subfolders(goal):
            mode = one.stat().st_mode
            if mode & _OTHERS_WRITE and one.stat().st_uid == os.getuid():
                one.chmod(stat.S_IMODE(mode) & ~_OTHERS_WRITE)


def _make(goal: Path) -> None:
    """Make the folder, with the kernels of one that can only be read if there is one."""
    _drop_others(goal)
    is_for_others_too = goal.parent == _places()[0]  # to read
    with contextlib.suppress(OSError):  # Numba says what is wrong, or caches nothing
        goal.parent.mkdir(parents=True, exist_ok=True)
        goal.mkdir(mode=0o755 if is_for_others_too else 0o700, exist_ok=True)
        for place in _places():
            ready = place / goal.name
            if ready != goal and ready.is_dir() and _is_ours_alone(ready):
                shutil.copytree(ready, goal, dirs_exist_ok=True)
                return


def _drop_others(goal: Path) -> None:
    """Remove what earlier states of this very checkout or installation left beside the source."""
    if goal.parent == _HERE / "__pycache__":
        for old in goal.parent.glob(f"{_PREFIX}*"):
            shutil.rmtree(old, ignore_errors=True)
